#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fsimage/features.h"
#include "fsimage/node.h"
#include "fsimage/writer.h"
#include "fsimage/xattr.h"

/* A host file that has more names than one. */
struct host_link {
	dev_t device;
	ino_t inode;
	struct fsnode *node;
};

/* A directory that has become a node, but whose entries have not been read yet. */
struct pending {
	struct host_directory *directory;
	struct fsnode *node;
};

struct importer {
	struct fstree *tree;
	const struct fsimport *options;
	struct host_cursor cursor;
	char *xattr_buffer;	 /* XATTR_LIST_MAX for names, then XATTR_SIZE_MAX for a value */
	struct pending *pending; /* a stack */
	size_t pending_count, pending_capacity;
	struct error *error;
};

/* One file of the host that is about to become a node. */
struct candidate {
	struct host_directory *directory;
	int directory_fd;
	const char *host_name;
	const char *name; /* in the tree */
	struct stat stat;
};

static int fail_at(struct importer *importer, const struct candidate *from, const char *what)
{
	return error_errno(importer->error, "%s %s", what,
			   host_path(from->directory, from->host_name).text);
}

static int fail_for_memory(struct importer *importer)
{
	return error_set(importer->error, "out of memory for a tree of %llu files",
			 (unsigned long long)importer->tree->totals.nodes);
}

/* --- what the tree remembers of the host --- */

static struct host_directory *remember_directory(struct fstree *tree, struct host_directory *parent,
						 const char *name)
{
	struct host_directory **list = parent ? &tree->host_directories : &tree->host_bases;
	size_t name_bytes = strlen(name) + 1;
	struct host_directory *directory = calloc(1, sizeof(*directory) + name_bytes);

	if (!directory)
		return NULL;
	memcpy(directory->name, name, name_bytes);
	directory->parent = parent;
	directory->base_fd = -1;
	directory->next_allocated = *list;
	*list = directory;
	return directory;
}

static struct host_directory *find_base(const struct fstree *tree, const struct stat *stat)
{
	struct host_directory *base = tree->host_bases;

	while (base && (base->device != stat->st_dev || base->inode != stat->st_ino))
		base = base->next_allocated;
	return base;
}

/*
 * The directory where an import starts. It is kept open, for the writer comes back when the
 * caller's descriptor may be closed and the working directory another; once for all imports
 * from there, since descriptors are scarce.
 */
static struct host_directory *open_base(struct importer *importer, int directory_fd)
{
	struct stat stat;
	int fd = openat(directory_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &stat) < 0) {
		error_errno(importer->error, "cannot open the directory to import from");
		if (fd >= 0)
			close(fd);
		return NULL;
	}

	struct host_directory *base = find_base(importer->tree, &stat);

	if (base) {
		close(fd);
		return base;
	}
	base = remember_directory(importer->tree, NULL, "");
	if (!base) {
		close(fd);
		fail_for_memory(importer);
		return NULL;
	}
	base->base_fd = fd;
	base->device = stat.st_dev;
	base->inode = stat.st_ino;
	return base;
}

static int compare_links(const void *a, const void *b)
{
	const struct host_link *left = a, *right = b;

	if (left->device != right->device)
		return left->device < right->device ? -1 : 1;
	return (left->inode > right->inode) - (left->inode < right->inode);
}

/* Returns the entry for the host's file STAT; its node is NULL when it is new. */
static struct host_link *find_link(struct importer *importer, const struct stat *stat)
{
	struct host_link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	link->device = stat->st_dev;
	link->inode = stat->st_ino;

	struct host_link **found = tsearch(link, &importer->tree->hard_links, compare_links);

	if (!found || *found != link)
		free(link);
	return found ? *found : NULL;
}

static void free_directories(struct host_directory *list)
{
	for (struct host_directory *next; list; list = next) {
		next = list->next_allocated;
		if (list->base_fd >= 0)
			close(list->base_fd);
		free(list);
	}
}

void tree_free_host(struct fstree *tree)
{
	free_directories(tree->host_directories);
	free_directories(tree->host_bases);
	tdestroy(tree->hard_links, free);
}

/* --- extended attributes --- */

/* What other security modules keep there says something about the host only. */
static bool is_wanted(const struct fsimport *options, const char *name)
{
	const char *rest;

	if (options->omit_trusted && strncmp(name, "trusted.", strlen("trusted.")) == 0)
		return false;
	return strcmp(name, "security.capability") == 0 ||
	       (strncmp(name, "security.", strlen("security.")) != 0 &&
		xattr_parse_name(name, &rest) >= 0);
}

