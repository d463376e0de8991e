/* jobvm run: pack, start, stream, collect. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-tools/collect.h"
#include "host-tools/eventlog.h"
#include "host-tools/execute.h"
#include "host-tools/exitcodes.h"
#include "host-tools/input_path.h"
#include "host-tools/job_key.h"
#include "host-tools/lazy/input_disk.h"
#include "host-tools/merge.h"
#include "host-tools/message.h"
#include "host-tools/node/client.h"
#include "host-tools/options.h"
#include "host-tools/pack.h"
#include "host-tools/request.h"
#include "host-tools/sidefile.h"
#include "host-tools/timeouts.h"
#include "host-tools/under_slurm.h"

struct run {
	struct request request;
	const char *output; /* -o */
	int output_fd;	    /* the same, held */
	struct merge merge;
	const char *sign_key;
	struct signer *signer;
	const char *spool; /* of the node that runs the jobs; NULL: they run here */
	bool verbose, usage;
	bool suspended;	 /* the last job was: those after it wait for it */
	bool keeps_disk; /* the last job's changes could not be merged, or were not to be */
	bool cancelled;	 /* by a signal while a node had the job, or results were collected */
	struct timeouts timeouts;
	struct suspend_options suspend;
	struct suspension suspension; /* of the job that runs */
};

/* Says in one line what a run without -o throws away. */
static void say_left_behind(const struct report *report)
{
	size_t files = 0;
	uint64_t bytes = 0;

	if (!report->disk || !report->disk->has_changes)
		return;
	for (size_t i = 0; i < report->disk->changes.count; i++) {
		const struct change *change = &report->disk->changes.items[i];
		if (change->kind == CHANGE_DELETED || S_ISDIR(change->stat.mode))
			continue;
		files++;
		bytes += change->stat.size_bytes;
	}
	if (files > 0)
		message_note(
			"%zu file%s (%.1f kB) that the job wrote %s left behind; -o DIR keeps them",
			files, files == 1 ? "" : "s", (double)bytes / 1000,
			files == 1 ? "is" : "are");
}

static bool keeps_files(const struct job *job)
{
	return job->stdout_path || job->stderr_path || job->report_path;
}

static bool keeps_results(const struct run *run, const struct job *job)
{
	return run->output || run->request.is_submission || keeps_files(job);
}

static bool keeps_report(const struct run *run, const struct job *job)
{
	return run->output || (job->report_path && strcmp(job->report_path, "/dev/null") != 0);
}

static struct collect_places places_of(const struct run *run, const struct job *job)
{
	struct collect_places places = collect_places_in(run->output);

	places.directory_fd = run->output_fd;
	places.signer = run->signer;
	if (run->output)
		return places;
	return (struct collect_places){
		.directory = job->directory,
		.directory_fd = -1,
		.outputs_below = run->request.is_submission && !run->merge.directory ? "" : NULL,
		.stdout_path = job->stdout_path,
		.stderr_path = job->stderr_path,
		.report_path = job->report_path,
		.console_path = run->request.is_submission ? REPORT_CONSOLE_FILE : NULL,
		.signer = run->signer,
	};
}

/*
 * Gives the job disk a name where it was made, with the notes that `collect` needs: what was not
 * merged is not lost.
 */
static bool publish_disk(const struct packed *packed, const struct report *report,
			 char path[PATH_MAX])
{
	struct error error;

	snprintf(path, PATH_MAX, "%.4000s/jobvm-%s.img", pack_scratch_directory(), packed->job_id);
	int inputs_fd = report->disk && report->disk->has_inputs ? report->disk->inputs_fd : -1;
	if (sidefile_write(path, report->host, inputs_fd, &error)) {
		message_error("the job disk is lost: %s", error.text);
		return false;
	}
	if (pack_publish(packed, path, &error)) {
		sidefile_remove(path);
		message_error("the job disk is lost: %s", error.text);
		return false;
	}
	return true;
}

static void say_kept(const struct run *run, const struct report *report, const char *path)
{
	(report->merged.status == MERGED_PLANNED ? message_note : message_error)(
		"the job disk is kept: 'jobvm collect --merge %s %s' merges it",
		run->merge.directory, path);
}

