#include "host-tools/launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-tools/message.h"
#include "host-tools/template.h"
#include "host-tools/vmm/machine.h"
#include "host-tools/vmm/tsc.h"

int launch_choose(enum job_start wanted, struct error *error)
{
	const char *word = getenv("JOBVM_START");

	if (wanted != START_AUTO || !word || !*word)
		return wanted;
	for (int i = 0; job_start_words[i]; i++)
		if (strcasecmp(job_start_words[i], word) == 0)
			return i;
	return error_set(error, "$JOBVM_START: '%.100s' is none of auto, clone, cold", word);
}

static struct template_wish wish_of(const struct vm_options *options)
{
	return (struct template_wish){
		.image = options->qemu.image,
		.accel = options->qemu.accel,
		.memory_bytes = options->qemu.memory_bytes,
		.cpus = options->qemu.cpus,
		.has_input_disk = options->qemu.has_input_disk,
		.boot_timeout_ms = options->boot_timeout_ms,
	};
}

static void name_template(const struct template *template, struct launch *launch)
{
	snprintf(launch->template, sizeof(launch->template), "%.*s/%s",
		 PATH_MAX - DIGEST_HEX_BYTES - 1, template->place, template->facts.key);
}

static int open_template(const struct vm_options *options, struct template *template,
			 struct launch *launch, struct error *error)
{
	const struct template_wish wish = wish_of(options);
	uint64_t start_ms = now_ms();
	int failed = template_open(&wish, TEMPLATE_IN_CACHE, template, error);

	launch->template_ms = now_ms() - start_ms;
	launch->template_made = template->made;
	if (!failed)
		name_template(template, launch);
	return failed;
}

/* As vm_run, with the input disk in its place. */
static int run(struct vm_options options, struct input_disk *inputs, struct vm_outcome *outcome,
	       struct error *error)
{
	if (options.qemu.has_input_disk &&
	    input_disk_take(inputs, &options.qemu.input_fd, &options.input_disk_bytes, error))
		return -1;
	return vm_run(&options, outcome, error);
}

/* --- a clone that waits for a job --- */

/* The parked VM's, whose key says for what it is. */
static struct template parked_template;

static void clone_options(struct vm_options *options, const struct template *template)
{
	options->qemu.start = QEMU_RESTORE;
	options->qemu.memory_fd = template->memory_fd;
	options->qemu.tsc_khz = template->facts.tsc_khz;
	options->state_fd = template->state_fd;
}

void launch_unpark(void)
{
	if (vm_parked_jobs() < 0)
		return;
	vm_unpark();
	template_close(&parked_template);
}

/* Whether a VM for OPTIONS is a clone; else WHY says why not. */
static bool wants_clone(const struct vm_options *options, enum job_start start, struct error *why)
{
	if (start == START_COLD)
		error_set(why, "asked for");
	else if (start == START_AUTO && options->qemu.accel == ACCEL_KVM)
		error_set(why, "clones with KVM have not been tried; --start clone asks for one");
	else
		return true;
	return false;
}

int launch_park(const struct vm_options *options, enum job_start start, struct vm_outcome *outcome,
		struct error *error)
{
	struct vm_options clone = *options;
	static struct launch launch;

	launch_unpark();
	if (!wants_clone(options, start, error))
		return error_prefix(error, "VMs are booted");
	if (open_template(options, &parked_template, &launch, error))
		return -1;
	clone_options(&clone, &parked_template);
	if (vm_park(&clone, outcome, error)) {
		template_close(&parked_template);
		return -1;
	}
	return 0;
}

static bool parked_fits(const struct vm_options *options)
{
	const struct template_wish wish = wish_of(options);
	char key[DIGEST_HEX_BYTES];
	struct error ignored;
	struct stat disk;

	/* What a privileged job does to its guest is for no other; nor the other way round. */
	if (vm_parked_jobs() < 0 || (vm_parked_jobs() > 0 && options->manifest->privileged))
		return false;
	if (fstat(options->qemu.job_disk_fd, &disk) || disk.st_size > (off_t)VM_PARKED_DISK_BYTES)
		return false;
	return template_key(&wish, key, &ignored) == 0 &&
	       strcmp(key, parked_template.facts.key) == 0;
}

/* --- clones --- */

/* 0 when the clone of TEMPLATE ran, whatever came of it; else ERROR says why there was none. */
static int run_from(const struct template *template, struct vm_options clone,
		    struct input_disk *inputs, struct suspension *suspension,
		    struct vm_outcome *outcome, struct error *error)
{
	clone_options(&clone, template);
	if (suspension)
		suspension->template = template;
	int failed = run(clone, inputs, outcome, error);
	if (suspension)
		suspension->template = NULL;
	if (failed || !outcome->not_restored)
		return failed;
	error_set(error, "%s: %s",
		  clone.from_parked ? "the VM that waited" : "the clone did not come up",
		  outcome->message);
	if (!clone.from_parked && !outcome->killed_from_outside)
		template_reject(template, error->text);
	return -1;
}

