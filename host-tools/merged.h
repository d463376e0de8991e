/* merged: what came of merging a job's changes into a directory (merge.h), for the report. */
#ifndef HOST_TOOLS_MERGED_H
#define HOST_TOOLS_MERGED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host-tools/changes.h"
#include "host-tools/values.h"

enum merged_status {
	MERGED_NOT_ASKED,
	MERGED_DONE,
	MERGED_PLANNED,	   /* with dry_run: it could be done */
	MERGED_CONFLICTS,  /* nothing was done */
	MERGED_NOT_WANTED, /* when_to_transfer_output: the job did not succeed */
	MERGED_FAILED,
};

/* Their words in the report. */
extern const char *const merged_status_words[];

struct merged_conflict {
	char *path;
	const char *reason; /* what is there, and what the job did */
	size_t item;	    /* of the plan: that takes its place */
	bool is_overwritten;
};

struct merged {
	enum merged_status status;
	const char *directory; /* the user's */
	bool dry_run, forced;
	int signal;			/* that stopped it; or 0 */
	char message[ERROR_TEXT_BYTES]; /* why it failed; or "" */
	/* By enum change_kind: what was done, or with dry_run would be. */
	uint64_t applied[CHANGE_DELETED + 1];
	uint64_t unchanged; /* changes of the job's that were there already */
	struct merged_conflict *conflicts;
	size_t conflict_count, conflict_capacity;
	struct strings skipped; /* what is never made: "PATH (fifo)" */
};

/* Adds a conflict at PATH, which is copied; exits the program when there is no memory. */
void merged_add_conflict(struct merged *merged, const char *path, const char *reason, size_t item);
void merged_free(struct merged *merged);

/* Says on stderr what came of it: conflicts, what was skipped, a summary or why it failed. */
void merged_say(const struct merged *merged);

#endif
