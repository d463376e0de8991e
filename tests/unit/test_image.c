/* Guest images: kernels told apart, image.json read and refused, whole images built and torn. */
#include <dirent.h>
#include <elf.h>

#include "fsimage/reader.h"
#include "imagebuilder/image.h"
#include "imagebuilder/kernel.h"
#include "imagebuilder/verify.h"
#include "jobdisk/layout.h"
#include "tests/unit/scratch.h"

/* --- kernels --- */

#define VERSION_OFFSET 0x300

/* A bzImage's header and version string, without a kernel. */
static void write_bzimage(const char *path, const char *version, uint8_t xloadflags)
{
	uint8_t image[0x400] = {0};

	memcpy(image + 0x202, "HdrS", 4);
	image[0x206] = 0x0f, image[0x207] = 0x02;
	image[0x20e] = (VERSION_OFFSET - 0x200) & 0xff;
	image[0x20f] = (VERSION_OFFSET - 0x200) >> 8;
	image[0x236] = xloadflags;
	snprintf((char *)image + VERSION_OFFSET, sizeof(image) - VERSION_OFFSET, "%s", version);
	scratch_write(path, image, sizeof(image));
}

static void write_vmlinux(const char *path, unsigned machine, const char *text)
{
	struct {
		Elf64_Ehdr header;
		char text[128];
	} elf = {.header = {.e_machine = (Elf64_Half)machine}};

	memcpy(elf.header.e_ident, ELFMAG, SELFMAG);
	elf.header.e_ident[EI_CLASS] = ELFCLASS64;
	snprintf(elf.text, sizeof(elf.text), "%s", text);
	scratch_write(path, &elf, sizeof(elf));
}

static int inspect(const char *path, struct kernel_info *info, struct error *error)
{
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	int result = kernel_inspect(fd, path, info, error);
	close(fd);
	return result;
}

static void kernels_name_their_release(void **state)
{
	struct kernel_info info;
	struct error error;

	(void)state;
	write_bzimage("bzImage", "6.1.0-56-cloud (build@host) #1 SMP", 1);
	assert_int_equal(inspect("bzImage", &info, &error), 0);
	assert_string_equal(info.release, "6.1.0-56-cloud");
	assert_true(info.compressed);

	write_vmlinux("vmlinux", EM_X86_64, "Linux version %s; Linux version 6.1.9 (build@host)");
	assert_int_equal(inspect("vmlinux", &info, &error), 0);
	assert_string_equal(info.release, "6.1.9");
	assert_false(info.compressed);
}

static void assert_no_kernel(const char *path, const char *expected)
{
	struct kernel_info info;
	struct error error;

	assert_int_equal(inspect(path, &info, &error), -1);
	assert_string_equal(error.text, expected);
}

static void other_files_are_no_kernels(void **state)
{
	(void)state;
	write_bzimage("i386", "6.1.0", 0);
	assert_no_kernel("i386", "i386: not a kernel for x86_64");
	write_bzimage("nameless", "", 1);
	assert_no_kernel("nameless", "nameless: its header names no kernel release");
	write_vmlinux("arm64", EM_AARCH64, "Linux version 6.1.9 ");
	assert_no_kernel("arm64", "arm64: not a kernel for x86_64");
	write_vmlinux("program", EM_X86_64, "Linux version %s");
	assert_no_kernel("program", "program: not a Linux kernel (no \"Linux version \" in it)");
	scratch_write_text("text", "hello");
	assert_no_kernel("text", "text: neither a bzImage nor an ELF vmlinux");
	scratch_write_text("empty", "");
	assert_no_kernel("empty", "empty: is empty");
}

/* --- loading --- */

