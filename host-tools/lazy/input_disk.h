/*
 * input_disk: the input disk of one job, whose blocks are fetched when the guest reads them: the
 * server, where it is ours, the process that fetches, and what came of both.
 */
#ifndef HOST_TOOLS_LAZY_INPUT_DISK_H
#define HOST_TOOLS_LAZY_INPUT_DISK_H

#include <jansson.h>
#include <stdbool.h>

#include "host-tools/job.h"
#include "host-tools/lazy/fetch.h"
#include "host-tools/lazy/serve.h"

/* Zeroed, it is closed. */
struct input_disk {
	const struct job *job;
	const struct manifest *manifest;
	const char *identity; /* that it must have; NULL: any */
	struct serve serve;
	char uri[64];	 /* of that server */
	bool is_serving; /* the inputs lie here, and the server is ours */
	bool is_direct;	 /* and QEMU reads from it */
	struct fetch fetch;
	bool is_fetching, is_taken;
	struct fetch_summary summary;
};

/* Whether the job's own inputs, and no other tree, are on its input disk. */
bool input_disk_has_inputs(const struct job *job);

/*
 * Starts what serves and fetches the inputs of a job as JOB and MANIFEST say, which must last as
 * long as DISK. IDENTITY: that of the only export that will do, or NULL. For one that fetches
 * nothing it does nothing. 0, or -1 with ERROR set and nothing to close.
 */
int input_disk_open(struct input_disk *disk, const struct job *job, const struct manifest *manifest,
		    const char *identity, struct error *error);

/*
 * Hands out the connection for a VM: *FD stays DISK's. For a second VM, after the first has ended,
 * it is a new one. 0, or -1 with ERROR set.
 */
int input_disk_take(struct input_disk *disk, int *fd, uint64_t *bytes, struct error *error);

/*
 * After the VM's end: ends what fetches, and warns of reads that failed. The trace is written where
 * the job wants one; that it cannot be is a warning too.
 */
void input_disk_finish(struct input_disk *disk);

/* After that: what is known of it, for the report; NULL for a job that fetches nothing. */
json_t *input_disk_report(const struct input_disk *disk);

/* The disk's metadata, as fetch_metadata has it. */
int input_disk_metadata(struct input_disk *disk, struct error *error);

/* Ends what is still there. */
void input_disk_close(struct input_disk *disk);

#endif
