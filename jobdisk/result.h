/*
 * result: the record that PID 1 commits to the job disk. Every key stands in result_schema.
 * Times are RECORD_SECONDS: microseconds in memory, decimal seconds in the text.
 */
#ifndef JOBDISK_RESULT_H
#define JOBDISK_RESULT_H

#include "jobdisk/record.h"
#include "jobdisk/status.h"

#define RESULT_VERSION 1

struct result {
	uint64_t version;
	const char *job_id;
	unsigned status;      /* enum job_status, up to STATUS_LAST_OF_GUEST */
	uint64_t exit_code;   /* of a completed job; 126, 127 where the command did not start */
	uint64_t exit_signal; /* of a signaled job */
	const char *message;  /* a sentence for people */
	const char *stage;    /* of a fatal error of PID 1 */
	uint64_t time_wall, time_user, time_system;
	uint64_t memory_peak; /* bytes */
	bool oom_killed;
	uint64_t processes_peak;
	uint64_t io_read_bytes, io_write_bytes;
	uint64_t stdout_bytes, stderr_bytes; /* as the job wrote them, also past the cap */
	bool stdout_truncated, stderr_truncated;
	const char *limit; /* the manifest key of the limit that ended the job */
	uint64_t limit_requested, limit_observed;
	uint64_t checkpoints;		  /* how often checkpoint_exit_code restarted the command */
	bool privileged;		  /* the job could have forged this record */
	struct record_list stage_timings; /* "NAME SECONDS" since the kernel started */
};

extern const struct record_schema result_schema;

/* A result with every optional value unset and nothing claimed. */
struct result result_defaults(void);

#endif