/* As run_clone, with the VM that waits. */
static int run_parked(const struct vm_options *options, struct input_disk *inputs,
		      struct suspension *suspension, struct vm_outcome *outcome,
		      struct launch *launch, struct error *error)
{
	struct vm_options clone = *options;

	clone.from_parked = true;
	launch->was_parked = true;
	launch->was_rehearsed = vm_parked_rehearsed();
	launch->jobs_before = vm_parked_jobs();
	name_template(&parked_template, launch);
	int failed = run_from(&parked_template, clone, inputs, suspension, outcome, error);
	if (vm_parked_jobs() < 0)
		template_close(&parked_template);
	return failed;
}

/* As run_from, with the template that OPTIONS ask for. */
static int run_clone(const struct vm_options *options, struct input_disk *inputs,
		     struct suspension *suspension, struct vm_outcome *outcome,
		     struct launch *launch, struct error *error)
{
	/* Static, for who suspends the VM. */
	static struct template template;

	if (open_template(options, &template, launch, error))
		return -1;
	progress_phase("starting a clone");
	int failed = run_from(&template, *options, inputs, suspension, outcome, error);
	template_close(&template);
	return failed;
}

static int open_device(const struct suspension *suspension, int *fd, struct error *error)
{
	*fd = memfd_create("state", MFD_CLOEXEC);
	if (*fd < 0)
		return error_errno(error, "make a file in memory");
	if (state_device(suspension->state, *fd, error) == 0)
		return 0;
	close(*fd);
	return error_prefix(error, "the state of %s", suspension->path);
}

/* The memory is the template's again, where it was, before the state's own comes over it. */
static int resume(struct vm_options *options, struct input_disk *inputs,
		  struct suspension *suspension, struct vm_outcome *outcome, struct launch *launch,
		  struct error *error)
{
	const struct state_facts *facts = state_facts(suspension->state);
	const struct template_wish wish = wish_of(options);
	static struct template template;

	if (facts->template_key) {
		if (template_find(&wish, facts->template_key, facts->template_memory_sha256,
				  &template, error))
			return -1;
		name_template(&template, launch);
		options->qemu.is_cloned = launch->cloned = true;
		options->qemu.memory_fd = template.memory_fd;
		suspension->template = &template;
	}
	int failed = open_device(suspension, &options->state_fd, error);
	if (!failed) {
		failed = run(*options, inputs, outcome, error);
		close(options->state_fd);
	}
	suspension->template = NULL;
	if (facts->template_key)
		template_close(&template);
	return failed;
}

static int run_resumed(const struct vm_options *options, struct input_disk *inputs,
		       struct suspension *suspension, struct vm_outcome *outcome,
		       struct launch *launch, struct error *error)
{
	struct vm_options resumed = *options;

	progress_phase("resuming");
	launch->resumed = true;
	if (suspension_fit(suspension, &resumed.qemu, error))
		return -1;
	resumed.qemu.start = QEMU_RESUME;
	if (resume(&resumed, inputs, suspension, outcome, launch, error))
		return error_prefix(error, "%s cannot go on", suspension->path);
	return outcome->not_restored
		       ? error_set(error, "%s cannot go on: %s", suspension->path, outcome->message)
		       : 0;
}

static int run_booted(struct vm_options options, struct input_disk *inputs,
		      struct vm_outcome *outcome, struct error *error)
{
	const struct machine *machine = machine_find(options.qemu.image->machine);

	progress_phase("booting");
	progress_show("%s", options.qemu.image->release);
	if (options.qemu.accel == ACCEL_TCG && machine->tcg_needs_tsc)
		options.qemu.tsc_khz = tsc_measure_khz();
	return run(options, inputs, outcome, error);
}

int launch_vm(const struct vm_options *job_options, struct input_disk *inputs,
	      struct suspension *suspension, enum job_start start, struct vm_outcome *outcome,
	      struct launch *launch, struct error *error)
{
	struct vm_options options = *job_options;
	struct error why;

	options.qemu.has_input_disk = inputs->is_fetching;
	memset(launch, 0, sizeof(*launch));
	if (start != START_COLD && !(suspension && suspension->state) && parked_fits(&options)) {
		launch->cloned =
			run_parked(&options, inputs, suspension, outcome, launch, &why) == 0;
		if (launch->cloned)
			return 0;
		message_warning("%s; another VM is started", why.text);
		memset(launch, 0, sizeof(*launch));
	}
	launch_unpark();
	options.parks = false;
	if (suspension && suspension->state)
		return run_resumed(&options, inputs, suspension, outcome, launch, error);
	launch->cloned = wants_clone(&options, start, &why) &&
			 run_clone(&options, inputs, suspension, outcome, launch, &why) == 0;
	if (launch->cloned)
		return 0;
	launch->template[0] = '\0';
	snprintf(launch->why, sizeof(launch->why), "%s", why.text);
	return run_booted(options, inputs, outcome, error);
}
