/* A served tree, without the server: what is read, and what is not when the tree changes. */
#include "tests/unit/fsimage_helpers.h"

#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>

#include "host-tools/confine.h"
#include "host-tools/input_path.h"
#include "host-tools/lazy/export.h"
#include "jobdisk/layout.h"

#define BLOCK MAP_BLOCK_BYTES

/* --- helpers --- */

/* What was told of lost files. */
static struct {
	unsigned count;
	char text[ERROR_TEXT_BYTES];
} lost;

static void note_lost(void *context, const struct error *why)
{
	(void)context;
	lost.count++;
	snprintf(lost.text, sizeof(lost.text), "%s", why->text);
}

static struct export *try_export(struct strings *inputs)
{
	const struct export_options options = {
		.inputs = inputs, .uid = JOB_UID, .gid = JOB_GID, .lost = note_lost};

	lost.count = 0;
	lost.text[0] = '\0';
	test_error.text[0] = '\0';

	struct export *export = export_make(&options, &test_error);

	strings_clear(inputs);
	return export;
}

static struct export *export_inputs(struct strings *inputs)
{
	struct export *export = try_export(inputs);

	if (!export)
		fail_msg("%s", test_error.text);
	return export;
}

static struct export *export_tree(const char *path)
{
	struct strings inputs = {.items = NULL};

	strings_add(&inputs, path);
	return export_inputs(&inputs);
}

static uint64_t disk_bytes(const struct export *export)
{
	return export_map(export)->header->image_bytes;
}

/* Reads the disk into the file PATH, in pieces of PIECE bytes. */
static void save_disk(struct export *export, const char *path, uint64_t piece)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	uint8_t *bytes = malloc(piece);

	assert_true(fd >= 0 && bytes);
	for (uint64_t done = 0; done < disk_bytes(export); done += piece) {
		uint64_t size =
			disk_bytes(export) - done < piece ? disk_bytes(export) - done : piece;

		assert_success(export_read_disk(export, bytes, size, done, &test_error));
		assert_int_equal(pwrite(fd, bytes, size, (off_t)done), size);
	}
	free(bytes);
	close(fd);
}

/* The map's index of the file at PATH, and where its first block is on the disk. */
static uint32_t find_file(const struct export *export, const char *path, uint64_t *offset)
{
	const struct map *map = export_map(export);

	for (uint64_t i = 0; i < map->extent_count; i++) {
		const struct map_file *file = &map->files[map->extents[i].file];

		if (file->path_bytes != strlen(path) ||
		    memcmp(map->strings + file->path_offset, path, file->path_bytes) != 0)
			continue;
		*offset = (uint64_t)map->extents[i].start_block * BLOCK;
		return map->extents[i].file;
	}
	fail_msg("no file %s in the map", path);
	return 0;
}

/* Reads the beginning of a file: 0, and it is TEXT, or -1 when it is an error. */
static int read_text(struct export *export, const char *path, const char *text)
{
	char bytes[BLOCK];
	uint64_t offset;

	find_file(export, path, &offset);
	memset(bytes, 'x', sizeof(bytes));
	if (export_read_disk(export, bytes, sizeof(bytes), offset, &test_error))
		return -1;
	assert_string_equal(bytes, text);
	return 0;
}

/* --- the disk --- */

static void make_varied_tree(void)
{
	assert_int_equal(run("mkdir -p tree/d/e && seq 100000 >tree/d/numbers && "
			     "ln tree/d/numbers tree/link && printf tail >tree/d/e/tail && "
			     ": >tree/empty && ln -s /etc/passwd tree/symlink && "
			     "head -c 200000000 /dev/zero | tr '\\0' 'z' >tree/large && "
			     "truncate -s 1G tree/hole && mkfifo tree/fifo && "
			     "seq 9 | dd of=tree/hole bs=1 seek=7000000 conv=notrunc 2>dd.log && "
			     "for i in $(seq 300); do echo $i >tree/d/$i; done"),
			 0);
}

/* What `fsimage_write` makes of the same tree, with the data in it. */
static void write_real_image(const char *path, const char *source)
{
	static const struct epoch no_epoch;
	struct fsimport rules = input_rules(JOB_UID, JOB_GID, &no_epoch);
	struct fsimage_options options = {
		.label = INPUTDISK_LABEL, .uuid = "jobvm-tree-disk", .blocks_before_data = 32};
	struct stat status;

	assert_int_equal(stat(source, &status), 0);
	options.now = status.st_mtime;

	struct fsmeta root = {
		.mode = 0755, .uid = JOB_UID, .gid = JOB_GID, .mtime = status.st_mtim};
	struct fstree *tree = fstree_new(&root);

	assert_non_null(tree);
	assert_success(fstree_import_contents(tree, fstree_root(tree), AT_FDCWD, source, &rules,
					      &test_error));
	assert_success(write_image(tree, path, &options));
	fstree_free(tree);
}

