/* jobvm recover: makes a readable disk of one whose run was cut off. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-tools/exitcodes.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "host-tools/recovery.h"
#include "host-tools/sidefile.h"
#include "host-tools/stored.h"

struct recovery {
	const char *path;
	const char *output; /* -o; NULL: in the place of PATH */
	const struct job *job;
	const struct timeouts *timeouts;
};

/* The mode of the disk, and its owner where that can be given. */
static int copy_owner(int from_fd, int to_fd)
{
	struct stat status;

	if (fstat(from_fd, &status))
		return -1;
	if (fchown(to_fd, status.st_uid, status.st_gid) && geteuid() == 0)
		return -1;
	return fchmod(to_fd, status.st_mode & 0777);
}

/* Puts COPY in the place of PATH, which is no link. */
static int replace(const struct packed *copy, const char *path, struct error *error)
{
	char beside[PATH_MAX];

	snprintf(beside, sizeof(beside), "%.4000s.%d", path, (int)getpid());
	if (pack_publish(copy, beside, error))
		return -1;
	if (rename(beside, path) == 0)
		return 0;
	error_errno(error, "replace %s", path);
	unlink(beside);
	return -1;
}

/*
 * The notes first: a disk that is clean and has none would be taken for one whose run ended well.
 */
static int publish(const struct recovery *r, const char *target, const struct packed *copy,
		   const struct report *report, struct error *error)
{
	const char *noted = r->output ? r->output : r->path;

	if (sidefile_write(noted, report->host, -1, error))
		return -1;
	if (!r->output)
		return replace(copy, target, error);
	if (pack_publish(copy, target, error) == 0)
		return 0;
	sidefile_remove(noted);
	return -1;
}

/* Whether the copy can be read too: what cannot is not worth to take a disk's place. */
static int check_copy(const struct recovery *r, const struct packed *copy, struct error *error)
{
	static struct disk disk;
	int unread = recovery_read(&disk, copy->fd, -1, r->path, error);

	disk_close(&disk);
	return unread;
}

static int recover_copy(const struct recovery *r, int fd, const char *target, struct report *report,
			struct error *error)
{
	struct boot boot;
	struct packed copy;

	if (stored_boot(r->job, report, &boot, error))
		return -1;
	if (pack_open(target, &copy, error)) {
		boot_free(&boot);
		return -1;
	}
	int failed = recovery_make(&boot, r->timeouts, fd, r->path, &copy, error) ||
		     check_copy(r, &copy, error);
	boot_free(&boot);
	if (!failed && copy_owner(fd, copy.fd))
		failed = error_errno(error, "set the owner of %s", target);
	report_note_recovery(report, true, NULL);
	if (failed || publish(r, target, &copy, report, error)) {
		pack_discard(&copy);
		return -1;
	}
	close(copy.fd);
	return 0;
}

static int recover(const struct recovery *r, struct report *report, struct error *error)
{
	static struct disk disk;
	char target[PATH_MAX];
	int failed = 0;

	int fd = stored_open(r->path, report, &disk, error);
	if (fd < 0)
		failed = -1;
	else if (!report->needs_recovery)
		failed = error_set(error, "%s: there is nothing to recover: %s", r->path,
				   report->has_run ? job_status_words[report->status]
						   : "it has not run yet");
	else if (r->output)
		snprintf(target, sizeof(target), "%s", r->output);
	else if (!realpath(r->path, target))
		failed = error_errno(error, "find %s", r->path);
	if (!failed)
		failed = recover_copy(r, fd, target, report, error);
	stored_close(fd, report, &disk);
	return failed;
}

static int recover_disk(const struct recovery *r)
{
	struct report report = {.has_run = false};
	struct error error;

	if (r->output && access(r->output, F_OK) == 0) {
		message_error("%s exists already; remove it or choose another name", r->output);
		return EXIT_JOBVM_FAILED;
	}
	if (recover(r, &report, &error)) {
		message_error("%s", error.text);
		return recovery_cancel_signal() ? EXIT_SIGNAL_BASE + recovery_cancel_signal()
						: EXIT_JOBVM_FAILED;
	}
	message_note("%s is recovered; 'jobvm collect' brings what it has",
		     r->output ? r->output : r->path);
	return EXIT_SUCCESS;
}

static int run_recover(int argc, char **argv)
{
	struct arguments arguments;
	struct timeouts timeouts = {.boot = NULL};
	struct job job;
	struct recovery recovery = {.job = &job, .timeouts = &timeouts};
	const struct option options[] = {
		{'o', "output", OPTION_VALUE, &recovery.output},
		{0, "boot-timeout", OPTION_VALUE, &timeouts.boot},
		{0, "heartbeat-timeout", OPTION_VALUE, &timeouts.heartbeat},
		{.name = NULL},
	};

	recovery.path =
		options_parse_disk(&command_recover, argc, argv, options, false, &arguments);
	timeouts_check(&command_recover, &timeouts);
	job_init(&job);
	options_apply(&command_recover, &arguments, &job);
	int exit_code = recover_disk(&recovery);
	job_free(&job);
	arguments_free(&arguments);
	return exit_code;
}

const struct command command_recover = {
	.name = "recover",
	.summary = "make a job disk readable whose run was cut off",
	.usage =
		"Usage: jobvm recover [OPTION]... [-o OUT.img] JOB.img\n"
		"Let a guest kernel replay the journal of a job disk whose run was cut off. The disk is\n"
		"replaced when that has succeeded; else it stays as it is.\n\n"
		"  -o OUT.img           make a new disk instead; must not exist\n"
		"  --image DIR          the guest image\n"
		"  --accel auto|kvm|tcg\n"
		"  --require-isolation hardware\n"
		"  --boot-timeout SECONDS, --heartbeat-timeout SECONDS\n"
		"  --without-landlock   also where this kernel has no Landlock to confine with\n"
		"  --quiet              no warnings, notes or progress\n\n"
		"Exit code: 0 when the disk was recovered, 125 when not.\n",
	.run = run_recover,
	.reads_disk = true,
};
