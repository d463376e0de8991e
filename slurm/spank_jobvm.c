/*
 * spank_jobvm: a plugin of Slurm (spank(7)), with which a task runs in a VM of jobvm:
 *
 *   srun --jobvm-image=NAME COMMAND        #SBATCH --jobvm-image=NAME
 *
 * In plugstack.conf it can be told, after its own path, jobvm=PROGRAM and images=DIRECTORY, where
 * a NAME without a slash is looked up. With spool=DIRECTORY every task is a job of the jobvm node
 * that works there: the machine runs no user's program otherwise.
 *
 * It takes the place of the task at the last moment, as the task's own user and in its place: what
 * Slurm has set up for the task, from its limits to its signals, is jobvm's.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/landlock.h>
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <slurm/spank.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host-tools/exitcodes.h"
#include "host-tools/slurm_pipe.h"

/* Slurm's own macro has no semicolon; its names are what it looks for. */
SPANK_PLUGIN(jobvm, 1)

#define ARGUMENTS_MAX 4096

enum { OPTION_IMAGE = 1, OPTION_INPUT };

static char image[PATH_MAX], inputs[PATH_MAX];
static const char *program = "jobvm", *image_directory = "/usr/local/share/jobvm/images";
static const char *spool;     /* NULL: a task's VM is its own process's */
static bool is_misconfigured; /* nothing may run by a line that cannot be read */

static int take_option(int value, const char *text, int is_remote)
{
	char *kept = value == OPTION_IMAGE ? image : inputs;

	(void)is_remote;
	if (!text || !*text || strlen(text) >= PATH_MAX) {
		slurm_error("jobvm: --jobvm-%s needs a value",
			    value == OPTION_IMAGE ? "image" : "input");
		return ESPANK_BAD_ARG;
	}
	snprintf(kept, PATH_MAX, "%s", text);
	return ESPANK_SUCCESS;
}

static char image_name[] = "jobvm-image", image_value[] = "NAME",
	    image_help[] = "run each task in a VM of this guest image";
static char input_name[] = "jobvm-input", input_value[] = "PATH[,PATH]...",
	    input_help[] = "what the task finds in its VM's working directory";

static struct spank_option options[] = {
	{image_name, image_value, image_help, 1, OPTION_IMAGE, take_option},
	{input_name, input_value, input_help, 1, OPTION_INPUT, take_option},
};

static const char *value_of(const char *argument, const char *name)
{
	size_t length = strlen(name);

	return strncmp(argument, name, length) == 0 && argument[length] == '='
		       ? argument + length + 1
		       : NULL;
}

int slurm_spank_init(spank_t spank, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		const char *given = value_of(argv[i], "jobvm");
		const char *directory = value_of(argv[i], "images");
		const char *jobs = value_of(argv[i], "spool");
		if (given)
			program = given;
		else if (directory)
			image_directory = directory;
		else if (jobs)
			spool = jobs;
		if (given || directory || jobs)
			continue;
		is_misconfigured = true;
		slurm_error("jobvm: plugstack.conf: '%s' is none of jobvm=PROGRAM, "
			    "images=DIRECTORY, spool=DIRECTORY",
			    argv[i]);
	}
	if (spool && program[0] != '/') {
		is_misconfigured = true;
		slurm_error("jobvm: plugstack.conf: spool=DIRECTORY needs jobvm=PROGRAM, with its "
			    "whole path");
	}
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (spank_option_register(spank, &options[i]) != ESPANK_SUCCESS)
			is_misconfigured = true;
	return ESPANK_SUCCESS;
}

/* jobvm's command line. */
struct line {
	const char *words[ARGUMENTS_MAX];
	size_t count;
};

static void add(struct line *line, const char *word)
{
	if (line->count < ARGUMENTS_MAX - 1)
		line->words[line->count++] = word;
}

static void add_inputs(struct line *line)
{
	for (char *rest = inputs, *path; (path = strsep(&rest, ","));) {
		if (!*path)
			continue;
		add(line, "-i");
		add(line, path);
	}
}

