/* pack: makes the job disk of a job. */
#ifndef HOST_TOOLS_PACK_H
#define HOST_TOOLS_PACK_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "fsimage/epoch.h"
#include "host-tools/job.h"

/* Free space on the job disk where request_disk says nothing; the image file stays sparse. */
#define PACK_FREE_BYTES (1ULL << 30)

struct packed {
	int fd; /* the job disk, read-write */
	char job_id[37];
	char temporary[PATH_MAX]; /* its name until pack_publish, where a file must have one; or ""
				   */
};

/* What makes a job disk the same bytes when it is packed again. */
struct pack_options {
	const uint8_t *job_id; /* a UUID's 16 bytes; NULL: a new one */
	/* Set: the time of what is not an input, and the latest that inputs may have. */
	struct epoch epoch;
	bool without_inputs; /* they are on the input disk */
	bool traced_inputs;  /* those that the job's prefetch list names are packed too */
};

/*
 * Makes a job disk in a file without a name, in the directory of PATH (or, with PATH NULL, in
 * pack_scratch_directory): a process that dies leaves nothing behind. The manifest gets its job id.
 * OPTIONS may be NULL. -1 with ERROR set and nothing to close.
 */
int pack_job(struct job *job, const char *path, const struct pack_options *options,
	     struct packed *packed, struct error *error);

/*
 * Opens an empty file without a name as pack_job does. -1 with ERROR set and nothing to close.
 * pack_discard closes it again, where it was not published.
 */
int pack_open(const char *path, struct packed *packed, struct error *error);
void pack_discard(const struct packed *packed);

/* Where job disks without a PATH go: $TMPDIR or /var/tmp. */
const char *pack_scratch_directory(void);

/* Syncs the packed disk and gives it the name PATH, which must be new. */
int pack_publish(const struct packed *packed, const char *path, struct error *error);

#endif
