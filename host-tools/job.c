#include "host-tools/job.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-tools/lazy/fetch.h"

void job_init(struct job *job)
{
	*job = (struct job){
		.manifest = manifest_defaults(),
		.directory = memory_or_exit(strdup(".")),
		.transfer_executable = true,
		.input_max_bytes = RECORD_UNSET,
		.fetch = {.timeout_ms = FETCH_TIMEOUT_DEFAULT_MS},
	};
}

void job_free(struct job *job)
{
	struct strings *const lists[] = {&job->arguments,	 &job->environment,
					 &job->transfer_outputs, &job->transfer_output_remaps,
					 &job->host_environment, &job->inputs};
	char *const texts[] = {
		job->directory,	       job->executable,
		job->stdin_path,       job->stdout_path,
		job->stderr_path,      job->log_path,
		job->report_path,      job->image_path,
		job->fetch.from,       job->fetch.tls_certificates,
		job->fetch.trace_path, job->fetch.prefetch_path,
	};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		strings_clear(lists[i]);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		free(texts[i]);
	*job = (struct job){0};
}

char *job_path(const struct job *job, const char *path)
{
	char *joined;

	if (*path == '/' || strcmp(job->directory, ".") == 0)
		return memory_or_exit(strdup(path));
	if (asprintf(&joined, "%s/%s", job->directory, path) < 0)
		joined = NULL;
	return memory_or_exit(joined);
}

static void bind_list(struct record_list *list, const struct strings *strings)
{
	static const char *nothing[] = {NULL};

	list->items = strings->items ? (void *)strings->items : nothing;
	list->count = strings->count;
}

void job_bind_manifest(struct job *job)
{
	struct manifest *manifest = &job->manifest;

	bind_list(&manifest->arguments, &job->arguments);
	bind_list(&manifest->environment, &job->environment);
	bind_list(&manifest->transfer_outputs, &job->transfer_outputs);
	bind_list(&manifest->transfer_output_remaps, &job->transfer_output_remaps);
}

/* Makes the executable the command: "./NAME" where it is packed, else the path as it stands. */
static int put_command_first(struct job *job, struct error *error)
{
	struct strings arguments = {0};
	char *command = job->executable;

	if (!job->executable)
		return job->arguments.count > 0 ? 0 : error_set(error, "no executable is given");
	if (job->transfer_executable) {
		const char *name = basename(job->executable);
		if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			return error_set(error, "the executable '%.100s' is a directory",
					 job->executable);
		if (asprintf(&command, "./%s", name) < 0)
			command = NULL;
	} else {
		job->executable = NULL;
	}

	strings_take(&arguments, memory_or_exit(command));
	for (size_t i = 0; i < job->arguments.count; i++)
		strings_take(&arguments, job->arguments.items[i]);
	free(job->arguments.items);
	job->arguments = arguments;
	return 0;
}

static bool getenv_wants(const struct strings *patterns, const char *name)
{
	bool wanted = false;

	for (size_t i = 0; i < patterns->count; i++) {
		bool except = patterns->items[i][0] == '!';
		if (fnmatch(patterns->items[i] + except, name, 0) != 0)
			continue;
		if (except)
			return false;
		wanted = true;
	}
	return wanted;
}

/* What the user gave with `environment` stands before what the host has, as in HTCondor. */
static int copy_host_environment(struct job *job, struct error *error)
{
	if (job->host_environment.count == 0)
		return 0;
	for (char **entry = environ; entry && *entry; entry++) {
		char *name = memory_or_exit(strndup(*entry, strcspn(*entry, "=")));
		bool wanted = *name && strchr(*entry, '=') &&
			      getenv_wants(&job->host_environment, name) &&
			      !environment_find(&job->environment, name);
		free(name);
		if (wanted && environment_set(&job->environment, *entry, error))
			return -1;
	}
	return 0;
}

static int check_fetch(const struct job *job, struct error *error)
{
	const struct {
		const char *name, *value;
	} keys[] = {
		{"jobvm_from", job->fetch.from},
		{"jobvm_trace", job->fetch.trace_path},
		{"jobvm_prefetch", job->fetch.prefetch_path},
		{"jobvm_tls_certificates", job->fetch.tls_certificates},
	};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (keys[i].value && job->manifest.fetch == FETCH_EAGER)
			return error_set(error, "%s needs jobvm_fetch = block or file",
					 keys[i].name);
	return 0;
}

int job_finish(struct job *job, struct error *error)
{
	if (job->manifest.privileged && job->manifest.user != USER_ROOT)
		return error_set(error, "jobvm_privileged needs jobvm_user = root");
	if (check_fetch(job, error) || put_command_first(job, error) ||
	    copy_host_environment(job, error))
		return -1;
	job->manifest.has_stdin = job->stdin_path != NULL;
	job_bind_manifest(job);
	return 0;
}
