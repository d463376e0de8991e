/* jobvm start: boots a VM for a job disk and waits for its end. */
#include <unistd.h>

#include "host-tools/execute.h"
#include "host-tools/exitcodes.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "host-tools/sidefile.h"

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

static int open_fresh_disk(const char *path, struct disk *disk, struct error *error)
{
	int fd = disk_open_file(path, true, error);

	if (fd < 0 || check_fresh(fd, path, disk, error) == 0)
		return fd;
	disk_close(disk);
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

static int run_disk(const char *path, const struct job *job, const struct timeouts *timeouts,
		    bool verbose)
{
	static struct disk before, after;
	struct report report = {.has_run = false};
	struct error error;

	int fd = open_fresh_disk(path, &before, &error);
	if (fd < 0) {
		message_error("%s", error.text);
		return EXIT_JOBVM_FAILED;
	}
	if (before.manifest.fetch != FETCH_EAGER && !job->fetch.from) {
		message_error(
			"%s: its job fetches its inputs when it reads them; --from says where "
			"they are",
			path);
		disk_close(&before);
		close(fd);
		return EXIT_JOBVM_FAILED;
	}
	const struct execution execution = {
		.job = job,
		.disk_fd = fd,
		.disk_name = path,
		.digest_inputs = true,
		.timeouts = *timeouts,
		.verbose = verbose,
	};
	int exit_code = EXIT_JOBVM_FAILED;
	if (execute(&execution, &before.manifest, &report, &after, &error)) {
		message_error("%s", error.text);
	} else {
		exit_code = report.exit_code;
		report_say(&report);
		if (!report_end_was_clean(&report))
			say_recoverable(fd, path, &after);
		if (sidefile_write(path, report.host, after.has_inputs ? after.inputs_fd : -1,
				   &error)) {
			message_error("%s", error.text);
			exit_code = EXIT_JOBVM_FAILED;
		}
	}
	report_free(&report);
	disk_close(&before);
	disk_close(&after);
	close(fd);
	return exit_code;
}

static int run_start(int argc, char **argv)
{
	struct arguments arguments;
	struct timeouts timeouts = {.boot = NULL};
	struct job job;
	bool verbose = false;
	const struct option options[] = {
		{0, "verbose", OPTION_FLAG, &verbose},
		{0, "boot-timeout", OPTION_VALUE, &timeouts.boot},
		{0, "heartbeat-timeout", OPTION_VALUE, &timeouts.heartbeat},
		{.name = NULL},
	};

	const char *path =
		options_parse_disk(&command_start, argc, argv, options, true, &arguments);
	timeouts_check(&command_start, &timeouts);
	job_init(&job);
	options_apply(&command_start, &arguments, &job);
	int exit_code = run_disk(path, &job, &timeouts, verbose);
	job_free(&job);
	arguments_free(&arguments);
	return exit_code;
}

const struct command command_start = {
	.name = "start",
	.summary = "boot a VM for a job disk and wait for the job's end",
	.usage =
		"Usage: jobvm start [OPTION]... JOB.img\n"
		"Run the job on a job disk. The results stay on the disk; 'jobvm collect' fetches them.\n\n"
		"  --image DIR          the guest image\n"
		"  --accel auto|kvm|tcg\n"
		"  --require-isolation hardware\n"
		"  --start auto|clone|cold\n"
		"  --from DIR|URI       where a job that fetches its inputs has them from\n"
		"  --tls-certificates DIR, --fetch-timeout SECONDS, --fetch-cache N\n"
		"  --trace FILE, --prefetch FILE\n"
		"  --verbose            show the guest's console\n"
		"  --boot-timeout SECONDS, --heartbeat-timeout SECONDS\n"
		"  --without-landlock   also where this kernel has no Landlock to confine with\n"
		"  --quiet              no warnings, notes or progress\n\n"
		"The exit code is as for 'jobvm run'.\n",
	.run = run_start,
	.reads_disk = true,
};
