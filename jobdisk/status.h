/* status: the verdicts on a job (design, section 4). The words are part of the formats. */
#ifndef JOBDISK_STATUS_H
#define JOBDISK_STATUS_H

enum job_status {
	/* said by the guest */
	STATUS_COMPLETED,
	STATUS_SIGNALED,
	STATUS_TIMEOUT,
	STATUS_OUT_OF_MEMORY,
	STATUS_OUTPUT_LIMIT,
	STATUS_FAILED_TO_START,
	/* said by the host */
	STATUS_INCOMPLETE,
	STATUS_INVALID_RESULT,
	STATUS_GUEST_PANIC,
	STATUS_UNRESPONSIVE,
	STATUS_BOOT_FAILED,
	STATUS_VMM_FAILED,
	STATUS_SUSPENDED,
	STATUS_CANCELLED,
};

/* The last status that a guest may claim. */
#define STATUS_LAST_OF_GUEST STATUS_FAILED_TO_START

/* The word for each status, in order, then NULL; fit for record_key.words. */
extern const char *const job_status_words[];

#endif
