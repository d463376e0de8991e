/* Submit descriptions: the jobs that they make, and where each error is said to be. */
#include "host-tools/submit.h"

#include <signal.h>

#include "tests/unit/scratch.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define KIB	     1024ULL
#define MIB	     (1024 * KIB)
#define GIB	     (1024 * MIB)

static struct submission s;
static struct error error;

/* --- helpers --- */

static void read_jobs(const char *text)
{
	scratch_write_text("d.sub", text);
	if (submission_read("d.sub", NULL, NULL, &s, &error))
		fail_msg("%s", error.text);
}

/* One job, whose only setting that is not the executable is SETTING. */
static struct job *read_setting(const char *setting)
{
	char text[512];

	snprintf(text, sizeof(text), "executable = x\n%s\nqueue\n", setting);
	read_jobs(text);
	assert_int_equal(s.job_count, 1);
	return &s.jobs[0];
}

static void assert_refused(const char *text, const char *reason)
{
	scratch_write_text("d.sub", text);
	if (submission_read("d.sub", NULL, NULL, &s, &error) != -1)
		fail_msg("accepted: %s", text);
	assert_string_equal(error.text, reason);
	assert_null(s.jobs);
	assert_null(s.warnings.items);
}

/* SETTING stands in line 2. */
static void assert_setting_refused(const char *setting, const char *reason)
{
	char text[512];

	snprintf(text, sizeof(text), "executable = x\n%s\nqueue\n", setting);
	assert_refused(text, reason);
}

static void assert_record_list(const struct record_list *list, const char *const *expected,
			       size_t count)
{
	assert_int_equal(list->count, count);
	for (size_t i = 0; i < count; i++)
		assert_string_equal(list->items[i], expected[i]);
	assert_null(list->items[count]);
}

/* Each job's arguments behind the command, joined by blanks, one job behind the other by '|'. */
static void assert_jobs(const char *text, const char *expected)
{
	char found[1024] = "";
	size_t length = 0;

	read_jobs(text);
	for (size_t i = 0; i < s.job_count; i++) {
		const struct record_list *arguments = &s.jobs[i].manifest.arguments;
		assert_int_equal(s.jobs[i].process, i);
		for (size_t j = 1; j < arguments->count; j++)
			length += (size_t)snprintf(found + length, sizeof(found) - length, "%s%s",
						   j > 1 ? " " : "", arguments->items[j]);
		length += (size_t)snprintf(found + length, sizeof(found) - length, "|");
	}
	assert_string_equal(found, expected);
	submission_free(&s);
}

/* --- whole descriptions --- */

static void realistic_description_is_read(void **state)
{
	static const char *const arguments[] = {"./fit", "--model", "data model",
						"-n",	 "100",	    "it's"};
	static const char *const environment[] = {"OMP_NUM_THREADS=4", "TITLE=Fit 100"};
	static const char *const outputs[] = {"fit/result.h5", "plots/", "log.txt"};
	static const char *const remaps[] = {"fit/result.h5=results/fit-0.h5", "log.txt=a;b=c.txt"};

	(void)state;
	read_jobs("# Fits one model.\n"
		  "\n"
		  "universe                 = vanilla\n"
		  "model                    = 100\n"
		  "Executable               = bin/fit\n"
		  "arguments                = \"--model 'data model' -n $(model) 'it''s'\"\n"
		  "environment              = \"OMP_NUM_THREADS=4 TITLE='Fit $(model)'\"\n"
		  "initialdir               = run\n"
		  "input                    = in.txt\n"
		  "output                   = out.$(Process).txt\n"
		  "error                    = err.$(Cluster).$(Process).txt\n"
		  "log                      = fit.log\n"
		  "should_transfer_files    = YES\n"
		  "when_to_transfer_output  = on_success\n"
		  "transfer_input_files     = data/, ../common/model.csv , params.json\n"
		  "transfer_output_files    = fit/result.h5, ./plots/, /job/log.txt\n"
		  "transfer_output_remaps   = \"fit/result.h5 = results/fit-$(Process).h5; \\\n"
		  "                           log.txt = a\\;b\\=c.txt\"\n"
		  "preserve_relative_paths  = true\n"
		  "request_cpus             = 4\n"
		  "request_memory           = 2 GB\n"
		  "request_disk             = 4G\n"
		  "allowed_execute_duration = 3600\n"
		  "allowed_job_duration     = 2h\n"
		  "kill_sig                 = SIGINT\n"
		  "job_max_vacate_time      = 30\n"
		  "success_exit_code        = 3\n"
		  "checkpoint_exit_code     = 85\n"
		  "max_retries              = 2\n"
		  "coresize                 = 1048576\n"
		  "stack_size               = 16777216\n"
		  "max_transfer_input_mb    = 100\n"
		  "max_transfer_output_mb   = 200\n"
		  "jobvm_image              = images/science\n"
		  "jobvm_user               = root\n"
		  "jobvm_privileged         = yes\n"
		  "jobvm_max_processes      = 64\n"
		  "jobvm_max_stdout         = 1M\n"
		  "jobvm_max_stderr         = 0\n"
		  "jobvm_output_overflow    = kill\n"
		  "jobvm_accel              = tcg\n"
		  "jobvm_require_isolation  = hardware\n"
		  "jobvm_report             = report.json\n"
		  "queue\n");

	assert_int_equal(s.job_count, 1);
	const struct job *job = &s.jobs[0];
	const struct manifest *manifest = &job->manifest;
	assert_string_equal(job->executable, "bin/fit");
	assert_string_equal(job->directory, "run");
	assert_string_equal(job->stdin_path, "in.txt");
	assert_string_equal(job->stdout_path, "out.0.txt");
	assert_string_equal(job->stderr_path, "err.1.0.txt");
	assert_string_equal(job->log_path, "fit.log");
	assert_string_equal(job->image_path, "images/science");
	assert_string_equal(job->report_path, "report.json");
	assert_int_equal(job->inputs.count, 3);
	assert_string_equal(job->inputs.items[0], "data/");
	assert_string_equal(job->inputs.items[1], "../common/model.csv");
	assert_string_equal(job->inputs.items[2], "params.json");
	assert_true(job->disk_bytes == 4 * GIB && job->input_max_bytes == 100 * MIB);
	assert_int_equal(job->max_retries, 2);
	assert_int_equal(job->accel, ACCEL_TCG);
	assert_true(job->require_hardware && job->transfer_executable);

	assert_record_list(&manifest->arguments, arguments, COUNT(arguments));
	assert_record_list(&manifest->environment, environment, COUNT(environment));
	assert_record_list(&manifest->transfer_outputs, outputs, COUNT(outputs));
	assert_record_list(&manifest->transfer_output_remaps, remaps, COUNT(remaps));
	assert_true(manifest->has_stdin && manifest->privileged);
	assert_true(manifest->preserve_relative_paths);
	assert_int_equal(manifest->user, USER_ROOT);
	assert_int_equal(manifest->outputs, OUTPUTS_DECLARED);
	assert_int_equal(manifest->when_to_transfer_output, TRANSFER_ON_SUCCESS);
	assert_int_equal(manifest->output_overflow, OVERFLOW_KILL);
	assert_int_equal(manifest->cpus, 4);
	assert_int_equal(manifest->memory_limit_bytes, 2 * GIB);
	assert_int_equal(manifest->time_limit_ms, 3600 * 1000);
	assert_int_equal(manifest->job_time_limit_ms, 2 * 3600 * 1000);
	assert_int_equal(manifest->kill_signal, SIGINT);
	assert_int_equal(manifest->kill_grace_ms, 30 * 1000);
	assert_int_equal(manifest->success_exit_code, 3);
	assert_int_equal(manifest->checkpoint_exit_code, 85);
	assert_int_equal(manifest->core_max_bytes, MIB);
	assert_int_equal(manifest->stack_max_bytes, 16 * MIB);
	assert_int_equal(manifest->output_max_bytes, 200 * MIB);
	assert_int_equal(manifest->processes_max, 64);
	assert_int_equal(manifest->stdout_max_bytes, MIB);
	assert_int_equal(manifest->stderr_max_bytes, 0);
	submission_free(&s);
}

