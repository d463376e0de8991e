/* jobvm verify: whether a directory of results is as its report says, and who says so. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-tools/check.h"
#include "host-tools/exitcodes.h"
#include "host-tools/jsontext.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "host-tools/report.h"
#include "host-tools/sign.h"
#include "host-tools/sink.h"
#include "imagebuilder/files.h"

/* A million outputs with their names. */
#define REPORT_BYTES_MAX (512U << 20)
/* Text that was made for it grows to much more when it is parsed. */
#define MEMORY_BYTES_MAX (4ULL << 30)

struct verification {
	const char *key_path;
	const char *report_path;
	bool listed_only, as_json;
	struct public_key *key;
	struct check check;
	char *text; /* of the report */
	size_t text_size;
	json_t *report; /* NULL: not parsed, because its signature is not right */
};

/* Reads DIR/PATH, which may be anything. NULL with ERROR set. */
static char *read_beneath(const struct check *check, const char *path, size_t max_bytes,
			  size_t *size, struct error *error)
{
	const struct sink sink = {.directory_fd = check->directory_fd,
				  .directory = check->directory};
	struct stat status;
	int fd = sink_open(&sink, path);
	char *bytes = NULL;

	if (fd < 0) {
		error_errno(error, "open %s/%s", check->directory, path);
		return NULL;
	}
	if (fstat(fd, &status) || !S_ISREG(status.st_mode)) {
		error_set(error, "%s/%s: not a regular file", check->directory, path);
	} else {
		bytes = files_read(fd, path, max_bytes, size, error);
		if (!bytes)
			error_prefix(error, "%s", check->directory);
	}
	close(fd);
	return bytes;
}

/* Whether the report may be believed: 0, 1 with the difference noted, or -1 with ERROR set. */
static int check_signature(struct verification *v, struct error *error)
{
	char path[PATH_MAX];
	struct error missing;
	size_t size;

	if (!v->key)
		return 0;
	snprintf(path, sizeof(path), "%s" REPORT_SIGNATURE_SUFFIX, v->report_path);
	char *signature = read_beneath(&v->check, path, SIGNATURE_BYTES, &size, &missing);
	if (!signature) {
		check_differs(&v->check, v->report_path, "has no signature: %s", missing.text);
		return 1;
	}
	int result = signature_check(v->key, v->text, v->text_size, signature, size, error);
	free(signature);
	if (result > 0)
		check_differs(&v->check, v->report_path, "is not what the key's owner signed");
	return result;
}

static void limit_memory(void)
{
#ifndef __SANITIZE_ADDRESS__
	struct rlimit limit;

	/* Where the user's own limit is lower, that one holds. */
	if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur <= MEMORY_BYTES_MAX)
		return;
	limit.rlim_cur = MEMORY_BYTES_MAX;
	(void)!setrlimit(RLIMIT_AS, &limit);
#endif
}

static int parse(struct verification *v, struct error *error)
{
	json_error_t wrong;

	limit_memory();
	v->report = json_loadb(v->text, v->text_size, JSON_REJECT_DUPLICATES, &wrong);
	if (!v->report)
		return error_set(error, "%s/%s:%d: %s", v->check.directory, v->report_path,
				 wrong.line, wrong.text);
	return 0;
}

static int verify(struct verification *v, struct error *error)
{
	v->text = read_beneath(&v->check, v->report_path, REPORT_BYTES_MAX, &v->text_size, error);
	if (!v->text)
		return -1;
	/* Nothing is made of a report that somebody else has written. */
	int is_signed = check_signature(v, error);
	if (is_signed)
		return is_signed < 0 ? -1 : 0;
	if (parse(v, error))
		return -1;
	progress_phase("verifying");
	int failed = check_listed(&v->check, v->report, error) ||
		     (!v->listed_only && check_unlisted(&v->check, error));
	progress_clear();
	return failed ? -1 : 0;
}

/* --- showing --- */

static bool is_partial(const struct verification *v)
{
	return json_is_true(json_object_get(json_object_get(v->report, "outputs"), "partial"));
}

static void show_authenticity(const struct verification *v)
{
	print_escaped(stdout, v->report_path);
	if (v->key && v->report)
		printf(": signed by the owner of the key\n");
	else if (v->key)
		printf(": not authentic; nothing else was checked\n");
	else
		printf(": nothing authenticates it: without --key, whoever could change the "
		       "results could change it too\n");
}

static const char *plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

