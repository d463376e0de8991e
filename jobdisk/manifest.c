#include "jobdisk/manifest.h"

#include <signal.h>

#define KIB	     1024ULL
#define MIB	     (1024 * KIB)
#define ANY	     (UINT64_MAX - 1)
#define DAYS_MS(n)   ((n)*24ULL * 3600 * 1000)
#define KEY(k, t, m) .name = (k), .type = (t), .offset = offsetof(struct manifest, m)
#define REQUIRED     .required = true

static const char *const user_words[] = {"job", "root", NULL};
const char *const manifest_fetch_words[] = {"eager", "block", "file", NULL};
static const char *const overflow_words[] = {"truncate", "kill", NULL};
static const char *const outputs_words[] = {"changed", "declared", NULL};
static const char *const when_words[] = {"ON_EXIT", "ON_EXIT_OR_EVICT", "ON_SUCCESS", NULL};

static const struct record_key manifest_keys[] = {
	{KEY("version", RECORD_UINT, version), REQUIRED, .min = 1, .max = MANIFEST_VERSION},
	{KEY("job_id", RECORD_STRING, job_id), REQUIRED},
	{KEY("argument", RECORD_LIST, arguments), REQUIRED},
	{KEY("environment", RECORD_LIST, environment)},
	{KEY("user", RECORD_WORD, user), REQUIRED, .words = user_words},
	{KEY("privileged", RECORD_BOOL, privileged), REQUIRED},
	{KEY("stdin", RECORD_BOOL, has_stdin), REQUIRED},
	{KEY("cpus", RECORD_UINT, cpus), REQUIRED, .min = 1, .max = 64},
	{KEY("memory_limit_bytes", RECORD_UINT, memory_limit_bytes), REQUIRED, .min = 4 * MIB,
	 .max = 1ULL << 44},
	{KEY("processes_max", RECORD_UINT, processes_max), REQUIRED, .min = 1, .max = 1 << 20},
	{KEY("time_limit_ms", RECORD_UINT, time_limit_ms), .min = 1, .max = DAYS_MS(3650)},
	{KEY("kill_signal", RECORD_UINT, kill_signal), REQUIRED, .min = 1, .max = 64},
	{KEY("kill_grace_ms", RECORD_UINT, kill_grace_ms), REQUIRED, .max = DAYS_MS(1)},
	{KEY("stdout_max_bytes", RECORD_UINT, stdout_max_bytes), REQUIRED, .max = 1ULL << 44},
	{KEY("stderr_max_bytes", RECORD_UINT, stderr_max_bytes), REQUIRED, .max = 1ULL << 44},
	{KEY("output_overflow", RECORD_WORD, output_overflow), REQUIRED, .words = overflow_words},
	{KEY("core_max_bytes", RECORD_UINT, core_max_bytes), REQUIRED, .max = ANY},
	{KEY("stack_max_bytes", RECORD_UINT, stack_max_bytes), .max = ANY},
	{KEY("checkpoint_exit_code", RECORD_UINT, checkpoint_exit_code), .max = 255},
	{KEY("fetch", RECORD_WORD, fetch), REQUIRED, .words = manifest_fetch_words},
	{KEY("outputs", RECORD_WORD, outputs), REQUIRED, .words = outputs_words},
	{KEY("transfer_output", RECORD_LIST, transfer_outputs)},
	{KEY("transfer_output_remap", RECORD_LIST, transfer_output_remaps)},
	{KEY("preserve_relative_paths", RECORD_BOOL, preserve_relative_paths), REQUIRED},
	{KEY("when_to_transfer_output", RECORD_WORD, when_to_transfer_output), REQUIRED,
	 .words = when_words},
	{KEY("output_max_bytes", RECORD_UINT, output_max_bytes), .max = ANY},
	{KEY("success_exit_code", RECORD_UINT, success_exit_code), REQUIRED, .max = 255},
	{KEY("job_time_limit_ms", RECORD_UINT, job_time_limit_ms), .min = 1, .max = DAYS_MS(3650)},
};

const struct record_schema manifest_schema = {
	.keys = manifest_keys,
	.key_count = sizeof(manifest_keys) / sizeof(manifest_keys[0]),
};

struct manifest manifest_defaults(void)
{
	return (struct manifest){
		.version = MANIFEST_VERSION,
		.cpus = 1,
		.memory_limit_bytes = 512 * MIB,
		.processes_max = 512,
		.time_limit_ms = RECORD_UNSET,
		.kill_signal = SIGTERM,
		.kill_grace_ms = 10 * 1000,
		.stdout_max_bytes = 64 * MIB,
		.stderr_max_bytes = 64 * MIB,
		.stack_max_bytes = RECORD_UNSET,
		.checkpoint_exit_code = RECORD_UNSET,
		.output_max_bytes = RECORD_UNSET,
		.job_time_limit_ms = RECORD_UNSET,
	};
}
