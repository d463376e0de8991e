/* stored: a job disk in a file, with what the host knows of its run, for `inspect` and `collect`.
 */
#ifndef HOST_TOOLS_STORED_H
#define HOST_TOOLS_STORED_H

#include "host-tools/report.h"

/*
 * Opens PATH and fills REPORT and DISK (zeroed by the caller). A disk that was never started has
 * REPORT->has_run false. Returns the descriptor, or -1 with ERROR set; in either case the caller
 * calls stored_close.
 */
int stored_open(const char *path, struct report *report, struct disk *disk, struct error *error);
void stored_close(int fd, struct report *report, struct disk *disk);

#endif
