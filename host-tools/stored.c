#include "host-tools/stored.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-tools/confined.h"
#include "host-tools/recovery.h"
#include "host-tools/sidefile.h"
#include "host-tools/suspension.h"
#include "jobdisk/layout.h"

static const char needs_recovery[] =
	"it was not cleanly unmounted: 'jobvm collect' lets a guest recover a copy of it, "
	"'jobvm recover' does so by hand";

/* A disk without our own notes of a run, that a VM wrote to and was cut off. */
static json_t *cut_off_host_section(const char *message)
{
	return json_pack("{s:b, s:s, s:s}", "clean_end", 0, "status",
			 job_status_words[STATUS_INCOMPLETE], "message", message);
}

/* Whether its state fits it is for who goes on with it to see. */
static json_t *suspended_host_section(const char *path)
{
	char message[PATH_MAX + 64];

	snprintf(message, sizeof(message),
		 "the VM is in %s.state; 'jobvm start %s' goes on with it", path, path);
	return json_pack("{s:b, s:s, s:s}", "clean_end", 0, "status",
			 job_status_words[STATUS_SUSPENDED], "message", message);
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

/* A disk whose run has no end that can be believed; with TRIED it was recovered just now. */
static void read_partial(struct report *report, struct disk *disk, int fd, const char *path,
			 bool tried)
{
	struct error problem;
	int unread = recovery_read(disk, fd, sidefile_open_inputs(path), path, &problem);

	report->disk = unread ? NULL : disk;
	report->manifest = unread ? NULL : &disk->manifest;
	if (!unread && check_manifest(report, disk, &problem)) {
		disk->has_result = disk->has_changes = false;
		unread = -1;
	}
	report->partial = !unread;
	if (tried || unread)
		report_note_recovery(report, tried, unread ? problem.text : NULL);
}

/* A disk that can be read: packed only, or with what PID 1 left on it. */
static void judge_results(struct report *report, struct disk *disk, int fd, const char *path)
{
	struct error problem = {""};

	report->disk = disk;
	report->manifest = &disk->manifest;
	if (!report->host && !disk->has_record && !disk->problem[0]) {
		if (!disk->was_started)
			return;
		report->host = cut_off_host_section("the job disk has no result record");
	}
	bool clean = report_end_was_clean(report);
	if (disk->problem[0])
		error_set(&problem, "%s", disk->problem);
	else if (clean)
		check_manifest(report, disk, &problem);
	if (problem.text[0] || !clean)
		disk->has_result = disk->has_changes = false;
	report_decide(report, problem.text[0] ? problem.text : NULL);
	if ((!clean || !disk->has_record) && disk->was_started && recovery_is_for(report->status))
		read_partial(report, disk, fd, path, false);
}

/* Unclean or damaged: what the host saw is all that there is, until the disk is recovered. */
static void judge_unread(struct report *report, bool unclean, const struct error *problem)
{
	report_decide(report, problem->text);
	report->needs_recovery = unclean && recovery_is_for(report->status);
	if (!report_end_was_clean(report))
		report_note_recovery(report, false,
				     report->needs_recovery ? needs_recovery : problem->text);
}

int stored_open(const char *path, struct report *report, struct disk *disk, struct error *error)
{
	int fd = disk_open_file(path, false, error);

	if (fd < 0)
		return -1;
	/* That is not the disk's fault: no verdict on it. */
	if (confined_check(path, error)) {
		close(fd);
		return -1;
	}
	int known = sidefile_read(path, &report->host, error);
	int unread = known < 0 ? -1
			       : disk_read(disk, fd, sidefile_open_inputs(path), path, DISK_RESULTS,
					   error);
	if (known >= 0 && !unread) {
		judge_results(report, disk, fd, path);
		return fd;
	}
	if (known > 0 && unread > 0)
		report->host = suspension_exists(path)
				       ? suspended_host_section(path)
				       : cut_off_host_section("the run was cut off: the disk was "
							      "not cleanly unmounted");
	if (known >= 0 && report->host) {
		judge_unread(report, unread > 0, error);
		return fd;
	}
	close(fd);
	return -1;
}

int stored_boot(const struct job *job, const struct report *report, struct boot *boot,
		struct error *error)
{
	const char *image = json_string_value(json_object_get(report->host, "image"));

	if (job->image_path)
		image = job->image_path;
	else if (image && access(image, F_OK))
		image = NULL;
	return boot_prepare(job, image, boot, error);
}

void stored_recover(int fd, const char *path, const struct job *job,
		    const struct timeouts *timeouts, struct report *report, struct disk *disk)
{
	struct error problem;
	struct boot boot;

	if (stored_boot(job, report, &boot, &problem)) {
		report_note_recovery(report, false, problem.text);
		return;
	}
	int failed = recovery_replace(&boot, timeouts, fd, path, &problem);
	boot_free(&boot);
	if (failed) {
		report_note_recovery(report, true, problem.text);
		return;
	}
	report->needs_recovery = false;
	read_partial(report, disk, fd, path, true);
}

void stored_close(int fd, struct report *report, struct disk *disk)
{
	report_free(report);
	disk_close(disk);
	if (fd >= 0)
		close(fd);
}
