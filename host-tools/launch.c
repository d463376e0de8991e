#include "host-tools/launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host-tools/message.h"
#include "host-tools/template.h"

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

static int open_template(const struct vm_options *options, struct template *template,
			 struct launch *launch, struct error *error)
{
	const struct template_wish wish = {
		.image = options->qemu.image,
		.accel = options->qemu.accel,
		.memory_bytes = options->qemu.memory_bytes,
		.cpus = options->qemu.cpus,
		.has_input_disk = options->qemu.has_input_disk,
		.boot_timeout_ms = options->boot_timeout_ms,
	};
	uint64_t start_ms = now_ms();
	int failed = template_open(&wish, TEMPLATE_IN_CACHE, template, error);

	launch->template_ms = now_ms() - start_ms;
	launch->template_made = template->made;
	if (!failed)
		snprintf(launch->template, sizeof(launch->template), "%.*s/%s",
			 PATH_MAX - DIGEST_HEX_BYTES - 1, template->place, template->facts.key);
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

/* 0 when the clone ran, whatever came of it; else ERROR says why there was none. */
static int run_clone(const struct vm_options *options, struct input_disk *inputs,
		     struct vm_outcome *outcome, struct launch *launch, struct error *error)
{
	struct vm_options clone = *options;
	struct template template;

	if (open_template(options, &template, launch, error))
		return -1;
	progress_phase("starting a clone");
	clone.qemu.start = QEMU_RESTORE;
	clone.qemu.memory_fd = template.memory_fd;
	clone.qemu.tsc_khz = template.facts.tsc_khz;
	clone.state_fd = template.state_fd;
	int failed = run(clone, inputs, outcome, error);
	if (!failed && outcome->not_restored) {
		failed = error_set(error, "the clone did not come up: %s", outcome->message);
		if (!outcome->killed_from_outside)
			template_reject(&template, error->text);
	}
	template_close(&template);
	return failed;
}

int launch_vm(const struct vm_options *job_options, struct input_disk *inputs, enum job_start start,
	      struct vm_outcome *outcome, struct launch *launch, struct error *error)
{
	struct vm_options options = *job_options;
	struct error why;

	options.qemu.has_input_disk = inputs->is_fetching;
	memset(launch, 0, sizeof(*launch));
	if (start == START_COLD) {
		error_set(&why, "asked for");
	} else if (start == START_AUTO && options.qemu.accel == ACCEL_KVM) {
		error_set(&why, "clones with KVM have not been tried; --start clone asks for one");
	} else if (run_clone(&options, inputs, outcome, launch, &why) == 0) {
		launch->cloned = true;
		return 0;
	}
	launch->template[0] = '\0';
	progress_phase("booting");
	progress_show("%s", options.qemu.image->release);
	snprintf(launch->why, sizeof(launch->why), "%s", why.text);
	return run(options, inputs, outcome, error);
}