/* Whether the disk is still wanted where it is. */
static bool merge(struct run *run, struct report *report)
{
	struct error error;
	int failed = merge_results(report, &run->merge, &error);

	merged_say(&report->merged);
	return report->disk && report->disk->has_changes &&
	       (failed || report->merged.status == MERGED_PLANNED);
}

/* After the VM's end: results to where they belong, words to the user, the exit code. */
static int finish(struct run *run, const struct job *job, struct report *report)
{
	struct collect_places places = places_of(run, job);
	struct error error;
	bool vm_failed =
		report->status > STATUS_LAST_OF_GUEST && report->status != STATUS_CANCELLED;

	if (!execute_output_closed())
		report_say(report);
	if (run->merge.directory)
		run->keeps_disk = merge(run, report);
	else if (!places.outputs_below)
		say_left_behind(report);
	if (keeps_results(run, job) &&
	    collect_results(report, &places, vm_failed || run->verbose ? execute_console() : NULL,
			    &error))
		message_error("collecting the results: %s", error.text);
	run->cancelled = report->collect_signal != 0 || report->merged.signal != 0;
	if (run->verbose || run->usage) {
		fprintf(stderr, "jobvm: %s: ", job_status_words[report->status]);
		report_show_usage(report, stderr);
	}
	return report->exit_code;
}

/*
 * Looks for what the same command left of this job. 0: it goes on, and PACKED is its disk; 1: it
 * starts; -1 with ERROR set.
 */
static int find_suspended(struct run *run, const struct job *job, struct packed *packed,
			  struct error *error)
{
	struct suspension *suspension = &run->suspension;
	size_t index = (size_t)(job - run->request.jobs);
	char path[PATH_MAX], name[PATH_MAX + 8];

	if (job_key_path(job, run->output, index, path, error))
		return -1;
	snprintf(name, sizeof(name), "%s.img", path);
	int found = suspension_open(suspension, name, &run->suspend, error);
	if (found > 1)
		return error_prefix(error, "the same job runs already");
	if (found)
		return found;
	message_note("going on with %s", name);
	*packed = suspension->copy;
	suspension->owns_copy = false;
	return 0;
}

/* As pack_job does. */
static int pack(const struct run *run, struct job *job, const char *path, struct packed *packed,
		struct error *error)
{
	struct collect_places places = places_of(run, job);
	const struct pack_options options = {.without_inputs = input_disk_has_inputs(job)};

	progress_phase("packing");
	int failed = (keeps_results(run, job) && collect_check_places(&places, error)) ||
		     pack_job(job, path, &options, packed, error);
	progress_clear();
	return failed;
}

/* No VM ran for the job: says why, to the user and to whoever reads the log. */
static int fail(const struct job *job, const struct error *why)
{
	struct error error;

	message_error("%s", why->text);
	if (eventlog_failed(job, why->text, &error))
		message_error("%s", error.text);
	return EXIT_JOBVM_FAILED;
}

/* A job that is not over leaves no results, but what it goes on from. */
static int say_suspended(struct run *run)
{
	run->suspended = true;
	if (execute_suspended())
		message_note("suspended as %s; the same command goes on with it",
			     run->suspension.path);
	return EXIT_JOB_SUSPENDED;
}

/* What the job itself did wrong: max_retries is for that. */
static bool wants_again(const struct report *report, bool is_last)
{
	return !is_last && report->status == STATUS_COMPLETED && !report_job_succeeded(report);
}

/* The exit code of an attempt that had an end; what is made AGAIN leaves nothing else. */
static int end_attempt(struct run *run, struct job *job, struct report *report, bool again)
{
	struct error error;

	run->keeps_disk = false;
	if (again)
		return report->exit_code;
	int exit_code = finish(run, job, report);
	under_slurm_tell(report->status);
	if (eventlog_terminated(job, report, &error)) {
		message_error("%s", error.text);
		exit_code = EXIT_JOBVM_FAILED;
	}
	return exit_code;
}