static void least_description_has_the_defaults(void **state)
{
	static const char *const arguments[] = {"./x"};

	(void)state;
	read_jobs("executable=x\nqueue");
	assert_int_equal(s.job_count, 1);
	assert_int_equal(s.warnings.count, 0);
	const struct job *job = &s.jobs[0];
	assert_record_list(&job->manifest.arguments, arguments, 1);
	assert_record_list(&job->manifest.environment, NULL, 0);
	assert_string_equal(job->directory, ".");
	assert_true(!job->stdin_path && !job->stdout_path && !job->stderr_path && !job->log_path);
	assert_null(job->report_path);
	assert_int_equal(job->manifest.memory_limit_bytes, 512 * MIB);
	assert_true(job->manifest.time_limit_ms == RECORD_UNSET);
	assert_true(job->input_max_bytes == RECORD_UNSET);
	assert_int_equal(job->manifest.outputs, OUTPUTS_CHANGED);
	assert_false(job->manifest.has_stdin);
	submission_free(&s);
}

/* --- lines --- */

static void comments_and_blanks_do_not_matter(void **state)
{
	(void)state;
	assert_jobs("  # indented comment\n"
		    "\t\n"
		    "\texecutable\t=\tx \t\n"
		    "#arguments = no\n"
		    "ARGUMENTS=a # no comment\n"
		    "  Queue  \n",
		    "a # no comment|");
}

static void lines_go_on_behind_a_backslash(void **state)
{
	(void)state;
	assert_jobs("executable = x\n"
		    "arguments = a \\\n"
		    "   b \\  \n"
		    "   # a comment in between\n"
		    "   c\\\n"
		    "d\n"
		    "queue\n",
		    "a b cd|");
	assert_jobs("executable = x\narguments = a \\\n\nqueue\n", "a|");
	assert_jobs("executable = x\n# a comment does not go on \\\narguments = a\nqueue\n", "a|");
	assert_jobs("executable = x\narguments = $(Item)\nqueue in (a b) \\\n\n", "a|b|");
	assert_jobs("executable = x\narguments = a\nqueue \\", "a|");
}

static void windows_lines_are_read(void **state)
{
	(void)state;
	assert_jobs("executable = x\r\n"
		    "# comment\r\n"
		    "\r\n"
		    "arguments = $(Item) \\\r\n"
		    "  end\r\n"
		    "queue in (\r\n"
		    "  a\r\n"
		    "  b\r\n"
		    ")\r\n",
		    "a end|b end|");
}

static void last_of_two_values_counts(void **state)
{
	(void)state;
	assert_jobs("executable = x\narguments = a\nArguments = b\nqueue\n", "b|");
	assert_jobs("executable = x\narguments = a\nargs = b\nqueue\n", "b|");
}

