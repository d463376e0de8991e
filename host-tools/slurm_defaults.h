/* slurm_defaults: what a job gets under Slurm where nobody says otherwise. */
#ifndef HOST_TOOLS_SLURM_DEFAULTS_H
#define HOST_TOOLS_SLURM_DEFAULTS_H

#include "host-tools/job.h"

/*
 * In a job of Slurm (SLURM_JOB_ID is set): gives JOB the processors and the memory of its task.
 * Warns of what makes no sense there. Slurm's time limit is not the job's: at its end Slurm sends
 * SIGTERM, which suspends.
 */
void slurm_defaults(struct job *job);

#endif
