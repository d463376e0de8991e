/* jobvm inspect: what is on a job disk, without extracting it. */
#include <stdlib.h>

#include "host-tools/exitcodes.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "host-tools/stored.h"

static int show(const struct report *report, bool as_json)
{
	char *json = as_json ? report_json(report) : NULL;

	if (as_json && !json)
		return EXIT_JOBVM_FAILED;
	if (as_json)
		fputs(json, stdout);
	else
		report_show(report);
	free(json);
	return finish_stdout();
}

static int run_inspect(int argc, char **argv)
{
	static struct disk disk;
	struct report report = {.has_run = false};
	struct arguments arguments;
	struct error error;
	bool as_json = false;
	const struct option options[] = {{0, "json", OPTION_FLAG, &as_json}, {.name = NULL}};
	int exit_code = EXIT_JOBVM_FAILED;

	options_parse(&command_inspect, argc, argv, options, false, &arguments);
	if (arguments.command || arguments.positional.count != 1)
		message_usage("inspect", "exactly one job disk is needed");
	int fd = stored_open(arguments.positional.items[0], &report, &disk, &error);
	if (fd < 0)
		message_error("%s", error.text);
	else
		exit_code = show(&report, as_json);
	stored_close(fd, &report, &disk);
	arguments_free(&arguments);
	return exit_code;
}

const struct command command_inspect = {
	.name = "inspect",
	.summary = "show a job disk's status, usage and outputs",
	.usage =
		"Usage: jobvm inspect [--json] JOB.img\n"
		"Show what is on a job disk, before or after its run, without extracting anything.\n\n"
		"  --json               as JSON, in the format of job.json\n"
		"  --without-landlock   also where this kernel has no Landlock to confine with\n"
		"  --quiet              no warnings or notes\n",
	.run = run_inspect,
	.reads_disk = true,
};