static void the_disk_is_the_image(void **state)
{
	(void)state;
	make_varied_tree();
	write_real_image("real.img", "tree");

	struct export *export = export_tree("tree/");

	save_disk(export, "served.img", 1 << 20);
	assert_int_equal(run("cmp real.img served.img"), 0);
	save_disk(export, "served.img", 33333);
	assert_int_equal(run("cmp real.img served.img"), 0);
	assert_fsck_clean("served.img");

	/* The host reads it as it does a job disk. */
	struct opened opened = open_image("served.img");

	assert_int_equal(stat_in(opened.image, "d/numbers").size_bytes, 588895);
	close_image(&opened);
	assert_int_equal(lost.count, 0);
	export_free(export);
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* Each block is a file's, or metadata that the map has, or zero. */
static void the_map_says_what_is_where(void **state)
{
	(void)state;
	make_varied_tree();

	struct export *export = export_tree("tree/");
	const struct map *map = export_map(export);
	uint8_t *disk = malloc(disk_bytes(export));
	uint64_t end, data_blocks = 0, metadata_blocks = 0;

	assert_non_null(disk);
	assert_success(export_read_disk(export, disk, disk_bytes(export), 0, &test_error));
	for (uint64_t offset = 0; offset < disk_bytes(export); offset += BLOCK) {
		uint64_t extent = map_find_extent(map, offset / BLOCK);
		uint64_t range = map_find_metadata(map, offset / BLOCK);
		bool is_data = extent < map->extent_count &&
			       map->extents[extent].start_block <= offset / BLOCK;
		bool is_metadata = range < map->metadata_count &&
				   map->metadata[range].start_block <= offset / BLOCK;

		data_blocks += is_data;
		metadata_blocks += is_metadata;
		assert_false(is_data && is_metadata);
		if (!is_data)
			assert_int_equal(is_zero(disk + offset, BLOCK), !is_metadata);
		assert_int_equal(export_has_data(export, offset, &end), is_data || is_metadata);
		assert_true(end > offset && end <= disk_bytes(export) && end % BLOCK == 0);
	}
	free(disk);
	/* numbers, tail, large, hole, 300 small ones */
	assert_int_equal(map->file_count, 304);
	assert_int_equal(data_blocks, 144 + 1 + 48829 + 1 + 300);
	assert_true(metadata_blocks > 10);

	uint8_t *bytes = malloc(export_map_bytes(export));
	struct map parsed;

	assert_non_null(bytes);
	assert_success(export_read_map(export, bytes, export_map_bytes(export), 0, &test_error));
	assert_success(map_parse(bytes, export_map_bytes(export), &parsed, &test_error));
	free(bytes);
	export_free(export);
}

static void inputs_follow_the_slash_rule(void **state)
{
	struct strings inputs = {.items = NULL};

	(void)state;
	assert_int_equal(run("mkdir -p a/sub b/sub other && echo one >a/sub/one && "
			     "echo two >b/sub/two && echo three >other/three && "
			     "echo four >four && ln -s four alias && ln -s other way"),
			 0);
	strings_add(&inputs, "a/");
	strings_add(&inputs, "b/.");
	strings_add(&inputs, "other");
	strings_add(&inputs, "other/");
	strings_add(&inputs, "four");
	strings_add(&inputs, "alias");
	strings_add(&inputs, "way");

	struct export *export = export_inputs(&inputs);

	assert_success(read_text(export, "sub/one", "one\n"));
	assert_success(read_text(export, "sub/two", "two\n"));
	assert_success(read_text(export, "other/three", "three\n"));
	assert_success(read_text(export, "three", "three\n"));
	assert_success(read_text(export, "four", "four\n"));
	assert_success(read_text(export, "alias", "four\n"));
	assert_success(read_text(export, "way/three", "three\n"));
	export_free(export);
}

static void what_cannot_be_exported_is_an_error(void **state)
{
	struct strings inputs = {.items = NULL};

	(void)state;
	assert_null(try_export(&inputs));
	assert_string_equal(test_error.text, "there is no input");
	strings_add(&inputs, "nowhere/");
	assert_null(try_export(&inputs));
	assert_non_null(strstr(test_error.text, "'nowhere/'"));
	assert_int_equal(run("mkdir a b && echo 1 >a/x && echo 2 >b/x"), 0);
	strings_add(&inputs, "a/");
	strings_add(&inputs, "b/");
	assert_null(try_export(&inputs));
	assert_non_null(strstr(test_error.text, "x"));
}

/* Deeper than what the kernel takes as one path. */
static void deep_files_are_read(void **state)
{
	const unsigned depth = 50, name_bytes = 200;
	char name[256] = "tree", *path = calloc(depth, name_bytes + 1);
	int fd = open(".", O_PATH);

	(void)state;
	assert_non_null(path);
	for (unsigned i = 0; i < depth; i++) {
		assert_int_equal(mkdirat(fd, name, 0755), 0);

		int next = openat(fd, name, O_PATH);

		close(fd);
		fd = next;
		if (i)
			strcat(strcat(path, name), "/");
		memset(name, 'a' + (int)i % 20, name_bytes);
		name[name_bytes] = '\0';
	}

	int file = openat(fd, "file", O_WRONLY | O_CREAT, 0644);

	strcat(path, "file");
	assert_int_equal(write(file, "deep", 4), 4);
	close(file);

	struct export *export = export_tree("tree/");

	assert_success(read_text(export, path, "deep"));
	export_free(export);

	/* Also where it has gone: the error has the end of the path. */
	export = export_tree("tree/");
	assert_int_equal(unlinkat(fd, "file", 0), 0);
	assert_int_equal(read_text(export, path, "deep"), -1);
	assert_non_null(strstr(lost.text, "/file: has changed"));
	export_free(export);
	close(fd);
	free(path);
	assert_int_equal(run("rm -rf tree"), 0);
}

/* --- identity --- */

static void the_identity_is_of_the_tree(void **state)
{
	static const char *const changes[] = {
		"touch tree/d/1",
		"touch -d 2001-01-01 tree/d/1",
		"chmod 600 tree/d/2",
		"echo 3 >tree/d/3",
		"rm tree/d/4",
		"mv tree/d/5 tree/d/five",
		"ln -sf /etc/group tree/symlink",
		"cp -p tree/d/6 new && mv new tree/d/6",
		"cp -p tree/d/7 old && echo 8 >tree/d/7 && touch -r old tree/d/7",
		"mkdir tree/d/directory",
	};
	char last[DIGEST_HEX_BYTES];

	(void)state;
	make_varied_tree();

	struct export *export = export_tree("tree/");

	snprintf(last, sizeof(last), "%s", export_identity(export));
	export_free(export);
	export = export_tree("tree/");
	assert_string_equal(export_identity(export), last);
	export_free(export);
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		assert_int_equal(run("%s", changes[i]), 0);
		export = export_tree("tree/");
		if (strcmp(export_identity(export), last) == 0)
			fail_msg("the identity is the same after: %s", changes[i]);
		snprintf(last, sizeof(last), "%s", export_identity(export));
		export_free(export);
	}
}