/* What image_build writes, as far as image_load reads it. */
static const char good_json[] =
	"{\"format_version\": 1, \"architecture\": \"x86_64\", \"machine\": \"pc\",\n"
	" \"kernel\": {\"file\": \"kernel\", \"release\": \"6.1.0\", \"size_bytes\": 6,\n"
	"  \"sha256\": \"6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c\"},\n"
	" \"initrd\": {\"file\": \"initrd\", \"size_bytes\": 7,\n"
	"  \"sha256\": \"92ed92297a249e4f6684c16c22ea15c4cb5901699b7f565460c6e25455b9f7c8\"},\n"
	" \"root\": {\"file\": \"root.img\", \"size_bytes\": 4,\n"
	"  \"sha256\": \"4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2\"}}\n";

/* An image directory with good_json, its first FROM replaced by TO. */
static void write_image(const char *from, const char *to)
{
	char json[2048];
	const char *at = strstr(good_json, from);

	assert_non_null(at);
	snprintf(json, sizeof(json), "%.*s%s%s", (int)(at - good_json), good_json, to,
		 at + strlen(from));
	scratch_write_text("image/image.json", json);
	scratch_write_text("image/kernel", "kernel");
	scratch_write_text("image/initrd", "initrd!");
	scratch_write_text("image/root.img", "root");
}

static void assert_load_fails_with(const char *directory, const char *expected)
{
	struct image image;
	struct error error;

	assert_int_equal(image_load(directory, &image, &error), -1);
	assert_string_equal(error.text, expected);
	assert_null(image.kernel);
}

static void good_image_is_loaded(void **state)
{
	struct image image;
	struct error error;

	(void)state;
	write_image("", "");
	assert_int_equal(image_load("image", &image, &error), 0);
	assert_string_equal(image.directory, "image");
	assert_string_equal(image.kernel, "image/kernel");
	assert_string_equal(image.initrd, "image/initrd");
	assert_string_equal(image.root, "image/root.img");
	assert_string_equal(image.release, "6.1.0");
	assert_string_equal(image.machine, "pc");
	assert_string_equal(image.architecture, "x86_64");
	assert_non_null(strstr(image.json, "\"size_bytes\": 7"));
	image_free(&image);

	write_image(
		"{\"file\": \"initrd\", \"size_bytes\": 7,\n"
		"  \"sha256\": \"92ed92297a249e4f6684c16c22ea15c4cb5901699b7f565460c6e25455b9f7c8\"}",
		"null");
	assert_int_equal(image_load("image", &image, &error), 0);
	assert_null(image.initrd);
	image_free(&image);
}

static void missing_image_says_how_to_make_one(void **state)
{
	(void)state;
	assert_load_fails_with("image", "image: no such guest image; make one with `jobvm image "
					"build -o image`");
	assert_int_equal(mkdir("image", 0755), 0);
	assert_load_fails_with("image", "image: not a guest image (no image.json in it)");
	scratch_write_text("file", "");
	assert_load_fails_with("file", "file: cannot open guest image: Not a directory");
}

static void bad_image_json_is_refused_by_field(void **state)
{
	static const struct {
		const char *from, *to, *expected;
	} cases[] = {
		{"1", "2", "'format_version' is 2, but this jobvm reads 1"},
		{"1", "\"1\"", "'format_version' is not a whole number"},
		{"\"machine\": \"pc\",", "", "'machine' is missing"},
		{"\"pc\"", "\"isapc\"", "'machine' is 'isapc', which this jobvm does not know"},
		{"x86_64", "mips", "'architecture' is 'mips', which this jobvm does not know"},
		{"\"6.1.0\"", "6", "'kernel.release' is not a string"},
		{"\"release\"", "\"released\"", "'kernel.release' is missing"},
		{"\"root\"", "\"toor\"", "'root.file' is missing"},
		{"\"initrd\": {", "\"dirtni\": {", "'initrd.file' is missing"},
		{"\"initrd\", ", "\"../initrd\", ",
		 "'initrd.file' is not the name of a file in the image"},
		{"\"root.img\"", "\"..\"", "'root.file' is not the name of a file in the image"},
		{"\"root.img\"", "\"r\"", "'root.file': image/r: No such file or directory"},
		{"\"sha256\"", "\"md5\"", "'kernel.sha256' is missing"},
		{"\"size_bytes\": 4", "\"size_bytes\": 5",
		 "'root.size_bytes' is 5, but image/root.img has 4 bytes"},
	};
	char expected[256];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_image(cases[i].from, cases[i].to);
		snprintf(expected, sizeof(expected), "image/image.json: %s", cases[i].expected);
		assert_load_fails_with("image", expected);
	}
	write_image("\"x86_64\",", "\"x86_64\"");
	struct image image;
	struct error error;
	assert_int_equal(image_load("image", &image, &error), -1);
	assert_memory_equal(error.text, "image/image.json:1: ", strlen("image/image.json:1: "));
}

