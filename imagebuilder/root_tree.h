/*
 * root_tree: what the guest's root shall hold, put together from sources.
 */
#ifndef IMAGEBUILDER_ROOT_TREE_H
#define IMAGEBUILDER_ROOT_TREE_H

#include <stdint.h>
#include <time.h>

#include "imagebuilder/root_source.h"

struct root_tree_options {
	const char *const *from; /* sources, NULL-terminated; the last is the topmost */
	time_t now;		 /* of what no source has */
	time_t latest;		 /* later times become it */
	int spool_directory_fd;	 /* where archives' data goes, until root_tree_free */
	const char *spool_name;	 /* of that directory, for errors; lives as long as the tree */
	/* Called with what the tree holds, now and then; may be NULL. */
	void (*progress)(void *context, const struct fstotals *done);
	void *progress_context;
};

struct root_tree {
	struct fstree *tree;
	struct root_source *sources; /* in the order in which they are stacked */
	size_t source_count;
	struct image_defaults defaults; /* of the topmost OCI image */
	uint8_t uuid[16];		/* made from the sources' metadata */
	int spool_fd;			/* what files of archives are read from; -1: none */
};

/*
 * Stacks the sources and adds the mount points that are missing. What a later source has replaces
 * what an earlier one has there; directories are merged, and get the later one's metadata.
 * Without root's rights, the caller's own files in directories become root's; archives are taken
 * at their word. On failure there is nothing to free.
 */
int root_tree_build(const struct root_tree_options *options, struct root_tree *root,
		    struct error *error);
/*
 * Adds PID 1, a copy of the host's file INIT, which a guest without an initrd starts from its
 * root. NOW is its time. A source that has that name itself is refused.
 */
int root_tree_add_init(struct root_tree *root, const char *init, time_t now, struct error *error);
void root_tree_free(struct root_tree *root); /* a zeroed one without a tree is allowed */

#endif
