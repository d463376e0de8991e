/*
 * merge: applies what a job changed in its workspace to the directory that was its input, or a copy
 * of it: creations, changes and deletions, each file atomically. What changed there since the job
 * was packed is not overwritten.
 *
 * The job disk is read by confined children only. One tells what was before and after; one extracts
 * the files into a directory of our own in the same file system. Then all is compared, and only
 * where nothing conflicts the files are moved to their places.
 */
#ifndef HOST_TOOLS_MERGE_H
#define HOST_TOOLS_MERGE_H

#include "host-tools/merge_plan.h"
#include "host-tools/report.h"

struct merge {
	const char *directory; /* NULL: no merge is wanted */
	int directory_fd;      /* held; -1 until merge_open */
	bool dry_run;
	bool force; /* what conflicts is overwritten, and partial results are merged too */
	/* With dry_run: told of each change that would be made; may be NULL. */
	void (*planned)(const struct merge_item *item);
};

#define MERGE_HELP                                                                                 \
	"  --merge DIR          apply creations, changes and deletions to DIR\n"                   \
	"  --merge-force        overwrite what changed there since the job was packed\n"           \
	"  --dry-run            only say what --merge would do\n"

/* Ends the program where options are there that need --merge. */
void merge_check_usage(const char *command, const struct merge *merge);

/* For `planned`: a line on stdout, or on stderr. */
void merge_print_planned(const struct merge_item *item);
void merge_say_planned(const struct merge_item *item);

/*
 * Opens the directory and, but for a dry run, sees that it can be written: before a job runs for
 * nothing. 0, or -1 with ERROR set.
 */
int merge_open(struct merge *merge, struct error *error);
void merge_close(struct merge *merge);

/*
 * Merges the outputs of REPORT and notes in REPORT->merged what came of it. 0 when it was merged,
 * would be, or the job's when_to_transfer_output does not want it; -1 with ERROR set, and REPORT's
 * exit code says failure. With conflicts nothing was changed; after another failure, what has been
 * done so far stays, and the same merge again completes it. The first signal that would end us
 * stops it, and is then in REPORT's exit code.
 */
int merge_results(struct report *report, const struct merge *merge, struct error *error);

#endif
