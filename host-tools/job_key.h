/* job_key: the name by which the same `jobvm run` finds again what it left of a job. */
#ifndef HOST_TOOLS_JOB_KEY_H
#define HOST_TOOLS_JOB_KEY_H

#include <limits.h>

#include "host-tools/job.h"

/*
 * Where what is kept of a job of `run` lies: "jobvm-KEY" in its directory; with OUTPUT (-o, else
 * NULL) beside that. KEY is a digest of all that makes the job the same one, with its INDEX in the
 * queue and, under Slurm, its task. 0, or -1 with ERROR set.
 */
int job_key_path(const struct job *job, const char *output, size_t index, char path[PATH_MAX],
		 struct error *error);

#endif