/* --- trees that change --- */

/* Changes of the file "tree/d/file" that an export of "tree" must not pass over. */
static const char *const file_changes[] = {
	"echo more >>tree/d/file",
	": >tree/d/file",
	"truncate -s 5 tree/d/file",
	"truncate -s 5000 tree/d/file",
	"printf 'other content' | dd of=tree/d/file conv=notrunc status=none",
	"printf 'other content' | dd of=tree/d/file conv=notrunc status=none; "
	"touch -r reference tree/d/file",
	"touch tree/d/file",
	"rm tree/d/file",
	"cp -p tree/d/file new && mv new tree/d/file",
	"mv secret tree/d/file",
	"ln -sf ../../secret tree/d/file",
	"ln -sf \"$PWD/secret\" tree/d/file",
	"rm tree/d/file && ln secret tree/d/file",
	"rm tree/d/file && mkfifo tree/d/file",
	"rm tree/d/file && mkdir tree/d/file",
	"rm -r tree/d",
};

/* Changes of the way to it, which matter until it is open. */
static const char *const way_changes[] = {
	"mv tree/d tree/e && ln -s e tree/d",
	"mv tree/d elsewhere && ln -s ../elsewhere tree/d",
	"mv tree/d elsewhere && ln -s \"$PWD/swap\" tree/d",
	"mv tree/d elsewhere && mkdir tree/d && cp -p secret tree/d/file",
	"mv tree/d elsewhere && cp -pr swap tree/d",
	"mv tree/d elsewhere",
};

