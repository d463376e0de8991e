/* outputs: which of the files in a job's workspace are collected, and where each goes. */
#ifndef HOST_TOOLS_OUTPUTS_H
#define HOST_TOOLS_OUTPUTS_H

#include "host-tools/report.h"

struct output {
	char *path; /* below the directory that outputs go to */
	struct fsstat stat;
};

/* In order of path: parents come before what they hold. */
struct outputs {
	struct output *items;
	size_t count, capacity;
	bool cut_off; /* there are more, beyond CHANGES_MAX */
};

/*
 * Lists what the job of REPORT is to bring back from IMAGE: what it changed, or what it declared.
 * With EVERYTHING it is all that the job changed, whatever the manifest selects. Each path has
 * BELOW and a slash before it, where BELOW is not "". A declared output that is not there is told
 * to MISSING. 0, or -1 with ERROR set; in either case outputs_free frees what OUTPUTS holds.
 */
typedef int outputs_missing(void *context, const char *declared, struct error *error);
int outputs_plan(struct outputs *outputs, const struct report *report, struct fsimage *image,
		 const char *below, bool everything, outputs_missing *missing, void *context,
		 struct error *error);
void outputs_free(struct outputs *outputs);

#endif