static void show(const struct verification *v)
{
	const struct check *check = &v->check;

	for (size_t i = 0; i < check->difference_count; i++) {
		print_escaped(stdout, check->differences[i].path);
		fputs(": ", stdout);
		print_escaped(stdout, check->differences[i].problem);
		putchar('\n');
	}
	show_authenticity(v);
	if (is_partial(v))
		printf("partial: collecting stopped early or the job was cut off, so outputs may be missing\n");
	if (check->difference_count > 0)
		printf("not whole: %zu difference%s\n", check->difference_count,
		       check->difference_count == 1 ? "" : "s");
	else
		printf("whole: %" PRIu64 " file%s of %" PRIu64 " bytes, %" PRIu64
		       " of them without a digest; directories: %" PRIu64 "; symlinks: %" PRIu64
		       "\n",
		       check->files, plural(check->files), check->file_bytes, check->without_digest,
		       check->directories, check->symlinks);
}

static json_t *json_differences(const struct check *check)
{
	json_t *array = json_array();

	for (size_t i = 0; i < check->difference_count; i++) {
		json_t *object = json_object();
		jsontext_set(object, "path", check->differences[i].path);
		jsontext_set(object, "problem", check->differences[i].problem);
		json_array_append_new(array, object);
	}
	return array;
}

static void show_json(const struct verification *v)
{
	const struct check *check = &v->check;
	const struct {
		const char *name;
		uint64_t count;
	} counts[] = {
		{"files", check->files},
		{"file_bytes", check->file_bytes},
		{"without_digest", check->without_digest},
		{"directories", check->directories},
		{"symlinks", check->symlinks},
		{"unread", check->unread},
	};
	json_t *object = json_object();

	json_object_set_new(object, "whole", json_boolean(check->difference_count == 0));
	json_object_set_new(object, "authentic", json_boolean(v->key && v->report));
	json_object_set_new(object, "partial", json_boolean(is_partial(v)));
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		json_object_set_new(object, counts[i].name,
				    json_integer((json_int_t)counts[i].count));
	json_object_set_new(object, "differences", json_differences(check));
	json_dumpf(object, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(object);
}

static int show_and_judge(const struct verification *v)
{
	if (v->as_json)
		show_json(v);
	else
		show(v);
	int failed = finish_stdout();
	if (failed)
		return failed;
	if (v->check.difference_count > v->check.unread)
		return EXIT_DIFFERS;
	return v->check.unread ? EXIT_JOBVM_FAILED : EXIT_SUCCESS;
}

static int prepare(struct verification *v, struct error *error)
{
	if (v->key_path) {
		v->key = public_key_read(v->key_path, error);
		if (!v->key)
			return -1;
	}
	v->check.report = v->report_path;
	v->check.directory_fd = open(v->check.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return v->check.directory_fd < 0 ? error_errno(error, "open %s", v->check.directory) : 0;
}

static int run_verify(int argc, char **argv)
{
	struct verification v = {.report_path = REPORT_FILE, .check = {.directory_fd = -1}};
	struct arguments arguments;
	struct error error;
	const struct option options[] = {
		{0, "key", OPTION_VALUE, &v.key_path},
		{0, "report", OPTION_VALUE, &v.report_path},
		{0, "listed-only", OPTION_FLAG, &v.listed_only},
		{0, "json", OPTION_FLAG, &v.as_json},
		{.name = NULL},
	};
	int exit_code = EXIT_JOBVM_FAILED;

	options_parse(&command_verify, argc, argv, options, false, &arguments);
	if (arguments.command || arguments.positional.count != 1)
		message_usage("verify", "exactly one directory of results is needed");
	v.check.directory = arguments.positional.items[0];
	if (prepare(&v, &error) || verify(&v, &error))
		message_error("%s", error.text);
	else
		exit_code = show_and_judge(&v);
	if (v.check.directory_fd >= 0)
		close(v.check.directory_fd);
	check_free(&v.check);
	json_decref(v.report);
	free(v.text);
	public_key_free(v.key);
	arguments_free(&arguments);
	return exit_code;
}

const struct command command_verify = {
	.name = "verify",
	.summary = "check a directory of results against its job.json",
	.usage =
		"Usage: jobvm verify [OPTION]... DIR\n"
		"Check that the results in DIR are what DIR/job.json lists: types, sizes, SHA-256\n"
		"digests and the targets of links; and that there is nothing else.\n\n"
		"  --key PUB.pem        job.json must be signed by this Ed25519 key's owner\n"
		"  --report FILE        the report's name in DIR, if it is not job.json\n"
		"  --listed-only        let DIR hold what the report does not list\n"
		"  --json               the outcome as JSON\n"
		"  --quiet              no progress\n\n"
		"Exit code: 0 when all is whole, 1 when something differs or is not signed as it\n"
		"should be, 125 when it cannot be checked, 2 for a wrong command line.\n",
	.run = run_verify,
};
