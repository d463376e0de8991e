/*
 * manifest: the job's description on the job disk. Every key stands in manifest_schema.
 *
 * PID 1 obeys the first part; the second part is for the host's collector, so that `pack`,
 * `start` and `collect` on three machines give what `run` gives on one.
 */
#ifndef JOBDISK_MANIFEST_H
#define JOBDISK_MANIFEST_H

#include "jobdisk/record.h"

#define MANIFEST_VERSION 1

enum manifest_user { USER_JOB, USER_ROOT };
enum manifest_fetch { FETCH_EAGER, FETCH_BLOCK, FETCH_FILE };
extern const char *const manifest_fetch_words[]; /* for each, then NULL */
enum output_overflow { OVERFLOW_TRUNCATE, OVERFLOW_KILL };
enum output_selection { OUTPUTS_CHANGED, OUTPUTS_DECLARED };
enum transfer_time { TRANSFER_ON_EXIT, TRANSFER_ON_EXIT_OR_EVICT, TRANSFER_ON_SUCCESS };

struct manifest {
	uint64_t version;
	const char *job_id;		/* UUID, also the job disk's */
	struct record_list arguments;	/* argv; the first names the command */
	struct record_list environment; /* NAME=VALUE */
	unsigned user;			/* enum manifest_user */
	bool privileged;		/* root keeps all capabilities and sees the devices */
	bool has_stdin;			/* the disk's /stdin is the job's standard input */
	uint64_t cpus;
	uint64_t memory_limit_bytes; /* of the job; the VM has more */
	uint64_t processes_max;	     /* processes and threads of the job */
	uint64_t time_limit_ms;	     /* wall clock; RECORD_UNSET: none */
	uint64_t kill_signal;	     /* at the time limit, and then SIGKILL after the grace */
	uint64_t kill_grace_ms;
	uint64_t stdout_max_bytes;
	uint64_t stderr_max_bytes;
	unsigned output_overflow; /* enum output_overflow */
	uint64_t core_max_bytes;
	uint64_t stack_max_bytes;      /* RECORD_UNSET: the kernel's default */
	uint64_t checkpoint_exit_code; /* start the command again at this code; may be unset */
	unsigned fetch;		       /* enum manifest_fetch */

	unsigned outputs;			   /* enum output_selection */
	struct record_list transfer_outputs;	   /* paths in the workspace */
	struct record_list transfer_output_remaps; /* FROM=TO */
	bool preserve_relative_paths;
	unsigned when_to_transfer_output; /* enum transfer_time */
	uint64_t output_max_bytes;	  /* RECORD_UNSET: no cap */
	uint64_t success_exit_code;
	uint64_t job_time_limit_ms; /* the host's, from start to collected; may be unset */
};

extern const struct record_schema manifest_schema;

/* A manifest with every default of docs/man/jobvm-submit.5 and no command. */
struct manifest manifest_defaults(void);

#endif
