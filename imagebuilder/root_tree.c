#include "imagebuilder/root_tree.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imagebuilder/files.h"
#include "jobdisk/layout.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* What PID 1 mounts on, and what jobs expect of any root; in order. */
static const struct mount_point {
	const char *parent; /* NULL: the root */
	const char *name;
	mode_t mode;
} mount_points[] = {
	{NULL, "proc", 0555}, {NULL, "sys", 0555},   {NULL, "dev", 0755},
	{NULL, "run", 0755},  {NULL, "tmp", 01777},  {NULL, "job", 0755},
	{NULL, "var", 0755},  {"var", "tmp", 01777}, {NULL, "root", 0700},
};

/* A walk through one source. */
struct stacking {
	struct root_tree *root;
	struct root_source *source;
	time_t latest;
	struct digest *digest;
};

static struct fsmeta meta_of(const struct stat *stat, time_t latest)
{
	bool becomes_root = geteuid() != 0 && stat->st_uid == geteuid();
	struct fsmeta meta = {
		.mode = stat->st_mode,
		.uid = becomes_root ? 0 : stat->st_uid,
		.gid = becomes_root ? 0 : stat->st_gid,
		.mtime = stat->st_mtim,
	};

	if (meta.mtime.tv_sec >= latest)
		meta.mtime = (struct timespec){.tv_sec = latest};
	return meta;
}

static int digest_node(struct stacking *stacking, const char *path, const FTSENT *entry,
		       const struct fsmeta *meta, struct error *error)
{
	const struct stat *stat = entry->fts_statp;
	char numbers[128], target[PATH_MAX];
	ssize_t target_length = 0;

	if (S_ISLNK(meta->mode))
		target_length = readlink(entry->fts_accpath, target, sizeof(target));
	if (target_length < 0)
		return error_errno(error, "read link %s", entry->fts_path);
	snprintf(
		numbers, sizeof(numbers), "%o %u %u %lld.%09ld %llu %zd", meta->mode, meta->uid,
		meta->gid, (long long)meta->mtime.tv_sec, meta->mtime.tv_nsec,
		(unsigned long long)(S_ISREG(meta->mode) ? (uint64_t)stat->st_size : stat->st_rdev),
		target_length);
	digest_add(stacking->digest, path, strlen(path) + 1);
	digest_add(stacking->digest, numbers, strlen(numbers) + 1);
	digest_add(stacking->digest, target, (size_t)target_length);
	return 0;
}

/* Whether a later source has something else than a directory at PATH. */
static bool is_replaced(const struct stacking *stacking, const char *path)
{
	const struct root_tree *root = stacking->root;
	struct stat stat;

	for (const struct root_source *later = stacking->source + 1;
	     later < root->sources + root->source_count; later++)
		if (fstatat(later->fd, path, &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
		    !S_ISDIR(stat.st_mode))
			return true;
	return false;
}

/*
 * Sources are stacked from the last to the first: what is there already came from a later one and
 * stays.
 */
static int stack_node(struct stacking *stacking, FTS *walk, FTSENT *entry, const char *path,
		      const struct fsmeta *meta, struct error *error)
{
	struct fstree *tree = stacking->root->tree;
	struct fsnode *parent = entry->fts_parent->fts_pointer;
	struct fsnode *node = fstree_child(parent, entry->fts_name);
	struct fsimport import = {
		.override_owner = true,
		.uid = meta->uid,
		.gid = meta->gid,
		.clamp_mtime = true,
		.latest_mtime = stacking->latest,
	};

	if (S_ISDIR(meta->mode)) {
		if (node && is_replaced(stacking, path))
			return fts_set(walk, entry, FTS_SKIP);
		if (!node)
			node = fstree_add_directory(tree, parent, entry->fts_name, meta, error);
		entry->fts_pointer = node;
		return node ? 0 : -1;
	}
	if (node || S_ISSOCK(meta->mode))
		return 0;
	node = fstree_import(tree, parent, entry->fts_name, AT_FDCWD, entry->fts_accpath, &import,
			     error);
	return node ? 0 : -1;
}

static int visit(struct stacking *stacking, FTS *walk, FTSENT *entry, struct error *error)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): open_sources set it */
	const char *path = entry->fts_path + strlen(stacking->source->path);
	struct fsmeta meta = meta_of(entry->fts_statp, stacking->latest);

	/* The source itself: the root's mode and time are ours. */
	if (entry->fts_level == FTS_ROOTLEVEL) {
		entry->fts_pointer = fstree_root(stacking->root->tree);
		return 0;
	}
	path += strspn(path, "/");
	stacking->source->nodes++;
	if (digest_node(stacking, path, entry, &meta, error))
		return -1;
	return stack_node(stacking, walk, entry, path, &meta, error);
}

static int stack_source(struct stacking *stacking, struct error *error)
{
	FTS *walk = files_walk(stacking->source->path, error);
	FTSENT *entry;
	int result;

	if (!walk)
		return -1;
	stacking->digest = digest_new(error);
	if (!stacking->digest) {
		fts_close(walk);
		return -1;
	}
	while ((entry = files_walk_next(walk, &result, error)))
		if ((result = visit(stacking, walk, entry, error)))
			break;
	fts_close(walk);
	if (result) {
		digest_free(stacking->digest);
		return -1;
	}
	return digest_finish(stacking->digest, stacking->source->metadata_digest, error);
}

