#include "host-tools/request.h"

#include <stdlib.h>
#include <string.h>

#include "host-tools/defaults.h"
#include "host-tools/exitcodes.h"
#include "host-tools/find_image.h"
#include "host-tools/message.h"
#include "host-tools/under_slurm.h"

#define OPTIONS_MAX 24

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

/* The command line's options, which are said after the submit description. */
struct amendment {
	const struct command *command;
	const struct arguments *arguments;
	const struct lists *lists;
	enum request_image image;
};

static void amend_job(void *context, struct job *job)
{
	const struct amendment *a = context;
	struct error error;

	options_apply(a->command, a->arguments, job);
	for (size_t i = 0; i < a->lists->inputs.count; i++)
		strings_add(&job->inputs, a->lists->inputs.items[i]);
	for (size_t i = 0; i < a->lists->environment.count; i++)
		if (environment_set(&job->environment, a->lists->environment.items[i], &error))
			message_usage(a->command->name, "option '--env': %s", error.text);
}

/* Whether JOB has an image to take something from; it is loaded then, and else left empty. */
static bool load_image(const struct amendment *amendment, const struct job *job,
		       struct image *image)
{
	struct error error;

	*image = (struct image){.json = NULL};
	if (amendment->image == REQUEST_IMAGE_NAMED && !job->image_path)
		return false;
	if (find_image(job->image_path, image, &error) == 0)
		return true;
	message_error("%s", error.text);
	exit(EXIT_JOBVM_FAILED);
}

/* The words behind '--', or the image's. */
static void set_command(const struct amendment *amendment, struct job *job)
{
	const char *name = amendment->command->name;
	struct image image;

	for (char **word = amendment->arguments->command; *word; word++)
		strings_add(&job->arguments, *word);
	if (job->arguments.count > 0)
		return;
	if (!load_image(amendment, job, &image))
		message_usage(name, "no command behind '--'");
	if (defaults_command(&image.defaults, job))
		message_usage(name, "no command behind '--', and the image has none either");
	image_free(&image);
}

static void read_command(struct amendment *amendment, struct request *request)
{
	const struct command *command = amendment->command;
	const struct arguments *arguments = amendment->arguments;
	struct job *job = &request->command_job;
	struct error error;

	if (arguments->positional.count > 0)
		message_usage(command->name, "'%s' stands before '--'; a command stands behind it",
			      arguments->positional.items[0]);
	job_init(job);
	under_slurm_defaults(job);
	amend_job(amendment, job);
	if (job->executable || job->arguments.count > 0)
		message_usage(command->name, "--executable and --arguments are for a submit "
					     "description; the command stands behind '--'");
	set_command(amendment, job);
	if (job_finish(job, &error))
		message_usage(command->name, "%s", error.text);
	request->jobs = job;
	request->job_count = 1;
}

static void read_submission(struct amendment *amendment, struct request *request)
{
	const struct command *command = amendment->command;
	const struct arguments *arguments = amendment->arguments;
	struct submission *submission = &request->submission;
	struct error error;

	if (arguments->positional.count != 1)
		message_usage(command->name,
			      arguments->positional.count == 0
				      ? "neither '-- COMMAND' nor a submit description"
				      : "more than one submit description; "
					"a command stands behind '--'");
	if (submission_read(arguments->positional.items[0], amend_job, amendment, submission,
			    &error)) {
		message_error("%s", error.text);
		exit(EXIT_USAGE);
	}
	for (size_t i = 0; i < submission->warnings.count; i++)
		message_warning("%s", submission->warnings.items[i]);
	request->is_submission = true;
	request->jobs = submission->jobs;
	request->job_count = submission->job_count;
}

static void set_environment(const struct amendment *amendment, struct job *job)
{
	struct image image;
	struct error error;

	if (!load_image(amendment, job, &image))
		return;
	if (defaults_environment(&image.defaults, job, &error)) {
		message_error("%s: %s", image.directory, error.text);
		exit(EXIT_JOBVM_FAILED);
	}
	image_free(&image);
}

void request_read(const struct command *command, int argc, char **argv,
		  const struct option *options, enum request_image image, struct request *request)
{
	struct option all[OPTIONS_MAX];
	struct lists lists = {.inputs = {.count = 0}};
	struct arguments arguments;

	memset(request, 0, sizeof(*request));
	copy_options(all, options, &lists);
	options_parse(command, argc, argv, all, true, &arguments);
	struct amendment amendment = {command, &arguments, &lists, image};
	if (arguments.command)
		read_command(&amendment, request);
	else
		read_submission(&amendment, request);
	for (size_t i = 0; i < request->job_count; i++)
		set_environment(&amendment, &request->jobs[i]);
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