/* As the job's end was: the exit code, and whether it is made AGAIN. */
static int conclude(struct run *run, struct job *job, struct report *report,
		    const struct packed *packed, bool is_last, bool *again)
{
	struct suspension *suspension = &run->suspension;
	char path[PATH_MAX];
	struct error error;

	if (report->status == STATUS_SUSPENDED)
		return say_suspended(run);
	*again = wants_again(report, is_last);
	int exit_code = end_attempt(run, job, report, *again);
	if (run->keeps_disk && publish_disk(packed, report, path))
		say_kept(run, report, path);
	if (suspension_is_kept(suspension, report->status)) {
		message_note("%s is kept; the same command goes on from there", suspension->path);
	} else if (suspension_end(suspension, false, &error)) {
		message_error("%s", error.text);
		exit_code = EXIT_JOBVM_FAILED;
	}
	return exit_code;
}

/* A disk that may be kept must be able to get a name where it is packed. */
static int pack_here(const struct run *run, struct job *job, struct packed *packed,
		     struct error *error)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%.4000s/job.img", pack_scratch_directory());
	return pack(run, job, run->merge.directory ? path : NULL, packed, error);
}

/* What the job wrote comes at its end: nothing of it was passed through while it ran. */
static int pass_on(const struct job *job, const struct report *report)
{
	const int fds[2] = {job->stdout_path ? -1 : STDOUT_FILENO,
			    job->stderr_path ? -1 : STDERR_FILENO};
	struct error error;

	int failed = client_pass_on(report, fds, &error);
	if (failed)
		message_error("%s", error.text);
	return failed;
}

/* As conclude, of a job that a node ran; nothing that it left is lost. */
static int conclude_by_node(struct run *run, struct job *job, struct report *report,
			    const struct client *client, bool again)
{
	bool is_lost = !again && pass_on(job, report);
	int exit_code = end_attempt(run, job, report, again);

	if (run->keeps_disk)
		say_kept(run, report, client->disk_path);
	if (is_lost || (report->needs_recovery && report->status != STATUS_CANCELLED)) {
		run->keeps_disk = true;
		message_note("the job disk is kept as %s", client->disk_path);
	}
	return is_lost ? EXIT_JOBVM_FAILED : exit_code;
}

/* As run_once, by a node. */
static int run_by_node(struct run *run, struct job *job, bool is_last, bool *again)
{
	static struct disk disk;
	struct report report = {.has_run = false};
	char path[PATH_MAX];
	struct client client;
	struct packed packed;
	struct error error;
	int exit_code;

	*again = run->keeps_disk = false;
	memset(&disk, 0, sizeof(disk));
	if (client_open(&client, run->spool, path, &error) || pack(run, job, path, &packed, &error))
		return fail(job, &error);
	if (eventlog_executing(job, &error) ||
	    client_run(&client, &packed, &report, &disk, &error)) {
		exit_code = fail(job, &error);
	} else {
		*again = wants_again(&report, is_last);
		exit_code = conclude_by_node(run, job, &report, &client, *again);
	}
	run->cancelled = client.cancel_signal != 0;
	if (run->cancelled && (!report.has_run || report.status == STATUS_CANCELLED))
		exit_code = EXIT_SIGNAL_BASE + client.cancel_signal;
	report_free(&report);
	disk_close(&disk);
	client_close(&client, run->keeps_disk);
	pack_discard(&packed);
	return exit_code;
}

/* One attempt at one job: its exit code. Results of one that will be made AGAIN are not kept. */
static int run_once(struct run *run, struct job *job, bool is_last, bool *again)
{
	static struct disk disk;
	struct report report = {.has_run = false};
	struct packed packed;
	struct error error;
	int exit_code;

	*again = false;
	int starts = find_suspended(run, job, &packed, &error);
	if (starts < 0 || (starts && pack_here(run, job, &packed, &error))) {
		suspension_close(&run->suspension);
		return fail(job, &error);
	}
	run->suspension.copy = packed;
	const struct manifest *manifest = starts ? &job->manifest : &run->suspension.manifest;
	const struct execution execution = {
		.job = job,
		.disk_fd = packed.fd,
		.disk_name = "the job disk",
		.stdout_to_file = job->stdout_path != NULL,
		.stderr_to_file = job->stderr_path != NULL,
		.digest_inputs = keeps_report(run, job) || run->merge.directory,
		.timeouts = run->timeouts,
		.suspension = &run->suspension,
		.verbose = run->verbose,
		.recovers = true,
	};
	memset(&disk, 0, sizeof(disk));
	if (eventlog_executing(job, &error) ||
	    execute(&execution, manifest, &report, &disk, &error))
		exit_code = fail(job, &error);
	else
		exit_code = conclude(run, job, &report, &packed, is_last, again);
	report_free(&report);
	disk_close(&disk);
	suspension_close(&run->suspension);
	pack_discard(&packed);
	return exit_code;
}