/* Slurm keeps its own copy of a batch script, with a path that means nothing in a VM. */
static const char *add_script(struct line *line, spank_t spank, const char *command)
{
	static char place[PATH_MAX];
	uint32_t step;
	const char *slash = strrchr(command, '/');

	if (spank_get_item(spank, S_JOB_STEPID, &step) != ESPANK_SUCCESS ||
	    step != SLURM_BATCH_SCRIPT || !slash)
		return command;
	add(line, "-i");
	add(line, command);
	snprintf(place, sizeof(place), "./%s", slash + 1);
	return place;
}

/* --- out of memory --- */

/*
 * A job that takes more memory than it has is ended in its VM, where Slurm's cgroups do not look.
 * So jobvm tells this plugin, through a pipe that all of a step's processes inherit, and the plugin
 * tells Slurm: of a job whose batch script is over, and of one that is a single srun. Steps of
 * other jobs have their exit code.
 */
static int pipe_fds[2] = {-1, -1};

/* What Slurm's own cgroup plugin gives as a job's code then; slurm.h does not have it. */
#define CODE_OUT_OF_MEMORY 253

/* Set by srun, in whose environment there is a job only if it did not ask for one itself. */
#define SRUN_OWNS_JOB "JOBVM_SRUN_OWNS_JOB"

static uint32_t job_id;
static bool step_is_job;

int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
	(void)spank;
	(void)argc;
	(void)argv;
	if (spank_context() != S_CTX_LOCAL)
		return ESPANK_SUCCESS;
	if (getenv("SLURM_JOB_ID"))
		unsetenv(SRUN_OWNS_JOB);
	else
		setenv(SRUN_OWNS_JOB, "1", 1);
	return ESPANK_SUCCESS;
}

static int open_pipe(spank_t spank)
{
	char value[64];
	uint32_t step;
	struct stat stat;

	if (spank_get_item(spank, S_JOB_ID, &job_id) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_STEPID, &step) != ESPANK_SUCCESS)
		return ESPANK_SUCCESS;
	step_is_job = step == SLURM_BATCH_SCRIPT ||
		      spank_getenv(spank, SRUN_OWNS_JOB, value, sizeof(value)) == ESPANK_SUCCESS;
	/* It stays open in the tasks. */
	if (pipe2(pipe_fds, O_NONBLOCK) || fstat(pipe_fds[1], &stat)) {
		slurm_error("jobvm: cannot make a pipe: %s", strerror(errno));
		return ESPANK_SUCCESS;
	}
	snprintf(value, sizeof(value), "%d:%" PRIu64, pipe_fds[1], (uint64_t)stat.st_ino);
	spank_setenv(spank, SLURM_PIPE, value, 1);
	spank_unsetenv(spank, SRUN_OWNS_JOB);
	return ESPANK_SUCCESS;
}

/* In slurmstepd, when all tasks are over. */
int slurm_spank_exit(spank_t spank, int argc, char **argv)
{
	char told;

	(void)spank;
	(void)argc;
	(void)argv;
	if (!step_is_job || pipe_fds[0] < 0 || read(pipe_fds[0], &told, 1) != 1)
		return ESPANK_SUCCESS;
	if (slurm_complete_job(job_id, CODE_OUT_OF_MEMORY) != SLURM_SUCCESS)
		slurm_error("jobvm: Slurm does not take that job %" PRIu32 " was out of memory: %s",
			    job_id, slurm_strerror(errno));
	return ESPANK_SUCCESS;
}

/* --- nothing but jobvm --- */

/* What executes programs of this machine. */
#define LINKER "/lib64/ld-linux-x86-64.so.2"

/* ABI 2; linux/landlock.h of Debian 12 knows the first only. */
#define ACCESS_FS_REFER (1ULL << 13)

static int allow(int ruleset_fd, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = access,
		.parent_fd = open(path, O_PATH | O_CLOEXEC),
	};

	if (rule.parent_fd < 0)
		return -1;
	int failed = (int)syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH,
				  &rule, 0);
	close(rule.parent_fd);
	return failed;
}

/*
 * From here on this process and its children execute jobvm, or nothing: Slurm runs what a user
 * gives as --task-prolog and --task-epilog, too.
 */