static void lines_of_no_kind_are_named(void **state)
{
	(void)state;
	assert_refused("executable = x\n\n\nfoo\n",
		       "d.sub:4: 'foo' is neither NAME = VALUE nor 'queue'");
	assert_refused("two words = x\n",
		       "d.sub:1: 'two words = x' is neither NAME = VALUE nor 'queue'");
	assert_refused("= x\n", "d.sub:1: '= x' is neither NAME = VALUE nor 'queue'");
	assert_refused("+ = x\n", "d.sub:1: '+ = x' is neither NAME = VALUE nor 'queue'");
	assert_refused("a \\\nb\n", "d.sub:1: 'a b' is neither NAME = VALUE nor 'queue'");
	assert_refused("# \\\n\nif true\n", "d.sub:3: 'if' statements are not supported");
	assert_refused("include : other.sub\n", "d.sub:1: 'include' statements are not supported");
	assert_refused("arguments @=end\n",
		       "d.sub:1: values of several lines (@=) are not supported");
}

/* --- names --- */

static void unknown_name_is_an_error_with_the_nearest(void **state)
{
	(void)state;
	assert_refused("exectuable = x\nqueue\n",
		       "d.sub:1: unknown name 'exectuable' (nearest: 'executable')");
	assert_refused("executable = x\nrequest_memroy = 1G\nqueue\n",
		       "d.sub:2: unknown name 'request_memroy' (nearest: 'request_memory')");
	assert_refused("REQUEST_MEMROY = 1G\nqueue\n",
		       "d.sub:1: unknown name 'REQUEST_MEMROY' (nearest: 'request_memory')");
	assert_refused("allowed_execute_time = 5\nqueue\n",
		       "d.sub:1: unknown name 'allowed_execute_time' (nearest: "
		       "'allowed_execute_duration')");
	assert_refused("# comment\n\\\n zebra_crossing = 5\nqueue\n",
		       "d.sub:2: unknown name 'zebra_crossing', and nothing refers to it as "
		       "$(zebra_crossing)");
}

static void own_names_are_fine_where_they_are_used(void **state)
{
	(void)state;
	assert_jobs("executable = x\nmine = a\narguments = $(MINE)\nqueue\n", "a|");
	assert_jobs("executable = x\narguments = $(mine)\nmine = later\nqueue\n", "later|");
	assert_jobs("executable = x\nn = 2\narguments = a\nqueue $(n)\n", "a|a|");
	assert_refused("executable = x\nmine = a\narguments = $ENV(mine:b)\nqueue\n",
		       "d.sub:2: unknown name 'mine', and nothing refers to it as $(mine)");
}

static void names_without_meaning_are_warned_of(void **state)
{
	static const char *const expected[] = {
		"d.sub:2: 'universe' has no meaning here",
		"d.sub:3: 'Notification' has no meaning here",
		"d.sub:4: '+ProjectName' has no meaning here",
		"d.sub:5: 'My.Other' has no meaning here",
		"d.sub:6: 'requirements' has no meaning here",
		"d.sub:8: 'periodic_remove' has no meaning here",
		"d.sub:9: 'job_machine_attrs_history_length' has no meaning here",
		"d.sub:10: 'max_job_retirement_time' has no meaning here",
	};

	(void)state;
	read_jobs("executable = x\n"
		  "universe = Vanilla\n"
		  "Notification = never\n"
		  "+ProjectName = \"a $(b) c\"\n"
		  "My.Other = 5\n"
		  "requirements = (OpSys == \"LINUX\") && \\\n"
		  "   $(nobody_knows) Arch == \"X86_64\"\n"
		  "periodic_remove = JobStatus == 5\n"
		  "job_machine_attrs_history_length = 5\n"
		  "max_job_retirement_time = 60\n"
		  "queue\n");
	assert_int_equal(s.warnings.count, COUNT(expected));
	for (size_t i = 0; i < COUNT(expected); i++)
		assert_string_equal(s.warnings.items[i], expected[i]);
	submission_free(&s);
}

static void refused_names_say_why(void **state)
{
	(void)state;
	assert_setting_refused("docker_image = debian",
			       "d.sub:2: key 'docker_image': not supported: build a guest image "
			       "and give jobvm_image");
	assert_setting_refused("container_image = debian",
			       "d.sub:2: key 'container_image': not supported: build a guest "
			       "image and give jobvm_image");
	assert_setting_refused("vm_type = kvm", "d.sub:2: key 'vm_type': not supported: the "
						"virtual machine is always jobvm's own");
	assert_setting_refused("retry_until = 3",
			       "d.sub:2: key 'retry_until': not supported: max_retries tries again "
			       "until success_exit_code");
	assert_setting_refused("universe = docker",
			       "d.sub:2: key 'universe': there is no universe here but vanilla, "
			       "not 'docker' (for a container's files, build an image and give "
			       "jobvm_image)");
	assert_setting_refused("should_transfer_files = NO",
			       "d.sub:2: key 'should_transfer_files': NO is impossible: the job "
			       "shares no file system with the host");
	assert_setting_refused("request_gpus = 1",
			       "d.sub:2: key 'request_gpus': the virtual machine has no GPUs");
	assert_int_equal(read_setting("request_gpus = 0")->process, 0);
	submission_free(&s);
}

/* --- values --- */

