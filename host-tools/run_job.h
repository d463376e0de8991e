/*
 * run_job: one job of `jobvm run`, from its inputs to its results: packed, run in a VM here or by a
 * node, collected or merged, and again where it is to be.
 */
#ifndef HOST_TOOLS_RUN_JOB_H
#define HOST_TOOLS_RUN_JOB_H

#include <stdbool.h>

#include "host-tools/merge.h"
#include "host-tools/request.h"
#include "host-tools/sign.h"
#include "host-tools/suspension.h"
#include "host-tools/timeouts.h"

/* A command, and what has become of it so far. */
struct run {
	struct request request;
	const char *output; /* -o */
	int output_fd;	    /* the same, held */
	struct merge merge;
	const char *sign_key;
	struct signer *signer;
	const char *spool; /* of the node that runs the jobs; NULL: they run here */
	bool verbose, usage;
	bool suspended;	 /* the last job was: those after it wait for it */
	bool keeps_disk; /* the last job's changes could not be merged, or were not to be */
	bool cancelled;	 /* by a signal while a node had the job, or results were collected */
	struct timeouts timeouts;
	struct suspend_options suspend;
	struct suspension suspension; /* of the job that runs */
};

/*
 * Runs JOB, one of RUN's, whose directories and signer are open. Returns the exit code that the
 * command is to have; what went wrong is printed, and in RUN what it means for the jobs after it.
 */
int run_job(struct run *run, struct job *job);

/* Whether JOB says where a stream or its report goes. */
bool run_keeps_files(const struct job *job);
/* Whether there will be a report. */
bool run_keeps_report(const struct run *run, const struct job *job);

#endif
