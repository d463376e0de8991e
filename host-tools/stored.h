/* stored: a job disk in a file, with what the host knows of its run, for `inspect` and `collect`.
 */
#ifndef HOST_TOOLS_STORED_H
#define HOST_TOOLS_STORED_H

#include "host-tools/boot.h"
#include "host-tools/report.h"
#include "host-tools/timeouts.h"

/*
 * Opens PATH and fills REPORT and DISK (zeroed by the caller). A disk that was never started has
 * REPORT->has_run false. One that was not unmounted is not read: REPORT->needs_recovery. Returns
 * the descriptor, or -1 with ERROR set; in either case the caller calls stored_close.
 */
int stored_open(const char *path, struct report *report, struct disk *disk, struct error *error);

/*
 * What a recovery of that disk boots: JOB's image, or that of the run, if this host still has it,
 * or the default one; which kernel replays the journal does not matter. -1 with ERROR set.
 */
int stored_boot(const struct job *job, const struct report *report, struct boot *boot,
		struct error *error);

/*
 * For a disk that needs it: reads what there is from a recovered copy, which FD is afterwards.
 * What came of it is in REPORT's host section; the verdict stays.
 */
void stored_recover(int fd, const char *path, const struct job *job,
		    const struct timeouts *timeouts, struct report *report, struct disk *disk);

void stored_close(int fd, struct report *report, struct disk *disk);

#endif
