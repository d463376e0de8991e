#include "fsimage/tree.h"

#include <stdlib.h>
#include <string.h>

#include "fsimage/features.h"
#include "fsimage/node.h"

#define BUCKETS_FIRST 256

static size_t hash_name(const struct fsnode *parent, const char *name, size_t length)
{
	uint64_t hash = (uintptr_t)parent * 0x9e3779b97f4a7c15;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (uint8_t)name[i]) * 0x100000001b3;
	return hash ^ hash >> 32;
}

static struct fsnode **bucket_of(const struct fstree *tree, const struct fsnode *parent,
				 const char *name, size_t length)
{
	return &tree->buckets[hash_name(parent, name, length) & (tree->bucket_count - 1)];
}

static struct fsnode *find_child(struct fsnode *directory, const char *name, size_t length)
{
	if (!node_is_directory(directory))
		return NULL;

	const struct fstree *tree = directory->directory.tree;
	struct fsnode *node = *bucket_of(tree, directory, name, length);

	while (node && (node->parent != directory || strncmp(node->name, name, length) != 0 ||
			node->name[length]))
		node = node->next_in_bucket;
	return node;
}

/* Doubles the buckets when there are as many nodes, so that a lookup meets about one. */
static int grow_buckets(struct fstree *tree)
{
	if (tree->totals.nodes < tree->bucket_count)
		return 0;

	struct fsnode **old = tree->buckets;
	size_t old_count = tree->bucket_count;
	struct fsnode **grown = calloc(2 * old_count, sizeof(struct fsnode *));

	if (!grown)
		return -1;
	tree->buckets = grown;
	tree->bucket_count = 2 * old_count;
	for (size_t i = 0; i < old_count; i++) {
		for (struct fsnode *node = old[i], *next; node; node = next) {
			struct fsnode **bucket =
				bucket_of(tree, node->parent, node->name, strlen(node->name));

			next = node->next_in_bucket;
			node->next_in_bucket = *bucket;
			*bucket = node;
		}
	}
	free(old);
	return 0;
}

static struct fsnode *new_node(struct fstree *tree, const char *name, const struct fsmeta *meta)
{
	size_t name_bytes = strlen(name) + 1;
	struct fsnode *node = calloc(1, sizeof(*node) + name_bytes);

	if (!node)
		return NULL;
	memcpy(node->name, name, name_bytes);
	node->meta = *meta;
	node->names = 1;
	if (node_is_directory(node))
		node->directory.tree = tree;
	node->next_allocated = tree->all_nodes;
	tree->all_nodes = node;
	tree->totals.nodes++;
	return node;
}

struct fstree *fstree_new(const struct fsmeta *meta)
{
	struct fsmeta root_meta = *meta;
	struct fstree *tree = calloc(1, sizeof(*tree));

	if (!tree)
		return NULL;
	root_meta.mode = S_IFDIR | (meta->mode & 07777);
	tree->bucket_count = BUCKETS_FIRST;
	tree->buckets = calloc(tree->bucket_count, sizeof(struct fsnode *));
	tree->root = new_node(tree, "", &root_meta);
	if (tree->buckets && tree->root)
		return tree;
	fstree_free(tree);
	return NULL;
}

struct host_path node_path(const struct fsnode *node)
{
	struct host_path path = {""};

	while (*node->name && host_path_prepend(&path, node->name) && node->parent)
		node = node->parent;
	if (!*path.text)
		strcpy(path.text, "/");
	return path;
}

char *fstree_path(const struct fsnode *node)
{
	size_t length = 0;

	for (const struct fsnode *name = node; name->parent; name = name->parent)
		length += strlen(name->name) + (name->parent->parent != NULL);

	char *path = malloc(length + 1), *start = path + length;

	if (!path)
		return NULL;
	*start = '\0';
	for (const struct fsnode *name = node; name->parent; name = name->parent) {
		start -= strlen(name->name);
		memcpy(start, name->name, strlen(name->name));
		if (start > path)
			*--start = '/';
	}
	return path;
}

