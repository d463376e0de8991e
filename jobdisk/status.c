#include "jobdisk/status.h"

#include <stddef.h>

const char *const job_status_words[] = {
	[STATUS_COMPLETED] = "completed",
	[STATUS_SIGNALED] = "signaled",
	[STATUS_TIMEOUT] = "timeout",
	[STATUS_OUT_OF_MEMORY] = "out_of_memory",
	[STATUS_OUTPUT_LIMIT] = "output_limit",
	[STATUS_FAILED_TO_START] = "failed_to_start",
	[STATUS_INCOMPLETE] = "incomplete",
	[STATUS_INVALID_RESULT] = "invalid_result",
	[STATUS_GUEST_PANIC] = "guest_panic",
	[STATUS_UNRESPONSIVE] = "unresponsive",
	[STATUS_BOOT_FAILED] = "boot_failed",
	[STATUS_VMM_FAILED] = "vmm_failed",
	[STATUS_SUSPENDED] = "suspended",
	[STATUS_CANCELLED] = "cancelled",
	NULL,
};
