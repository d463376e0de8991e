#!/bin/bash
# Twenty jobs, each in a VM of its own: sbatch array.sh
#SBATCH --array=1-20
#SBATCH --mem=1000
#SBATCH --output=out-%A-%a
exec jobvm run --getenv SLURM_ARRAY_TASK_ID -- sh -c 'echo $((SLURM_ARRAY_TASK_ID * SLURM_ARRAY_TASK_ID))'