uint64_t node_data_bytes(const struct fsnode *node)
{
	if (!S_ISREG(node->meta.mode) || node->same_as)
		return 0;
	switch (node->source) {
	case SOURCE_HOST:
		return node->host->data_bytes;
	case SOURCE_RUNS:
		return node->runs->data_bytes;
	default:
		return node->content.size;
	}
}

/* Frees what belongs to the file and not to its names. */
static void free_contents(struct fsnode *node)
{
	if (node->source == SOURCE_HOST)
		free(node->host);
	else if (node->source == SOURCE_RUNS)
		free(node->runs);
	else if (!node->same_as && (S_ISREG(node->meta.mode) || S_ISLNK(node->meta.mode)))
		free(node->content.bytes);
	node->source = SOURCE_BYTES;
	node->content.bytes = NULL;
	node->content.size = 0;
	node_clear_xattrs(node);
}

void fstree_free(struct fstree *tree)
{
	if (!tree)
		return;
	for (struct fsnode *node = tree->all_nodes, *next; node; node = next) {
		next = node->next_allocated;
		free_contents(node);
		free(node);
	}
	for (struct run_source *source = tree->run_sources, *next; source; source = next) {
		next = source->next;
		free(source);
	}
	tree_free_host(tree);
	free(tree->buckets);
	free(tree);
}

struct fsnode *fstree_root(struct fstree *tree)
{
	return tree->root;
}

struct fsnode *fstree_child(struct fsnode *directory, const char *name)
{
	return find_child(directory, name, strlen(name));
}

struct fsnode *fstree_lookup(struct fsnode *directory, const char *path)
{
	struct fsnode *node = directory;

	while (node && *path) {
		size_t length = strcspn(path, "/");

		node = find_child(node, path, length);
		path += length;
		path += *path == '/';
	}
	return node;
}

static int check_name(struct fsnode *directory, const char *name, struct error *error)
{
	size_t length = strlen(name);

	if (!length || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strchr(name, '/'))
		return error_set(error, "'%s' cannot be the name of a file", name);
	if (length > NAME_BYTES_MAX)
		return error_set(error, "the name '%s' is longer than %d bytes", name,
				 NAME_BYTES_MAX);
	if (!node_is_directory(directory))
		return error_set(error, "'%s', where '%s' should go, is not a directory",
				 directory->name, name);
	if (find_child(directory, name, length))
		return error_set(error, "'%s' is already in the directory '%s'", name,
				 directory->parent ? directory->name : "/");
	return 0;
}

struct fsnode *tree_add(struct fstree *tree, struct fsnode *directory, const char *name,
			const struct fsmeta *meta, struct error *error)
{
	if (check_name(directory, name, error) < 0)
		return NULL;

	struct fsnode *node = grow_buckets(tree) == 0 ? new_node(tree, name, meta) : NULL;

	if (!node) {
		error_set(error, "%s: out of memory", name);
		return NULL;
	}

	struct fsnode **bucket = bucket_of(tree, directory, name, strlen(name));

	node->parent = directory;
	node->next_in_bucket = *bucket;
	*bucket = node;
	node->previous_sibling = directory->directory.last_child;
	if (directory->directory.last_child)
		directory->directory.last_child->next_sibling = node;
	else
		directory->directory.first_child = node;
	directory->directory.last_child = node;
	return node;
}

static struct fsnode *add_typed(struct fstree *tree, struct fsnode *directory, const char *name,
				const struct fsmeta *meta, mode_t type, struct error *error)
{
	struct fsmeta typed = *meta;

	typed.mode = type | (meta->mode & 07777);
	return tree_add(tree, directory, name, &typed, error);
}

struct fsnode *fstree_add_directory(struct fstree *tree, struct fsnode *directory, const char *name,
				    const struct fsmeta *meta, struct error *error)
{
	return add_typed(tree, directory, name, meta, S_IFDIR, error);
}

