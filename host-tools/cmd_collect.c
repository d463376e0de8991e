/* jobvm collect: brings the results of a job disk out. */
#include <stdlib.h>
#include <unistd.h>

#include "host-tools/collect.h"
#include "host-tools/exitcodes.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "host-tools/recovery.h"
#include "host-tools/stored.h"

/* 0 when everything was collected and every declared output is there, else 125. */
static int collect(struct report *report, const char *directory, const struct signer *signer)
{
	struct collect_places places = collect_places_in(directory);
	struct error error;
	bool created;

	places.signer = signer;
	places.directory_fd = collect_prepare_directory(directory, &created, &error);
	if (places.directory_fd < 0) {
		message_error("%s", error.text);
		return EXIT_JOBVM_FAILED;
	}
	int failed = collect_results(report, &places, NULL, &error);
	close(places.directory_fd);
	if (failed) {
		message_error("collecting the results: %s", error.text);
		return report->exit_code;
	}
	if (!report_end_was_clean(report) || report->status > STATUS_LAST_OF_GUEST) {
		report_say_recovery(report);
		message_error("%s: %s%s%s", job_status_words[report->status], report->message,
			      report->partial ? "" : ": there was nothing to collect but ",
			      report->partial ? "" : places.report_path);
		return EXIT_JOBVM_FAILED;
	}
	return report->missing.count > 0 ? EXIT_JOBVM_FAILED : EXIT_SUCCESS;
}

struct collection {
	const char *path, *directory;
	const struct job *job; /* the image and accelerator of a recovery */
	const struct timeouts *timeouts;
	const struct signer *signer;
};

static int collect_disk(const struct collection *c)
{
	static struct disk disk;
	struct report report = {.has_run = false};
	struct error error;
	int exit_code = EXIT_JOBVM_FAILED;

	report.collect_from_ms = now_ms();
	int fd = stored_open(c->path, &report, &disk, &error);
	if (fd >= 0 && report.needs_recovery)
		stored_recover(fd, c->path, c->job, c->timeouts, &report, &disk);
	if (fd < 0)
		message_error("%s", error.text);
	else if (!report.has_run)
		message_error("%s: has not run yet; 'jobvm start' runs it", c->path);
	else if (recovery_cancel_signal())
		exit_code = EXIT_SIGNAL_BASE + recovery_cancel_signal();
	else
		exit_code = collect(&report, c->directory, c->signer);
	stored_close(fd, &report, &disk);
	return exit_code;
}

static int collect_signed(struct collection *c, const char *sign_key)
{
	struct error error;
	struct signer *signer = sign_key ? signer_open(sign_key, &error) : NULL;

	if (sign_key && !signer) {
		message_error("%s", error.text);
		return EXIT_JOBVM_FAILED;
	}
	c->signer = signer;
	int exit_code = collect_disk(c);
	signer_close(signer);
	return exit_code;
}

static int run_collect(int argc, char **argv)
{
	struct arguments arguments;
	struct timeouts timeouts = {.boot = NULL};
	struct job job;
	struct collection collection = {.job = &job, .timeouts = &timeouts};
	const char *sign_key = NULL;
	const struct option options[] = {
		{'o', "output", OPTION_VALUE, &collection.directory},
		{0, "sign-key", OPTION_VALUE, &sign_key},
		{0, "boot-timeout", OPTION_VALUE, &timeouts.boot},
		{0, "heartbeat-timeout", OPTION_VALUE, &timeouts.heartbeat},
		{.name = NULL},
	};

	collection.path =
		options_parse_disk(&command_collect, argc, argv, options, false, &arguments);
	if (!collection.directory)
		message_usage("collect", "option '-o DIR' is missing");
	timeouts_check(&command_collect, &timeouts);
	job_init(&job);
	options_apply(&command_collect, &arguments, &job);
	int exit_code = collect_signed(&collection, sign_key);
	job_free(&job);
	arguments_free(&arguments);
	return exit_code;
}

const struct command command_collect = {
	.name = "collect",
	.summary = "bring outputs, stdout, stderr and job.json out of a job disk",
	.usage =
		"Usage: jobvm collect [OPTION]... -o DIR JOB.img\n"
		"Bring a finished job's results into DIR: output/, stdout, stderr, job.json. Of a disk\n"
		"whose run was cut off, a copy is recovered in a VM first.\n\n"
		"  -o DIR               must be new or empty\n"
		"  --sign-key FILE      sign job.json with this Ed25519 key\n"
		"  --image DIR          the guest image of that VM\n"
		"  --accel auto|kvm|tcg\n"
		"  --require-isolation hardware\n"
		"  --boot-timeout SECONDS, --heartbeat-timeout SECONDS\n"
		"  --without-landlock   also where this kernel has no Landlock to confine with\n"
		"  --quiet              no warnings, notes or progress\n\n"
		"Exit code: 0 when all was collected, 125 when something is missing or failed;\n"
		"the job's own is in job.json.\n",
	.run = run_collect,
	.reads_disk = true,
};