static int import_xattr(struct importer *importer, struct fsnode *node,
			const struct candidate *from, const char *path, const char *name)
{
	char *value = importer->xattr_buffer + XATTR_LIST_MAX;
	ssize_t size = lgetxattr(path, name, value, XATTR_SIZE_MAX);

	if (size < 0)
		return error_errno(importer->error, "cannot read the extended attribute %s of %s",
				   name, host_path(from->directory, from->host_name).text);
	return fstree_set_xattr(importer->tree, node, name, value, size, importer->error);
}

/* By a path, as there are no calls for a name in a directory; its last component is no link. */
static int import_xattrs(struct importer *importer, struct fsnode *node,
			 const struct candidate *from)
{
	char path[PATH_MAX + 32];
	ssize_t size;

	if (!importer->options->xattrs)
		return 0;
	if (!importer->xattr_buffer)
		importer->xattr_buffer = malloc(XATTR_LIST_MAX + XATTR_SIZE_MAX);
	if (!importer->xattr_buffer)
		return fail_for_memory(importer);
	fstree_clear_xattrs(node); /* of a directory that is merged */
	if (*from->host_name == '/')
		snprintf(path, sizeof(path), "%s", from->host_name);
	else
		snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", from->directory_fd,
			 from->host_name);
	size = llistxattr(path, importer->xattr_buffer, XATTR_LIST_MAX);
	if (size < 0 && errno == ENOTSUP)
		return 0;
	if (size < 0)
		return fail_at(importer, from, "cannot list the extended attributes of");
	for (const char *name = importer->xattr_buffer; name < importer->xattr_buffer + size;
	     name += strlen(name) + 1) {
		if (is_wanted(importer->options, name) &&
		    import_xattr(importer, node, from, path, name) < 0)
			return -1;
	}
	return 0;
}

/* --- one file --- */

static struct timespec import_time(const struct fsimport *options, struct timespec mtime)
{
	if (options->clamp_mtime && mtime.tv_sec >= options->latest_mtime)
		return (struct timespec){.tv_sec = options->latest_mtime};
	return mtime;
}

static struct fsmeta meta_of(const struct importer *importer, const struct stat *stat)
{
	const struct fsimport *options = importer->options;

	return (struct fsmeta){
		.mode = stat->st_mode,
		.uid = options->override_owner ? options->uid : stat->st_uid,
		.gid = options->override_owner ? options->gid : stat->st_gid,
		.mtime = import_time(options, stat->st_mtim),
	};
}

static int push(struct importer *importer, struct host_directory *directory, struct fsnode *node)
{
	if (importer->pending_count == importer->pending_capacity) {
		size_t capacity = importer->pending_capacity ? 2 * importer->pending_capacity : 64;
		struct pending *grown =
			reallocarray(importer->pending, capacity, sizeof(struct pending));

		if (!grown)
			return fail_for_memory(importer);
		importer->pending = grown;
		importer->pending_capacity = capacity;
	}
	importer->pending[importer->pending_count++] = (struct pending){directory, node};
	return 0;
}

static struct fsnode *import_directory(struct importer *importer, struct fsnode *parent,
				       const struct candidate *from)
{
	struct fsmeta meta = meta_of(importer, &from->stat);
	struct fsnode *node = fstree_child(parent, from->name);

	if (node && node_is_directory(node))
		node->meta = meta;
	else
		node = tree_add(importer->tree, parent, from->name, &meta, importer->error);
	if (!node)
		return NULL;

	struct host_directory *directory =
		remember_directory(importer->tree, from->directory, from->host_name);

	if (!directory) {
		fail_for_memory(importer);
		return NULL;
	}
	return push(importer, directory, node) < 0 ? NULL : node;
}

/*
 * How much of the file is data: known from its size alone, but where there may be holes. Whether
 * it can be read is asked where its mode leaves a doubt: an access list that is against it shows
 * when the file is opened.
 */
