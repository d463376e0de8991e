#include "jobdisk/result.h"

#define ANY	     (UINT64_MAX - 1)
#define KEY(k, t, m) .name = (k), .type = (t), .offset = offsetof(struct result, m)
#define REQUIRED     .required = true

static const struct record_key result_keys[] = {
	{KEY("version", RECORD_UINT, version), REQUIRED, .min = 1, .max = RESULT_VERSION},
	{KEY("job_id", RECORD_STRING, job_id)},
	{KEY("status", RECORD_WORD, status), REQUIRED, .words = job_status_words},
	{KEY("exit_code", RECORD_UINT, exit_code), .max = 255},
	{KEY("exit_signal", RECORD_UINT, exit_signal), .min = 1, .max = 64},
	{KEY("message", RECORD_STRING, message)},
	{KEY("stage", RECORD_STRING, stage)},
	{KEY("time_wall", RECORD_SECONDS, time_wall)},
	{KEY("time_user", RECORD_SECONDS, time_user)},
	{KEY("time_system", RECORD_SECONDS, time_system)},
	{KEY("memory_peak", RECORD_UINT, memory_peak), .max = ANY},
	{KEY("oom_killed", RECORD_BOOL, oom_killed)},
	{KEY("processes_peak", RECORD_UINT, processes_peak), .max = ANY},
	{KEY("io_read_bytes", RECORD_UINT, io_read_bytes), .max = ANY},
	{KEY("io_write_bytes", RECORD_UINT, io_write_bytes), .max = ANY},
	{KEY("stdout_bytes", RECORD_UINT, stdout_bytes), .max = ANY},
	{KEY("stderr_bytes", RECORD_UINT, stderr_bytes), .max = ANY},
	{KEY("stdout_truncated", RECORD_BOOL, stdout_truncated)},
	{KEY("stderr_truncated", RECORD_BOOL, stderr_truncated)},
	{KEY("limit", RECORD_STRING, limit)},
	{KEY("limit_requested", RECORD_UINT, limit_requested), .max = ANY},
	{KEY("limit_observed", RECORD_UINT, limit_observed), .max = ANY},
	{KEY("checkpoints", RECORD_UINT, checkpoints), .max = ANY},
	{KEY("privileged", RECORD_BOOL, privileged)},
	{KEY("stage_timing", RECORD_LIST, stage_timings)},
};

const struct record_schema result_schema = {
	.keys = result_keys,
	.key_count = sizeof(result_keys) / sizeof(result_keys[0]),
	.sealed = true,
};

struct result result_defaults(void)
{
	return (struct result){
		.version = RESULT_VERSION,
		.status = STATUS_FAILED_TO_START,
		.exit_code = RECORD_UNSET,
		.exit_signal = RECORD_UNSET,
		.time_wall = RECORD_UNSET,
		.time_user = RECORD_UNSET,
		.time_system = RECORD_UNSET,
		.memory_peak = RECORD_UNSET,
		.processes_peak = RECORD_UNSET,
		.io_read_bytes = RECORD_UNSET,
		.io_write_bytes = RECORD_UNSET,
		.limit_requested = RECORD_UNSET,
		.limit_observed = RECORD_UNSET,
	};
}
