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

/* A disk without our own notes of a run, that a VM wrote to and was cut off. */
static json_t *cut_off_host_section(void)
{
	return json_pack("{s:b, s:s, s:s}", "clean_end", 0, "status",
			 job_status_words[STATUS_INCOMPLETE], "message",
			 "the run was cut off: the disk was not cleanly unmounted");
}

/* Whether the disk still has the manifest that was started; what was collected by another is void.
 */
static int check_manifest(const struct report *report, const struct disk *disk,
			  struct error *problem)
{
	const char *started =
		json_string_value(json_object_get(report->host, REPORT_MANIFEST_DIGEST));
	char now[DIGEST_HEX_BYTES];

	if (!started)
		return 0;
	if (disk_manifest_digest(&disk->manifest, now, problem))
		return -1;
	if (strcmp(started, now) == 0)
		return 0;
	return error_set(problem, "/" JOBDISK_MANIFEST ": it is not the one that was started");
}

/* A disk that can be opened: packed only, or with what PID 1 left on it. */
static int read_results(struct report *report, struct disk *disk, struct error *error)
{
	struct error problem;
	bool bad = false;
	int record = has_record(disk, error);

	if (record < 0)
		return -1;
	if (record == 0 && !report->host)
		return 0;
	if (record > 0 && report_end_was_clean(report))
		bad = check_manifest(report, disk, &problem) ||
		      disk_read_results(disk, &problem) < 0;
	report_decide(report, bad ? problem.text : NULL);
	return 0;
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
		if (read_results(report, disk, error) == 0)
			return fd;
	} else if (known >= 0) {
		/* Unclean or damaged: what the host saw is all that there is. */
		if (known > 0 && fsimage_needs_recovery(fd, path, error) == 1)
			report->host = cut_off_host_section();
		if (report->host) {
			report_decide(report, problem.text);
			return fd;
		}
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