static void durations_have_units(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} cases[] = {{"7", 7000},      {"7s", 7000},	  {"7ms", 7},	      {"7m", 420000},
		     {"7h", 25200000}, {"7d", 604800000}, {"1.5 h", 5400000}, {"7 M", 420000}};
	char setting[80];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		snprintf(setting, sizeof(setting), "allowed_execute_duration = %s", cases[i].text);
		assert_int_equal(read_setting(setting)->manifest.time_limit_ms, cases[i].ms);
		submission_free(&s);
	}
}

static void sizes_have_units(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} cases[] = {{"4096", 4 * GIB},	  {"8388608B", 8 * MIB}, {"8192K", 8 * MIB},
		     {"8192KB", 8 * MIB}, {"8192KiB", 8 * MIB},	 {"8M", 8 * MIB},
		     {"8 MB", 8 * MIB},	  {"8MiB", 8 * MIB},	 {"1.5G", 1536 * MIB},
		     {"1GB", GIB},	  {"1gib", GIB},	 {"1T", 1024 * GIB},
		     {"1TB", 1024 * GIB}, {"1TiB", 1024 * GIB}};
	char setting[80];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		snprintf(setting, sizeof(setting), "request_memory = %s", cases[i].text);
		assert_int_equal(read_setting(setting)->manifest.memory_limit_bytes,
				 cases[i].bytes);
		submission_free(&s);
	}
}

/* HTCondor: memory in MiB, disk in KiB, transfers in MB, coresize and stack_size in bytes. */
static void each_size_has_its_own_unit(void **state)
{
	(void)state;
	assert_int_equal(read_setting("request_memory = 64")->manifest.memory_limit_bytes,
			 64 * MIB);
	submission_free(&s);
	assert_int_equal(read_setting("request_disk = 64")->disk_bytes, 64 * KIB);
	submission_free(&s);
	assert_int_equal(read_setting("max_transfer_input_mb = 64")->input_max_bytes, 64 * MIB);
	submission_free(&s);
	assert_int_equal(read_setting("max_transfer_output_mb = 64")->manifest.output_max_bytes,
			 64 * MIB);
	submission_free(&s);
	assert_int_equal(read_setting("coresize = 64")->manifest.core_max_bytes, 64);
	submission_free(&s);
	assert_int_equal(read_setting("core_size = 64")->manifest.core_max_bytes, 64);
	submission_free(&s);
	assert_int_equal(read_setting("stack_size = 64")->manifest.stack_max_bytes, 64);
	submission_free(&s);
	assert_int_equal(read_setting("jobvm_max_stdout = 64")->manifest.stdout_max_bytes, 64);
	submission_free(&s);
	assert_int_equal(read_setting("jobvm_max_stderr = 64")->manifest.stderr_max_bytes, 64);
	submission_free(&s);
}

/* HTCondor: "The special value -1 indicates no limit." */
static void transfers_can_be_without_limit(void **state)
{
	static const char *const keys[] = {"max_transfer_input_mb", "max_transfer_output_mb"};

	(void)state;
	struct job *job = read_setting("max_transfer_input_mb = 5\nmax_transfer_output_mb = 5");
	for (size_t i = 0; i < COUNT(keys); i++)
		assert_int_equal(job_set(job, keys[i], "-1", &error), 0);
	assert_true(job->input_max_bytes == RECORD_UNSET);
	assert_true(job->manifest.output_max_bytes == RECORD_UNSET);
	submission_free(&s);
	assert_setting_refused("max_transfer_input_mb = -2",
			       "d.sub:2: key 'max_transfer_input_mb': '-2' is not a size: give a "
			       "number, optionally with K, M, G or T");
	assert_setting_refused("request_memory = -1",
			       "d.sub:2: key 'request_memory': '-1' is not a size: give a number, "
			       "optionally with K, M, G or T");
}

static void wrong_values_are_named(void **state)
{
	(void)state;
	assert_setting_refused("request_cpus = 65", "d.sub:2: key 'request_cpus': '65' is not a "
						    "whole number from 1 to 64");
	assert_setting_refused("Request_Memory = 3M",
			       "d.sub:2: key 'Request_Memory': '3M' makes memory_limit_bytes "
			       "3145728: must be a whole number from 4194304 to 17592186044416");
	assert_setting_refused("request_disk = 17T",
			       "d.sub:2: key 'request_disk': '17T' makes request_disk "
			       "18691697672192: must be a whole number from 0 to 17592186044416");
	assert_setting_refused("allowed_execute_duration = 0",
			       "d.sub:2: key 'allowed_execute_duration': '0' makes time_limit_ms "
			       "0: must be a whole number from 1 to 315360000000");
	assert_setting_refused("kill_sig = SIGFOO",
			       "d.sub:2: key 'kill_sig': 'SIGFOO' is not a signal: give a name "
			       "like TERM or a number up to 64");
	assert_setting_refused("jobvm_user = admin",
			       "d.sub:2: key 'jobvm_user': 'admin' is none of job, root");
	assert_setting_refused("when_to_transfer_output = NEVER",
			       "d.sub:2: key 'when_to_transfer_output': 'NEVER' is none of "
			       "ON_EXIT, ON_EXIT_OR_EVICT, ON_SUCCESS");
	assert_setting_refused("jobvm_require_isolation = none",
			       "d.sub:2: key 'jobvm_require_isolation': 'none' is none of "
			       "hardware, emulated");
	assert_setting_refused("preserve_relative_paths = 2",
			       "d.sub:2: key 'preserve_relative_paths': '2' is neither true nor "
			       "false");
	assert_setting_refused("arguments = \"a 'b\"",
			       "d.sub:2: key 'arguments': a single quote is not closed");
	assert_setting_refused("environment = A",
			       "d.sub:2: key 'environment': 'A' is not of the form NAME=VALUE");
	assert_setting_refused("transfer_input_files = a, https://example.org/b",
			       "d.sub:2: key 'transfer_input_files': 'https://example.org/b' is a "
			       "URL, and there is no network: give a path");
	assert_setting_refused("jobvm_image =", "d.sub:2: key 'jobvm_image': it is empty");
	assert_setting_refused("initialdir =", "d.sub:2: key 'initialdir': it is empty");
}