static void link_out_of_the_image_is_refused(void **state)
{
	(void)state;
	write_image("", "");
	scratch_write_text("elsewhere", "root");
	assert_int_equal(unlink("image/root.img"), 0);
	assert_int_equal(symlink("../elsewhere", "image/root.img"), 0);
	assert_load_fails_with(
		"image", "image/image.json: 'root.file': image/root.img is not a regular file");
}

/* --- verifying --- */

/* Verifies the image in `image`; NULL: whole, else the error's text. */
static const char *verify(const char *memory)
{
	static struct error error;
	struct image image;

	assert_int_equal(image_load("image", &image, &error), 0);
	int result = image_verify(&image, memory, &error);
	image_free(&image);
	return result ? error.text : NULL;
}

/* Writes bytes of the same number over a part and gives it its times back, but for ctime. */
static void damage(const char *path, const char *text)
{
	struct stat stat;

	assert_int_equal(lstat(path, &stat), 0);
	scratch_write_text(path, text);
	assert_int_equal(
		utimensat(AT_FDCWD, path, (struct timespec[]){stat.st_atim, stat.st_mtim}, 0), 0);
}

static void changed_part_is_named(void **state)
{
	(void)state;
	write_image("", "");
	assert_null(verify(NULL));
	damage("image/initrd", "initrd?");
	assert_string_equal(verify(NULL), "image/initrd: the image's initrd is damaged or was "
					  "changed since it was built");
	write_image("", "");
	damage("image/root.img", "boot");
	assert_string_equal(verify(NULL), "image/root.img: the image's root is damaged or was "
					  "changed since it was built");
}

static size_t size_of(const char *path)
{
	struct stat stat;

	assert_int_equal(lstat(path, &stat), 0);
	return (size_t)stat.st_size;
}

static void whole_parts_are_remembered(void **state)
{
	(void)state;
	write_image("", "");
	/* What was written just now may be written again in the same tick of its time. */
	assert_null(verify("memory"));
	assert_int_equal(size_of("memory"), 0);
	sleep(4);
	assert_null(verify("memory"));
	size_t remembered = size_of("memory");
	assert_true(remembered > 3 * 64);
	assert_null(verify("memory"));
	assert_int_equal(size_of("memory"), remembered);
	damage("image/kernel", "KERNEL");
	assert_string_equal(verify("memory"), "image/kernel: the image's kernel is damaged or was "
					      "changed since it was built");
}

/* What others could have written is not believed: here, that another image's parts are whole. */
static void foreign_memory_is_not_believed(void **state)
{
	(void)state;
	write_image("", "");
	sleep(4);
	assert_null(verify("memory"));
	size_t remembered = size_of("memory");
	assert_int_equal(chmod("memory", 0666), 0);
	assert_null(verify("memory"));
	assert_int_equal(size_of("memory"), remembered);
	assert_int_equal(symlink("memory", "link"), 0);
	assert_null(verify("link"));
	assert_null(verify("no/such/directory"));
}

/* --- building --- */

