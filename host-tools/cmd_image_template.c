/* jobvm image template: makes the template that jobs of one shape start from. */
#include <stdio.h>

#include "host-tools/accel.h"
#include "host-tools/execute.h"
#include "host-tools/exitcodes.h"
#include "host-tools/find_image.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "host-tools/template.h"

static int open_for(const struct job *job, const struct image *image, struct template *template,
		    struct error *error)
{
	int accel = accel_choose((enum job_accel)job->accel, job->require_hardware, image, error);

	if (accel < 0)
		return -1;
	const struct template_wish wish = {
		.image = image,
		.accel = (enum job_accel)accel,
		.memory_bytes = execute_memory_bytes(&job->manifest, image),
		.cpus = job->manifest.cpus,
		.boot_timeout_ms = timeouts_default().boot_ms,
	};
	return template_open(&wish, TEMPLATE_BESIDE_IMAGE, template, error);
}

static int make_template(const char *directory, const struct job *job, struct error *error)
{
	struct template template;
	struct image image;

	if (image_load(directory, &image, error))
		return -1;
	int failed = verify_image(&image, error) || open_for(job, &image, &template, error);
	if (!failed) {
		printf("%s/%s\n", template.place, template.facts.key);
		if (!template.made)
			message_note("it was there already");
		template_close(&template);
	}
	image_free(&image);
	return failed;
}

static int run_image_template(int argc, char **argv)
{
	struct arguments arguments;
	struct job job;
	struct error error;
	const struct option options[] = {{.name = NULL}};

	options_parse(&command_image_template, argc, argv, options, true, &arguments);
	if (arguments.command || arguments.positional.count != 1)
		message_usage("image template", "exactly one image directory is needed");
	job_init(&job);
	options_apply(&command_image_template, &arguments, &job);
	int failed = make_template(arguments.positional.items[0], &job, &error);
	if (failed)
		message_error("%s", error.text);
	job_free(&job);
	arguments_free(&arguments);
	return failed ? EXIT_JOBVM_FAILED : finish_stdout();
}

const struct command command_image_template = {
	.name = "image template",
	.summary = "make the template that jobs of one shape start from",
	.usage =
		"Usage: jobvm image template [OPTION]... IMAGEDIR\n"
		"Boot a VM of a guest image once and save it, for jobs that start as its clones. It is\n"
		"kept in IMAGEDIR.templates or, where that cannot be made, in the user's cache.\n"
		"Prints its directory.\n\n"
		"  --request-memory N   the memory of such jobs, in MiB or with a unit (512M)\n"
		"  --request-cpus N     their processors\n"
		"  --accel auto|kvm|tcg\n"
		"  --quiet              no warnings, notes or progress\n",
	.run = run_image_template,
};
