/*
 * report: job.json, what the host says about a job; guest claims and host observations apart
 * (docs/man/jobvm-result.5).
 */
#ifndef HOST_TOOLS_REPORT_H
#define HOST_TOOLS_REPORT_H

#include <jansson.h>

#include "host-tools/collected.h"
#include "host-tools/disk.h"
#include "host-tools/job.h"
#include "host-tools/merged.h"
#include "host-tools/vmm/vm.h"
#include "jobdisk/status.h"

#define REPORT_FORMAT_VERSION 1

/* The names of the report in a directory of results, and of what lies beside it. */
#define REPORT_FILE		"job.json"
#define REPORT_SIGNATURE_SUFFIX ".sig"
#define REPORT_CONSOLE_FILE	"console.log"

struct report {
	bool has_run;
	enum job_status status;	 /* the verdict */
	char message[1024];	 /* why, for people; "" for a job that just completed */
	int exit_code;		 /* jobvm's own, for this verdict */
	json_t *host;		 /* observations; NULL when nobody here ran it */
	const struct disk *disk; /* the guest's claims and outputs; NULL: unreadable */
	const struct manifest *manifest;
	struct strings missing; /* declared outputs that are not there */
	struct strings skipped; /* outputs that cannot leave the disk: "PATH (fifo)" */
	struct collected collected;
	bool partial; /* collection stopped early, or the job was not seen to end; */
	char partial_reason[ERROR_TEXT_BYTES]; /* for people, */
	const char *partial_limit;	       /* at a limit: its key, or "files"; or NULL */
	struct merged merged;		       /* what came of a merge */
	int collect_signal;		       /* that cancelled the collection; or 0 */
	bool needs_recovery; /* the disk was not unmounted; recovery.h brings out what it has */
	uint64_t collect_from_ms; /* now_ms() when collecting began; 0: nothing is collected */
};

/* Key of the host section: the manifest that was started (disk_manifest_digest). */
#define REPORT_MANIFEST_DIGEST "manifest_sha256"

/* Key of the host section: what became of a disk that was not unmounted. */
#define REPORT_RECOVERY "recovery"

void report_free(struct report *report);

/* The guest's claims; a record in which nothing is set where there is none. Never NULL. */
const struct result *report_guest_result(const struct report *report);

/* Whether the job itself ended with its success_exit_code. */
bool report_job_succeeded(const struct report *report);

/* Whether the host saw PID 1 unmount the disk, or knows nothing of the run. */
bool report_end_was_clean(const struct report *report);

/* The host's observations of one VM, as a JSON object. */
json_t *report_host_section(const struct image *image, enum job_accel accel, uint64_t memory_bytes,
			    const struct vm_outcome *outcome, time_t started_at);

/*
 * Notes in the host section whether a recovery of the disk was TRIED, and why nothing can be read
 * of it: PROBLEM, or NULL where it was read.
 */
void report_note_recovery(struct report *report, bool tried, const char *problem);

/*
 * Decides the verdict from what the host saw (HOST, may be NULL) and what the disk says.
 * DISK_PROBLEM: why the disk's results cannot be used, or NULL.
 */
void report_decide(struct report *report, const char *disk_problem);

/*
 * The whole report as JSON text ending in a newline; the caller frees it. Collecting has ended by
 * then, as far as the report tells. NULL: no memory.
 */
char *report_json(const struct report *report);

/* Says on stderr how the job ended, where that is more than an exit code. */
void report_say(const struct report *report);

/* Says on stderr what came of a disk whose job was not seen to end. */
void report_say_recovery(const struct report *report);

/* Writes what a person wants to know to stdout. */
void report_show(const struct report *report);

/* One line with the job's resource usage, to STREAM. */
void report_show_usage(const struct report *report, FILE *stream);

#endif
