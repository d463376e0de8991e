#include "host-tools/stored.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-tools/execute.h"
#include "host-tools/sidefile.h"
#include "jobdisk/layout.h"

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

/* A disk that can be read: packed only, or with what PID 1 left on it. */
static void judge_results(struct report *report, struct disk *disk)
{
	struct error problem = {""};
	bool clean = report_end_was_clean(report);

	report->disk = disk;
	report->manifest = &disk->manifest;
	if (!disk->has_record && !disk->problem[0] && !report->host)
		return;
	if (disk->problem[0])
		error_set(&problem, "%s", disk->problem);
	else if (clean)
		check_manifest(report, disk, &problem);
	/* Only what a run left that ended as it should is worth a look. */
	if (problem.text[0] || !clean)
		disk->has_result = disk->has_changes = false;
	report_decide(report, problem.text[0] ? problem.text : NULL);
}

int stored_open(const char *path, struct report *report, struct disk *disk, struct error *error)
{
	int fd = disk_open_file(path, false, error);

	if (fd < 0)
		return -1;
	int known = sidefile_read(path, &report->host, error);
	int unread = known < 0 ? -1 : disk_read(disk, fd, path, DISK_RESULTS, error);
	if (known >= 0 && !unread) {
		judge_results(report, disk);
		return fd;
	}
	/* Unclean or damaged: what the host saw is all that there is. */
	if (known > 0 && unread > 0)
		report->host = cut_off_host_section();
	if (known >= 0 && report->host) {
		report_decide(report, error->text);
		return fd;
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
