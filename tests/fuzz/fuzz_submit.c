/*
 * A submit description, up to the manifest of each job that it asks for.
 *
 * submit.c is compiled in here with a file system of its own: an input that names /dev/tty must
 * not wait for it. What it would read is the input itself, or a file of rows.
 */
#include <glob.h>

#include "host-tools/submit.h"
#include "tests/fuzz/fuzz.h"

/* A job costs the same each time. */
#undef SUBMIT_MAX_JOBS
#define SUBMIT_MAX_JOBS 40

#define INPUT_NAME	"job.sub"
#define INPUT_BYTES_MAX 8192

static int input_fd;

static FILE *open_file(const char *path, const char *mode)
{
	static char rows[] = "one, 1\n# none\ntwo, \\\n2\n";
	int fd = strcmp(path, INPUT_NAME) == 0 ? dup(input_fd) : fuzz_file(rows, strlen(rows));

	FUZZ_CHECK(fd >= 0 && lseek(fd, 0, SEEK_SET) == 0);
	return fdopen(fd, mode);
}

static int match_files(const char *pattern, int flags, int (*fail)(const char *path, int reason),
		       glob_t *found)
{
	static char file[] = "a.txt", directory[] = "b/";
	static char *paths[] = {file, directory, NULL};

	(void)flags, (void)fail;
	if (*pattern != '*')
		return *pattern == '?' ? GLOB_ABORTED : GLOB_NOMATCH;
	*found = (glob_t){.gl_pathc = 2, .gl_pathv = paths};
	return 0;
}

static void free_files(glob_t *found)
{
	FUZZ_CHECK(found->gl_pathc == 2);
	*found = (glob_t){.gl_pathc = 0};
}

#define fopen	 open_file
#define glob	 match_files
#define globfree free_files
#include "host-tools/submit.c"

/* What the host gives to the guest must be what the guest can read. */
static void check_manifest(struct job *job)
{
	static struct record_buffer buffer;
	struct error error = {""};
	struct manifest manifest;

	job->manifest.job_id = "6a6f6204-0506-4708-890a-0b0c0d0e0f10";
	long length = record_format(&manifest_schema, &job->manifest, buffer.text, &error);
	FUZZ_CHECK_ERROR(length, &error);
	if (length < 0)
		return;
	int result = record_parse(&manifest_schema, "manifest", &buffer, (size_t)length, &manifest,
				  &error);
	if (result)
		fprintf(stderr, "%s\n", error.text);
	FUZZ_CHECK(result == 0);
	FUZZ_CHECK(manifest.arguments.count == job->manifest.arguments.count);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	/* The same for everybody: getenv and $ENV() read it. */
	clearenv();
	setenv("HOME", "/home/user", 1);
	setenv("LANG", "C.UTF-8", 1);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct error error = {""};
	struct submission submission;

	if (size > INPUT_BYTES_MAX)
		return 0;
	input_fd = fuzz_file(bytes, size);
	int result = submission_read(INPUT_NAME, NULL, NULL, &submission, &error);
	FUZZ_CHECK_ERROR(result, &error);
	for (size_t i = 0; result == 0 && i < submission.job_count; i++)
		check_manifest(&submission.jobs[i]);
	if (result == 0)
		submission_free(&submission);
	close(input_fd);
	return 0;
}
