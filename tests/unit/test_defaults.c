/* What a job takes from its image, and what it does not. */
#include "host-tools/defaults.h"
#include "tests/unit/scratch.h"

static char *environment[] = {(char[]){"A=image"}, (char[]){"B=first"}, (char[]){"B=last"}, NULL};
static char *entrypoint[] = {(char[]){"/entry"}, (char[]){"-x"}, NULL};
static char *command[] = {(char[]){"argument"}, NULL};
static char *none[] = {NULL};

static void the_jobs_own_environment_wins(void **state)
{
	const struct image_defaults defaults = {.environment = environment};
	struct error error;
	struct job job;

	(void)state;
	job_init(&job);
	strings_add(&job.arguments, "true");
	strings_add(&job.environment, "A=job");
	assert_int_equal(job_finish(&job, &error), 0);
	assert_int_equal(defaults_environment(&defaults, &job, &error), 0);
	assert_int_equal(job.manifest.environment.count, 2);
	assert_string_equal(job.manifest.environment.items[0], "A=job");
	assert_string_equal(job.manifest.environment.items[1], "B=last");
	assert_null(job.manifest.environment.items[2]);
	job_free(&job);
}

static void entrypoint_and_cmd_are_one_command(void **state)
{
	const struct {
		char **entrypoint, **command;
		size_t count;
		const char *first;
	} cases[] = {
		{entrypoint, command, 3, "/entry"},
		{entrypoint, NULL, 2, "/entry"},
		{none, command, 1, "argument"},
		{NULL, NULL, 0, NULL},
		{none, none, 0, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct image_defaults defaults = {.entrypoint = cases[i].entrypoint,
							.command = cases[i].command};
		struct job job;

		job_init(&job);
		assert_int_equal(defaults_command(&defaults, &job), cases[i].count == 0);
		assert_int_equal(job.arguments.count, cases[i].count);
		if (cases[i].first)
			assert_string_equal(job.arguments.items[0], cases[i].first);
		job_free(&job);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_jobs_own_environment_wins),
		cmocka_unit_test(entrypoint_and_cmd_are_one_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
