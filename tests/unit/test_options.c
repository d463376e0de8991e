/* The command line: options of a command, keys of the job as options, and usage errors. */
#include "host-tools/options.h"

#include <sys/wait.h>

#include "tests/unit/scratch.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ARGV(...)                                                                                  \
	(const char *[])                                                                           \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}

static const struct command command = {.name = "test", .usage = "usage: jobvm test\n"};
static bool json;
static const char *out;
static struct strings inputs;
static const struct option options[] = {
	{0, "json", OPTION_FLAG, &json},
	{'o', "output-directory", OPTION_VALUE, &out},
	{'i', "input-path", OPTION_LIST, &inputs},
	{.name = NULL},
};
static struct arguments arguments;

/* From a copy, for options_parse cuts the words at '='. */
static void parse(const char **argv, bool takes_job)
{
	static struct strings words;

	json = false;
	out = NULL;
	strings_clear(&words);
	strings_add(&words, "test");
	for (; *argv; argv++)
		strings_add(&words, *argv);
	options_parse(&command, (int)words.count - 1, words.items + 1, options, takes_job,
		      &arguments);
}

/* Parses and applies in a child, whose exit code and stderr must be these. */
static void assert_ends(const char **argv, bool takes_job, int code, const char *said)
{
	struct job job;
	int status;

	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (!freopen("said", "w", stderr) || !freopen("said", "w", stdout))
			_exit(99);
		parse(argv, takes_job);
		job_init(&job);
		options_apply(&command, &arguments, &job);
		fflush(NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	char *text = scratch_read("said", NULL);
	if (!strstr(text, said))
		fail_msg("'%s' does not say '%s'", text, said);
	free(text);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), code);
}

static void options_and_arguments_may_be_mixed(void **state)
{
	(void)state;
	parse(ARGV("a", "-o", "dir", "--json", "b", "-i", "1", "-i2", "--input-path=3", "-", "-o",
		   "last"),
	      false);
	assert_true(json);
	assert_string_equal(out, "last");
	assert_int_equal(arguments.positional.count, 3);
	assert_string_equal(arguments.positional.items[0], "a");
	assert_string_equal(arguments.positional.items[1], "b");
	assert_string_equal(arguments.positional.items[2], "-");
	assert_int_equal(inputs.count, 3);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(atoi(inputs.items[i]), i + 1);
	assert_null(arguments.command);
	arguments_free(&arguments);
	strings_clear(&inputs);
}

static void command_stands_behind_two_dashes(void **state)
{
	(void)state;
	parse(ARGV("--json", "--", "ls", "--json", "-x", "--"), false);
	assert_string_equal(arguments.command[0], "ls");
	assert_string_equal(arguments.command[1], "--json");
	assert_string_equal(arguments.command[3], "--");
	assert_null(arguments.command[4]);
	arguments_free(&arguments);
	parse(ARGV("--"), false);
	assert_non_null(arguments.command);
	assert_null(arguments.command[0]);
	arguments_free(&arguments);
}

static void keys_of_the_job_are_options(void **state)
{
	static const char *const settings[] = {
		"request_memory=512M",	 "jobvm_user=root",
		"jobvm_privileged=true", "jobvm_privileged=false",
		"stdin=in=put.txt",	 "request_cpus=2",
		"jobvm_max_stdout=5",	 "preserve_relative_paths=true"};
	struct job job;

	(void)state;
	parse(ARGV("--request-memory", "512M", "--user=root", "--privileged", "--privileged=false",
		   "--stdin", "in=put.txt", "--request_cpus", "2", "--jobvm-max-stdout=5",
		   "--preserve-relative-paths"),
	      true);
	assert_int_equal(arguments.settings.count, COUNT(settings));
	for (size_t i = 0; i < COUNT(settings); i++)
		assert_string_equal(arguments.settings.items[i], settings[i]);

	job_init(&job);
	options_apply(&command, &arguments, &job);
	assert_int_equal(job.manifest.memory_limit_bytes, 512 << 20);
	assert_int_equal(job.manifest.user, USER_ROOT);
	assert_false(job.manifest.privileged);
	assert_string_equal(job.stdin_path, "in=put.txt");
	assert_string_equal(arguments.settings.items[0], settings[0]);
	job_free(&job);
	arguments_free(&arguments);
}

static void usage_errors_end_with_2(void **state)
{
	(void)state;
	assert_ends(ARGV("--jsn"), true, 2, "unknown option '--jsn'");
	assert_ends(ARGV("-x"), true, 2, "unknown option '-x'");
	assert_ends(ARGV("-o"), true, 2, "option '-o' needs a value");
	assert_ends(ARGV("--output-directory"), true, 2,
		    "option '--output-directory' needs a value");
	assert_ends(ARGV("--request-memory"), true, 2, "option '--request-memory' needs a value");
	assert_ends(ARGV("--json=yes"), true, 2, "option '--json' takes no value");
	assert_ends(ARGV("--request-memory", "1G"), false, 2, "unknown option '--request-memory'");
	/* HTCondor's keys without meaning are no options. */
	assert_ends(ARGV("--notification", "never"), true, 2, "unknown option '--notification'");
	assert_ends(ARGV("--universe=vanilla"), true, 2, "unknown option '--universe'");
	assert_ends(ARGV("--"), true, 0, "");
}

/* As the user wrote it, not as the key is called. */
static void wrong_value_names_its_option(void **state)
{
	(void)state;
	assert_ends(ARGV("--request-memory", "lots"), true, 2,
		    "option '--request-memory': 'lots' is not a size");
	assert_ends(ARGV("--user", "admin"), true, 2,
		    "option '--user': 'admin' is none of job, root");
	assert_ends(ARGV("--stdin", "http://example.org/"), true, 2,
		    "option '--stdin': 'http://example.org/' is a URL");
	assert_ends(ARGV("--docker-image=x"), true, 2, "option '--docker-image': not supported");
}

static void help_is_not_an_error(void **state)
{
	(void)state;
	assert_ends(ARGV("a", "--help", "--nonsense"), true, 0, "usage: jobvm test\n");
	assert_ends(ARGV("-h"), false, 0, "usage: jobvm test\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(options_and_arguments_may_be_mixed),
		IN_SCRATCH(command_stands_behind_two_dashes),
		IN_SCRATCH(keys_of_the_job_are_options),
		IN_SCRATCH(usage_errors_end_with_2),
		IN_SCRATCH(wrong_value_names_its_option),
		IN_SCRATCH(help_is_not_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