static int build(const char *output, const char *const *from, struct error *error)
{
	struct image_build_options options = {
		.output = output,
		.from = from,
		.kernel = "bzImage",
		.init = "init",
	};

	write_bzimage("bzImage", "6.1.0 (build@host)", 1);
	scratch_write_text("init", "#!init");
	return image_build(&options, error);
}

static void build_or_fail(const char *output, const char *const *from)
{
	struct error error;

	if (build(output, from, &error))
		fail_msg("%s", error.text);
}

/* How many names the current directory has. */
static size_t count_names(void)
{
	struct dirent **names;
	int count = scandir(".", &names, NULL, NULL);

	assert_true(count >= 0);
	for (int i = 0; i < count; i++)
		free(names[i]);
	free(names);
	return (size_t)count;
}

static struct fsimage *open_root(const char *path)
{
	struct error error;
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	struct fsimage *root = fsimage_open(fd, path, ROOTDISK_LABEL, &error);
	if (!root)
		fail_msg("%s", error.text);
	return root;
}

static struct fsstat stat_in(struct fsimage *root, const char *path)
{
	struct fsstat stat;
	struct error error;

	assert_int_equal(fsimage_lookup(root, path, &stat, &error), 0);
	return stat;
}

static void assert_text_in(struct fsimage *root, const char *path, const char *expected)
{
	struct error error;
	char text[64] = "";
	struct fsstat stat = stat_in(root, path);

	assert_true(S_ISREG(stat.mode));
	assert_int_equal(fsimage_read(root, stat.inode, 0, text, sizeof(text) - 1, &error),
			 strlen(expected));
	assert_string_equal(text, expected);
}

static void assert_absent_in(struct fsimage *root, const char *path)
{
	struct fsstat stat;
	struct error error;

	assert_int_equal(fsimage_lookup(root, path, &stat, &error), 1);
}

static void built_image_loads(void **state)
{
	const char *const from[] = {"tree", NULL};
	struct image image;
	struct error error;

	(void)state;
	scratch_write_text("tree/etc/hostname", "jobvm\n");
	build_or_fail("image//", from);
	assert_int_equal(image_load("image", &image, &error), 0);
	assert_string_equal(image.release, "6.1.0");
	assert_string_equal(image.machine, "pc");
	assert_non_null(image.initrd);
	assert_non_null(strstr(image.json, "\"label\": \"JOBVM-ROOT\""));
	/* printf '#!init' | sha256sum */
	assert_non_null(
		strstr(image.json,
		       "\"init\": {\n    \"sha256\": "
		       "\"eba9caa747df62d46b0b0517534c4fd8daaa5ede160794e808de2ae4bda5b25b\""));
	/* directory, file */
	assert_non_null(strstr(image.json, "\"nodes\": 2"));
	image_free(&image);

	struct stat stat;
	assert_int_equal(lstat("image", &stat), 0);
	assert_int_equal(stat.st_mode, S_IFDIR | 0755);
	assert_int_equal(lstat("image/kernel", &stat), 0);
	assert_int_equal(stat.st_mode, S_IFREG | 0644);
	assert_int_equal(stat.st_size, 0x400);
}

/* A kernel that needs no modules starts PID 1 from the root. */
static void image_of_a_vmlinux_has_no_initrd(void **state)
{
	const char *const from[] = {"tree", NULL};
	const struct image_build_options options = {
		.output = "image", .from = from, .kernel = "vmlinux", .init = "init"};
	struct image image;
	struct error error;

	(void)state;
	scratch_write_text("tree/file", "");
	scratch_write_text("init", "#!init");
	write_vmlinux("vmlinux", EM_X86_64, "Linux version 6.1.9 ");
	assert_int_equal(image_build(&options, &error), 0);
	assert_int_equal(image_load("image", &image, &error), 0);
	assert_null(image.initrd);
	assert_string_equal(image.machine, "microvm");
	image_free(&image);
	assert_int_equal(access("image/initrd", F_OK), -1);

	struct fsimage *root = open_root("image/root.img");
	assert_int_equal(stat_in(root, ".jobvm").mode, S_IFDIR | 0555);
	assert_int_equal(stat_in(root, ".jobvm/init").mode, S_IFREG | 0555);
	assert_text_in(root, ".jobvm/init", "#!init");
	fsimage_close(root);

	scratch_write_text("tree/.jobvm/init", "the source's own");
	assert_int_equal(rename("image", "old"), 0);
	assert_int_equal(image_build(&options, &error), -1);
	assert_string_equal(error.text, "a source has /.jobvm, which jobvm needs for itself");
}

