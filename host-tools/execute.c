#include "host-tools/execute.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host-tools/boot.h"
#include "host-tools/confined.h"
#include "host-tools/inputs.h"
#include "host-tools/launch.h"
#include "host-tools/lazy/input_disk.h"
#include "host-tools/message.h"
#include "host-tools/recovery.h"
#include "host-tools/vmm/machine.h"

/* What the VM has beyond the job's limit and its machine's base: page structures. */
#define VM_MEMORY_SHARE 32

/* And for each processor: its stacks and its share of the kernel's caches. */
#define VM_MEMORY_CPU_BYTES (1024 * 1024)

static struct vm_outcome outcome;

const struct log *execute_console(void)
{
	return &outcome.console;
}

bool execute_output_closed(void)
{
	return outcome.output_closed;
}

bool execute_cancelled(void)
{
	return outcome.cancel_signal != 0 || recovery_cancel_signal() != 0;
}

uint64_t execute_memory_bytes(const struct manifest *manifest, const struct image *image)
{
	return manifest->memory_limit_bytes + manifest->memory_limit_bytes / VM_MEMORY_SHARE +
	       manifest->cpus * VM_MEMORY_CPU_BYTES +
	       machine_find(image->machine)->memory_base_bytes;
}

/* Line by line, so that its line ends stay line ends. */
static void print_console(char *text)
{
	for (char *line = strsep(&text, "\n"); line; line = strsep(&text, "\n")) {
		line[strcspn(line, "\r")] = '\0';
		print_escaped(stderr, line);
		fputc('\n', stderr);
	}
}

static void show_stage(void *context, const char *stage)
{
	(void)context;
	/* From here on the terminal is the job's. */
	if (strcmp(stage, "start_job") == 0)
		progress_clear();
	else if (strcmp(stage, "supervise") != 0)
		progress_show("%s", stage);
}

static struct vm_options vm_options(const struct execution *execution,
				    const struct manifest *manifest, const struct boot *boot)
{
	struct vm_options options = {
		.qemu = {.image = &boot->image,
			 .accel = boot->accel,
			 .memory_bytes = execute_memory_bytes(manifest, &boot->image),
			 .cpus = manifest->cpus,
			 .job_disk_fd = execution->disk_fd},
		.manifest = manifest,
		.stdout_fd = execution->stdout_to_file ? -1 : STDOUT_FILENO,
		.stderr_fd = execution->stderr_to_file ? -1 : STDERR_FILENO,
		.boot_timeout_ms = execution->timeouts.boot_ms,
		.heartbeat_timeout_ms = execution->timeouts.heartbeat_ms,
		.parks = execution->parks,
		.is_rehearsal = execution->is_rehearsal,
		.on_stage = show_stage,
	};

	if (execution->suspension)
		options.suspend =
			suspension_handlers(execution->suspension, execution->disk_fd, manifest);
	return options;
}

/*
 * Reads again a disk whose job changed something, with what is known of its input disk. A job that
 * has run is not lost for want of that.
 */
static int read_with_inputs(const struct execution *execution, struct input_disk *inputs,
			    struct disk *disk, struct error *error)
{
	if (!inputs->is_fetching || !execution->digest_inputs || disk->changes.count == 0)
		return 0;
	int inputs_fd = input_disk_metadata(inputs, error);
	if (inputs_fd < 0) {
		message_warning("what the job changed of its lazy inputs counts as created: %s",
				error->text);
		return 0;
	}
	disk_close(disk);
	return disk_read(disk, execution->disk_fd, inputs_fd, execution->disk_name, DISK_RESULTS,
			 error);
}

static void read_disk(const struct execution *execution, struct input_disk *inputs,
		      struct report *report, struct disk *disk)
{
	struct error problem = {""};
	int fd = execution->disk_fd;
	const char *name = execution->disk_name;

	if (disk_read(disk, fd, -1, name, DISK_RESULTS, &problem) == 0 &&
	    read_with_inputs(execution, inputs, disk, &problem) == 0) {
		report->disk = disk;
		error_set(&problem, "%s", disk->problem);
	}
	report_decide(report, problem.text[0] ? problem.text : NULL);
	if (report->status == STATUS_INCOMPLETE && disk->was_started)
		report->partial = recovery_read(disk, fd, -1, name, &problem) == 0;
}

