#include "host-tools/request.h"

#include <stdlib.h>
#include <string.h>

#include "host-tools/exitcodes.h"
#include "host-tools/message.h"

#define OPTIONS_MAX 16

/* What is given with -i and --env can be given again; keys of the description are replaced. */
struct lists {
	struct strings inputs, environment;
};

static size_t copy_options(struct option *all, const struct option *options, struct lists *lists)
{
	size_t count = 0;

	for (; options[count].name; count++)
		all[count] = options[count];
	all[count++] = (struct option){'i', "input-path", OPTION_LIST, &lists->inputs};
	all[count++] = (struct option){0, "env", OPTION_LIST, &lists->environment};
	all[count] = (struct option){.name = NULL};
	return count;
}

static void finish_job(const struct command *command, const struct arguments *arguments,
		       const struct lists *lists, struct job *job)
{
	options_apply(command, arguments, job);
	for (size_t i = 0; i < lists->inputs.count; i++)
		strings_add(&job->inputs, lists->inputs.items[i]);
	for (size_t i = 0; i < lists->environment.count; i++) {
		if (!strchr(lists->environment.items[i], '='))
			message_usage(command->name,
				      "option '--env %s': not of the form NAME=VALUE",
				      lists->environment.items[i]);
		strings_add(&job->environment, lists->environment.items[i]);
	}
	if (job->manifest.fetch != FETCH_EAGER)
		message_usage(command->name, "jobvm_fetch: only 'eager' is there yet");
}

static void read_command(const struct command *command, const struct arguments *arguments,
			 const struct lists *lists, struct request *request)
{
	struct job *job = &request->command_job;
	struct error error;

	if (arguments->positional.count > 0)
		message_usage(command->name, "'%s' stands before '--'; a command stands behind it",
			      arguments->positional.items[0]);
	if (!arguments->command[0])
		message_usage(command->name, "no command behind '--'");
	job_init(job);
	for (char **word = arguments->command; *word; word++)
		strings_add(&job->arguments, *word);
	finish_job(command, arguments, lists, job);
	if (job_finish(job, &error))
		message_usage(command->name, "%s", error.text);
	request->jobs = job;
	request->job_count = 1;
}

static void read_submission(const struct command *command, const struct arguments *arguments,
			    const struct lists *lists, struct request *request)
{
	struct submission *submission = &request->submission;
	struct error error;

	if (arguments->positional.count != 1)
		message_usage(command->name,
			      arguments->positional.count == 0
				      ? "neither '-- COMMAND' nor a submit description"
				      : "more than one submit description; "
					"a command stands behind '--'");
	if (submission_read(arguments->positional.items[0], submission, &error)) {
		message_error("%s", error.text);
		exit(EXIT_USAGE);
	}
	for (size_t i = 0; i < submission->warnings.count; i++)
		message_warning("%s", submission->warnings.items[i]);
	for (size_t i = 0; i < submission->job_count; i++)
		finish_job(command, arguments, lists, &submission->jobs[i]);
	request->is_submission = true;
	request->jobs = submission->jobs;
	request->job_count = submission->job_count;
}

void request_read(const struct command *command, int argc, char **argv,
		  const struct option *options, struct request *request)
{
	struct option all[OPTIONS_MAX];
	struct lists lists = {.inputs = {.count = 0}};
	struct arguments arguments;

	memset(request, 0, sizeof(*request));
	copy_options(all, options, &lists);
	options_parse(command, argc, argv, all, true, &arguments);
	if (arguments.command)
		read_command(command, &arguments, &lists, request);
	else
		read_submission(command, &arguments, &lists, request);
	strings_clear(&lists.inputs);
	strings_clear(&lists.environment);
	arguments_free(&arguments);
}

void request_free(struct request *request)
{
	if (request->is_submission)
		submission_free(&request->submission);
	else
		job_free(&request->command_job);
}
