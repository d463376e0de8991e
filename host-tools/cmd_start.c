/* jobvm start: boots a VM for a job disk and waits for its end. */
#include <unistd.h>

#include "host-tools/execute.h"
#include "host-tools/exitcodes.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "host-tools/sidefile.h"
#include "host-tools/under_slurm.h"

/* 0 when the disk behind FD has not run yet; else -1 with ERROR set. */
static int check_fresh(int fd, const char *path, struct disk *disk, struct error *error)
{
	switch (disk_read(disk, fd, -1, path, DISK_RESULTS, error)) {
	case 0:
		break;
	case 1:
		return error_set(error,
				 "%s: has been started before, and that run was cut off; "
				 "'jobvm collect' brings what it left; pack the job again",
				 path);
	default:
		return -1;
	}
	if (disk->problem[0])
		return error_set(error, "%s: %s", path, disk->problem);
	if (disk->has_record)
		return error_set(error, "%s: has run already; 'jobvm collect' brings its results",
				 path);
	if (disk->was_started)
		return error_set(error,
				 "%s: has been started before, and that run left no result; "
				 "pack the job again",
				 path);
	return 0;
}

/*
 * Opens what is to run: a disk that has not, into BEFORE, or a job that was suspended. The disk's
 * descriptor, or -1 with ERROR set.
 */
static int open_disk(const char *path, const struct suspend_options *options,
		     struct suspension *suspension, struct disk *before, struct error *error)
{
	struct error fresh_error;
	int fd = disk_open_file(path, true, error);

	if (fd < 0)
		return -1;
	int found = suspension_open(suspension, path, options, error);
	if (found == 0)
		return fd;
	suspension->in_place = true;
	int fresh = check_fresh(fd, path, before, found == 1 ? error : &fresh_error);
	if (found == 1 && fresh == 0)
		return fd;
	/* A state that the job's end was to remove. */
	if (found != 1 && before->has_record)
		*error = fresh_error;
	disk_close(before);
	close(fd);
	return -1;
}

/* The disk stays as it is. */
static void say_recoverable(int fd, const char *path, struct disk *disk)
{
	struct error ignored;

	if (disk_read(disk, fd, -1, path, DISK_RESULTS, &ignored) == 1)
		message_note("%s was not cleanly unmounted; 'jobvm collect' brings what it has",
			     path);
}

static int check_inputs(const char *path, const struct manifest *manifest, const struct job *job,
			struct error *error)
{
	if (manifest->fetch == FETCH_EAGER || job->fetch.from)
		return 0;
	return error_set(error,
			 "%s: its job fetches its inputs when it reads them; --from says where "
			 "they are",
			 path);
}

/* The job has an end, of whatever kind: what is kept of it. */
static int finish(const char *path, int fd, struct suspension *suspension, struct report *report,
		  struct disk *after)
{
	bool resumes = suspension->state != NULL;
	struct error error;

	report_say(report);
	under_slurm_tell(report->status);
	if (suspension_is_kept(suspension, report->status)) {
		message_note("'jobvm start %s' goes on from where it was suspended last", path);
		return report->exit_code;
	}
	if (!resumes && !report_end_was_clean(report))
		say_recoverable(fd, path, after);
	if (sidefile_write(path, report->host, after->has_inputs ? after->inputs_fd : -1, &error) ||
	    suspension_end(suspension, true, &error)) {
		message_error("%s", error.text);
		return EXIT_JOBVM_FAILED;
	}
	return report->exit_code;
}

static int say_suspended(const char *path)
{
	if (execute_suspended())
		message_note("suspended; 'jobvm start %s' goes on", path);
	else
		message_note("ended before the job began; 'jobvm start %s' starts it", path);
	return EXIT_JOB_SUSPENDED;
}

static int run_disk(const char *path, const struct job *job, const struct suspend_options *options,
		    const struct timeouts *timeouts, bool verbose)
{
	static struct suspension suspension;
	static struct disk before, after;
	struct report report = {.has_run = false};
	struct error error;
	int exit_code = EXIT_JOBVM_FAILED;

	int fd = open_disk(path, options, &suspension, &before, &error);
	const struct manifest *manifest =
		suspension.state ? &suspension.manifest : &before.manifest;
	const struct execution execution = {
		.job = job,
		.disk_fd = suspension.state ? suspension.copy.fd : fd,
		.disk_name = path,
		.digest_inputs = true,
		.timeouts = *timeouts,
		.suspension = &suspension,
		.verbose = verbose,
	};
	if (fd < 0 || check_inputs(path, manifest, job, &error) ||
	    execute(&execution, manifest, &report, &after, &error))
		message_error("%s", error.text);
	else if (report.status == STATUS_SUSPENDED)
		exit_code = say_suspended(path);
	else
		exit_code = finish(path, execution.disk_fd, &suspension, &report, &after);
	report_free(&report);
	suspension_close(&suspension);
	disk_close(&before);
	disk_close(&after);
	if (fd >= 0)
		close(fd);
	return exit_code;
}

static int run_start(int argc, char **argv)
{
	struct arguments arguments;
	struct timeouts timeouts = {.boot = NULL};
	struct suspend_options suspend = {.key_path = NULL};
	struct job job;
	bool verbose = false;
	const struct option options[] = {
		SUSPEND_OPTIONS(&suspend),
		{0, "verbose", OPTION_FLAG, &verbose},
		{0, "boot-timeout", OPTION_VALUE, &timeouts.boot},
		{0, "heartbeat-timeout", OPTION_VALUE, &timeouts.heartbeat},
		{.name = NULL},
	};

	const char *path =
		options_parse_disk(&command_start, argc, argv, options, true, &arguments);
	timeouts_check(&command_start, &timeouts);
	suspend_check(&command_start, &suspend);
	suspend_catch();
	job_init(&job);
	options_apply(&command_start, &arguments, &job);
	int exit_code = run_disk(path, &job, &suspend, &timeouts, verbose);
	job_free(&job);
	arguments_free(&arguments);
	return exit_code;
}

const struct command command_start = {
	.name = "start",
	.summary = "boot a VM for a job disk and wait for the job's end",
	.usage =
		"Usage: jobvm start [OPTION]... JOB.img\n"
		"Run the job on a job disk. The results stay on the disk; 'jobvm collect' fetches them.\n"
		"SIGTERM suspends the job; the same command goes on with it.\n\n"
		"  --image DIR          the guest image\n"
		"  --accel auto|kvm|tcg\n"
		"  --require-isolation hardware\n"
		"  --start auto|clone|cold\n"
		"  --from DIR|URI       where a job that fetches its inputs has them from\n"
		"  --tls-certificates DIR, --fetch-timeout SECONDS, --fetch-cache N\n"
		"  --trace FILE, --prefetch FILE\n" SUSPEND_HELP
		"  --verbose            show the guest's console\n"
		"  --boot-timeout SECONDS, --heartbeat-timeout SECONDS\n"
		"  --without-landlock   also where this kernel has no Landlock to confine with\n"
		"  --quiet              no warnings, notes or progress\n\n"
		"The exit code is as for 'jobvm run'.\n",
	.run = run_start,
	.reads_disk = true,
};