static int measure(struct importer *importer, const struct candidate *from, struct host_file *file)
{
	struct host_segment segment = {0, 0};
	int fd = -1, found;

	if (file->sparse || file->find_zeros) {
		fd = host_open_file(from->directory_fd, from->host_name);
		if (fd < 0)
			return fail_at(importer, from, "cannot open");
	} else if ((from->stat.st_mode & 0444) != 0444 &&
		   faccessat(from->directory_fd, from->host_name, R_OK,
			     AT_EACCESS | AT_SYMLINK_NOFOLLOW) < 0) {
		return fail_at(importer, from, "cannot read");
	}
	while ((found = host_next_segment(fd, file, segment.end, &segment)) > 0) {
		file->data_blocks += (segment.end - segment.start + FSIMAGE_BLOCK_BYTES - 1) /
				     FSIMAGE_BLOCK_BYTES;
		file->segment_count++;
		file->data_bytes += segment.end - segment.start;
	}
	if (found < 0)
		fail_at(importer, from, "cannot find the holes of");
	if (fd >= 0)
		close(fd);
	/* Without holes the writer need not look for them again. */
	if (file->data_bytes == file->size_bytes)
		file->sparse = file->find_zeros = false;
	return found;
}

static struct fsnode *import_file(struct importer *importer, struct fsnode *parent,
				  const struct candidate *from)
{
	size_t name_bytes = strlen(from->host_name) + 1;
	struct host_file *file = calloc(1, sizeof(*file) + name_bytes);

	if (!file) {
		fail_for_memory(importer);
		return NULL;
	}
	memcpy(file->name, from->host_name, name_bytes);
	file->directory = from->directory;
	file->device = from->stat.st_dev;
	file->inode = from->stat.st_ino;
	file->size_bytes = from->stat.st_size;
	file->mtime = from->stat.st_mtim;
	file->ctime = from->stat.st_ctim;
	file->sparse = from->stat.st_blocks * 512 < from->stat.st_size;
	file->find_zeros = importer->options->zeros_are_holes && from->stat.st_size > 0;

	struct fsmeta meta = meta_of(importer, &from->stat);
	struct fsnode *node =
		measure(importer, from, file) < 0
			? NULL
			: tree_add(importer->tree, parent, from->name, &meta, importer->error);

	if (!node) {
		free(file);
		return NULL;
	}
	node->source = SOURCE_HOST;
	node->host = file;
	importer->tree->totals.data_bytes += file->data_bytes;
	return node;
}

static struct fsnode *import_symlink(struct importer *importer, struct fsnode *parent,
				     const struct candidate *from)
{
	char target[FSIMAGE_BLOCK_BYTES + 1];
	ssize_t length =
		readlinkat(from->directory_fd, from->host_name, target, sizeof(target) - 1);

	if (length < 0) {
		fail_at(importer, from, "cannot read the symlink");
		return NULL;
	}
	target[length] = '\0';

	struct fsmeta meta = meta_of(importer, &from->stat);

	return fstree_add_symlink(importer->tree, parent, from->name, &meta, target,
				  importer->error);
}

static struct fsnode *import_by_type(struct importer *importer, struct fsnode *parent,
				     const struct candidate *from)
{
	struct fsmeta meta = meta_of(importer, &from->stat);

	switch (from->stat.st_mode & S_IFMT) {
	case S_IFDIR:
		return import_directory(importer, parent, from);
	case S_IFREG:
		return import_file(importer, parent, from);
	case S_IFLNK:
		return import_symlink(importer, parent, from);
	case S_IFSOCK:
		error_set(importer->error, "%s is a socket, which cannot be packed",
			  host_path(from->directory, from->host_name).text);
		return NULL;
	default:
		return fstree_add_special(importer->tree, parent, from->name, &meta,
					  from->stat.st_rdev, importer->error);
	}
}

static struct fsnode *import_one(struct importer *importer, struct fsnode *parent,
				 const struct candidate *from)
{
	struct host_link *link = NULL;

	if (!S_ISDIR(from->stat.st_mode) && from->stat.st_nlink > 1) {
		link = find_link(importer, &from->stat);
		if (!link) {
			fail_for_memory(importer);
			return NULL;
		}
	}
	if (!link || !link->node || !link->node->names) {
		struct fsnode *node = import_by_type(importer, parent, from);

		if (node && import_xattrs(importer, node, from) < 0)
			return NULL;
		if (link)
			link->node = node;
		return node;
	}

	return fstree_add_link(importer->tree, parent, from->name, link->node, importer->error);
}

static int stat_candidate(struct importer *importer, struct candidate *from)
{
	if (fstatat(from->directory_fd, from->host_name, &from->stat, AT_SYMLINK_NOFOLLOW) < 0)
		return fail_at(importer, from, "cannot import");
	return 0;
}

/* --- directories --- */

