/* traced_inputs: those files of a directory that a job has read before, as inputs to be packed. */
#ifndef HOST_TOOLS_TRACED_INPUTS_H
#define HOST_TOOLS_TRACED_INPUTS_H

#include "fsimage/tree.h"

/*
 * Adds the files that the trace TRACE_PATH (lazy/trace.h) names, from below DIRECTORY, to NODE of
 * TREE, by RULES, with the directories on the way to them. What is in the tree already stays, and
 * what is no file there any more is left out. 0, or -1 with ERROR set.
 */
int traced_inputs_add(const char *trace_path, const char *directory, struct fstree *tree,
		      struct fsnode *node, const struct fsimport *rules, struct error *error);

#endif