static void make_changing_tree(void)
{
	assert_int_equal(run("rm -rf tree swap secret elsewhere new && mkdir -p tree/d swap && "
			     "printf 'first content' >tree/d/file && echo good >tree/good && "
			     "printf 'secret  stuff' >secret && cp secret swap/file && "
			     "touch -r tree/d/file secret swap/file reference"),
			 0);
}

static void assert_lost(const char *change, bool was_open)
{
	make_changing_tree();

	struct export *export = export_tree("tree/");

	if (was_open)
		assert_success(read_text(export, "d/file", "first content"));
	assert_int_equal(run("%s", change), 0);
	for (unsigned i = 0; i < 3; i++)
		if (read_text(export, "d/file", "first content") != -1)
			fail_msg("read after: %s", change);
	/* Told once, with its name. */
	assert_int_equal(lost.count, 1);
	assert_non_null(strstr(lost.text, "/tree/d/file: has changed since it was exported"));
	assert_success(read_text(export, "good", "good\n"));
	assert_int_equal(lost.count, 1);
	export_free(export);
}

static void changed_files_are_errors(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(file_changes) / sizeof(file_changes[0]); i++) {
		assert_lost(file_changes[i], false);
		assert_lost(file_changes[i], true);
	}
	for (size_t i = 0; i < sizeof(way_changes) / sizeof(way_changes[0]); i++)
		assert_lost(way_changes[i], false);
}

/* A file that is open is what it was, wherever its name has gone. */
static void a_moved_directory_shows_nothing_else(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(way_changes) / sizeof(way_changes[0]); i++) {
		make_changing_tree();

		struct export *export = export_tree("tree/");

		assert_success(read_text(export, "d/file", "first content"));
		assert_int_equal(run("%s", way_changes[i]), 0);
		assert_success(read_text(export, "d/file", "first content"));
		export_free(export);
	}
}

static void the_base_may_be_moved(void **state)
{
	(void)state;
	make_changing_tree();

	struct export *export = export_tree("tree/");

	assert_int_equal(run("mv tree away && mv swap tree && mkdir tree/d && "
			     "cp -p secret tree/d/file"),
			 0);
	assert_success(read_text(export, "d/file", "first content"));
	export_free(export);
}

/* Changes the end of "tree/d/file", which a read that has begun comes to last. */
static void *change_end(void *context)
{
	int fd = open("tree/d/file", O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "changed", 7, (1 << 20) - 7), 7);
	close(fd);
	return context;
}