static int import_entry(struct importer *importer, const struct pending *pending,
			const char *entry_name)
{
	struct candidate from = {
		.directory = pending->directory,
		.directory_fd = importer->cursor.fd,
		.host_name = entry_name,
		.name = entry_name,
	};

	if (strcmp(entry_name, ".") == 0 || strcmp(entry_name, "..") == 0)
		return 0;
	if (stat_candidate(importer, &from) < 0)
		return -1;
	if (S_ISSOCK(from.stat.st_mode))
		return 0;
	return import_one(importer, pending->node, &from) ? 0 : -1;
}

static int fail_to_list(struct importer *importer, const struct host_directory *directory)
{
	return error_errno(importer->error, "cannot list the directory %s",
			   host_path(directory->parent, directory->name).text);
}

static int import_entries(struct importer *importer, const struct pending *pending)
{
	int directory_fd = host_enter(&importer->cursor, pending->directory, importer->error);

	if (directory_fd < 0)
		return -1;

	int list_fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = list_fd < 0 ? NULL : fdopendir(list_fd);
	const struct dirent *entry;
	int result = 0;

	if (!list) {
		fail_to_list(importer, pending->directory);
		if (list_fd >= 0)
			close(list_fd);
		return -1;
	}
	while (result == 0 && (errno = 0, entry = readdir(list)))
		result = import_entry(importer, pending, entry->d_name);
	if (result == 0 && errno)
		result = fail_to_list(importer, pending->directory);
	closedir(list);
	return result;
}

/* A stack and no recursion: the host's trees may be deeper than ours. */
static int import_pending(struct importer *importer)
{
	while (importer->pending_count) {
		struct pending pending = importer->pending[--importer->pending_count];

		if (import_entries(importer, &pending) < 0)
			return -1;
	}
	return 0;
}

static void end_import(struct importer *importer)
{
	host_leave(&importer->cursor);
	free(importer->pending);
	free(importer->xattr_buffer);
}

struct fsnode *fstree_import(struct fstree *tree, struct fsnode *directory, const char *name,
			     int directory_fd, const char *path, const struct fsimport *import,
			     struct error *error)
{
	struct importer importer = {
		.tree = tree, .options = import, .cursor = HOST_CURSOR_NOWHERE, .error = error};
	struct candidate from = {.host_name = path, .name = name};
	struct fsnode *node = NULL;

	from.directory = open_base(&importer, directory_fd);
	if (from.directory) {
		from.directory_fd = from.directory->base_fd;
		if (stat_candidate(&importer, &from) == 0)
			node = import_one(&importer, directory, &from);
	}
	if (node && import_pending(&importer) < 0)
		node = NULL;
	end_import(&importer);
	return node;
}

int fstree_import_xattrs(struct fstree *tree, struct fsnode *node, int directory_fd,
			 const char *path, const struct fsimport *import, struct error *error)
{
	struct importer importer = {
		.tree = tree, .options = import, .cursor = HOST_CURSOR_NOWHERE, .error = error};
	struct candidate from = {.host_name = path};
	int result = -1;

	from.directory = open_base(&importer, directory_fd);
	if (from.directory) {
		from.directory_fd = from.directory->base_fd;
		result = import_xattrs(&importer, node, &from);
	}
	end_import(&importer);
	return result;
}

struct fsorigin fstree_origin(const struct fsnode *node)
{
	const struct host_file *file = node->host;
	struct fsorigin origin = {
		.import_path = file->name,
		.device = file->device,
		.inode = file->inode,
		.size_bytes = file->size_bytes,
		.mtime = file->mtime,
		.ctime = file->ctime,
	};

	for (const struct host_directory *at = file->directory; at->parent; at = at->parent) {
		origin.below_bytes += strlen(origin.import_path) + (origin.below_bytes > 0);
		origin.import_path = at->name;
	}
	return origin;
}

int fstree_import_contents(struct fstree *tree, struct fsnode *directory, int directory_fd,
			   const char *path, const struct fsimport *import, struct error *error)
{
	struct importer importer = {
		.tree = tree, .options = import, .cursor = HOST_CURSOR_NOWHERE, .error = error};
	struct host_directory *base = open_base(&importer, directory_fd);
	struct host_directory *host = base ? remember_directory(tree, base, path) : NULL;
	int result = -1;

	if (base && !host)
		fail_for_memory(&importer);
	if (host && push(&importer, host, directory) == 0)
		result = import_pending(&importer);
	end_import(&importer);
	return result;
}
