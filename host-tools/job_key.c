#include "host-tools/job_key.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imagebuilder/digest.h"
#include "jobdisk/record.h"

#define KEY_DIGITS 16

/* Jobs of one description that Slurm runs at once differ in these. */
static const char *const task_variables[] = {"SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_STEP_ID",
					     "SLURM_PROCID"};

/* With its length, so that no two lists of texts look alike. */
static void add_text(struct digest *digest, const char *text)
{
	uint64_t length = text ? strlen(text) : UINT64_MAX;

	digest_add(digest, &length, sizeof(length));
	if (text)
		digest_add(digest, text, length);
}

static int add_manifest(struct digest *digest, const struct job *job, struct error *error)
{
	static char text[RECORD_MAX_BYTES + 1];
	struct manifest same = job->manifest;

	same.job_id = "";
	if (record_format(&manifest_schema, &same, text, error) < 0)
		return -1;
	add_text(digest, text);
	return 0;
}

static void add_places(struct digest *digest, const struct job *job, const char *output)
{
	const char *const texts[] = {
		job->directory,	  job->executable,  job->stdin_path, job->stdout_path,
		job->stderr_path, job->report_path, job->fetch.from, output};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		add_text(digest, texts[i]);
	for (size_t i = 0; i < job->inputs.count; i++)
		add_text(digest, job->inputs.items[i]);
}

static int digest_job(const struct job *job, const char *output, size_t index,
		      char hex[DIGEST_HEX_BYTES], struct error *error)
{
	struct digest *digest = digest_new(error);

	if (!digest)
		return -1;
	if (add_manifest(digest, job, error)) {
		digest_free(digest);
		return -1;
	}
	add_places(digest, job, output);
	digest_add(digest, &index, sizeof(index));
	for (size_t i = 0; i < sizeof(task_variables) / sizeof(task_variables[0]); i++)
		add_text(digest, getenv(task_variables[i]));
	return digest_finish_hex(digest, hex, error);
}

int job_key_path(const struct job *job, const char *output, size_t index, char path[PATH_MAX],
		 struct error *error)
{
	char hex[DIGEST_HEX_BYTES], beside[PATH_MAX];

	if (digest_job(job, output, index, hex, error))
		return -1;
	snprintf(beside, sizeof(beside), "%s", output ? output : "");
	int length = snprintf(path, PATH_MAX, "%s/jobvm-%.*s",
			      output ? dirname(beside) : job->directory, KEY_DIGITS, hex);
	return length < PATH_MAX ? 0
				 : error_set(error, "the name of the job's directory is too long");
}
