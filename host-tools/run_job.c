#include "host-tools/run_job.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-tools/collect.h"
#include "host-tools/eventlog.h"
#include "host-tools/execute.h"
#include "host-tools/exitcodes.h"
#include "host-tools/job_key.h"
#include "host-tools/lazy/input_disk.h"
#include "host-tools/message.h"
#include "host-tools/node/client.h"
#include "host-tools/pack.h"
#include "host-tools/sidefile.h"
#include "host-tools/under_slurm.h"

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

bool run_keeps_files(const struct job *job)
{
	return job->stdout_path || job->stderr_path || job->report_path;
}

static bool keeps_results(const struct run *run, const struct job *job)
{
	return run->output || run->request.is_submission || run_keeps_files(job);
}

bool run_keeps_report(const struct run *run, const struct job *job)
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
		.digest_inputs = run_keeps_report(run, job) || run->merge.directory,
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

int run_job(struct run *run, struct job *job)
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