static void quoting_is_htcondors(void **state)
{
	static const char *const quotes[] = {"./x", "one", "\"two\"", "spacey 'quoted' argument"};
	static const char *const backslashes[] = {"./x", "one", "\"two\"", "'three'"};
	static const char *const variables[] = {"one=1", "two=\"2\"",
						"three=spacey 'quoted' value"};
	static const char *const semicolons[] = {"one=1", "two=a b"};

	(void)state;
	assert_record_list(&read_setting("arguments = \"one \"\"two\"\" 'spacey ''quoted'' "
					 "argument'\"")
				    ->manifest.arguments,
			   quotes, COUNT(quotes));
	submission_free(&s);
	assert_record_list(&read_setting("arguments = one \\\"two\\\" 'three'")->manifest.arguments,
			   backslashes, COUNT(backslashes));
	submission_free(&s);
	assert_record_list(&read_setting("environment = \"one=1 two=\"\"2\"\" three='spacey "
					 "''quoted'' value'\"")
				    ->manifest.environment,
			   variables, COUNT(variables));
	submission_free(&s);
	assert_record_list(&read_setting("env = one=1;two=a b")->manifest.environment, semicolons,
			   COUNT(semicolons));
	submission_free(&s);
}

static void output_paths_stay_in_the_workspace(void **state)
{
	static const char *const good[] = {"a", "b/c", "d/", "e/", "f.txt", "...", "..g"};

	(void)state;
	assert_record_list(&read_setting("transfer_output_files = ./a,b//./c, d/ ,/job/e/.,"
					 "/job//f.txt,...,..g,,")
				    ->manifest.transfer_outputs,
			   good, COUNT(good));
	submission_free(&s);
	assert_setting_refused("transfer_output_files = a, b/../../c",
			       "d.sub:2: key 'transfer_output_files': 'b/../../c' leaves the "
			       "workspace /job");
	assert_setting_refused("transfer_output_files = ..",
			       "d.sub:2: key 'transfer_output_files': '..' leaves the workspace "
			       "/job");
	assert_setting_refused("transfer_output_files = /jobs/a",
			       "d.sub:2: key 'transfer_output_files': '/jobs/a' leaves the "
			       "workspace /job");
	assert_setting_refused("transfer_output_files = /job/",
			       "d.sub:2: key 'transfer_output_files': '/job/' is the whole "
			       "workspace: all that changed comes back when transfer_output_files "
			       "is not given");
	assert_setting_refused("transfer_output_remaps = \"../a = b\"",
			       "d.sub:2: key 'transfer_output_remaps': '../a' leaves the "
			       "workspace /job");
	assert_setting_refused("transfer_output_remaps = \"a\"",
			       "d.sub:2: key 'transfer_output_remaps': 'a' is not of the form "
			       "FROM = TO");
	assert_setting_refused("transfer_output_remaps = \"a = \"",
			       "d.sub:2: key 'transfer_output_remaps': 'a = ' is not of the form "
			       "FROM = TO");
}

static void empty_list_of_outputs_means_none(void **state)
{
	(void)state;
	const struct job *job =
		read_setting("transfer_output_files = \"\"\ntransfer_input_files = \"\"");
	assert_int_equal(job->manifest.outputs, OUTPUTS_DECLARED);
	assert_int_equal(job->manifest.transfer_outputs.count, 0);
	assert_int_equal(job->inputs.count, 0);
	submission_free(&s);
}

static void getenv_copies_what_it_names(void **state)
{
	static const char *const expected[] = {"JOBVM_TEST_B=mine", "JOBVM_TEST_A=1"};

	(void)state;
	setenv("JOBVM_TEST_A", "1", 1);
	setenv("JOBVM_TEST_B", "2", 1);
	setenv("JOBVM_TEST_C", "3", 1);
	const struct job *job = read_setting("getenv = JOBVM_TEST_*, !*_C\n"
					     "environment = JOBVM_TEST_B=mine");
	assert_record_list(&job->manifest.environment, expected, COUNT(expected));
	submission_free(&s);
	assert_null(environment_find(&read_setting("getenv = no")->environment, "JOBVM_TEST_A"));
	submission_free(&s);
	assert_string_equal(
		environment_find(&read_setting("getenv = True")->environment, "JOBVM_TEST_C"),
		"JOBVM_TEST_C=3");
	submission_free(&s);
	unsetenv("JOBVM_TEST_A");
	unsetenv("JOBVM_TEST_B");
	unsetenv("JOBVM_TEST_C");
}

