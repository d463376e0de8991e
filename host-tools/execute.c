#include "host-tools/execute.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host-tools/accel.h"
#include "host-tools/confine.h"
#include "host-tools/confined.h"
#include "host-tools/find_image.h"
#include "host-tools/inputs.h"
#include "host-tools/message.h"
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
	return outcome.cancel_signal != 0;
}

static uint64_t vm_memory_bytes(const struct manifest *manifest, const struct image *image)
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
				    const struct manifest *manifest, const struct image *image,
				    enum job_accel accel)
{
	return (struct vm_options){
		.qemu = {.image = image,
			 .accel = accel,
			 .memory_bytes = vm_memory_bytes(manifest, image),
			 .cpus = manifest->cpus,
			 .job_disk_fd = execution->disk_fd},
		.manifest = manifest,
		.stdout_fd = execution->stdout_to_file ? -1 : STDOUT_FILENO,
		.stderr_fd = execution->stderr_to_file ? -1 : STDERR_FILENO,
		.boot_timeout_ms = execution->timeouts.boot_ms,
		.heartbeat_timeout_ms = execution->timeouts.heartbeat_ms,
		.on_stage = show_stage,
	};
}

void execute_read_disk(int disk_fd, const char *disk_name, const struct manifest *manifest,
		       struct report *report, struct disk *disk)
{
	struct error problem = {""};

	report->manifest = manifest;
	/* A disk that was not unmounted is not parsed: its journal has not been replayed. */
	if (report_end_was_clean(report) &&
	    disk_read(disk, disk_fd, disk_name, DISK_RESULTS, &problem) == 0) {
		report->disk = disk;
		error_set(&problem, "%s", disk->problem);
	}
	report_decide(report, problem.text[0] ? problem.text : NULL);
}

/* A guest whose kernel is the job's could change the inputs while they are read. */
static int start_inputs(const struct execution *execution, const struct manifest *manifest,
			struct inputs *inputs, struct error *error)
{
	*inputs = (struct inputs){.has_child = false};
	if (!execution->digest_inputs)
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

int execute(const struct execution *execution, const struct manifest *manifest,
	    struct report *report, struct disk *disk, struct error *error)
{
	char digest[DIGEST_HEX_BYTES];
	struct inputs inputs;
	struct image image;
	time_t started_at = time(NULL);

	if (confined_check(execution->disk_name, error) ||
	    find_image(execution->job->image_path, &image, error))
		return -1;
	if (verify_image(&image, error)) {
		image_free(&image);
		return -1;
	}
	int accel = accel_choose((enum job_accel)execution->job->accel,
				 execution->job->require_hardware, &image, error);
	if (accel < 0) {
		image_free(&image);
		return -1;
	}
	struct vm_options options = vm_options(execution, manifest, &image, (enum job_accel)accel);
	if (confine_landlock_abi() == 0)
		message_warning("this kernel has no Landlock: QEMU is confined by seccomp and its "
				"user only");
	progress_phase("booting");
	progress_show("%s", image.release);
	int failed = start_inputs(execution, manifest, &inputs, error);
	if (!failed)
		failed = vm_run(&options, &outcome, error);
	end_inputs(&inputs, !failed && !execute_cancelled());
	progress_clear();
	/* The commit point: until here what the guest wrote may be in the page cache only. */
	if (!failed && fsync(execution->disk_fd))
		failed = error_errno(error, "sync %s", execution->disk_name);
	if (!failed)
		failed = disk_manifest_digest(manifest, digest, error);
	if (!failed) {
		report->host = report_host_section(&image, (enum job_accel)accel,
						   options.qemu.memory_bytes, &outcome, started_at);
		json_object_set_new(report->host, REPORT_MANIFEST_DIGEST, json_string(digest));
		report_inputs(execution, manifest, &inputs, report->host);
		execute_read_disk(execution->disk_fd, execution->disk_name, manifest, report, disk);
	}
	if (execution->verbose && outcome.console.total_bytes > 0) {
		char *console = log_text(&outcome.console);
		message_note("the guest's console:");
		if (console)
			print_console(console);
		free(console);
	}
	image_free(&image);
	return failed;
}
