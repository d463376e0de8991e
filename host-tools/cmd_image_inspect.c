/* jobvm image inspect: what a guest image is made of. */
#include <stdio.h>
#include <stdlib.h>

#include "host-tools/exitcodes.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "imagebuilder/image.h"
#include "imagebuilder/verify.h"

static void show_line(const char *name, const char *value)
{
	printf("%-13s", name);
	print_escaped(stdout, value);
	putchar('\n');
}

/* One line for each item; none for an empty list. */
static void show_list(const char *name, char *const *list)
{
	for (; list && *list; list++, name = "")
		show_line(name, *list);
}

static void show(const struct image *image)
{
	show_line("image", image->directory);
	show_line("architecture", image->architecture);
	show_line("machine", image->machine);
	show_line("release", image->release);
	show_line("kernel", image->kernel);
	show_line("initrd", image->initrd ? image->initrd : "none");
	show_line("root", image->root);
	show_list("environment", image->defaults.environment);
	show_list("entrypoint", image->defaults.entrypoint);
	show_list("command", image->defaults.command);
}

static int run_image_inspect(int argc, char **argv)
{
	struct arguments arguments;
	struct image image;
	struct error error;
	bool as_json = false;
	const struct option options[] = {{0, "json", OPTION_FLAG, &as_json}, {.name = NULL}};

	options_parse(&command_image_inspect, argc, argv, options, false, &arguments);
	if (arguments.command || arguments.positional.count != 1)
		message_usage("image inspect", "exactly one image directory is needed");
	int failed = image_load(arguments.positional.items[0], &image, &error);
	arguments_free(&arguments);
	if (!failed && image_verify(&image, NULL, &error)) {
		image_free(&image);
		failed = -1;
	}
	if (failed) {
		message_error("%s", error.text);
		return EXIT_JOBVM_FAILED;
	}
	if (as_json)
		fputs(image.json, stdout);
	else
		show(&image);
	image_free(&image);
	return finish_stdout();
}

const struct command command_image_inspect = {
	.name = "image inspect",
	.summary = "show what a guest image is made of",
	.usage =
		"Usage: jobvm image inspect [--json] IMAGEDIR\n"
		"Check a guest image's parts against their digests and show what it is made of.\n\n"
		"  --json               image.json itself, with digests and sources\n"
		"  --quiet              no warnings or notes\n",
	.run = run_image_inspect,
};