static int run_job(struct run *run, struct job *job)
{
	struct error error;
	bool again = true;
	int exit_code = EXIT_JOBVM_FAILED;

	if (eventlog_submitted(job, &error)) {
		message_error("%s", error.text);
		return exit_code;
	}
	for (uint64_t attempt = 0; again; attempt++) {
		if (attempt > 0)
			message_note("exit code %d: starting the job again", exit_code);
		exit_code = (run->spool ? run_by_node
					: run_once)(run, job, attempt == job->max_retries, &again);
	}
	return exit_code;
}

/* A submit description's jobs each have a report, also where it names none. */
static void name_reports(struct request *request)
{
	for (size_t i = 0; request->is_submission && i < request->job_count; i++) {
		char name[40] = REPORT_FILE;
		if (request->jobs[i].report_path)
			continue;
		if (request->job_count > 1)
			snprintf(name, sizeof(name), "job.%zu.json", i);
		request->jobs[i].report_path = memory_or_exit(strdup(name));
	}
}

/* All of them, one after the other; the first that fails gives the exit code. */
static int run_jobs(struct run *run)
{
	int exit_code = EXIT_SUCCESS;

	for (size_t i = 0; i < run->request.job_count; i++) {
		int code = run_job(run, &run->request.jobs[i]);
		if (exit_code == EXIT_SUCCESS)
			exit_code = code;
		if (run->suspended ||
		    (code >= EXIT_JOBVM_FAILED && (run->cancelled || execute_cancelled())))
			break;
	}
	return exit_code;
}

/* The directory itself as an input is an easy mistake for what it holds. */
static void check_merged_inputs(const struct run *run, const struct job *job)
{
	char wanted[PATH_MAX];
	struct input_path found;
	struct error ignored;

	if (!run->merge.directory || !realpath(run->merge.directory, wanted))
		return;
	for (size_t i = 0; i < job->inputs.count; i++) {
		const char *input = job->inputs.items[i];
		char *path = job_path(job, input);
		bool same = input_resolve(input, path, &found, &ignored) == 0 && !found.contents &&
			    strcmp(found.resolved, wanted) == 0;
		free(path);
		if (same)
			message_usage("run",
				      "--merge %s: the input '%s' is the directory itself; "
				      "'%s/' is what it holds",
				      run->merge.directory, input, input);
	}
}

/* How a job's VM comes to be is the node's to say. */
static void check_spool_usage(const struct run *run)
{
	if (!run->spool)
		return;
	if (run->verbose || run->suspend.every || run->suspend.key_path || run->suspend.whole ||
	    run->suspend.restart || run->timeouts.boot || run->timeouts.heartbeat)
		message_usage("run", "options of the VM, which is the node's with '--spool'");
	for (size_t i = 0; i < run->request.job_count; i++) {
		const struct job *job = &run->request.jobs[i];
		if (job->image_path || job->accel != ACCEL_AUTO || job->start != START_AUTO)
			message_usage("run", "image, accelerator and start are the node's with "
					     "'--spool'");
		if (job->manifest.fetch != FETCH_EAGER)
			message_usage("run", "a node does not offer jobs to fetch their inputs");
	}
}

static void check_usage(const struct run *run)
{
	const struct request *request = &run->request;

	if (run->output && request->job_count > 1)
		message_usage("run", "option '-o' is for one job; the description queues %zu",
			      request->job_count);
	if (run->output && !request->is_submission && keeps_files(request->jobs))
		message_usage("run", "option '-o' keeps stdout, stderr and job.json in DIR; "
				     "--stdout, --stderr and --report are for runs without it");
	merge_check_usage("run", &run->merge);
	check_spool_usage(run);
	for (size_t i = 0; i < request->job_count; i++)
		check_merged_inputs(run, &request->jobs[i]);
	for (size_t i = 0; run->sign_key && i < request->job_count; i++)
		if (!keeps_report(run, &request->jobs[i]))
			message_usage("run", "option '--sign-key' signs the report, and none is "
					     "kept; -o or --report keeps it");
}

