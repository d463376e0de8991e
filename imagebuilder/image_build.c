#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fsimage/epoch.h"
#include "fsimage/writer.h"
#include "imagebuilder/files.h"
#include "imagebuilder/image.h"
#include "imagebuilder/image_json.h"
#include "imagebuilder/initrd.h"
#include "imagebuilder/kernel.h"
#include "imagebuilder/payload.h"
#include "jobdisk/layout.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define KERNEL_FILE "kernel"
#define INITRD_FILE "initrd"
#define ROOT_FILE   "root.img"

/* All files of an image. */
static const char *const image_files[] = {KERNEL_FILE, INITRD_FILE, ROOT_FILE, IMAGE_JSON};

struct build {
	const struct image_build_options *options;
	char *output; /* the image's name without slashes at its end */
	const char *stage;
	time_t now, latest; /* SOURCE_DATE_EPOCH; without it 0 and the end of time */
	char *directory;    /* the image until it is complete */
	int directory_fd;
	struct kernel_info kernel;
	struct stat kernel_stat; /* of the file that KERNEL is about */
	struct module_list modules;
	struct root_tree tree;
	struct image_facts facts;
	char shown[PATH_MAX];
};

static void report(void *context, const struct fstotals *done)
{
	const struct build *build = context;

	if (build->options->progress)
		build->options->progress(build->options->progress_context, build->stage, done);
}

/* A file of the image by the name that the user knows; valid until the next call. */
static const char *shown_name(struct build *build, const char *file)
{
	snprintf(build->shown, sizeof(build->shown), "%s/%s", build->output, file);
	return build->shown;
}

/* --- before anything is made --- */

static int output_exists(const struct build *build, struct error *error)
{
	return error_set(error, "%s: exists already", build->output);
}

static int check_output(struct build *build, struct error *error)
{
	size_t length = strlen(build->options->output);
	struct stat stat;

	while (length > 1 && build->options->output[length - 1] == '/')
		length--;
	build->output = strndup(build->options->output, length);
	if (!build->output)
		return error_set(error, "out of memory");
	if (lstat(build->output, &stat) == 0)
		return output_exists(build, error);
	if (errno != ENOENT)
		return error_errno(error, "%s", build->output);
	return 0;
}

static int read_epoch(struct build *build, struct error *error)
{
	struct epoch epoch;

	if (epoch_read(&epoch, error))
		return -1;
	build->now = epoch.seconds;
	build->latest = epoch.is_set ? epoch.seconds : INT64_MAX;
	return 0;
}

static int inspect_inputs(struct build *build, struct error *error)
{
	const struct image_build_options *options = build->options;
	uint64_t size_bytes;
	int kernel_fd = files_open(options->kernel, &size_bytes, error);

	if (kernel_fd < 0)
		return -1;
	int result = kernel_inspect(kernel_fd, options->kernel, &build->kernel, error);
	if (!result && fstat(kernel_fd, &build->kernel_stat))
		result = error_errno(error, "stat %s", options->kernel);
	close(kernel_fd);
	if (result)
		return -1;
	if (options->modules &&
	    modules_resolve(options->modules, build->kernel.release, &build->modules, error))
		return -1;

	int init_fd = files_open(options->init, &size_bytes, error);
	if (init_fd < 0)
		return -1;
	result = digest_file(init_fd, options->init, build->facts.init_sha256, error);
	close(init_fd);
	return result;
}

