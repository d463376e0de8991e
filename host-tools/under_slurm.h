/* under_slurm: what jobvm is told and what it tells where it runs in a job of Slurm. */
#ifndef HOST_TOOLS_UNDER_SLURM_H
#define HOST_TOOLS_UNDER_SLURM_H

#include "host-tools/job.h"
#include "jobdisk/status.h"

/*
 * In a job of Slurm (SLURM_JOB_ID is set): gives JOB the processors and the memory of its task
 * where nobody says otherwise. Warns of what makes no sense there. Slurm's time limit is not the
 * job's: at its end Slurm sends SIGTERM, which suspends.
 */
void under_slurm_defaults(struct job *job);

/*
 * Tells the plugin, where there is one, if STATUS is that of a job out of memory, which Slurm then
 * says of its own job. Warns if that fails.
 */
void under_slurm_tell(enum job_status status);

#endif