/* The content is copied first, so that there is no node without it when memory runs out. */
static struct fsnode *add_content(struct fstree *tree, struct fsnode *directory, const char *name,
				  const struct fsmeta *meta, mode_t type, const void *bytes,
				  size_t size, struct error *error)
{
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy) {
		error_set(error, "%s: out of memory", name);
		return NULL;
	}
	if (size)
		memcpy(copy, bytes, size);

	struct fsnode *node = add_typed(tree, directory, name, meta, type, error);

	if (!node) {
		free(copy);
		return NULL;
	}
	node->content.bytes = copy;
	node->content.size = size;
	return node;
}

struct fsnode *fstree_add_bytes(struct fstree *tree, struct fsnode *directory, const char *name,
				const struct fsmeta *meta, const void *bytes, size_t size,
				struct error *error)
{
	struct fsnode *node = add_content(tree, directory, name, meta, S_IFREG, bytes, size, error);

	if (node)
		tree->totals.data_bytes += size;
	return node;
}

struct fsnode *fstree_add_symlink(struct fstree *tree, struct fsnode *directory, const char *name,
				  const struct fsmeta *meta, const char *target,
				  struct error *error)
{
	size_t length = strlen(target);

	if (!length || length >= 1 << IMAGE_BLOCK_BITS) {
		error_set(error, "the symlink '%s' has a target of %zu bytes", name, length);
		return NULL;
	}
	return add_content(tree, directory, name, meta, S_IFLNK, target, length, error);
}

struct fsnode *fstree_add_special(struct fstree *tree, struct fsnode *directory, const char *name,
				  const struct fsmeta *meta, dev_t device, struct error *error)
{
	mode_t type = meta->mode & S_IFMT;

	if (type != S_IFCHR && type != S_IFBLK && type != S_IFIFO && type != S_IFSOCK) {
		error_set(error, "'%s' is not a special file", name);
		return NULL;
	}

	struct fsnode *node = tree_add(tree, directory, name, meta, error);

	if (node && (type == S_IFCHR || type == S_IFBLK))
		node->device = device;
	return node;
}

/* --- files whose data is in another file --- */

/* Whether runs ascend, do not overlap and lie within SIZE_BYTES; empty ones count too. */
static bool runs_are_in_order(const struct fsrun *runs, size_t count, uint64_t size_bytes)
{
	uint64_t end = 0;

	for (size_t i = 0; i < count; i++) {
		if (runs[i].offset < end || runs[i].length > INT64_MAX ||
		    runs[i].source_offset > INT64_MAX - runs[i].length ||
		    runs[i].offset > size_bytes || runs[i].length > size_bytes - runs[i].offset)
			return false;
		end = runs[i].offset + runs[i].length;
	}
	return true;
}

/* Copies RUNS and counts the blocks of the image that they need. */
static struct run_file *copy_runs(const struct fsrun *runs, size_t count, uint64_t size_bytes)
{
	struct run_file *file = calloc(1, sizeof(*file) + count * sizeof(*runs));
	uint64_t next_block = 0; /* after the blocks that are counted */

	if (!file)
		return NULL;
	file->size_bytes = size_bytes;
	for (size_t i = 0; i < count; i++) {
		uint64_t first = runs[i].offset >> IMAGE_BLOCK_BITS;
		uint64_t last = (runs[i].offset + runs[i].length - 1) >> IMAGE_BLOCK_BITS;

		if (!runs[i].length)
			continue;
		file->runs[file->run_count++] = runs[i];
		file->data_bytes += runs[i].length;
		if (first > next_block || !file->segment_count)
			file->segment_count++;
		if (first < next_block)
			first = next_block;
		file->data_blocks += last + 1 - first;
		next_block = last + 1;
	}
	return file;
}

/* An archive's files come one after the other: only the source before is worth looking at. */
static const struct run_source *remember_source(struct fstree *tree, int fd, const char *name)
{
	struct run_source *source = tree->run_sources;
	size_t name_bytes = strlen(name) + 1;

	if (source && source->fd == fd && strcmp(source->name, name) == 0)
		return source;
	source = calloc(1, sizeof(*source) + name_bytes);
	if (!source)
		return NULL;
	source->fd = fd;
	memcpy(source->name, name, name_bytes);
	source->next = tree->run_sources;
	tree->run_sources = source;
	return source;
}

