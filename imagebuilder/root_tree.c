#include "imagebuilder/root_tree.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imagebuilder/files.h"
#include "imagebuilder/image_defaults.h"
#include "jobdisk/layout.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* What PID 1 mounts on, and what jobs expect of any root; in order. */
static const struct mount_point {
	const char *parent; /* NULL: the root */
	const char *name;
	mode_t mode;
	bool is_mounted_on;
} mount_points[] = {
	{NULL, "proc", 0555, true}, {NULL, "sys", 0555, true},	  {NULL, "dev", 0755, true},
	{NULL, "run", 0755, false}, {NULL, "tmp", 01777, false},  {NULL, "job", 0755, true},
	{NULL, "var", 0755, false}, {"var", "tmp", 01777, false}, {NULL, "root", 0700, false},
};

static int open_sources(const char *const *from, struct root_tree *root, struct error *error)
{
	size_t count = 0;

	while (from[count])
		count++;
	root->sources = calloc(count + 1, sizeof(*root->sources));
	if (!root->sources)
		return error_set(error, "out of memory");
	for (; root->source_count < count; root->source_count++)
		if (root_source_open(from[root->source_count], &root->sources[root->source_count],
				     error))
			return -1;
	return 0;
}

static bool is_directory(const struct fsnode *node)
{
	return S_ISDIR(fstree_meta(node)->mode);
}

static int add_mount_point(struct root_tree *root, const struct mount_point *point, time_t now,
			   struct error *error)
{
	struct fsmeta meta = {.mode = S_IFDIR | point->mode, .mtime.tv_sec = now};
	struct fsnode *parent = fstree_root(root->tree);

	if (point->parent)
		parent = fstree_child(parent, point->parent);
	/* One that is a symlink is as the source wants it. */
	if (!is_directory(parent))
		return 0;
	const struct fsnode *node = fstree_child(parent, point->name);
	if (!node)
		node = fstree_add_directory(root->tree, parent, point->name, &meta, error);
	if (node && point->is_mounted_on && !is_directory(node))
		return error_set(error,
				 "a source has /%s, which is not a directory, but every guest "
				 "needs it as one",
				 point->name);
	return node ? 0 : -1;
}

static int add_mount_points(struct root_tree *root, time_t now, struct error *error)
{
	for (size_t i = 0; i < COUNT(mount_points); i++)
		if (add_mount_point(root, &mount_points[i], now, error))
			return -1;
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

static int stack_sources(struct root_tree *root, struct root_target *target, struct error *error)
{
	struct fsmeta meta = {.mode = S_IFDIR | 0755, .mtime.tv_sec = target->stack.now};

	root->tree = target->stack.tree = fstree_new(&meta);
	if (!root->tree)
		return error_set(error, "out of memory");
	for (size_t i = 0; i < root->source_count; i++)
		if (root_source_stack(&root->sources[i], target, error))
			return -1;
	return 0;
}

int root_tree_build(const struct root_tree_options *options, struct root_tree *root,
		    struct error *error)
{
	struct root_target target = {
		.stack = {.now = options->now,
			  .latest = options->latest,
			  .progress = options->progress,
			  .progress_context = options->progress_context},
		.spool = spool_start(options->spool_directory_fd, options->spool_name),
		.defaults = &root->defaults,
	};

	*root = (struct root_tree){.spool_fd = -1};
	int result = open_sources(options->from, root, error) ||
		     stack_sources(root, &target, error) ||
		     add_mount_points(root, options->now, error) || make_uuid(root, error);
	root->spool_fd = target.spool.fd;
	if (result)
		root_tree_free(root);
	return result ? -1 : 0;
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
		root_source_close(&root->sources[i]);
	free(root->sources);
	image_defaults_free(&root->defaults);
	if (root->tree && root->spool_fd >= 0)
		close(root->spool_fd);
	*root = (struct root_tree){.spool_fd = -1};
}
