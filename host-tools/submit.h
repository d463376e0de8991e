/*
 * submit: reads a submit description (docs/man/jobvm-submit.5), a subset of HTCondor's language.
 */
#ifndef HOST_TOOLS_SUBMIT_H
#define HOST_TOOLS_SUBMIT_H

#include "host-tools/job.h"

/* Bounds on what one submit description may ask for. */
#define SUBMIT_MAX_BYTES (16 << 20)
#define SUBMIT_MAX_JOBS	 100000

struct submission {
	struct job *jobs; /* finished; one for each process that `queue` asks for, in order */
	size_t job_count;
	struct strings warnings; /* "FILE:LINE: 'notification' has no meaning here" */
};

/* What the command line has to say about a job, after the file and before job_finish. */
typedef void submission_amend(void *context, struct job *job);

/*
 * Reads PATH; AMEND (may be NULL) is called with CONTEXT for each job. 0, or -1 with nothing to
 * free and ERROR set as "FILE:LINE: key 'K': reason" where a value is wrong, else "FILE:LINE:
 * reason", or without LINE where the file as a whole is wrong.
 */
int submission_read(const char *path, submission_amend *amend, void *context,
		    struct submission *submission, struct error *error);
void submission_free(struct submission *submission);

#endif