static int allow_only_jobvm(void)
{
	const struct landlock_ruleset_attr attributes = {
		.handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE | ACCESS_FS_REFER};
	int ruleset_fd =
		(int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);

	if (ruleset_fd < 0)
		return -1;
	/* A merge renames between directories, which is denied where nothing allows it. */
	int failed = allow(ruleset_fd, program, LANDLOCK_ACCESS_FS_EXECUTE) ||
		     allow(ruleset_fd, LINKER, LANDLOCK_ACCESS_FS_EXECUTE) ||
		     allow(ruleset_fd, "/", ACCESS_FS_REFER) ||
		     prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		     syscall(SYS_landlock_restrict_self, ruleset_fd, 0);
	close(ruleset_fd);
	return failed ? -1 : 0;
}

/*
 * What jobvm is given of the task's environment. The linker and libraries would load code by other
 * variables.
 */
static bool is_passed(const char *variable)
{
	static const char *const passed[] = {
		"SLURM_", "HOME=", "USER=", "LOGNAME=", "TMPDIR=", (SLURM_PIPE "=")};

	for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++)
		if (strncmp(variable, passed[i], strlen(passed[i])) == 0)
			return true;
	return false;
}

static void clean(char **environment)
{
	char **kept = environment;

	for (; *environment; environment++)
		if (is_passed(*environment))
			*kept++ = *environment;
	*kept = NULL;
}

/* --- the task --- */

/* In slurmstepd, before there are tasks. */
int slurm_spank_user_init(spank_t spank, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	if (spool && allow_only_jobvm()) {
		slurm_error("jobvm: cannot keep this step from executing other programs than %s: "
			    "%s",
			    program, strerror(errno));
		is_misconfigured = true;
	}
	return open_pipe(spank);
}

static void add_image(struct line *line)
{
	static char path[2 * PATH_MAX];
	bool is_name = !strchr(image, '/');

	snprintf(path, sizeof(path), "%s%s%s", is_name ? image_directory : "", is_name ? "/" : "",
		 image);
	add(line, "--image");
	add(line, path);
}

/* Slurm says it in the environment of sbatch and salloc only, where jobvm looks (under_slurm.h). */
static void tell_memory(spank_t spank)
{
	char value[32];
	uint64_t mib;

	if (spank_getenv(spank, "SLURM_MEM_PER_CPU", value, sizeof(value)) == ESPANK_SUCCESS ||
	    spank_get_item(spank, S_STEP_ALLOC_MEM, &mib) != ESPANK_SUCCESS || mib == 0)
		return;
	snprintf(value, sizeof(value), "%" PRIu64, mib);
	spank_setenv(spank, "SLURM_MEM_PER_NODE", value, 0);
}

/*
 * Whatever a plugin returns here, Slurm runs the task, and would do so on the machine itself: the
 * task ends instead.
 */
static void fail_task(void) __attribute__((noreturn));

static void fail_task(void)
{
	_exit(EXIT_JOBVM_FAILED);
}

int slurm_spank_task_init(spank_t spank, int argc, char **argv)
{
	static struct line line;
	char **words, **environment;
	int count;

	(void)argc;
	(void)argv;
	if (is_misconfigured)
		fail_task();
	if (!image[0] && !spool)
		return ESPANK_SUCCESS;
	if (image[0] && spool) {
		slurm_error("jobvm: --jobvm-image: all jobs of this node have the node's image");
		fail_task();
	}
	tell_memory(spank);
	if (spank_get_item(spank, S_JOB_ARGV, &count, &words) != ESPANK_SUCCESS || count < 1 ||
	    spank_get_item(spank, S_JOB_ENV, &environment) != ESPANK_SUCCESS) {
		slurm_error("jobvm: Slurm does not tell what to run");
		fail_task();
	}
	add(&line, "jobvm");
	add(&line, "run");
	if (spool) {
		add(&line, "--spool");
		add(&line, spool);
	} else {
		add_image(&line);
	}
	add(&line, "--getenv");
	add(&line, "SLURM_*");
	/* What the task writes is where Slurm's users look for it. */
	add(&line, "--merge");
	add(&line, ".");
	add_inputs(&line);
	const char *command = add_script(&line, spank, words[0]);
	add(&line, "--");
	add(&line, command);
	for (int i = 1; i < count; i++)
		add(&line, words[i]);
	if (spool)
		clean(environment);
	execvpe(program, (char *const *)(uintptr_t)line.words, environment);
	slurm_error("jobvm: cannot execute %s: %s", program, strerror(errno));
	fail_task();
}