static void executable_in_the_guest_is_not_packed(void **state)
{
	static const char *const expected[] = {"/bin/sh", "-c", "true"};

	(void)state;
	read_jobs(
		"executable = /bin/sh\ntransfer_executable = false\narguments = -c true\nqueue\n");
	assert_record_list(&s.jobs[0].manifest.arguments, expected, COUNT(expected));
	assert_null(s.jobs[0].executable);
	submission_free(&s);
	assert_refused("arguments =\nqueue\n", "d.sub:2: no executable is given");
	assert_refused("executable = dir/\nqueue\n",
		       "d.sub:2: the executable 'dir/' is a directory");
	assert_refused("executable = x\njobvm_privileged = true\nqueue\n",
		       "d.sub:3: jobvm_privileged needs jobvm_user = root");
}

/* --- macros --- */

static void macros_wait_for_queue(void **state)
{
	setenv("JOBVM_TEST", "env", 1);
	(void)state;
	assert_jobs("executable = x\n"
		    "arguments = $(a) $(b:dflt) $ENV(JOBVM_TEST) $Fnx(path) $(Process) $(Step)\n"
		    "a = 1\n"
		    "path = data/in.csv\n"
		    "queue\n"
		    "a = 2\n"
		    "b = 3\n"
		    "queue 2\n",
		    "1 dflt env in.csv 0 0|2 3 env in.csv 1 0|2 3 env in.csv 2 1|");
	unsetenv("JOBVM_TEST");
}

/* HTCondor's manual, on recursive macros. */
static void name_in_its_own_value_is_the_old_value(void **state)
{
	(void)state;
	assert_jobs("executable = x\nfoo = bar\nfoo = snap $(foo)\narguments = $(foo)\nqueue\n",
		    "snap bar|");
	assert_jobs("executable = x\nargs = a\nargs = $(args) b\nqueue\nargs = $(args) c\nqueue\n",
		    "a b|a b c|");
	assert_refused("executable = x\nB = bar\nC = $(B)\nB = $(C) boo\narguments = $(B)\nqueue\n",
		       "d.sub:5: key 'arguments': its macros never end: does one refer to "
		       "itself?");
	assert_refused("executable = x\narguments = $(arguments) b\nqueue\n",
		       "d.sub:2: key 'arguments': its macros never end: does one refer to "
		       "itself?");
}

static void undefined_macro_is_named(void **state)
{
	(void)state;
	assert_refused("executable = x\n# comment\narguments = $(nowhere)\nqueue\n",
		       "d.sub:3: key 'arguments': $(nowhere) is not defined "
		       "($(nowhere:DEFAULT) gives a default, $(DOLLAR) a plain $)");
	assert_refused("executable = x\nqueue $(nowhere)\n",
		       "d.sub:2: $(nowhere) is not defined ($(nowhere:DEFAULT) gives a default, "
		       "$(DOLLAR) a plain $)");
	assert_refused("executable = x\narguments = $RANDOM_CHOICE(1,2)\nqueue\n",
		       "d.sub:2: key 'arguments': $RANDOM_CHOICE() is not supported");
}

/* --- queue --- */

static void queue_counts(void **state)
{
	(void)state;
	assert_jobs("executable = x\narguments = $(ProcId)\nqueue 3\nQUEUE\n", "0|1|2|3|");
	assert_jobs("executable = x\narguments = $(Item)\nqueue 2 in (a b)\n", "a|a|b|b|");
}

static void queue_in_a_list(void **state)
{
	static const char *const lists[] = {
		"queue name in a b,c",
		"queue name in (a b,c)",
		"queue name in ( a, b c )",
		"queue name in(a,b,c)",
		"queue 1 name in (a b c)",
		"queue name in (\n a\n b, c\n)",
		"queue name in (a b\n # comment\n c\n)",
		"queue Name IN (\n a b c\n) what stands here is HTCondor's to ignore",
		"list = a, b, c\nqueue name in $(list)",
	};
	char text[512];

	(void)state;
	for (size_t i = 0; i < COUNT(lists); i++) {
		snprintf(text, sizeof(text), "executable = x\narguments = $(name)$(Row)\n%s\n",
			 lists[i]);
		assert_jobs(text, "a0|b1|c2|");
	}
	assert_jobs("executable = x\narguments = $(Item) $(ItemIndex) $(Step)\nqueue 2 in (a b)\n",
		    "a 0 0|a 0 1|b 1 0|b 1 1|");
}

static void queue_from_rows(void **state)
{
	(void)state;
	assert_jobs("executable = x\n"
		    "arguments = $(a)-$(b)\n"
		    "queue a, b from (\n"
		    "  1 2\n"
		    "  # comment\n"
		    "  3,4\n"
		    "\n"
		    "  5 , 6 7 , 8\n"
		    "  9\n"
		    ")\n",
		    "1-2|3-4|5-6 7 , 8|9-|");
	assert_jobs("executable = x\narguments = $(Item)\nqueue from (\n a b\n c\n)\n", "a b|c|");
	assert_jobs("executable = x\narguments = $(Item)\nqueue from (\n f(1)\n c\n)\n", "f(1)|c|");
	/* A variable that is a key, as in the manual's example 1b, hides the key's own line. */
	assert_jobs("executable = x\narguments = a\nqueue arguments in (b c)\nqueue\n", "b|c|a|");
	assert_jobs("Executable = foo\nQueue Arguments From (\n 15 2000\n 30 2000\n)\n",
		    "15 2000|30 2000|");
}

