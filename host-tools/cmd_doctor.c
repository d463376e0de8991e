/* jobvm doctor: can this host run jobs, how isolated, what is missing. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "host-tools/accel.h"
#include "host-tools/confine.h"
#include "host-tools/execute.h"
#include "host-tools/exitcodes.h"
#include "host-tools/find_image.h"
#include "host-tools/find_program.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "host-tools/pack.h"

/* The test job fits on a small disk; real ones may want more. */
#define SCRATCH_WANTED_BYTES (1ULL << 30)

enum verdict { GOOD, NOTE, BAD };

static const char *const state_words[] = {[GOOD] = "ok", [NOTE] = "note", [BAD] = "missing"};

struct finding {
	enum verdict state;
	char detail[1024];
	const char *mend; /* the command or step that mends it; NULL: none */
};

/* What earlier checks found out for later ones. */
struct patient {
	const char *image_path; /* --image */
	struct image image;
	bool has_image;
	bool has_problem;
};

static void find(struct finding *finding, enum verdict state, const char *mend, const char *format,
		 ...) __attribute__((format(printf, 4, 5)));

static void find(struct finding *finding, enum verdict state, const char *mend, const char *format,
		 ...)
{
	va_list values;

	finding->state = state;
	finding->mend = mend;
	va_start(values, format);
	vsnprintf(finding->detail, sizeof(finding->detail), format, values);
	va_end(values);
}

static void check_qemu(struct patient *patient, struct finding *finding)
{
	char path[PATH_MAX];
	struct error error;

	(void)patient;
	if (qemu_find(path, sizeof(path), &error))
		find(finding, BAD, "apt-get install qemu-system-x86", "%s", error.text);
	else
		find(finding, GOOD, NULL, "%s", path);
}

static void check_image(struct patient *patient, struct finding *finding)
{
	struct error error;

	if (find_image(patient->image_path, &patient->image, &error)) {
		find(finding, BAD, "jobvm image build -o DIR, then JOBVM_IMAGE=DIR", "%s",
		     error.text);
		return;
	}
	patient->has_image = true;
	find(finding, GOOD, NULL, "%s (Linux %s on %s)", patient->image.directory,
	     patient->image.release, patient->image.machine);
}

static void check_kvm(struct patient *patient, struct finding *finding)
{
	char why[256];

	if (!patient->has_image)
		find(finding, NOTE, NULL, "not tried: there is no guest image to boot");
	else if (accel_kvm_works(&patient->image, why, sizeof(why)))
		find(finding, GOOD, NULL, "boots a guest: jobs get hardware isolation");
	else
		find(finding, NOTE, NULL, "%s: jobs run emulated (TCG), slower and less isolated",
		     why);
}

static void check_seccomp(struct patient *patient, struct finding *finding)
{
	(void)patient;
	if (confine_has_seccomp())
		find(finding, GOOD, NULL, "this kernel filters system calls");
	else
		find(finding, BAD, "a kernel with CONFIG_SECCOMP_FILTER",
		     "this kernel does not filter system calls");
}

static void check_landlock(struct patient *patient, struct finding *finding)
{
	int abi = confine_landlock_abi();

	(void)patient;
	if (abi > 0)
		find(finding, GOOD, NULL, "ABI %d", abi);
	else
		find(finding, NOTE, "boot with lsm=landlock,... (Linux 5.13 or later)",
		     "this kernel has none: QEMU is confined by seccomp and its user only");
}

/* Only jobs that fetch their inputs need it. */
static void check_lazy_inputs(struct patient *patient, struct finding *finding)
{
	static const char *const plugins[] = {"nbdkit/jobvm-serve.so", "nbdkit/jobvm-fetch.so"};
	char path[PATH_MAX];
	struct error error;

	(void)patient;
	for (size_t i = 0; i < sizeof(plugins) / sizeof(plugins[0]); i++) {
		if (find_part(plugins[i], path, sizeof(path)) == 0)
			continue;
		find(finding, NOTE, "install jobvm whole", "%s is not beside jobvm", plugins[i]);
		return;
	}
	if (find_program("nbdkit", "JOBVM_NBDKIT", "nbdkit", path, sizeof(path), &error))
		find(finding, NOTE, "apt-get install nbdkit", "%s", error.text);
	else
		find(finding, GOOD, NULL, "%s", path);
}

static void check_scratch(struct patient *patient, struct finding *finding)
{
	const char *directory = pack_scratch_directory();
	struct statvfs space;

	(void)patient;
	if (access(directory, W_OK | X_OK) || statvfs(directory, &space)) {
		find(finding, BAD, "set TMPDIR to a directory on a local disk", "%s: %s", directory,
		     strerror(errno));
	} else {
		uint64_t free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
		find(finding, free_bytes < SCRATCH_WANTED_BYTES ? NOTE : GOOD,
		     free_bytes < SCRATCH_WANTED_BYTES ? "set TMPDIR to a larger one" : NULL,
		     "%s: %" PRIu64 " MB free for job disks", directory, free_bytes / 1000000);
	}
}

