#!/bin/bash
# A job that can be preempted at any time, and goes on where it was: sbatch requeue.sh
#SBATCH --job-name=jobvm-example
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --mem=1000
#SBATCH --output=out-%j
exec jobvm run -- sh -c 'i=0; while [ "$i" -lt 60 ]; do i=$((i + 1)); echo "$i"; sleep 1; done'
