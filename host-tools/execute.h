/* execute: runs the job on one job disk in one VM, and reads what came of it. */
#ifndef HOST_TOOLS_EXECUTE_H
#define HOST_TOOLS_EXECUTE_H

#include "host-tools/report.h"
#include "host-tools/suspension.h"
#include "host-tools/timeouts.h"

struct execution {
	const struct job *job; /* image, accelerator */
	int disk_fd;
	const char *disk_name;
	bool stdout_to_file,
		stderr_to_file; /* not passed through live: a file gets it at the end */
	bool digest_inputs;	/* for a report that is kept, or a merge */
	struct timeouts timeouts;
	bool verbose; /* show the guest's console afterwards */
	/* How the job can be suspended, and whether it goes on; NULL: it cannot. */
	struct suspension *suspension;
	/* The VM that execute_park had ready, where it was that, waits for another job afterwards.
	 */
	bool parks;
	bool is_rehearsal; /* the job is jobvm's own, and makes that VM faster for the next one */
	bool recovers;	   /* after an unclean end the disk's place is taken by a recovered copy */
};

/*
 * Fills REPORT (zeroed by the caller, freed by it with report_free) with the verdict. DISK is
 * opened if it can be; the caller closes it. MANIFEST is what was packed, not what the disk says
 * afterwards. With `recovers`, `disk_fd` may be another file afterwards. -1 with ERROR set when no
 * VM could be started.
 */
int execute(const struct execution *execution, const struct manifest *manifest,
	    struct report *report, struct disk *disk, struct error *error);

/*
 * Has a clone ready for a job like JOB, whose inputs do not matter; the next execute takes it, if
 * it is for such a job. 0, or -1 with ERROR set.
 */
int execute_park(const struct job *job, const struct timeouts *timeouts, struct error *error);
/* Whether there is one. */
bool execute_is_parked(void);
/* Ends it, where there is one. */
void execute_unpark(void);

/* The memory of a VM for such a job in IMAGE. */
uint64_t execute_memory_bytes(const struct manifest *manifest, const struct image *image);

/* The guest's console of the last execution. */
const struct log *execute_console(void);

/* Why the last execution's end was asked for: our own stdout has no reader any more. */
bool execute_output_closed(void);

/* Whether its job was suspended, and its state is kept. */
bool execute_suspended(void);

/* Whether a signal to us ended it. */
bool execute_cancelled(void);

#endif