/* Runs the job `true` and says what became of it. */
static void run_test_job(struct job *job, struct finding *finding)
{
	static struct disk disk;
	struct report report = {.has_run = false};
	struct packed packed;
	struct error error;

	if (job_finish(job, &error) || pack_job(job, NULL, NULL, &packed, &error)) {
		find(finding, BAD, NULL, "%s", error.text);
		return;
	}
	const struct execution execution = {.job = job,
					    .disk_fd = packed.fd,
					    .disk_name = "the job disk",
					    .timeouts = timeouts_default()};
	if (execute(&execution, &job->manifest, &report, &disk, &error))
		find(finding, BAD, NULL, "%s", error.text);
	else if (report.exit_code != 0)
		find(finding, BAD, NULL, "%s: %s", job_status_words[report.status], report.message);
	else
		find(finding, GOOD, NULL, "ran and ended as it should (%s)",
		     json_string_value(json_object_get(report.host, "isolation")));
	report_free(&report);
	disk_close(&disk);
	close(packed.fd);
}

static void check_test_job(struct patient *patient, struct finding *finding)
{
	struct job job;

	if (patient->has_problem) {
		find(finding, NOTE, NULL, "not tried: something that it needs is missing");
		return;
	}
	job_init(&job);
	strings_add(&job.arguments, "true");
	job.image_path = memory_or_exit(strdup(patient->image.directory));
	run_test_job(&job, finding);
	job_free(&job);
}

static const struct check {
	const char *name;
	void (*run)(struct patient *patient, struct finding *finding);
} checks[] = {
	{"qemu", check_qemu},
	{"guest image", check_image},
	{"kvm", check_kvm},
	{"seccomp", check_seccomp},
	{"landlock", check_landlock},
	{"lazy inputs", check_lazy_inputs},
	{"scratch space", check_scratch},
	{"test job", check_test_job},
};

static void show_finding(const char *name, const struct finding *finding)
{
	progress_clear();
	printf("%-14s %-8s", name, state_words[finding->state]);
	print_escaped(stdout, finding->detail);
	putchar('\n');
	if (finding->mend)
		printf("%-14s %-8sto mend it: %s\n", "", "", finding->mend);
	fflush(stdout);
}

static json_t *finding_json(const char *name, const struct finding *finding)
{
	return json_pack("{s:s, s:s, s:s, s:s?}", "check", name, "state",
			 state_words[finding->state], "detail", finding->detail, "mend",
			 finding->mend);
}

static void show_json(json_t *findings, bool can_run)
{
	json_t *root = json_pack("{s:b, s:o}", "can_run_jobs", can_run, "checks", findings);
	char *text = json_dumps(root, JSON_INDENT(2));

	puts(memory_or_exit(text));
	free(text);
	json_decref(root);
}

static int examine(struct patient *patient, bool as_json)
{
	json_t *findings = json_array();

	progress_phase("checking");
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		struct finding finding = {.mend = NULL};
		progress_show("%s", checks[i].name);
		checks[i].run(patient, &finding);
		patient->has_problem = patient->has_problem || finding.state == BAD;
		if (!as_json)
			show_finding(checks[i].name, &finding);
		json_array_append_new(findings, finding_json(checks[i].name, &finding));
	}
	progress_clear();
	if (as_json)
		show_json(findings, !patient->has_problem);
	else
		json_decref(findings);
	if (finish_stdout() || patient->has_problem)
		return EXIT_JOBVM_FAILED;
	return EXIT_SUCCESS;
}

static int run_doctor(int argc, char **argv)
{
	struct patient patient = {.image_path = NULL};
	struct arguments arguments;
	bool as_json = false;
	const struct option options[] = {
		{0, "json", OPTION_FLAG, &as_json},
		{0, "image", OPTION_VALUE, &patient.image_path},
		{.name = NULL},
	};

	options_parse(&command_doctor, argc, argv, options, false, &arguments);
	if (arguments.command || arguments.positional.count > 0)
		message_usage("doctor", "it takes no arguments");
	int exit_code = examine(&patient, as_json);
	if (patient.has_image)
		image_free(&patient.image);
	arguments_free(&arguments);
	return exit_code;
}

const struct command command_doctor = {
	.name = "doctor",
	.summary = "can this host run jobs, how isolated, what is missing",
	.usage = "Usage: jobvm doctor [OPTION]...\n"
		 "Check this host, run a test job, and say how to mend what is missing.\n\n"
		 "  --image DIR          the guest image to try\n"
		 "  --json               as JSON\n"
		 "  --quiet              no progress\n\n"
		 "Exit code: 0 when a job could run and did, 125 when not.\n",
	.run = run_doctor,
};