static void queue_from_a_file(void **state)
{
	(void)state;
	scratch_write_text("rows.txt", "# name, size\r\nada, 1\r\n\r\nbob 2\r\n");
	assert_jobs("executable = x\narguments = $(who):$(n)\nqueue who n from rows.txt\n",
		    "ada:1|bob:2|");
	assert_jobs("executable = x\narguments = $(who)\nf = rows\nqueue 2 who from $(f).txt\n",
		    "ada, 1|ada, 1|bob 2|bob 2|");
	assert_refused("executable = x\n\nqueue from missing.txt\n",
		       "d.sub:3: open missing.txt: No such file or directory");
	assert_refused("executable = x\nqueue from\n",
		       "d.sub:2: 'from' needs a file or a list in parentheses");
	assert_refused("executable = x\nqueue from generate.sh |\n",
		       "d.sub:2: 'from' a command's output is not supported");
	scratch_write_text("empty.txt", "# nothing\n");
	assert_refused("executable = x\nqueue from empty.txt\n",
		       "d.sub:2: this 'queue' asks for no job");
}

static void queue_matching_paths(void **state)
{
	(void)state;
	scratch_write_text("in/b.dat", "");
	scratch_write_text("in/a.dat", "");
	scratch_write_text("in/c.dat/x", "");
	assert_jobs("executable = x\narguments = $(f)\nqueue f matching in/*.dat\n",
		    "in/a.dat|in/b.dat|in/c.dat/|");
	assert_jobs("executable = x\narguments = $(f)\nqueue f matching any (in/*.dat)\n",
		    "in/a.dat|in/b.dat|in/c.dat/|");
	assert_jobs("executable = x\narguments = $(f)\nqueue f matching files in/*.dat in/a*\n",
		    "in/a.dat|in/b.dat|");
	assert_jobs("executable = x\narguments = $Fd(Item)\nqueue matching dirs in/*.dat, *\n",
		    "c.dat/|in/|");
	assert_jobs("executable = x\narguments = $(f)\nqueue f matching dirs (\n i*\n in/c*\n)\n",
		    "in/|in/c.dat/|");
	assert_refused("executable = x\nqueue f matching *.nothing\n",
		       "d.sub:2: this 'queue' asks for no job");
}

static void a_report_belongs_to_the_jobs_that_name_it(void **state)
{
	(void)state;
	read_jobs("executable = x\nqueue 2\njobvm_report = mine\nqueue\n");
	assert_null(s.jobs[0].report_path);
	assert_null(s.jobs[1].report_path);
	assert_string_equal(s.jobs[2].report_path, "mine");
	submission_free(&s);
}

static void wrong_queues_are_named(void **state)
{
	static const char none[] = "d.sub:2: this 'queue' asks for no job";
	static const char form[] = "d.sub:2: 'queue' takes a number, or variables and then 'in', "
				   "'from' or 'matching'";

	(void)state;
	assert_refused("executable = x\n", "d.sub: no 'queue' statement, so no job");
	assert_refused("", "d.sub: no 'queue' statement, so no job");
	assert_refused("executable = x\nqueue 0\n", none);
	assert_refused("executable = x\nqueue in ()\n", none);
	assert_refused("executable = x\nqueue in\n", none);
	assert_refused("executable = x\nqueue 0 in (a b)\n", none);
	assert_refused("executable = x\nqueue -1\n",
		       "d.sub:2: '-1' is not a whole number from 0 to 100000");
	assert_refused("executable = x\nqueue 5x\n",
		       "d.sub:2: '5x' is not a whole number from 0 to 100000");
	assert_refused("executable = x\nqueue 2*3 in (a)\n",
		       "d.sub:2: '2*3' is not a whole number from 0 to 100000");
	assert_refused("executable = x\nqueue name\n", form);
	assert_refused("executable = x\nqueue (a b)\n", form);
	assert_refused("executable = x\nqueue 2 3\n", form);
	assert_refused("executable = x\nqueue a,b in (1 2)\n",
		       "d.sub:2: only 'from' can set more than one variable");
	assert_refused("executable = x\nqueue a in [1:] (1 2)\n",
		       "d.sub:2: slices are not supported");
	assert_refused("executable = x\nqueue in (\n a\n b\n",
		       "d.sub:2: no line starts with the ')' that ends the list");
	assert_refused("executable = x\nqueue from (a\n b\n)\n",
		       "d.sub:2: the rows of 'from (' start on the next line ('in' takes a list "
		       "on one line)");
}

static void jobs_have_a_largest_number(void **state)
{
	(void)state;
	assert_refused("executable = x\nqueue 100001\n",
		       "d.sub:2: '100001' is not a whole number from 0 to 100000");
	assert_refused("executable = x\nqueue 50001 in (a b)\n", "d.sub:2: more than 100000 jobs");
	assert_refused("executable = x\nqueue\nqueue 100000\n", "d.sub:3: more than 100000 jobs");
	read_jobs("executable = x\nqueue 20000\n");
	assert_int_equal(s.job_count, 20000);
	assert_int_equal(s.jobs[19999].process, 19999);
	submission_free(&s);
}

/* --- files --- */

static void what_is_no_text_file_is_named(void **state)
{
	static const char nul[] = "executable = x\nargu\0ments\nqueue\n";

	(void)state;
	assert_int_equal(submission_read("missing.sub", NULL, NULL, &s, &error), -1);
	assert_string_equal(error.text, "open missing.sub: No such file or directory");
	assert_int_equal(submission_read(".", NULL, NULL, &s, &error), -1);
	assert_string_equal(error.text, "read .: Is a directory");
	scratch_write("nul.sub", nul, sizeof(nul) - 1);
	assert_int_equal(submission_read("nul.sub", NULL, NULL, &s, &error), -1);
	assert_string_equal(error.text, "nul.sub:2: a NUL byte");
	assert_null(s.jobs);
}

