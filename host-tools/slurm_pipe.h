/* slurm_pipe: what jobvm and its plugin for Slurm (slurm/spank_jobvm.c) agree on. */
#ifndef HOST_TOOLS_SLURM_PIPE_H
#define HOST_TOOLS_SLURM_PIPE_H

/*
 * The variable with which the plugin names its pipe: DESCRIPTOR:INODE. A byte there says that a job
 * was out of memory.
 */
#define SLURM_PIPE "JOBVM_SLURM_PIPE"

#endif
