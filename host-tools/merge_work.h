/* merge_work: what the parts of a merge share; private to merge*.c. */
#ifndef HOST_TOOLS_MERGE_WORK_H
#define HOST_TOOLS_MERGE_WORK_H

#include "host-tools/merge.h"
#include "host-tools/merge_tree.h"

/* How the names of our own directories begin. A job's output with such a name is not merged. */
#define MERGE_OWN_PREFIX ".jobvm-merge-"

struct merge_work {
	const struct merge *merge;
	struct merged *merged;
	struct merge_plan plan;
	struct merge_tree tree;	  /* the directory */
	struct merge_tree staged; /* the job's files, under the same paths */
	int own_fd;		  /* our own directory, in the tree's file system */
	unsigned moved_away;	  /* so many things lie there that were in the way */
};

/*
 * Judges each item of the plan: what is to be done, and what conflicts; that goes into
 * merged->conflicts. Changes nothing. 0, or -1 with ERROR set.
 */
int merge_check(struct merge_work *work, struct error *error);

/* Does what is to be done, conflicts or not. 0, or -1 with ERROR set. */
int merge_apply(struct merge_work *work, struct error *error);
/* After that, when our own directory is gone: the workspace's own mode and time. */
int merge_apply_to_top(struct merge_work *work, struct error *error);

/* 0, or -1 with ERROR set when a signal came that is to stop the merge. */
int merge_go_on(struct error *error);

#endif
