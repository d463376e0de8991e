/* jobvm run: its command line; run_job.c does the work. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-tools/collect.h"
#include "host-tools/execute.h"
#include "host-tools/exitcodes.h"
#include "host-tools/input_path.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "host-tools/run_job.h"

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
	if (run->output && !request->is_submission && run_keeps_files(request->jobs))
		message_usage("run", "option '-o' keeps stdout, stderr and job.json in DIR; "
				     "--stdout, --stderr and --report are for runs without it");
	merge_check_usage("run", &run->merge);
	check_spool_usage(run);
	for (size_t i = 0; i < request->job_count; i++)
		check_merged_inputs(run, &request->jobs[i]);
	for (size_t i = 0; run->sign_key && i < request->job_count; i++)
		if (!run_keeps_report(run, &request->jobs[i]))
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