/* A disk that was not unmounted is not parsed before a guest's kernel has replayed its journal. */
static void read_cut_off_disk(const struct execution *execution, const struct boot *boot,
			      struct report *report, struct disk *disk)
{
	struct error problem;
	int fd = execution->disk_fd;
	const char *name = execution->disk_name;

	report_decide(report, NULL);
	if (!execution->recovers || !recovery_is_for(report->status) || execute_cancelled())
		return;
	int unread = disk_read(disk, fd, -1, name, DISK_RESULTS, &problem);
	bool tried = unread > 0;
	if (!unread && !disk->was_started)
		return;
	if (tried)
		unread = recovery_replace(boot, &execution->timeouts, fd, name, &problem);
	if (!unread)
		unread = recovery_read(disk, fd, -1, name, &problem);
	report->partial = !unread;
	if (!unread)
		report->disk = disk;
	if (tried || unread)
		report_note_recovery(report, tried, unread ? problem.text : NULL);
}

/* A guest whose kernel is the job's could change the inputs while they are read. */
static int start_inputs(const struct execution *execution, const struct manifest *manifest,
			struct inputs *inputs, struct error *error)
{
	*inputs = (struct inputs){.has_child = false};
	if (!execution->digest_inputs)
		return 0;
	if (execution->suspension && suspension_inputs(execution->suspension, inputs))
		return 0;
	if (inputs_start(inputs, execution->disk_fd, execution->disk_name, error))
		return -1;
	return manifest->privileged ? inputs_finish(inputs, error) : 0;
}

/* A job that has run is not lost for want of a digest; one that is cancelled does not wait. */
static void end_inputs(struct inputs *inputs, bool is_wanted)
{
	struct error error;

	if (!is_wanted)
		inputs_cancel(inputs);
	else if (inputs_finish(inputs, &error))
		message_warning("the report has no digest of the inputs: %s", error.text);
}

static json_t *json_digest(const char *hex)
{
	return *hex ? json_string(hex) : json_null();
}

static void report_inputs(const struct execution *execution, const struct manifest *manifest,
			  const struct inputs *inputs, json_t *host)
{
	if (!execution->digest_inputs)
		return;
	json_object_set_new(host, "inputs_sha256", json_digest(inputs->tree_sha256));
	if (manifest->has_stdin)
		json_object_set_new(host, "stdin_sha256", json_digest(inputs->stdin_sha256));
}

static json_t *json_launch(const struct launch *launch, bool is_shared)
{
	const char *kind = launch->resumed ? "resumed" : launch->cloned ? "clone" : "cold";
	json_t *start =
		json_pack("{s:s, s:s?, s:s?, s:b, s:I}", "kind", kind, "why",
			  launch->why[0] ? launch->why : NULL, "template",
			  launch->cloned ? launch->template : NULL, "template_made",
			  launch->template_made, "template_ms", (json_int_t)launch->template_ms);

	if (launch->was_parked) {
		json_object_set_new(start, "ready_before", json_true());
		json_object_set_new(start, "rehearsed", json_boolean(launch->was_rehearsed));
		json_object_set_new(start, "jobs_before", json_integer(launch->jobs_before));
		json_object_set_new(start, "shared", json_boolean(is_shared));
	}
	return start;
}

bool execute_suspended(void)
{
	return outcome.suspended;
}

/* What an execution works with. */
struct engine {
	const struct execution *execution;
	const struct manifest *manifest;
	enum job_start start;
	struct boot boot;
	struct inputs inputs;
	struct input_disk input_disk;
	struct launch launch;
	time_t started_at;
	uint64_t ended_ms; /* as now_ms has it */
	uint64_t memory_bytes;
};

