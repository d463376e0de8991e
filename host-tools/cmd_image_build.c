/* jobvm image build: makes a guest image. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fsimage/writer.h"
#include "host-tools/exitcodes.h"
#include "host-tools/find_image.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "host-tools/values.h"

#define KERNEL_TUNED "tuned"

/* What an image is made of that the user does not name; beside the executable or installed. */
struct parts {
	char init[PATH_MAX], kernel[PATH_MAX], modules[PATH_MAX];
	char skeleton[PATH_MAX], userland[PATH_MAX];
};

static int need_part(const char *name, char *path, size_t size)
{
	if (find_part(name, path, size) == 0)
		return 0;
	message_error("%s is missing: 'make' or 'make install' puts it there", path);
	return -1;
}

/* The kernels of ours, by their names for --kernel; anything else is a file. */
static int find_kernel(const char *kernel, struct parts *parts)
{
	parts->modules[0] = '\0';
	if (!kernel)
		return need_part("kernel/vmlinuz", parts->kernel, sizeof(parts->kernel)) ||
		       need_part("kernel/modules", parts->modules, sizeof(parts->modules));
	if (strcmp(kernel, KERNEL_TUNED) == 0)
		return need_part("kernel-tuned/vmlinux", parts->kernel, sizeof(parts->kernel));
	snprintf(parts->kernel, sizeof(parts->kernel), "%s", kernel);
	return 0;
}

static int find_parts(const char *kernel, const struct strings *from, struct parts *parts)
{
	if (need_part("init", parts->init, sizeof(parts->init)) ||
	    need_part("skeleton", parts->skeleton, sizeof(parts->skeleton)))
		return -1;
	if (find_kernel(kernel, parts))
		return -1;
	if (from->count == 0)
		return need_part("userland", parts->userland, sizeof(parts->userland));
	return 0;
}

static void show_progress(void *context, const char *stage, const struct fstotals *done)
{
	(void)context;
	if (done->nodes == 0)
		progress_show("%s", stage);
	else
		progress_show("%s: %" PRIu64 " MB, %" PRIu64 " files", stage,
			      done->data_bytes / 1000000, done->nodes);
}

/* What the command line says. */
struct request {
	const char *output, *kernel, *modules;
	uint64_t root_bytes; /* 0: as large as needed */
	struct strings from;
};

static int build(const struct request *request)
{
	const struct strings *from = &request->from;
	struct strings stack = {.count = 0};
	struct parts parts;
	struct error error;

	if (find_parts(request->kernel, from, &parts))
		return EXIT_JOBVM_FAILED;
	/* The skeleton is the lowest: what a user land brings of its own wins. */
	strings_add(&stack, parts.skeleton);
	if (from->count == 0)
		strings_add(&stack, parts.userland);
	for (size_t i = 0; i < from->count; i++)
		strings_add(&stack, from->items[i]);
	const struct image_build_options options = {
		.output = request->output,
		.from = (const char *const *)stack.items,
		.root_bytes = request->root_bytes,
		.kernel = parts.kernel,
		.modules = parts.modules[0] ? parts.modules : request->modules,
		.init = parts.init,
		.progress = show_progress,
	};
	progress_phase("building");
	int failed = image_build(&options, &error);
	progress_clear();
	if (failed)
		message_error("%s", error.text);
	strings_clear(&stack);
	return failed ? EXIT_JOBVM_FAILED : EXIT_SUCCESS;
}

static uint64_t root_size(const char *text)
{
	struct error error;
	uint64_t bytes;

	if (parse_size(text, 1, &bytes, &error) || fsimage_check_size(bytes, &error))
		message_usage("image build", "option '--size': %s", error.text);
	return bytes;
}

static void check_request(const struct request *request, const struct arguments *arguments)
{
	if (arguments->command || arguments->positional.count > 0)
		message_usage("image build", "unexpected argument: sources are given with --from");
	if (!request->output)
		message_usage("image build", "option '-o IMAGEDIR' is missing");
	if (request->modules && !request->kernel)
		message_usage("image build",
			      "option '--modules' needs the '--kernel' they belong to");
	if (request->modules && strcmp(request->kernel, KERNEL_TUNED) == 0)
		message_usage("image build", "the tuned kernel has no modules");
}

static int run_image_build(int argc, char **argv)
{
	struct request request = {.output = NULL};
	struct arguments arguments;
	const char *size = NULL;
	const struct option options[] = {
		{'o', "output", OPTION_VALUE, &request.output},
		{0, "from", OPTION_LIST, &request.from},
		{0, "size", OPTION_VALUE, &size},
		{0, "kernel", OPTION_VALUE, &request.kernel},
		{0, "modules", OPTION_VALUE, &request.modules},
		{.name = NULL},
	};

	options_parse(&command_image_build, argc, argv, options, false, &arguments);
	check_request(&request, &arguments);
	if (size)
		request.root_bytes = root_size(size);
	int exit_code = build(&request);
	strings_clear(&request.from);
	arguments_free(&arguments);
	return exit_code;
}

const struct command command_image_build = {
	.name = "image build",
	.summary = "make a guest image",
	.usage =
		"Usage: jobvm image build [OPTION]... -o IMAGEDIR\n"
		"Make a guest image from a root tree and a kernel.\n\n"
		"  -o IMAGEDIR          the image to make; must not exist\n"
		"  --from SOURCE        a root tree; several are stacked, the last on top\n"
		"                       (without it: BusyBox). SOURCE is\n"
		"                         DIR               a directory\n"
		"                         FILE, or -        a tar archive, plain or compressed by\n"
		"                                           gzip, bzip2, xz or zstd; - is stdin\n"
		"                         oci:DIR[:TAG]     an image of an OCI layout\n"
		"                         oci:FILE[:TAG]    the same in a tar archive\n"
		"  --size SIZE          of root.img, such as 2G (without it: what its contents need)\n"
		"  --kernel FILE        a bzImage or vmlinux (without it: Debian's cloud kernel)\n"
		"  --kernel tuned       the small kernel that 'make kernel' builds; a file of that\n"
		"                       name is ./tuned\n"
		"  --modules DIR        lib/modules/RELEASE of that kernel\n"
		"  --quiet              no progress\n\n"
		"Times later than SOURCE_DATE_EPOCH become it.\n",
	.run = run_image_build,
};