/* --- builds during which things happen --- */

struct event {
	const char *stage;
	void (*act)(void);
	struct fstotals last;
};

static void watch(void *context, const char *stage, const struct fstotals *done)
{
	struct event *event = context;

	if (event->act && strcmp(stage, event->stage) == 0) {
		event->act();
		event->act = NULL;
	}
	if (strcmp(stage, event->stage) == 0)
		event->last = *done;
}

static int build_watched(struct event *event, const char *from, struct error *error)
{
	const char *const sources[] = {from, NULL};
	const struct image_build_options options = {
		.output = "image",
		.from = sources,
		.kernel = "bzImage",
		.init = "init",
		.progress = watch,
		.progress_context = event,
	};

	write_bzimage("bzImage", "6.1.0 (build@host)", 1);
	scratch_write_text("init", "#!init");
	return image_build(&options, error);
}

static void progress_counts_bytes_and_files(void **state)
{
	struct event tree = {.stage = "root tree"}, image = {.stage = "root image"};
	struct error error;
	char data[5000];

	(void)state;
	memset(data, 'x', sizeof(data));
	scratch_write("tree/file", data, sizeof(data));
	assert_int_equal(build_watched(&tree, "tree", &error), 0);
	/* The root counts. */
	assert_int_equal(tree.last.nodes, 2);
	assert_int_equal(tree.last.data_bytes, 5000);
	assert_int_equal(rename("image", "old"), 0);
	assert_int_equal(build_watched(&image, "tree", &error), 0);
	/* And now the mount points. */
	assert_int_equal(image.last.nodes, 11);
	assert_int_equal(image.last.data_bytes, 5000);
}

static void grow(void)
{
	int fd = open("tree/file", O_WRONLY | O_APPEND);

	assert_int_equal(write(fd, "more", 4), 4);
	close(fd);
}

static void shrink(void)
{
	assert_int_equal(truncate("tree/file", 1), 0);
}

static void replace_by_fifo(void)
{
	assert_int_equal(unlink("tree/file"), 0);
	assert_int_equal(mkfifo("tree/file", 0600), 0);
}

static void take_away(void)
{
	assert_int_equal(unlink("tree/file"), 0);
}

static void shrink_kernel(void)
{
	assert_int_equal(truncate("bzImage", 0x300), 0);
}

/* Between the look at a file and its copy anything may become of it. */
static void file_that_changes_is_refused(void **state)
{
	static void (*const changes[])(void) = {grow, shrink, replace_by_fifo, take_away};
	struct error error;

	(void)state;
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		struct event event = {.stage = "root image", .act = changes[i]};
		unlink("tree/file");
		scratch_write_text("tree/file", "some text");
		assert_int_equal(build_watched(&event, "tree", &error), -1);
		assert_string_equal(error.text, "tree/file: changed while it was being packed");
		assert_int_equal(count_names(), 5);
	}
	struct event event = {.stage = "kernel", .act = shrink_kernel};
	scratch_write_text("tree/file", "some text");
	assert_int_equal(build_watched(&event, "tree", &error), -1);
	assert_string_equal(error.text, "bzImage: changed while the image was built");
	assert_int_equal(count_names(), 5);
}