static int run_vm(struct engine *e, struct error *error)
{
	struct vm_options options = vm_options(e->execution, e->manifest, &e->boot);

	e->started_at = time(NULL);
	e->memory_bytes = options.qemu.memory_bytes;
	progress_phase("booting");
	progress_show("%s", e->boot.image.release);
	int failed = start_inputs(e->execution, e->manifest, &e->inputs, error);
	if (!failed)
		failed = launch_vm(&options, &e->input_disk, e->execution->suspension, e->start,
				   &outcome, &e->launch, error);
	e->ended_ms = now_ms();
	end_inputs(&e->inputs, !failed && !execute_cancelled());
	progress_clear();
	if (!failed && e->start == START_CLONE && !e->launch.cloned && !e->launch.resumed)
		message_warning("the VM is not a clone: %s", e->launch.why);
	/* The commit point: until here what the guest wrote may be in the page cache only. */
	if (!failed && fsync(e->execution->disk_fd))
		failed = error_errno(error, "sync %s", e->execution->disk_name);
	return failed;
}

/* The verdict, and what the host says of the run. */
static int conclude(struct engine *e, struct report *report, struct disk *disk, struct error *error)
{
	char digest[DIGEST_HEX_BYTES];

	if (disk_manifest_digest(e->manifest, digest, error))
		return -1;
	input_disk_finish(&e->input_disk);
	report->host = report_host_section(&e->boot.image, e->boot.accel, e->memory_bytes, &outcome,
					   e->started_at);
	json_object_set_new(report->host, REPORT_MANIFEST_DIGEST, json_string(digest));
	report_inputs(e->execution, e->manifest, &e->inputs, report->host);
	json_object_set_new(report->host, "start", json_launch(&e->launch, e->execution->parks));
	if (e->manifest->fetch != FETCH_EAGER)
		json_object_set_new(report->host, "fetch", input_disk_report(&e->input_disk));
	report->manifest = e->manifest;
	report->collect_from_ms = e->ended_ms;
	if (e->execution->suspension)
		suspension_report(e->execution->suspension, report->host);
	if (outcome.status == STATUS_SUSPENDED && !outcome.clean)
		report_decide(report, NULL);
	else if (outcome.clean)
		read_disk(e->execution, &e->input_disk, report, disk);
	else
		read_cut_off_disk(e->execution, &e->boot, report, disk);
	return 0;
}

static void show_console(void)
{
	char *console = log_text(&outcome.console);

	message_note("the guest's console:");
	if (console)
		print_console(console);
	free(console);
}

/* A VM that goes on has read of its input disk already, and must not meet another. */
static int open_inputs(struct engine *e, struct error *error)
{
	struct suspension *suspension = e->execution->suspension;
	const char *identity = NULL;

	if (suspension && suspension->state)
		identity = state_facts(suspension->state)->inputs_identity;
	if (input_disk_open(&e->input_disk, e->execution->job, e->manifest, identity, error))
		return -1;
	if (suspension && e->input_disk.is_fetching)
		suspension->inputs_identity = e->input_disk.fetch.identity;
	return 0;
}

int execute_park(const struct job *job, const struct timeouts *timeouts, struct error *error)
{
	const struct execution execution = {
		.job = job, .disk_fd = -1, .timeouts = *timeouts, .stdout_to_file = true};
	int start = launch_choose((enum job_start)job->start, error);
	struct boot boot;

	if (start < 0 || boot_prepare(job, job->image_path, &boot, error))
		return -1;
	const struct vm_options options = vm_options(&execution, &job->manifest, &boot);
	int failed = launch_park(&options, (enum job_start)start, &outcome, error);
	boot_free(&boot);
	return failed;
}

bool execute_is_parked(void)
{
	return vm_parked_jobs() >= 0;
}

void execute_unpark(void)
{
	launch_unpark();
}

int execute(const struct execution *execution, const struct manifest *manifest,
	    struct report *report, struct disk *disk, struct error *error)
{
	static struct engine engine;
	int start = launch_choose((enum job_start)execution->job->start, error);

	engine = (struct engine){
		.execution = execution, .manifest = manifest, .start = (enum job_start)start};
	if (start < 0 || confined_check(execution->disk_name, error) ||
	    boot_prepare(execution->job, execution->job->image_path, &engine.boot, error))
		return -1;
	int failed = open_inputs(&engine, error);
	if (!failed)
		failed = run_vm(&engine, error) || conclude(&engine, report, disk, error);
	if (execution->verbose && outcome.console.total_bytes > 0)
		show_console();
	input_disk_close(&engine.input_disk);
	boot_free(&engine.boot);
	return failed ? -1 : 0;
}
