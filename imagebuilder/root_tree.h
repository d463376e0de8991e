/*
 * root_tree: what the guest's root shall hold, put together from sources.
 */
#ifndef IMAGEBUILDER_ROOT_TREE_H
#define IMAGEBUILDER_ROOT_TREE_H

#include <stdint.h>
#include <time.h>

#include "fsimage/tree.h"
#include "imagebuilder/digest.h"

struct root_source {
	const char *path;
	int fd;
	uint64_t nodes;
	/*
	 * Of all nodes' paths, types, modes, owners, times, sizes and link targets; not of their
	 * data, which the digest of the finished image covers.
	 */
	uint8_t metadata_digest[DIGEST_BYTES];
};

struct root_tree {
	struct fstree *tree;
	struct root_source *sources; /* in the order in which they are stacked */
	size_t source_count;
	uint8_t uuid[16]; /* made from the sources' digests */
};

/*
 * Stacks the directories FROM (NULL-terminated, the last is the topmost) and adds the mount
 * points that are missing. A file of a later source replaces what an earlier one has there;
 * directories are merged. NOW is the time of what no source has; later times than LATEST become
 * LATEST. Without root's rights, the caller's own files become root's. On failure there is
 * nothing to free.
 */
int root_tree_build(const char *const *from, time_t now, time_t latest, struct root_tree *root,
		    struct error *error);
/*
 * Adds PID 1, a copy of the host's file INIT, which a guest without an initrd starts from its
 * root. NOW is its time. A source that has that name itself is refused.
 */
int root_tree_add_init(struct root_tree *root, const char *init, time_t now, struct error *error);
void root_tree_free(struct root_tree *root);

#endif
