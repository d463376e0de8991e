/* jobvm collect: brings the results of a job disk out. */
#include <stdlib.h>
#include <unistd.h>

#include "host-tools/collect.h"
#include "host-tools/exitcodes.h"
#include "host-tools/merge.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "host-tools/recovery.h"
#include "host-tools/stored.h"

struct collection {
	const char *path, *directory; /* -o, or NULL */
	const struct job *job;	      /* the image and accelerator of a recovery */
	const struct timeouts *timeouts;
	const struct signer *signer;
	struct merge merge;
	bool json;
};

/* 0 when everything was collected and every declared output is there, else 125. */
static int collect(struct report *report, const struct collection *c)
{
	struct collect_places places = collect_places_in(c->directory);
	struct error error;
	bool created;

	places.signer = c->signer;
	places.directory_fd = collect_prepare_directory(c->directory, &created, &error);
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
	return report->missing.count > 0 ? EXIT_JOBVM_FAILED : EXIT_SUCCESS;
}

/* 0, or the exit code where it failed. */
static int merge(struct report *report, const struct collection *c)
{
	struct error error;
	int failed = merge_results(report, &c->merge, &error);

	merged_say(&report->merged);
	if (!failed)
		return EXIT_SUCCESS;
	return report->merged.signal ? EXIT_SIGNAL_BASE + report->merged.signal : EXIT_JOBVM_FAILED;
}

static int show_json(const struct report *report)
{
	char *text = report_json(report);

	if (!text) {
		message_error("no memory for the report");
		return EXIT_JOBVM_FAILED;
	}
	fputs(text, stdout);
	free(text);
	return EXIT_SUCCESS;
}

/* A run that was cut off is no success, whatever could be had of it. */
static int judge_end(const struct report *report, const struct collection *c)
{
	const char *left = c->directory ? REPORT_FILE : NULL;

	if (report_end_was_clean(report) && report->status <= STATUS_LAST_OF_GUEST)
		return EXIT_SUCCESS;
	report_say_recovery(report);
	message_error("%s: %s%s%s", job_status_words[report->status], report->message,
		      report->partial || !left ? "" : ": there was nothing to collect but ",
		      report->partial || !left ? "" : left);
	return EXIT_JOBVM_FAILED;
}

/* The merge first, for the report tells of it. What failed first gives the exit code. */
static int bring_out(struct report *report, const struct collection *c)
{
	int merge_code = c->merge.directory ? merge(report, c) : EXIT_SUCCESS;
	if (report->merged.signal)
		return merge_code;
	int collect_code = c->directory ? collect(report, c) : EXIT_SUCCESS;
	int json_code = c->json ? show_json(report) : EXIT_SUCCESS;
	int codes[] = {merge_code, collect_code, judge_end(report, c), json_code, finish_stdout()};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (codes[i] != EXIT_SUCCESS)
			return codes[i];
	return EXIT_SUCCESS;
}

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
		exit_code = bring_out(&report, c);
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
	int exit_code = EXIT_JOBVM_FAILED;
	if (c->merge.directory && merge_open(&c->merge, &error))
		message_error("%s", error.text);
	else
		exit_code = collect_disk(c);
	signer_close(signer);
	return exit_code;
}

static void check_usage(const struct collection *c, const char *sign_key)
{
	if (!c->directory && !c->merge.directory)
		message_usage("collect", "neither '-o DIR' nor '--merge DIR' says where to");
	if (!c->directory && sign_key)
		message_usage("collect", "option '--sign-key' signs job.json, which '-o' keeps");
	merge_check_usage("collect", &c->merge);
}

static int run_collect(int argc, char **argv)
{
	struct arguments arguments;
	struct timeouts timeouts = {.boot = NULL};
	struct job job;
	struct collection collection = {
		.job = &job, .timeouts = &timeouts, .merge = {.directory_fd = -1}};
	const char *sign_key = NULL;
	const struct option options[] = {
		{'o', "output", OPTION_VALUE, &collection.directory},
		{0, "merge", OPTION_VALUE, &collection.merge.directory},
		{0, "merge-force", OPTION_FLAG, &collection.merge.force},
		{0, "dry-run", OPTION_FLAG, &collection.merge.dry_run},
		{0, "json", OPTION_FLAG, &collection.json},
		{0, "sign-key", OPTION_VALUE, &sign_key},
		{0, "boot-timeout", OPTION_VALUE, &timeouts.boot},
		{0, "heartbeat-timeout", OPTION_VALUE, &timeouts.heartbeat},
		{.name = NULL},
	};

	collection.path =
		options_parse_disk(&command_collect, argc, argv, options, false, &arguments);
	check_usage(&collection, sign_key);
	timeouts_check(&command_collect, &timeouts);
	job_init(&job);
	options_apply(&command_collect, &arguments, &job);
	if (!collection.json)
		collection.merge.planned = merge_print_planned;
	int exit_code = collect_signed(&collection, sign_key);
	merge_close(&collection.merge);
	job_free(&job);
	arguments_free(&arguments);
	return exit_code;
}

const struct command command_collect = {
	.name = "collect",
	.summary = "bring outputs, stdout, stderr and job.json out of a job disk",
	.usage =
		"Usage: jobvm collect [OPTION]... [-o DIR] [--merge DIR] JOB.img\n"
		"Bring a finished job's results into the DIR of -o: output/, stdout, stderr, job.json; or\n"
		"apply what it changed to the DIR that was its input; or both. Of a disk whose run was\n"
		"cut off, a copy is recovered in a VM first.\n\n"
		"  -o DIR               must be new or empty\n" MERGE_HELP
		"  --json               the report, in the format of job.json, on stdout\n"
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