/* What must be in order before any job runs. */
static int prepare(struct run *run, bool *created, struct error *error)
{
	if (run->sign_key) {
		run->signer = signer_open(run->sign_key, error);
		if (!run->signer)
			return -1;
	}
	if (run->merge.directory && merge_open(&run->merge, error))
		return -1;
	if (run->output) {
		run->output_fd = collect_prepare_directory(run->output, created, error);
		if (run->output_fd < 0)
			return -1;
	}
	return 0;
}

static int run_run(int argc, char **argv)
{
	/* Static for its size. */
	static struct run run = {.output_fd = -1,
				 .merge = {.directory_fd = -1, .planned = merge_say_planned}};
	struct error error;
	bool created = false;
	const struct option options[] = {
		{'o', "output", OPTION_VALUE, &run.output},
		{0, "merge", OPTION_VALUE, &run.merge.directory},
		{0, "merge-force", OPTION_FLAG, &run.merge.force},
		{0, "dry-run", OPTION_FLAG, &run.merge.dry_run},
		{0, "sign-key", OPTION_VALUE, &run.sign_key},
		{0, "spool", OPTION_VALUE, &run.spool},
		SUSPEND_OPTIONS(&run.suspend),
		{0, "restart", OPTION_FLAG, &run.suspend.restart},
		{0, "verbose", OPTION_FLAG, &run.verbose},
		{0, "usage", OPTION_FLAG, &run.usage},
		{0, "boot-timeout", OPTION_VALUE, &run.timeouts.boot},
		{0, "heartbeat-timeout", OPTION_VALUE, &run.timeouts.heartbeat},
		{.name = NULL},
	};

	request_read(&command_run, argc, argv, options, REQUEST_IMAGE_FOUND, &run.request);
	name_reports(&run.request);
	timeouts_check(&command_run, &run.timeouts);
	suspend_check(&command_run, &run.suspend);
	suspend_catch();
	check_usage(&run);
	if (prepare(&run, &created, &error)) {
		message_error("%s", error.text);
		signer_close(run.signer);
		request_free(&run.request);
		return EXIT_JOBVM_FAILED;
	}
	int exit_code = run_jobs(&run);
	/* Empty, it was of no use: nothing was collected into it. */
	if (created)
		rmdir(run.output);
	if (run.output_fd >= 0)
		close(run.output_fd);
	merge_close(&run.merge);
	signer_close(run.signer);
	request_free(&run.request);
	return exit_code;
}

const struct command command_run = {
	.name = "run",
	.summary = "pack a job, run it in a VM, bring its results back",
	.usage =
		"Usage: jobvm run [OPTION]... [-i PATH]... [-o DIR] -- COMMAND [ARG]...\n"
		"       jobvm run [OPTION]... FILE.sub\n"
		"Run one job in one virtual machine and behave like the command itself. Without a\n"
		"COMMAND behind '--', the image's own (of an OCI image: Entrypoint and Cmd).\n\n"
		"  -o DIR               keep the results in DIR, which must be new or empty\n" MERGE_HELP
		"  --sign-key FILE      sign job.json with this Ed25519 key\n" REQUEST_JOB_HELP
			REQUEST_HOST_HELP
		"  --spool DIR          let the node of DIR run the job (jobvm-node(1))\n" SUSPEND_HELP
		"  --restart            start the job anew, also where it was suspended\n"
		"  --usage              show the job's resource usage at the end\n"
		"  --verbose            show the guest's console too\n"
		"  --without-landlock   also where this kernel has no Landlock to confine with\n"
		"  --boot-timeout SECONDS, --heartbeat-timeout SECONDS\n\n"
		"Exit code: the job's; 128+N when signal N ended it; 124 at its time limit;\n"
		"125 when jobvm or the VM failed; 126 and 127 when the command cannot be\n"
		"executed or found; 2 for a wrong command line.\n",
	.run = run_run,
	.reads_disk = true,
};
