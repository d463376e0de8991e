#include "host-tools/stored.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-tools/execute.h"
#include "host-tools/sidefile.h"
#include "jobdisk/layout.h"

/* Whether PID 1 ever committed something: the disk of a job that was packed and not started has
 * none. */
static int has_record(struct disk *disk, struct error *error)
{
	struct fsstat stat;
	int found = fsimage_lookup(disk->image, JOBDISK_RESULT, &stat, error);

	return found < 0 ? -1 : found == 0;
}

int stored_open(const char *path, struct report *report, struct disk *disk, struct error *error)
{
	struct error problem;
	int fd = disk_open_file(path, false, error);

	if (fd < 0)
		return -1;
	int known = sidefile_read(path, &report->host, error);
	if (known >= 0 && disk_open(disk, fd, path, &problem) == 0) {
		report->disk = disk;
		report->manifest = &disk->manifest;
		int record = has_record(disk, error);
		if (record == 0 && known == 1)
			return fd;
		bool bad = record > 0 && disk_read_results(disk, &problem) < 0;
		if (record >= 0)
			report_decide(report, bad ? problem.text : NULL);
		if (record >= 0)
			return fd;
	} else if (known == 0) {
		/* Unclean or damaged: what the host saw is all that there is. */
		report_decide(report, problem.text);
		return fd;
	} else if (known > 0) {
		*error = problem;
	}
	close(fd);
	return -1;
}

void stored_close(int fd, struct report *report, struct disk *disk)
{
	report_free(report);
	disk_close(disk);
	if (fd >= 0)
		close(fd);
}
