/* worker: a process of a node that runs its jobs, one after the other, in VMs. */
#ifndef HOST_TOOLS_NODE_WORKER_H
#define HOST_TOOLS_NODE_WORKER_H

#include "host-tools/node/spool.h"
#include "host-tools/suspension.h"
#include "host-tools/timeouts.h"

/* How a node runs its jobs. */
struct worker_options {
	const struct spool *spool;
	const struct job *job; /* image, accelerator; the shape of VMs that wait for jobs */
	struct timeouts timeouts;
	struct suspend_options suspend;
	bool waits_ready; /* it has a VM before it has a job */
	bool reuses;	  /* that VM runs all of its jobs */
};

/* What a worker says, one byte each: the first once, then two for each job. */
enum worker_word {
	WORKER_READY = 'r',
	WORKER_BEGINS = 'j',	/* it has the job, which SIGINT cancels from now on */
	WORKER_DONE = 'd',	/* the job's results are delivered */
	WORKER_REFUSED = 'b',	/* it is no job that can be run; so are they */
	WORKER_FAILED = 'f',	/* jobvm or its host failed; so are they */
	WORKER_SUSPENDED = 's', /* it goes on later */
	WORKER_AGAIN = 'a',	/* its VM was lost, and a state was kept: so does it */
};

/*
 * The process's main function: takes names of jobs from SOCKET_FD (SOCK_SEQPACKET) until that is
 * closed, and answers. SIGINT cancels a job. With REHEARSES a job of its own makes the VM that
 * waits faster, unless there is a name already. Without `reuses` it takes one. SIGTERM suspends the
 * job, or ends the worker.
 */
void worker_main(const struct worker_options *options, bool rehearses, int socket_fd)
	__attribute__((noreturn));

#endif