static void mount_point_of_another_type_is_refused(void **state)
{
	const char *const from[] = {"tree", NULL};
	struct error error;

	(void)state;
	scratch_write_text("tree/proc", "a file");
	assert_int_equal(build("image", from, &error), -1);
	assert_string_equal(error.text, "a source has /proc, which is not a directory, but every "
					"guest needs it as one");
	assert_int_equal(unlink("tree/proc"), 0);
	assert_int_equal(symlink("elsewhere", "tree/job"), 0);
	assert_int_equal(build("image", from, &error), -1);
	assert_string_equal(error.text, "a source has /job, which is not a directory, but every "
					"guest needs it as one");
	assert_int_equal(unlink("tree/job"), 0);
	/* What links elsewhere is the source's own matter. */
	assert_int_equal(symlink("usr/var", "tree/var"), 0);
	assert_int_equal(symlink("usr/tmp", "tree/tmp"), 0);
	build_or_fail("image", from);
	struct fsimage *root = open_root("image/root.img");
	assert_int_equal(stat_in(root, "var").mode, S_IFLNK | 0777);
	fsimage_close(root);
}

static void mount_points_are_made_where_missing(void **state)
{
	const char *const from[] = {"tree", NULL};

	(void)state;
	assert_int_equal(mkdir("tree", 0700), 0);
	assert_int_equal(mkdir("tree/tmp", 0700), 0);
	build_or_fail("image", from);
	struct fsimage *root = open_root("image/root.img");
	assert_int_equal(stat_in(root, "").mode, S_IFDIR | 0755);
	assert_int_equal(stat_in(root, "proc").mode, S_IFDIR | 0555);
	assert_int_equal(stat_in(root, "job").mode, S_IFDIR | 0755);
	assert_int_equal(stat_in(root, "var/tmp").mode, S_IFDIR | 01777);
	assert_int_equal(stat_in(root, "tmp").mode, S_IFDIR | 0700);
	assert_int_equal(stat_in(root, "proc").mtime.tv_sec, 0);
	fsimage_close(root);
}

static void later_sources_replace_earlier_ones(void **state)
{
	const char *const from[] = {"one", "two", "three", NULL};

	(void)state;
	scratch_write_text("one/both", "1");
	scratch_write_text("one/merged/first", "1");
	scratch_write_text("one/was_directory/lost", "1");
	scratch_write_text("one/was_file", "1");
	scratch_write_text("one/twice/lost", "1");
	scratch_write_text("two/both", "2");
	scratch_write_text("two/merged/second", "2");
	scratch_write_text("two/was_directory", "2");
	scratch_write_text("two/was_file/kept", "2");
	scratch_write_text("two/twice", "2");
	scratch_write_text("three/twice/kept", "3");
	assert_int_equal(chmod("two/merged", 0711), 0);
	build_or_fail("image", from);

	struct fsimage *root = open_root("image/root.img");
	assert_text_in(root, "both", "2");
	assert_text_in(root, "merged/first", "1");
	assert_text_in(root, "merged/second", "2");
	assert_int_equal(stat_in(root, "merged").mode, S_IFDIR | 0711);
	assert_text_in(root, "was_directory", "2");
	assert_text_in(root, "was_file/kept", "2");
	assert_text_in(root, "twice/kept", "3");
	assert_absent_in(root, "twice/lost");
	fsimage_close(root);
}