struct fsnode *fstree_add_runs(struct fstree *tree, struct fsnode *directory, const char *name,
			       const struct fsmeta *meta, int source_fd, const char *source_name,
			       const struct fsrun *runs, size_t run_count, uint64_t size_bytes,
			       struct error *error)
{
	if (!runs_are_in_order(runs, run_count, size_bytes)) {
		error_set(error, "%s: the pieces of '%s' overlap or lie outside of it", source_name,
			  name);
		return NULL;
	}

	struct run_file *file = copy_runs(runs, run_count, size_bytes);
	const struct run_source *source =
		file ? remember_source(tree, source_fd, source_name) : NULL;
	struct fsnode *node = NULL;

	if (!source)
		error_set(error, "%s: out of memory", name);
	else
		node = add_typed(tree, directory, name, meta, S_IFREG, error);
	if (!node) {
		free(file);
		return NULL;
	}
	file->source = source;
	node->source = SOURCE_RUNS;
	node->runs = file;
	tree->totals.data_bytes += file->data_bytes;
	return node;
}

/* --- names --- */

struct fsnode *fstree_add_link(struct fstree *tree, struct fsnode *directory, const char *name,
			       struct fsnode *target, struct error *error)
{
	struct fsnode *file = node_target(target);

	if (node_is_directory(file)) {
		error_set(error, "'%s' cannot be another name of the directory '%s'", name,
			  file->name);
		return NULL;
	}

	struct fsnode *node = tree_add(tree, directory, name, &file->meta, error);

	if (!node)
		return NULL;
	node->same_as = file;
	file->names++;
	return node;
}

/* Takes one name, with nothing below it, out of its directory, and its file if it was the last. */
static void remove_name(struct fstree *tree, struct fsnode *node)
{
	struct fsnode *directory = node->parent, *file = node_target(node);
	struct fsnode **bucket = bucket_of(tree, directory, node->name, strlen(node->name));

	while (*bucket != node)
		bucket = &(*bucket)->next_in_bucket;
	*bucket = node->next_in_bucket;
	if (node->previous_sibling)
		node->previous_sibling->next_sibling = node->next_sibling;
	else
		directory->directory.first_child = node->next_sibling;
	if (node->next_sibling)
		node->next_sibling->previous_sibling = node->previous_sibling;
	else
		directory->directory.last_child = node->previous_sibling;
	node->parent = node->next_sibling = node->previous_sibling = NULL;
	tree->totals.nodes--;
	if (--file->names == 0) {
		tree->totals.data_bytes -= node_data_bytes(file);
		free_contents(file);
	}
}

/* From the leaves up, and without recursion: trees may be deep. */
void fstree_remove(struct fstree *tree, struct fsnode *node)
{
	struct fsnode *next = node, *parent;

	do {
		while (node_is_directory(next) && next->directory.first_child)
			next = next->directory.first_child;
		parent = next->parent;
		remove_name(tree, next);
		if (next == node)
			return;
		next = parent;
	} while (true);
}

/* --- metadata --- */

void fstree_set_meta(struct fsnode *node, const struct fsmeta *meta)
{
	struct fsnode *file = node_target(node);
	mode_t type = file->meta.mode & S_IFMT;

	file->meta = *meta;
	file->meta.mode = type | (meta->mode & 07777);
}

void fstree_add_mode(struct fsnode *node, mode_t permissions)
{
	node_target(node)->meta.mode |= permissions & 07777;
}

const struct fsmeta *fstree_meta(const struct fsnode *node)
{
	return node->same_as ? &node->same_as->meta : &node->meta;
}

size_t fstree_symlink(const struct fsnode *node, char *target, size_t size)
{
	const struct fsnode *file = node->same_as ? node->same_as : node;
	size_t length = file->content.size < size ? file->content.size : size - 1;

	memcpy(target, file->content.bytes, length);
	target[length] = '\0';
	return length;
}

struct fsnode *fstree_first_child(const struct fsnode *directory)
{
	return directory->directory.first_child;
}

struct fstotals fstree_totals(const struct fstree *tree)
{
	return tree->totals;
}