static void description_has_a_largest_size(void **state)
{
	char *text = malloc(SUBMIT_MAX_BYTES + 1);
	static const char end[] = "\nexecutable = x\nqueue\n";

	(void)state;
	assert_non_null(text);
	memset(text, '#', SUBMIT_MAX_BYTES + 1);
	memcpy(text + SUBMIT_MAX_BYTES - strlen(end), end, strlen(end));
	scratch_write("d.sub", text, SUBMIT_MAX_BYTES);
	assert_int_equal(submission_read("d.sub", NULL, NULL, &s, &error), 0);
	submission_free(&s);
	text[SUBMIT_MAX_BYTES] = '\n';
	scratch_write("d.sub", text, SUBMIT_MAX_BYTES + 1);
	assert_int_equal(submission_read("d.sub", NULL, NULL, &s, &error), -1);
	assert_string_equal(error.text, "d.sub: larger than 16777216 bytes");
	free(text);
}

static uint64_t random_state = 1;

/* xorshift64*: the same numbers in every run. */
static uint32_t random_below(uint32_t bound)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)((random_state * 0x2545f4914f6cdd1dULL) >> 32) % bound;
}

/* Pieces of the language in any order: whatever it is, it is read or refused. */
static void any_text_is_read_or_refused(void **state)
{
	static const char *const pieces[] = {"executable",
					     "arguments",
					     "environment",
					     "transfer_output_remaps",
					     "queue",
					     "request_memory",
					     " = ",
					     "=",
					     "\n",
					     "\n",
					     "\n",
					     "\\\n",
					     "\"",
					     "'",
					     "''",
					     "\\",
					     ";",
					     "$(",
					     "$(a)",
					     "$Fn(",
					     ")",
					     "(",
					     "$ENV(PATH)",
					     "$$",
					     ":",
					     ",",
					     " ",
					     "\t",
					     "\r\n",
					     "a",
					     "in ",
					     "from ",
					     "matching ",
					     "1",
					     "2",
					     "*",
					     "/",
					     "..",
					     "#",
					     "+",
					     ".",
					     "@=",
					     "\377",
					     "%00",
					     "[",
					     "|",
					     "x"};
	char text[2048];
	size_t read = 0;

	(void)state;
	for (int run = 0; run < 5000; run++) {
		size_t length = (size_t)sprintf(text, "executable = x\na = b\narguments = $(a)");
		for (uint32_t count = random_below(40); count > 0; count--)
			length += (size_t)sprintf(text + length, "%s",
						  pieces[random_below(COUNT(pieces))]);
		sprintf(text + length, run % 2 ? "\nqueue 1\n" : "");
		scratch_write_text("d.sub", text);
		if (submission_read("d.sub", NULL, NULL, &s, &error) == 0) {
			read++;
			submission_free(&s);
		} else if (strncmp(error.text, "d.sub:", 6) != 0) {
			fail_msg("no place in: %s", error.text);
		}
	}
	assert_in_range(read, 100, 4900);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(realistic_description_is_read),
		IN_SCRATCH(least_description_has_the_defaults),
		IN_SCRATCH(comments_and_blanks_do_not_matter),
		IN_SCRATCH(lines_go_on_behind_a_backslash),
		IN_SCRATCH(windows_lines_are_read),
		IN_SCRATCH(last_of_two_values_counts),
		IN_SCRATCH(lines_of_no_kind_are_named),
		IN_SCRATCH(unknown_name_is_an_error_with_the_nearest),
		IN_SCRATCH(own_names_are_fine_where_they_are_used),
		IN_SCRATCH(names_without_meaning_are_warned_of),
		IN_SCRATCH(refused_names_say_why),
		IN_SCRATCH(durations_have_units),
		IN_SCRATCH(sizes_have_units),
		IN_SCRATCH(each_size_has_its_own_unit),
		IN_SCRATCH(transfers_can_be_without_limit),
		IN_SCRATCH(wrong_values_are_named),
		IN_SCRATCH(quoting_is_htcondors),
		IN_SCRATCH(output_paths_stay_in_the_workspace),
		IN_SCRATCH(empty_list_of_outputs_means_none),
		IN_SCRATCH(getenv_copies_what_it_names),
		IN_SCRATCH(executable_in_the_guest_is_not_packed),
		IN_SCRATCH(macros_wait_for_queue),
		IN_SCRATCH(name_in_its_own_value_is_the_old_value),
		IN_SCRATCH(undefined_macro_is_named),
		IN_SCRATCH(queue_counts),
		IN_SCRATCH(queue_in_a_list),
		IN_SCRATCH(queue_from_rows),
		IN_SCRATCH(queue_from_a_file),
		IN_SCRATCH(queue_matching_paths),
		IN_SCRATCH(a_report_belongs_to_the_jobs_that_name_it),
		IN_SCRATCH(wrong_queues_are_named),
		IN_SCRATCH(jobs_have_a_largest_number),
		IN_SCRATCH(what_is_no_text_file_is_named),
		IN_SCRATCH(description_has_a_largest_size),
		IN_SCRATCH(any_text_is_read_or_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