static bool is_all(const char *bytes, size_t size, char letter)
{
	return bytes[0] == letter && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* Reads all data of file FILE: 0 or -1. */
static int read_data(struct export *export, uint32_t file, char *bytes)
{
	const struct map *map = export_map(export);

	for (uint64_t i = 0; i < map->extent_count; i++) {
		const struct map_extent *extent = &map->extents[i];

		if (extent->file == file &&
		    export_read_disk(export, bytes + (uint64_t)extent->file_block * BLOCK,
				     (uint64_t)extent->blocks * BLOCK,
				     (uint64_t)extent->start_block * BLOCK, &test_error))
			return -1;
	}
	return 0;
}

/* Reads go on while the file starts to change: what they bring is what it was, all of it. */
static void a_read_is_never_mixed(void **state)
{
	static char bytes[1 << 20];

	(void)state;
	for (unsigned round = 0; round < 50; round++) {
		pthread_t thread;
		uint64_t offset;

		make_changing_tree();
		memset(bytes, 'a', sizeof(bytes));
		scratch_write("tree/d/file", bytes, sizeof(bytes));

		struct export *export = export_tree("tree/");

		uint32_t file = find_file(export, "d/file", &offset);

		assert_int_equal(pthread_create(&thread, NULL, change_end, NULL), 0);
		while (read_data(export, file, bytes) == 0)
			assert_true(is_all(bytes, sizeof(bytes), 'a'));
		pthread_join(thread, NULL);
		assert_int_equal(lost.count, 1);
		export_free(export);
	}
}

/*
 * On a file system that keeps seconds only: a file that was changed just before the export, and
 * just after it. The exit code of a child; 77: no such mounts for us here.
 */
static int change_within_a_second(void)
{
	if (!become_mounter() ||
	    run("truncate -s 8M coarse.img && mkdir coarse && "
		"mke2fs -q -F -t ext2 -I 128 coarse.img >mke2fs.log 2>&1 && "
		"mount -o loop coarse.img coarse 2>/dev/null && mkdir coarse/tree") != 0)
		return 77;
	scratch_write_text("coarse/tree/file", "first");

	struct export *export = export_tree("coarse/tree/");

	scratch_write_text("coarse/tree/file", "other");
	int taken = read_text(export, "file", "other") == 0;
	export_free(export);
	return taken;
}

static void a_change_has_a_time_of_its_own(void **state)
{
	int status;
	pid_t child;

	(void)state;
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(change_within_a_second());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("# coarse times were not tested: no ext2 can be mounted here\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* The exit code of a child; 77: this kernel has no Landlock. */
static int read_when_confined(void)
{
	struct export *export = export_tree("tree/");

	if (!confine_landlock_abi())
		return 77;
	if (export_confine(export))
		return 1;
	if (open("secret", O_RDONLY) >= 0 || errno != EACCES)
		return 2;
	if (open("tree/good", O_RDWR) >= 0 || errno != EACCES)
		return 3;
	return read_text(export, "good", "good\n") ? 4 : 0;
}

static void a_confined_server_reads_the_tree_only(void **state)
{
	int status;
	pid_t child;

	(void)state;
	make_changing_tree();
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(read_when_confined());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("# confining was not tested: this kernel has no Landlock\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- many at a time --- */

struct reading {
	struct export *export;
	const uint8_t *expected;
	unsigned seed;
};

static void *read_at_random(void *context)
{
	struct reading *reading = context;
	static __thread uint8_t bytes[100000];
	struct error error;

	for (unsigned i = 0; i < 2000; i++) {
		uint64_t size = 1 + (uint64_t)rand_r(&reading->seed) % sizeof(bytes);
		uint64_t offset =
			(uint64_t)rand_r(&reading->seed) % (disk_bytes(reading->export) - size);

		if (export_read_disk(reading->export, bytes, size, offset, &error) ||
		    memcmp(bytes, reading->expected + offset, size) != 0)
			return reading;
	}
	return NULL;
}

/* More files than are kept open, of which each read meets many. */
static void threads_read_at_once(void **state)
{
	struct reading readings[8];
	pthread_t threads[8];
	void *failed;

	(void)state;
	assert_int_equal(run("mkdir tree && for i in $(seq 1000); do "
			     "head -c $((i * 7)) /dev/urandom >tree/$i; done"),
			 0);

	struct export *export = export_tree("tree/");
	uint8_t *disk = malloc(disk_bytes(export));

	assert_non_null(disk);
	assert_success(export_read_disk(export, disk, disk_bytes(export), 0, &test_error));
	for (unsigned i = 0; i < 8; i++) {
		readings[i] = (struct reading){export, disk, i};
		assert_int_equal(pthread_create(&threads[i], NULL, read_at_random, &readings[i]),
				 0);
	}
	for (unsigned i = 0; i < 8; i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(lost.count, 0);
	export_free(export);
	free(disk);
}

static unsigned count_open(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 2000; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void few_files_stay_open(void **state)
{
	unsigned before = count_open();

	(void)state;
	assert_int_equal(run("mkdir tree && for i in $(seq 1000); do echo $i >tree/$i; done"), 0);

	struct export *export = export_tree("tree/");

	save_disk(export, "served.img", 1 << 20);
	assert_true(count_open() <= before + 260);
	export_free(export);
	assert_int_equal(count_open(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(the_disk_is_the_image),
		IN_SCRATCH(the_map_says_what_is_where),
		IN_SCRATCH(inputs_follow_the_slash_rule),
		IN_SCRATCH(what_cannot_be_exported_is_an_error),
		IN_SCRATCH(deep_files_are_read),
		IN_SCRATCH(the_identity_is_of_the_tree),
		IN_SCRATCH(changed_files_are_errors),
		IN_SCRATCH(a_moved_directory_shows_nothing_else),
		IN_SCRATCH(the_base_may_be_moved),
		IN_SCRATCH(a_read_is_never_mixed),
		IN_SCRATCH(a_change_has_a_time_of_its_own),
		IN_SCRATCH(a_confined_server_reads_the_tree_only),
		IN_SCRATCH(threads_read_at_once),
		IN_SCRATCH(few_files_stay_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