static int open_source(struct root_source *source, struct error *error)
{
	struct stat stat;

	source->fd = open(source->path, O_PATH | O_CLOEXEC);
	if (source->fd < 0 && strncmp(source->path, "oci:", strlen("oci:")) != 0)
		return error_errno(error, "open %s", source->path);
	if (source->fd < 0 || fstat(source->fd, &stat) || !S_ISDIR(stat.st_mode))
		return error_set(
			error,
			"%s: not a directory (tar and OCI sources come with a later version)",
			source->path);
	return 0;
}

static int open_sources(const char *const *from, struct root_tree *root, struct error *error)
{
	size_t count = 0;

	while (from[count])
		count++;
	root->sources = calloc(count + 1, sizeof(*root->sources));
	if (!root->sources)
		return error_set(error, "out of memory");
	for (; root->source_count < count; root->source_count++) {
		struct root_source *source = &root->sources[root->source_count];
		source->path = from[root->source_count];
		if (open_source(source, error)) {
			if (source->fd >= 0)
				close(source->fd);
			return -1;
		}
	}
	return 0;
}

static int add_mount_points(struct root_tree *root, time_t now, struct error *error)
{
	for (size_t i = 0; i < COUNT(mount_points); i++) {
		const struct mount_point *point = &mount_points[i];
		struct fsmeta meta = {.mode = S_IFDIR | point->mode, .mtime.tv_sec = now};
		struct fsnode *parent = fstree_root(root->tree);

		if (point->parent)
			parent = fstree_child(parent, point->parent);
		if (!fstree_child(parent, point->name) &&
		    !fstree_add_directory(root->tree, parent, point->name, &meta, error))
			return -1;
	}
	return 0;
}

/* The guest's root has a UUID that the same sources give again: an RFC 9562 version 8 UUID. */
static int make_uuid(struct root_tree *root, struct error *error)
{
	struct digest *digest = digest_new(error);
	uint8_t value[DIGEST_BYTES];

	if (!digest)
		return -1;
	for (size_t i = 0; i < root->source_count; i++)
		digest_add(digest, root->sources[i].metadata_digest, DIGEST_BYTES);
	if (digest_finish(digest, value, error))
		return -1;
	memcpy(root->uuid, value, sizeof(root->uuid));
	root->uuid[6] = (root->uuid[6] & 0x0f) | 0x80;
	root->uuid[8] = (root->uuid[8] & 0x3f) | 0x80;
	return 0;
}

static int fill(struct root_tree *root, time_t now, time_t latest, struct error *error)
{
	struct fsmeta meta = {.mode = S_IFDIR | 0755, .mtime.tv_sec = now};
	struct stacking stacking = {.root = root, .latest = latest};

	root->tree = fstree_new(&meta);
	if (!root->tree)
		return error_set(error, "out of memory");
	for (size_t i = root->source_count; i-- > 0;) {
		stacking.source = &root->sources[i];
		if (stack_source(&stacking, error))
			return -1;
	}
	return 0;
}

int root_tree_build(const char *const *from, time_t now, time_t latest, struct root_tree *root,
		    struct error *error)
{
	*root = (struct root_tree){0};
	if (open_sources(from, root, error) || fill(root, now, latest, error) ||
	    add_mount_points(root, now, error) || make_uuid(root, error)) {
		root_tree_free(root);
		return -1;
	}
	return 0;
}

static int add_init_file(struct root_tree *root, struct fsnode *directory, const char *init,
			 time_t now, struct error *error)
{
	struct fsmeta meta = {.mode = S_IFREG | 0555, .mtime.tv_sec = now};
	uint64_t size_bytes;
	int fd = files_open(init, &size_bytes, error);

	if (fd < 0)
		return -1;
	void *bytes = mmap(NULL, size_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (bytes == MAP_FAILED)
		return error_errno(error, "read %s", init);
	const struct fsnode *node =
		fstree_add_bytes(root->tree, directory, GUEST_INIT + sizeof(GUEST_INIT_DIR), &meta,
				 bytes, size_bytes, error);
	munmap(bytes, size_bytes);
	return node ? 0 : -1;
}

int root_tree_add_init(struct root_tree *root, const char *init, time_t now, struct error *error)
{
	struct fsmeta meta = {.mode = S_IFDIR | 0555, .mtime.tv_sec = now};
	const char *name = GUEST_INIT_DIR + 1;

	if (fstree_child(fstree_root(root->tree), name))
		return error_set(error,
				 "a source has " GUEST_INIT_DIR ", which jobvm needs for itself");
	struct fsnode *directory =
		fstree_add_directory(root->tree, fstree_root(root->tree), name, &meta, error);
	return directory ? add_init_file(root, directory, init, now, error) : -1;
}

void root_tree_free(struct root_tree *root)
{
	fstree_free(root->tree);
	for (size_t i = 0; i < root->source_count; i++)
		close(root->sources[i].fd);
	free(root->sources);
	*root = (struct root_tree){0};
}