static int make_directory(struct build *build, struct error *error)
{
	if (asprintf(&build->directory, "%s.XXXXXX", build->output) < 0) {
		build->directory = NULL;
		return error_set(error, "out of memory");
	}
	if (!mkdtemp(build->directory)) {
		error_errno(error, "make %s", build->output);
		free(build->directory);
		build->directory = NULL;
		return -1;
	}
	build->directory_fd = open(build->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (build->directory_fd < 0 || fchmod(build->directory_fd, 0755))
		return error_errno(error, "open %s", build->directory);
	return 0;
}

/* --- the parts --- */

/* The mode does not depend on the umask. */
static int create_file(struct build *build, const char *file, struct error *error)
{
	int fd = openat(build->directory_fd, file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd >= 0 && fchmod(fd, 0644) == 0)
		return fd;
	error_errno(error, "create %s", shown_name(build, file));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Closes a complete file of the image; after it, a crash does not tear the file. */
static int finish_file(struct build *build, const char *file, int fd, int result,
		       struct error *error)
{
	if (!result && fsync(fd))
		result = error_errno(error, "sync %s", shown_name(build, file));
	close(fd);
	return result;
}

/* The same, and describes the file. */
static int finish_part(struct build *build, const char *file, int fd, int result,
		       struct image_part *part, struct error *error)
{
	struct stat stat;

	if (!result && fstat(fd, &stat))
		result = error_errno(error, "stat %s", shown_name(build, file));
	if (!result) {
		part->file = file;
		part->size_bytes = (uint64_t)stat.st_size;
		result = digest_file(fd, shown_name(build, file), part->sha256, error);
	}
	return finish_file(build, file, fd, result, error);
}

/*
 * A kernel for any machine, as distributions have it, finds its devices by PCI and ACPI and gets
 * PID 1 from an initrd. One that has all it needs built in starts it from the root.
 */
static bool needs_initrd(const struct build *build)
{
	return build->kernel.compressed || build->options->modules;
}

static int make_root_tree(struct build *build, struct error *error)
{
	const struct root_tree_options options = {
		.from = build->options->from,
		.now = build->now,
		.latest = build->latest,
		.spool_directory_fd = build->directory_fd,
		.spool_name = build->output,
		.progress = report,
		.progress_context = build,
	};

	if (root_tree_build(&options, &build->tree, error))
		return -1;
	if (!needs_initrd(build) &&
	    root_tree_add_init(&build->tree, build->options->init, build->now, error))
		return -1;
	return 0;
}

static int make_root_image(struct build *build, struct error *error)
{
	struct fsimage_options options = {
		.label = ROOTDISK_LABEL,
		.size_bytes = build->options->root_bytes,
		.now = build->now,
		.progress = report,
		.progress_context = build,
	};
	int fd = create_file(build, ROOT_FILE, error);

	if (fd < 0)
		return -1;
	memcpy(options.uuid, build->tree.uuid, sizeof(options.uuid));
	int result =
		fsimage_write(build->tree.tree, fd, shown_name(build, ROOT_FILE), &options, error);
	return finish_part(build, ROOT_FILE, fd, result, &build->facts.root, error);
}

/* As a vmlinux where it can be: it boots faster (bench/start-min). */
static int copy_kernel(struct build *build, int source_fd, uint64_t size_bytes, int fd,
		       struct error *error)
{
	const char *source = build->options->kernel, *name = shown_name(build, KERNEL_FILE);
	int extracted = 0;

	if (build->kernel.compressed)
		extracted = payload_extract(source_fd, source, fd, name, error);
	if (extracted)
		return extracted < 0 ? -1 : 0;
	return files_copy(source_fd, source, fd, name, size_bytes, error);
}

/* The release and the modules are those of the file that was looked at. */
static int check_kernel(const struct build *build, int fd, struct error *error)
{
	const struct stat *before = &build->kernel_stat;
	struct stat now;

	if (fstat(fd, &now))
		return error_errno(error, "stat %s", build->options->kernel);
	if (now.st_dev == before->st_dev && now.st_ino == before->st_ino &&
	    now.st_size == before->st_size && now.st_mtim.tv_sec == before->st_mtim.tv_sec &&
	    now.st_mtim.tv_nsec == before->st_mtim.tv_nsec)
		return 0;
	return error_set(error, "%s: changed while the image was built", build->options->kernel);
}

static int make_kernel(struct build *build, struct error *error)
{
	const char *source = build->options->kernel;
	uint64_t size_bytes;
	int source_fd = files_open(source, &size_bytes, error);
	int fd = source_fd < 0 ? -1 : create_file(build, KERNEL_FILE, error);
	int result = -1;

	if (fd >= 0) {
		result = copy_kernel(build, source_fd, size_bytes, fd, error);
		/* After a failure too, which may come from the change. */
		if (check_kernel(build, source_fd, error))
			result = -1;
		result = finish_part(build, KERNEL_FILE, fd, result, &build->facts.kernel, error);
	}
	if (source_fd >= 0)
		close(source_fd);
	return result;
}

/* The modules as files, and the list by which PID 1 loads them. */
static int add_modules(struct initrd *initrd, const struct module_list *modules,
		       struct error *error)
{
	char order[4096] = ""; /* more than PID 1 reads would be lost */
	size_t length = 0;

	if (initrd_add_directory(initrd, INITRD_MODULES, 0755, error))
		return -1;
	for (size_t i = 0; i < modules->count; i++) {
		const char *name = module_file_name(&modules->items[i]);
		char path[PATH_MAX];

		snprintf(path, sizeof(path), INITRD_MODULES "/%s", name);
		if (initrd_add_file(initrd, path, 0644, modules->items[i].path, error))
			return -1;
		length += (size_t)snprintf(order + length, sizeof(order) - length, "%s\n", name);
		if (length >= sizeof(order))
			return error_set(error, "%s: too many modules", initrd->name);
	}
	return initrd_add_bytes(initrd, INITRD_MODULE_ORDER, 0644, order, length, error);
}

static int fill_initrd(const struct build *build, struct initrd *initrd, struct error *error)
{
	if (initrd_add_directory(initrd, "/dev", 0755, error) ||
	    initrd_add_character_device(initrd, "/dev/console", 0600, 5, 1, error) ||
	    initrd_add_character_device(initrd, "/dev/null", 0666, 1, 3, error) ||
	    initrd_add_file(initrd, "/init", 0755, build->options->init, error))
		return -1;
	if (build->modules.count > 0 && add_modules(initrd, &build->modules, error))
		return -1;
	return initrd_finish(initrd, error);
}

static int make_initrd(struct build *build, struct error *error)
{
	struct initrd initrd = {.fd = -1};

	if (!needs_initrd(build))
		return 0;
	initrd.fd = create_file(build, INITRD_FILE, error);
	if (initrd.fd < 0)
		return -1;
	initrd.name = shown_name(build, INITRD_FILE);
	int result = fill_initrd(build, &initrd, error);
	return finish_part(build, INITRD_FILE, initrd.fd, result, &build->facts.initrd, error);
}

static const struct stage {
	const char *name;
	int (*run)(struct build *build, struct error *error);
} stages[] = {
	{"root tree", make_root_tree},
	{"root image", make_root_image},
	{"kernel", make_kernel},
	{"initrd", make_initrd},
};

static int run_stages(struct build *build, struct error *error)
{
	for (size_t i = 0; i < COUNT(stages); i++) {
		build->stage = stages[i].name;
		report(build, &(struct fstotals){0});
		if (stages[i].run(build, error))
			return -1;
	}
	return 0;
}

static int describe(struct build *build, struct error *error)
{
	int fd = create_file(build, IMAGE_JSON, error);

	if (fd < 0)
		return -1;
	build->facts.machine = needs_initrd(build) ? MACHINE_PC : MACHINE_MICROVM;
	build->facts.release = build->kernel.release;
	build->facts.modules = &build->modules;
	build->facts.tree = &build->tree;
	int result = image_json_write(&build->facts, fd, shown_name(build, IMAGE_JSON), error);
	return finish_file(build, IMAGE_JSON, fd, result, error);
}

/* --- the end --- */

static int rename_new(const char *from, const char *to)
{
	int result = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);

	/* File systems without RENAME_NOREPLACE (NFS): can replace an empty directory at most. */
	if (result && errno == EINVAL)
		result = rename(from, to);
	return result;
}

/* Makes the image appear under its name, which then survives a crash. */
static int publish(struct build *build, struct error *error)
{
	if (fsync(build->directory_fd))
		return error_errno(error, "sync %s", build->output);
	if (rename_new(build->directory, build->output)) {
		if (errno == EEXIST || errno == ENOTEMPTY)
			return output_exists(build, error);
		return error_errno(error, "rename %s to %s", build->directory, build->output);
	}
	int parent_fd = openat(build->directory_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* The image is there and whole: failing to sync its name is no reason to call it absent. */
	if (parent_fd >= 0) {
		fsync(parent_fd);
		close(parent_fd);
	}
	return 0;
}

static void discard(const struct build *build)
{
	for (size_t i = 0; build->directory_fd >= 0 && i < COUNT(image_files); i++)
		unlinkat(build->directory_fd, image_files[i], 0);
	rmdir(build->directory);
}

static int build_image(struct build *build, struct error *error)
{
	if (check_output(build, error) || read_epoch(build, error) ||
	    inspect_inputs(build, error) || make_directory(build, error) ||
	    run_stages(build, error) || describe(build, error) || publish(build, error))
		return -1;
	return 0;
}

int image_build(const struct image_build_options *options, struct error *error)
{
	struct build build = {.options = options, .directory_fd = -1};
	int result = build_image(&build, error);

	if (result && build.directory)
		discard(&build);
	if (build.directory_fd >= 0)
		close(build.directory_fd);
	free(build.directory);
	free(build.output);
	root_tree_free(&build.tree);
	modules_free(&build.modules);
	return result;
}
