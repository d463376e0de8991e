/* jobvm collect: brings the results of a job disk out. */
#include <stdlib.h>
#include <unistd.h>

#include "host-tools/collect.h"
#include "host-tools/exitcodes.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
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
		return EXIT_JOBVM_FAILED;
	}
	if (!report_end_was_clean(report) || report->status > STATUS_LAST_OF_GUEST) {
		message_error("%s: %s: there was nothing to collect but %s",
			      job_status_words[report->status], report->message,
			      places.report_path);
		return EXIT_JOBVM_FAILED;
	}
	return report->missing.count > 0 ? EXIT_JOBVM_FAILED : EXIT_SUCCESS;
}

static int run_collect(int argc, char **argv)
{
	static struct disk disk;
	struct report report = {.has_run = false};
	struct arguments arguments;
	struct error error;
	const char *output = NULL, *sign_key = NULL;
	struct signer *signer = NULL;
	const struct option options[] = {
		{'o', "output", OPTION_VALUE, &output},
		{0, "sign-key", OPTION_VALUE, &sign_key},
		{.name = NULL},
	};
	int exit_code = EXIT_JOBVM_FAILED;

	options_parse(&command_collect, argc, argv, options, false, &arguments);
	if (arguments.command || arguments.positional.count != 1)
		message_usage("collect", "exactly one job disk is needed");
	if (!output)
		message_usage("collect", "option '-o DIR' is missing");
	const char *path = arguments.positional.items[0];
	int fd = -1;
	if (sign_key)
		signer = signer_open(sign_key, &error);
	if (signer || !sign_key)
		fd = stored_open(path, &report, &disk, &error);
	if (fd < 0)
		message_error("%s", error.text);
	else if (!report.has_run)
		message_error("%s: has not run yet; 'jobvm start' runs it", path);
	else
		exit_code = collect(&report, output, signer);
	stored_close(fd, &report, &disk);
	signer_close(signer);
	arguments_free(&arguments);
	return exit_code;
}

const struct command command_collect = {
	.name = "collect",
	.summary = "bring outputs, stdout, stderr and job.json out of a job disk",
	.usage = "Usage: jobvm collect -o DIR [--sign-key FILE] JOB.img\n"
		 "Bring a finished job's results into DIR: output/, stdout, stderr, job.json.\n\n"
		 "  -o DIR               must be new or empty\n"
		 "  --sign-key FILE      sign job.json with this Ed25519 key\n"
		 "  --without-landlock   also where this kernel has no Landlock to confine with\n"
		 "  --quiet              no warnings, notes or progress\n\n"
		 "Exit code: 0 when all was collected, 125 when something is missing or failed;\n"
		 "the job's own is in job.json.\n",
	.run = run_collect,
	.reads_disk = true,
};