static void same_inputs_give_the_same_bytes(void **state)
{
	static const char *const files[] = {"kernel", "initrd", "root.img", "image.json"};
	const char *const first[] = {"one", NULL}, *const second[] = {"elsewhere/two", NULL};
	struct timespec times[2][2] = {{{.tv_sec = 2000}, {.tv_sec = 2000}},
				       {{.tv_sec = 3000}, {.tv_sec = 3000}}};

	(void)state;
	scratch_write_text("one/directory/file", "1");
	scratch_write_text("elsewhere/two/directory/file", "1");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(chdir(i ? "elsewhere/two" : "one"), 0);
		assert_int_equal(utimensat(AT_FDCWD, "directory/file", times[i], 0), 0);
		assert_int_equal(utimensat(AT_FDCWD, "directory", times[i], 0), 0);
		assert_int_equal(chdir(i ? "../.." : ".."), 0);
	}
	assert_int_equal(setenv("SOURCE_DATE_EPOCH", "1000", 1), 0);
	build_or_fail("first", first);
	mode_t umask_before = umask(077);
	build_or_fail("second", second);
	umask(umask_before);
	assert_int_equal(unsetenv("SOURCE_DATE_EPOCH"), 0);

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char path[64];
		size_t first_size, second_size;

		snprintf(path, sizeof(path), "first/%s", files[i]);
		char *first_bytes = scratch_read(path, &first_size);
		snprintf(path, sizeof(path), "second/%s", files[i]);
		char *second_bytes = scratch_read(path, &second_size);
		assert_int_equal(first_size, second_size);
		assert_memory_equal(first_bytes, second_bytes, first_size);
		free(first_bytes);
		free(second_bytes);
	}
	struct fsimage *root = open_root("first/root.img");
	assert_int_equal(stat_in(root, "directory").mtime.tv_sec, 1000);
	assert_int_equal(stat_in(root, "directory/file").mtime.tv_sec, 1000);
	fsimage_close(root);
}

static void failure_leaves_nothing(void **state)
{
	const char *const tar[] = {"tree", "tree.tar", NULL}, *const oci[] = {"oci:layout", NULL};
	const char *const absent[] = {"absent", NULL}, *const none[] = {NULL};
	struct error error;

	(void)state;
	scratch_write_text("tree/file", "1");
	scratch_write_text("tree.tar", "a tar file");
	scratch_write_text("exists/file", "");
	build_or_fail("image", none);
	size_t names = count_names();

	assert_int_equal(build("new", tar, &error), -1);
	assert_string_equal(error.text, "tree.tar: cannot be read as a tar archive: "
					"Unrecognized archive format");
	assert_int_equal(build("new", oci, &error), -1);
	assert_string_equal(error.text, "open layout: No such file or directory");
	assert_int_equal(build("new", absent, &error), -1);
	assert_string_equal(error.text, "open absent: No such file or directory");
	assert_int_equal(build("exists", none, &error), -1);
	assert_string_equal(error.text, "exists: exists already");
	assert_int_equal(setenv("SOURCE_DATE_EPOCH", "today", 1), 0);
	assert_int_equal(build("new", none, &error), -1);
	assert_int_equal(unsetenv("SOURCE_DATE_EPOCH"), 0);
	assert_string_equal(error.text, "SOURCE_DATE_EPOCH: 'today' is not a number of seconds");
	assert_int_equal(count_names(), names);
	assert_int_equal(access("exists/file", F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(kernels_name_their_release),
		IN_SCRATCH(other_files_are_no_kernels),
		IN_SCRATCH(good_image_is_loaded),
		IN_SCRATCH(missing_image_says_how_to_make_one),
		IN_SCRATCH(bad_image_json_is_refused_by_field),
		IN_SCRATCH(link_out_of_the_image_is_refused),
		IN_SCRATCH(changed_part_is_named),
		IN_SCRATCH(whole_parts_are_remembered),
		IN_SCRATCH(foreign_memory_is_not_believed),
		IN_SCRATCH(built_image_loads),
		IN_SCRATCH(image_of_a_vmlinux_has_no_initrd),
		IN_SCRATCH(progress_counts_bytes_and_files),
		IN_SCRATCH(file_that_changes_is_refused),
		IN_SCRATCH(mount_point_of_another_type_is_refused),
		IN_SCRATCH(mount_points_are_made_where_missing),
		IN_SCRATCH(later_sources_replace_earlier_ones),
		IN_SCRATCH(same_inputs_give_the_same_bytes),
		IN_SCRATCH(failure_leaves_nothing),
	};

	/* Builds shall depend on the tests' own settings only. */
	unsetenv("SOURCE_DATE_EPOCH");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
