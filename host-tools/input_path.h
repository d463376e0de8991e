/* input_path: what a path means that a user names as an input, by HTCondor's and rsync's rule. */
#ifndef HOST_TOOLS_INPUT_PATH_H
#define HOST_TOOLS_INPUT_PATH_H

#include <limits.h>

#include "fsimage/epoch.h"
#include "fsimage/tree.h"

struct input_path {
	char resolved[PATH_MAX]; /* absolute and without symlinks: the user means what it leads to
				  */
	char name[PATH_MAX];	 /* in the workspace, as the user wrote it */
	mode_t type;
	bool contents; /* the directory's contents are meant, not the directory */
};

/*
 * Finds what the user's PATH means, which can be opened under the name FULL_PATH. -1 with ERROR
 * set.
 */
int input_resolve(const char *path, const char *full_path, struct input_path *input,
		  struct error *error);

/* Adds it, with all below it, to DIRECTORY of TREE. -1 with ERROR set. */
int input_add(const struct input_path *input, struct fstree *tree, struct fsnode *directory,
	      const struct fsimport *rules, struct error *error);

/* The rules for files that become a job's: their owner, and their latest time if EPOCH is set. */
struct fsimport input_rules(uid_t uid, gid_t gid, const struct epoch *epoch);

#endif
