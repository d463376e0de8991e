/* What the writer makes, judged by e2fsck, debugfs and by a comparison with the host's files. */
#include "tests/unit/fsimage_helpers.h"

#include <errno.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

static const struct fsmeta plain = {.mode = 0644, .uid = 1000, .gid = 1000, .mtime = {TEST_NOW, 7}};

/* --- comparison of an image with the host directory that it was made of --- */

struct comparison {
	struct fsimage *image;
	const char *host; /* directory */
	unsigned *files;
};

static void compare_file(struct fsimage *image, const char *host_path, const struct fsstat *stat)
{
	int fd = open("copy", O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_success(fsimage_copy(image, stat->inode, stat->size_bytes, fd, "copy", &test_error));
	close(fd);
	assert_same_bytes_and_holes(open(host_path, O_RDONLY), open("copy", O_RDONLY));
}

static void compare_symlink(struct fsimage *image, const char *host_path, const struct fsstat *stat)
{
	char expected[5000] = "", actual[5000];

	assert_true(readlink(host_path, expected, sizeof(expected) - 1) > 0);
	assert_success(fsimage_readlink(image, stat->inode, actual, sizeof(actual), &test_error));
	assert_string_equal(expected, actual);
}

static int compare_directory(struct fsimage *image, const char *host, uint32_t inode,
			     unsigned *files);

static int compare_entry(void *context, const char *name, const struct fsstat *stat,
			 struct error *error)
{
	const struct comparison *comparison = context;
	char path[4096];
	struct stat host;

	(void)error;
	(*comparison->files)++;
	snprintf(path, sizeof(path), "%s/%s", comparison->host, name);
	assert_int_equal(lstat(path, &host), 0);
	assert_int_equal(stat->mode, host.st_mode);
	assert_int_equal(stat->uid, host.st_uid);
	assert_int_equal(stat->gid, host.st_gid);
	assert_int_equal(stat->mtime.tv_sec, host.st_mtim.tv_sec);
	assert_int_equal(stat->mtime.tv_nsec, host.st_mtim.tv_nsec);
	if (S_ISDIR(host.st_mode))
		return compare_directory(comparison->image, path, stat->inode, comparison->files);
	assert_int_equal(stat->links, host.st_nlink);
	if (S_ISREG(host.st_mode))
		compare_file(comparison->image, path, stat);
	if (S_ISLNK(host.st_mode))
		compare_symlink(comparison->image, path, stat);
	return 0;
}

static int compare_directory(struct fsimage *image, const char *host, uint32_t inode,
			     unsigned *files)
{
	struct comparison comparison = {image, host, files};

	return fsimage_list(image, inode, compare_entry, &comparison, &test_error);
}

/* Packs the host directory "source" and asserts that the image has its FILES files as they are. */
static void assert_round_trip(unsigned files)
{
	unsigned found = 0;

	make_checked_image(import_tree("source"));

	struct opened opened = open_image("test.img");

	assert_success(compare_directory(opened.image, "source", 2, &found));
	assert_int_equal(found, files);
	close_image(&opened);
}

/* --- round trips --- */

static void set_mtime(const char *path, int64_t seconds, long nanoseconds)
{
	struct timespec times[2] = {{seconds, nanoseconds}, {seconds, nanoseconds}};

	assert_int_equal(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

static void round_trip_of_metadata(void **state)
{
	(void)state;
	assert_int_equal(mkdir("source", 0755), 0);
	assert_int_equal(mkdir("source/private", 0700), 0);
	scratch_write("source/private/setuid", "#!", 2);
	assert_int_equal(chmod("source/private/setuid", 06751), 0);
	scratch_write("source/empty", "", 0);
	assert_int_equal(chmod("source/empty", 0400), 0);
	assert_int_equal(mkfifo("source/fifo", 0620), 0);
	scratch_write("source/old", "1901", 4);
	set_mtime("source/old", -1, 999999999);
	scratch_write("source/late", "2100", 4);
	set_mtime("source/late", 4102444800, 123456789);
	assert_int_equal(symlink("old", "source/link"), 0);
	set_mtime("source/link", 1, 2);
	set_mtime("source/private", 5000000000, 1);
	assert_round_trip(7);
}

static void round_trip_of_names(void **state)
{
	char path[300] = "source/", name[256];

	(void)state;
	assert_int_equal(mkdir("source", 0755), 0);
	for (unsigned length = 1; length <= 255; length++) {
		/* Bytes that are no UTF-8 and no text, all but NUL, '/' and '.'. */
		for (unsigned i = 0; i < length; i++)
			name[i] = (char)(128 + (i + length) % 128);
		name[length] = '\0';
		strcpy(path + 7, name);
		scratch_write(path, name, length);
	}
	scratch_write("source/new\nline\t\x1b[31m", "x", 1);
	scratch_write("source/...", "x", 1);
	scratch_write("source/ ", "x", 1);
	assert_round_trip(258);
}

static void round_trip_of_symlinks(void **state)
{
	static const unsigned lengths[] = {1, 58, 59, 60, 61, 255, 4094, 4095};
	char target[4096], path[64];

	(void)state;
	assert_int_equal(mkdir("source", 0755), 0);
	for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		memset(target, 'a' + (int)i, lengths[i]);
		target[lengths[i]] = '\0';
		snprintf(path, sizeof(path), "source/%u", lengths[i]);
		assert_int_equal(symlink(target, path), 0);
	}
	assert_round_trip(sizeof(lengths) / sizeof(lengths[0]));
}

static void round_trip_of_sizes(void **state)
{
	static const size_t sizes[] = {1,      4095,   4096,	4097,	 131071,
				       131072, 131073, 1 << 20, 3 << 20, (5 << 20) + 1};
	uint32_t *bytes = malloc((5 << 20) + 4);
	uint32_t random = 1;
	char path[64];

	(void)state;
	assert_non_null(bytes);
	for (size_t i = 0; i < (5 << 18) + 1; i++)
		bytes[i] = random = random * 1664525 + 1013904223;
	assert_int_equal(mkdir("source", 0755), 0);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(path, sizeof(path), "source/%zu", sizes[i]);
		scratch_write(path, bytes + i, sizes[i] - 4 * i * (sizes[i] > 40));
	}
	free(bytes);
	assert_round_trip(sizeof(sizes) / sizeof(sizes[0]));
}

/* Enough extents for a tree of two levels of index. */
static void round_trip_of_many_extents(void **state)
{
	(void)state;
	assert_int_equal(mkdir("source", 0755), 0);

	int fd = open("source/comb", O_WRONLY | O_CREAT, 0644);

	assert_true(fd >= 0);
	for (unsigned i = 0; i < 3000; i++)
		assert_int_equal(pwrite(fd, &i, sizeof(i), i * 8192LL + 4096), sizeof(i));
	close(fd);
	assert_round_trip(1);
	assert_int_equal(run("debugfs -R 'dump_extents -n /comb' test.img 2>&1 | grep -q '0/ 2'"),
			 0);
}

static void round_trip_of_large_sparse_file(void **state)
{
	struct stat stat;

	(void)state;
	assert_int_equal(mkdir("source", 0755), 0);
	scratch_write("source/sparse", "start", 5);
	patch("source/sparse", 5LL << 30, "middle", 6);
	assert_int_equal(truncate("source/sparse", 6LL << 30), 0);
	scratch_write("source/hole", "", 0);
	assert_int_equal(truncate("source/hole", 4096), 0);
	assert_round_trip(2);
	assert_int_equal(lstat("test.img", &stat), 0);
	assert_true(stat.st_size < 64 << 20);
}

static void round_trip_of_hard_links(void **state)
{
	static const struct fsimport import;

	(void)state;
	assert_int_equal(mkdir("source", 0755) | mkdir("source/a", 0755) | mkdir("source/b", 0755),
			 0);
	scratch_write("source/b/first", "shared", 6);
	assert_int_equal(link("source/b/first", "source/a/second"), 0);
	assert_int_equal(link("source/b/first", "source/third"), 0);
	assert_int_equal(symlink("x", "source/link") | link("source/link", "source/link2"), 0);
	assert_round_trip(7);

	struct opened opened = open_image("test.img");

	assert_int_equal(stat_in(opened.image, "b/first").inode,
			 stat_in(opened.image, "a/second").inode);
	assert_int_equal(stat_in(opened.image, "third").inode,
			 stat_in(opened.image, "a/second").inode);
	close_image(&opened);

	/* Also between two imports. */
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree);

	assert_non_null(fstree_import(tree, root, "a", AT_FDCWD, "source/a", &import, &test_error));
	assert_non_null(
		fstree_import(tree, root, "other", AT_FDCWD, "source/third", &import, &test_error));
	assert_int_equal(fstree_totals(tree).data_bytes, 6);
	make_checked_image(tree);
	opened = open_image("test.img");
	assert_int_equal(stat_in(opened.image, "a/second").inode,
			 stat_in(opened.image, "other").inode);
	assert_int_equal(stat_in(opened.image, "other").links, 2);
	close_image(&opened);
}

static void round_trip_of_deep_tree(void **state)
{
	const unsigned depth = 3000;
	char *path = malloc(2 * depth + 8);
	int fd = open(".", O_PATH);

	(void)state;
	assert_non_null(path);
	for (unsigned i = 0; i < depth; i++) {
		const char *name = i ? "d" : "source";

		assert_int_equal(mkdirat(fd, name, 0755), 0);

		int next = openat(fd, name, O_PATH);

		close(fd);
		fd = next;
	}

	int file = openat(fd, "file", O_WRONLY | O_CREAT, 0644);

	assert_int_equal(write(file, "deep", 4), 4);
	close(file);
	close(fd);
	make_checked_image(import_tree("source"));

	struct opened opened = open_image("test.img");
	char content[8] = "";

	for (unsigned i = 0; i < depth - 1; i++)
		memcpy(path + 2 * i, "d/", 2);
	strcpy(path + 2 * (depth - 1), "file");
	assert_int_equal(fsimage_read(opened.image, stat_in(opened.image, path).inode, 0, content,
				      sizeof(content), &test_error),
			 4);
	assert_string_equal(content, "deep");
	close_image(&opened);
	free(path);
	assert_int_equal(run("rm -rf source"), 0); /* too deep for the fixture */
}

/* --- sizes --- */

static unsigned long header_number(const char *field)
{
	char command[300];
	unsigned long number;

	snprintf(
		command, sizeof(command),
		"PATH=\"$PATH:/usr/sbin:/sbin\" dumpe2fs -h test.img 2>/dev/null | sed -n 's/^%s: *//p'",
		field);

	FILE *pipe = popen(command, "r");

	assert_non_null(pipe);
	assert_int_equal(fscanf(pipe, "%lu", &number), 1);
	pclose(pipe);
	return number;
}

static int count_entry(void *context, const char *name, const struct fsstat *stat,
		       struct error *error)
{
	char expected[32];

	(void)stat;
	(void)error;
	snprintf(expected, sizeof(expected), "file-%06u", (*(unsigned *)context)++);
	assert_string_equal(name, expected);
	return 0;
}

static void many_files_in_one_directory(void **state)
{
	const unsigned count = 40000;
	struct fstree *tree = new_tree();
	struct fsnode *directory =
		fstree_add_directory(tree, fstree_root(tree), "many", &plain, &test_error);
	char name[32];
	unsigned listed = 0;

	(void)state;
	for (unsigned i = 0; i < count; i++) {
		/* In an order that is not the sorted one. */
		snprintf(name, sizeof(name), "file-%06u", i * 7919 % count);
		assert_non_null(
			fstree_add_bytes(tree, directory, name, &plain, name, 11, &test_error));
	}
	assert_null(fstree_add_bytes(tree, directory, name, &plain, "", 0, &test_error));
	assert_non_null(strstr(test_error.text, "is already in the directory 'many'"));
	assert_int_equal(fstree_totals(tree).nodes, count + 2);
	make_checked_image(tree);

	struct opened opened = open_image("test.img");

	assert_success(fsimage_list(opened.image, stat_in(opened.image, "many").inode, count_entry,
				    &listed, &test_error));
	assert_int_equal(listed, count);
	close_image(&opened);
	assert_true(header_number("Free inodes") >= 100);
	assert_true(header_number("Free blocks") >= 256);
}

/* ext4 counts a directory's links up to 65,000 and then writes 1. */
static void more_subdirectories_than_links(void **state)
{
	struct fstree *tree = new_tree();
	char name[32];

	(void)state;
	for (unsigned i = 0; i < 65001; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_non_null(
			fstree_add_directory(tree, fstree_root(tree), name, &plain, &test_error));
	}
	make_checked_image(tree);

	struct opened opened = open_image("test.img");

	assert_int_equal(stat_in(opened.image, "").links, 1);
	close_image(&opened);
}

/* Many inodes and no data: more inode tables than the usual groups have room for. */
static void free_inodes_and_bytes(void **state)
{
	struct fsimage_options options = default_options();
	struct fstree *tree = new_tree();
	struct stat stat;

	(void)state;
	options.free_inodes = 100000;
	options.free_bytes = 0;
	options.journal = false;
	assert_success(write_image(tree, "test.img", &options));
	assert_fsck_clean("test.img");
	assert_true(header_number("Free inodes") >= 100000);

	options = default_options();
	options.free_bytes = 20LL << 30;
	options.reserved_bytes = 8 << 20;
	assert_success(write_image(tree, "test.img", &options));
	fstree_free(tree);
	assert_fsck_clean("test.img");
	assert_true(header_number("Free blocks") >= (20LL << 30) / 4096);
	assert_int_equal(header_number("Reserved block count"), (8 << 20) / 4096);
	assert_int_equal(header_number("Reserved blocks uid"), 65535);
	assert_int_equal(header_number("Reserved blocks gid"), 65535);
	/* And all of that is holes. */
	assert_int_equal(lstat("test.img", &stat), 0);
	assert_true(stat.st_size > 20LL << 30);
	assert_true(stat.st_blocks * 512 < 2 << 20);
}

static void too_small_size_is_an_error(void **state)
{
	struct fsimage_options options = default_options();
	struct fstree *tree = new_tree();
	char *bytes = calloc(1, 10 << 20);
	unsigned long long needed;

	(void)state;
	assert_non_null(fstree_add_bytes(tree, fstree_root(tree), "file", &plain, bytes, 10 << 20,
					 &test_error));
	free(bytes);
	options.size_bytes = 4 << 20;
	assert_error(write_image(tree, "small.img", &options),
		     "small.img: 4194304 bytes are too small for its contents, which need ");
	assert_int_equal(sscanf(strstr(test_error.text, "need "), "need %llu bytes", &needed), 1);

	options.size_bytes = needed;
	assert_success(write_image(tree, "test.img", &options));
	assert_fsck_clean("test.img");

	struct stat stat;

	assert_int_equal(lstat("test.img", &stat), 0);
	assert_int_equal(stat.st_size, needed);

	options.size_bytes = needed + 100;
	assert_error(write_image(tree, "small.img", &options),
		     " bytes are not a whole number of blocks of 4096");
	options.size_bytes = 4096;
	assert_error(write_image(tree, "small.img", &options), "4096 bytes are too small");
	options.size_bytes = 64 << 20;
	options.reserved_bytes = 40 << 20;
	assert_error(write_image(tree, "small.img", &options), "67108864 bytes are too small");
	fstree_free(tree);
}

/* On a file system of 1 MiB. The exit code of a child; 77: mounts are not for us. */
static int write_to_full_file_system(void)
{
	struct fsimage_options options = default_options();
	struct fstree *tree = new_tree();
	char *bytes = malloc(3 << 20);

	if (!become_mounter() || mkdir("mnt", 0755) < 0 ||
	    mount("tmpfs", "mnt", "tmpfs", 0, "size=1m") < 0)
		return 77;
	memset(bytes, 'x', 3 << 20);
	fstree_add_bytes(tree, fstree_root(tree), "file", &plain, bytes, 3 << 20, &test_error);
	free(bytes);
	if (write_image(tree, "mnt/test.img", &options) != -1)
		return 1;
	fstree_free(tree);
	return strcmp(test_error.text, "mnt/test.img: the file system that it is on is full") != 0;
}

static void full_host_file_system_is_an_error(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	assert_true(child >= 0);
	if (child == 0)
		_exit(write_to_full_file_system());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip(); /* no mounts for us here */
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* On XFS, which can share blocks between files. The exit code of a child; 77: no such mounts. */
static int write_where_blocks_are_shared(void)
{
	static const struct fsimport import;
	struct fsimage_options options = default_options();
	struct fstree *tree = new_tree();
	struct statvfs before, after;

	if (!become_mounter() || run("truncate -s 400M xfs.img && mkdir mnt && "
				     "mkfs.xfs -q -m reflink=1 xfs.img 2>/dev/null && "
				     "mount -o loop xfs.img mnt 2>/dev/null") != 0)
		return 77;
	/* Not a multiple of the block size: the last block is copied. */
	if (run("mkdir mnt/source && head -c 50000001 /dev/urandom >mnt/source/file && sync") != 0)
		return 1;
	if (fstree_import_contents(tree, fstree_root(tree), AT_FDCWD, "mnt/source", &import,
				   &test_error) < 0 ||
	    statvfs("mnt", &before) < 0 || write_image(tree, "mnt/test.img", &options) < 0 ||
	    run("sync -f mnt && e2fsck -fn mnt/test.img >/dev/null 2>&1 && "
		"debugfs -R 'dump /file copy' mnt/test.img 2>/dev/null && "
		"cmp mnt/source/file copy") != 0)
		return 2;
	fstree_free(tree);
	if (statvfs("mnt", &after) < 0)
		return 3;
	return (before.f_bfree - after.f_bfree) * before.f_bsize > 5000000 ? 4 : 0;
}

static void data_is_shared_where_the_host_can(void **state)
{
	int status;
	pid_t child;

	(void)state;
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(write_where_blocks_are_shared());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("# sharing was not tested: no XFS can be mounted here\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- sources that change --- */

static void assert_changed(void (*change)(void))
{
	struct fsimage_options options = default_options();

	run("rm -rf source");
	assert_int_equal(mkdir("source", 0755) | mkdir("source/sub", 0755), 0);
	scratch_write("source/sub/file", "before", 6);
	set_mtime("source/sub/file", TEST_NOW, 0);

	struct fstree *tree = import_tree("source");

	change();
	assert_error(write_image(tree, "test.img", &options),
		     "source/sub/file: changed while it was being packed");
	fstree_free(tree);
}

static void append_to_source(void)
{
	patch("source/sub/file", 6, "more", 4);
}

/* Same size and time stamp: only ctime tells. */
static void rewrite_source(void)
{
	patch("source/sub/file", 0, "behind", 6);
	set_mtime("source/sub/file", TEST_NOW, 0);
}

static void replace_source(void)
{
	scratch_write("source/new", "before", 6);
	set_mtime("source/new", TEST_NOW, 0);
	assert_int_equal(rename("source/new", "source/sub/file"), 0);
}

static void remove_source(void)
{
	assert_int_equal(unlink("source/sub/file"), 0);
}

static void replace_source_by_symlink(void)
{
	assert_int_equal(rename("source/sub/file", "source/sub/moved"), 0);
	assert_int_equal(symlink("moved", "source/sub/file"), 0);
}

static void replace_source_by_fifo(void)
{
	assert_int_equal(unlink("source/sub/file"), 0);
	assert_int_equal(mkfifo("source/sub/file", 0644), 0);
}

static void changed_sources_are_errors(void **state)
{
	(void)state;
	assert_changed(append_to_source);
	assert_changed(rewrite_source);
	assert_changed(replace_source);
	assert_changed(remove_source);
	assert_changed(replace_source_by_symlink);
	assert_changed(replace_source_by_fifo);
}

/* Files without data are not opened, but looked at. */
static void changed_empty_sources_are_errors(void **state)
{
	struct fsimage_options options = default_options();

	(void)state;
	for (unsigned how = 0; how < 4; how++) {
		run("rm -rf source");
		scratch_write("source/empty", "", 0);
		assert_int_equal(truncate("source/empty", how % 2 * 8192), 0);

		struct fstree *tree = import_tree("source");

		if (how < 2)
			patch("source/empty", 0, "no more", 7);
		else
			assert_int_equal(unlink("source/empty"), 0);
		assert_error(write_image(tree, "test.img", &options),
			     "source/empty: changed while it was being packed");
		fstree_free(tree);
	}
}

/* A directory that became a symlink leads nowhere, even to the very same file. */
static void swapped_directory_is_an_error(void **state)
{
	struct fsimage_options options = default_options();

	(void)state;
	assert_int_equal(mkdir("source", 0755) | mkdir("source/sub", 0755), 0);
	scratch_write("source/sub/file", "before", 6);

	struct fstree *tree = import_tree("source");

	assert_int_equal(rename("source/sub", "source/moved"), 0);
	assert_int_equal(symlink("moved", "source/sub"), 0);
	assert_error(write_image(tree, "test.img", &options),
		     "cannot enter the directory source/sub");
	fstree_free(tree);
}

/* --- trees --- */

static void wrong_names_are_errors(void **state)
{
	static const char *const names[] = {"", ".", "..", "a/b", "/"};
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree);
	char name[257];

	(void)state;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_null(fstree_add_directory(tree, root, names[i], &plain, &test_error));
		assert_non_null(strstr(test_error.text, "cannot be the name of a file"));
	}
	memset(name, 'n', 256);
	name[256] = '\0';
	assert_null(fstree_add_directory(tree, root, name, &plain, &test_error));
	assert_non_null(strstr(test_error.text, "longer than 255 bytes"));
	name[255] = '\0';
	assert_non_null(fstree_add_directory(tree, root, name, &plain, &test_error));

	struct fsnode *file = fstree_add_bytes(tree, root, "file", &plain, "", 0, &test_error);

	assert_non_null(file);
	assert_null(fstree_add_bytes(tree, file, "below", &plain, "", 0, &test_error));
	assert_non_null(strstr(test_error.text, "is not a directory"));
	assert_null(fstree_add_symlink(tree, root, "file", &plain, "x", &test_error));
	assert_null(fstree_add_symlink(tree, root, "link", &plain, "", &test_error));
	assert_null(fstree_add_special(tree, root, "special", &plain, 0, &test_error));
	assert_int_equal(fstree_totals(tree).nodes, 3);
	make_checked_image(tree);
}

static void lookups_in_trees(void **state)
{
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree);
	struct fsnode *a = fstree_add_directory(tree, root, "a", &plain, &test_error);
	struct fsnode *b = fstree_add_directory(tree, a, "b", &plain, &test_error);
	struct fsnode *file = fstree_add_bytes(tree, b, "file", &plain, "", 0, &test_error);

	(void)state;
	assert_ptr_equal(fstree_lookup(root, "a/b/file"), file);
	assert_ptr_equal(fstree_lookup(a, "b"), b);
	assert_ptr_equal(fstree_lookup(root, ""), root);
	assert_ptr_equal(fstree_child(root, "a"), a);
	assert_null(fstree_child(root, "b"));
	assert_null(fstree_lookup(root, "a/b/file/x"));
	assert_null(fstree_lookup(root, "a/bb"));
	fstree_free(tree);
}

static void imports_merge_directories_only(void **state)
{
	static const struct fsimport import = {.override_owner = true, .uid = 70000, .gid = 80000};
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree);

	(void)state;
	assert_int_equal(run("mkdir -p one/sub two/sub && echo 1 >one/sub/a && echo 2 >two/sub/b"),
			 0);
	assert_int_equal(chmod("two/sub", 0700), 0);
	assert_success(fstree_import_contents(tree, root, AT_FDCWD, "one", &import, &test_error));
	assert_success(fstree_import_contents(tree, root, AT_FDCWD, "two", &import, &test_error));
	assert_error(fstree_import_contents(tree, root, AT_FDCWD, "two", &import, &test_error),
		     "'b' is already in the directory 'sub'");
	make_checked_image(tree);

	struct opened opened = open_image("test.img");

	assert_int_equal(stat_in(opened.image, "sub").mode, S_IFDIR | 0700);
	assert_int_equal(stat_in(opened.image, "sub/a").uid, 70000);
	assert_int_equal(stat_in(opened.image, "sub/b").gid, 80000);
	close_image(&opened);
}

/* Relative to a descriptor and to a working directory, both of which are gone when it counts. */
static void imports_keep_where_they_started(void **state)
{
	static const struct fsimport import;
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree);

	(void)state;
	assert_int_equal(run("mkdir -p x/y && echo fd >x/y/one && echo cwd >x/two"), 0);

	int fd = open("x/y", O_RDONLY | O_DIRECTORY);

	assert_non_null(fstree_import(tree, root, "one", fd, "one", &import, &test_error));
	close(fd);
	assert_int_equal(chdir("x"), 0);
	assert_non_null(fstree_import(tree, root, "2", AT_FDCWD, "two", &import, &test_error));
	assert_int_equal(chdir(".."), 0);
	make_checked_image(tree);

	struct opened opened = open_image("test.img");

	assert_int_equal(stat_in(opened.image, "one").size_bytes, 3);
	assert_int_equal(stat_in(opened.image, "2").size_bytes, 4);
	close_image(&opened);
}

static void imports_that_fail(void **state)
{
	static const struct fsimport import;
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree);
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "dir/socket"};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	assert_int_equal(run("mkdir dir && ln -s dir link && touch dir/file"), 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	assert_null(fstree_import(tree, root, "x", AT_FDCWD, "missing", &import, &test_error));
	assert_string_equal(test_error.text, "cannot import missing: No such file or directory");
	assert_error(fstree_import_contents(tree, root, AT_FDCWD, "link", &import, &test_error),
		     "cannot enter the directory link");
	assert_null(fstree_import(tree, root, "s", AT_FDCWD, "dir/socket", &import, &test_error));
	assert_non_null(strstr(test_error.text, "dir/socket is a socket"));
	/* Inside a directory a socket is left out, and a symlink is a symlink. */
	assert_success(fstree_import_contents(tree, root, AT_FDCWD, "dir", &import, &test_error));
	assert_non_null(fstree_import(tree, root, "l", AT_FDCWD, "link", &import, &test_error));
	assert_int_equal(fstree_totals(tree).nodes, 3);
	if (geteuid() != 0) {
		assert_int_equal(chmod("dir/file", 0), 0);
		assert_null(
			fstree_import(tree, root, "u", AT_FDCWD, "dir/file", &import, &test_error));
		assert_string_equal(test_error.text, "cannot read dir/file: Permission denied");
	}
	fstree_free(tree);
}

/* --- the image as others see it --- */

static void devices_and_owners(void **state)
{
	static const struct {
		const char *name;
		mode_t type;
		unsigned major_id, minor_id;
	} devices[] = {
		{"null", S_IFCHR, 1, 3},	   {"edge", S_IFBLK, 255, 255},
		{"minor", S_IFBLK, 8, 256},	   {"major", S_IFCHR, 256, 0},
		{"large", S_IFCHR, 4095, 1048575}, {"socket", S_IFSOCK, 0, 0},
	};
	const unsigned count = sizeof(devices) / sizeof(devices[0]);
	struct fstree *tree = new_tree();

	(void)state;
	for (unsigned i = 0; i < count; i++) {
		struct fsmeta meta = {
			.mode = devices[i].type | 0660, .uid = 0x12345, .gid = 0xfffffffe};

		assert_non_null(fstree_add_special(
			tree, fstree_root(tree), devices[i].name, &meta,
			makedev(devices[i].major_id, devices[i].minor_id), &test_error));
	}
	make_checked_image(tree);
	assert_int_equal(
		run("debugfs -R 'stat large' test.img 2>&1 | grep -q 'Device major/minor number: 4095:1048575'"),
		0);
	assert_int_equal(
		run("debugfs -R 'stat null' test.img 2>&1 | grep -q 'Device major/minor number: 01:03'"),
		0);

	struct opened opened = open_image("test.img");

	for (unsigned i = 0; i < count; i++) {
		struct fsstat stat = stat_in(opened.image, devices[i].name);

		assert_int_equal(stat.mode, devices[i].type | 0660);
		assert_int_equal(stat.device_major, devices[i].major_id);
		assert_int_equal(stat.device_minor, devices[i].minor_id);
		assert_int_equal(stat.uid, 0x12345);
		assert_int_equal(stat.gid, 0xfffffffe);
	}
	close_image(&opened);
}

static void debugfs_agrees(void **state)
{
	struct fsmeta meta = {.mode = 04751, .uid = 100000, .gid = 7, .mtime = {4102444800, 5}};
	struct fstree *tree = new_tree();

	(void)state;
	assert_non_null(fstree_add_bytes(tree, fstree_root(tree), "file", &meta, "content\n", 8,
					 &test_error));
	make_checked_image(tree);
	assert_int_equal(run("test \"$(debugfs -R 'cat /file' test.img 2>/dev/null)\" = content"),
			 0);
	assert_int_equal(run("TZ=UTC0 debugfs -R 'stat /file' test.img >stat.log 2>&1"), 0);
	assert_int_equal(run("grep -q 'Mode:  04751' stat.log"), 0);
	assert_int_equal(run("grep -q 'User: 100000   Group:     7' stat.log"), 0);
	assert_int_equal(run("grep -q 'mtime: 0x.*Fri Jan  1 00:00:00 2100' stat.log"), 0);
	assert_int_equal(run("grep -q 'ctime: 0x.*Tue Nov 14 22:13:20 2023' stat.log"), 0);
	assert_int_equal(run("grep -q 'Size of extra inode fields: 32' stat.log"), 0);
}

static void same_tree_gives_same_bytes(void **state)
{
	struct fsimage_options options = default_options();
	char name[16];

	(void)state;
	assert_int_equal(run("mkdir -p source/d && seq 100000 >source/d/numbers"), 0);
	for (unsigned round = 0; round < 2; round++) {
		struct fstree *tree = import_tree("source");

		/* Added in opposite orders. */
		for (unsigned i = 0; i < 50; i++) {
			snprintf(name, sizeof(name), "%u", round ? 49 - i : i);
			assert_non_null(fstree_add_bytes(tree, fstree_root(tree), name, &plain,
							 name, 2, &test_error));
		}
		assert_success(write_image(tree, round ? "second.img" : "first.img", &options));
		/* A tree can be written again. */
		assert_success(write_image(tree, "again.img", &options));
		fstree_free(tree);
		assert_int_equal(run("cmp first.img again.img"), 0);
	}
	assert_int_equal(run("cmp first.img second.img"), 0);

	/* A clock at zero is a time like others. */
	options.now = 0;

	struct fstree *tree = new_tree();

	assert_success(write_image(tree, "zero.img", &options));
	fstree_free(tree);
	assert_int_equal(
		run("dumpe2fs -h zero.img 2>&1 | TZ=UTC0 grep -q '^Last write time:.*19[67]'"), 0);
}

/* Imports the file SOURCE alone, writes it as IMAGE and returns how much data there was. */
static uint64_t write_file_image(const char *source, const char *image)
{
	const struct fsimport import = {.zeros_are_holes = true};
	struct fsimage_options options = default_options();
	struct fstree *tree = new_tree();

	assert_non_null(fstree_import(tree, fstree_root(tree), "file", AT_FDCWD, source, &import,
				      &test_error));
	assert_success(write_image(tree, image, &options));

	uint64_t data_bytes = fstree_totals(tree).data_bytes;

	fstree_free(tree);
	assert_fsck_clean(image);
	return data_bytes;
}

static void assert_zeros_make_the_holes(const char *shape, uint64_t data_bytes)
{
	assert_int_equal(run("rm -f made sparse full; (%s) >made", shape), 0);
	assert_int_equal(run("cp -p --sparse=always made sparse && cp -p --sparse=never made full"),
			 0);
	assert_int_equal(write_file_image("sparse", "sparse.img"), data_bytes);
	assert_int_equal(write_file_image("full", "full.img"), data_bytes);
	assert_int_equal(run("cmp sparse.img full.img"), 0);
	assert_int_equal(
		run("debugfs -R 'dump /file dumped' full.img 2>/dev/null && cmp made dumped"), 0);
}

static void zeros_are_the_holes_where_asked(void **state)
{
	static const char zeros_64k[] = "head -c 65536 /dev/zero";
	char shape[200];

	(void)state;
	assert_zeros_make_the_holes("true", 0);
	assert_zeros_make_the_holes("seq 100000", 588895);
	assert_zeros_make_the_holes("head -c 100 /dev/zero", 0);
	assert_zeros_make_the_holes("head -c 1000000 /dev/zero", 0);
	/* Within a block, and over a block's end: no zeros of a whole block. */
	assert_zeros_make_the_holes("echo a; head -c 6000 /dev/zero; echo b", 6004);
	assert_zeros_make_the_holes("echo a; head -c 20000 /dev/zero; echo b",
				    4096 + 20004 - 16384);
	/* At the end, in a block of its own that is not whole. */
	assert_zeros_make_the_holes("echo a; head -c 5000 /dev/zero", 4096);
	/* Where one reading ends and the next begins. */
	snprintf(shape, sizeof(shape), "%s | tr '\\0' a; %s; %s | tr '\\0' b", zeros_64k, zeros_64k,
		 zeros_64k);
	assert_zeros_make_the_holes(shape, 2 * 65536);
	/* Holes before, between and behind, more than fit into an inode. */
	assert_zeros_make_the_holes("for i in 1 2 3 4 5 6 7 8; do head -c 8192 /dev/zero; "
				    "head -c 4096 /dev/zero | tr '\\0' x; done; "
				    "head -c 8192 /dev/zero",
				    8 * 4096);
}

static void record_progress(void *context, const struct fstotals *done)
{
	struct fstotals *last = context;

	assert_true(done->nodes >= last->nodes && done->data_bytes >= last->data_bytes);
	*last = *done;
}

static void progress_ends_with_the_totals(void **state)
{
	struct fstotals last = {0, 0};
	struct fsimage_options options = default_options();

	(void)state;
	options.progress = record_progress;
	options.progress_context = &last;
	assert_int_equal(run("mkdir source && seq 100000 >source/a && ln source/a source/b"), 0);
	assert_int_equal(run("truncate -s 1G source/hole"), 0);

	struct fstree *tree = import_tree("source");

	assert_success(write_image(tree, "test.img", &options));
	assert_int_equal(last.data_bytes, fstree_totals(tree).data_bytes);
	assert_int_equal(last.nodes, 3); /* the root and two files, one with two names */
	fstree_free(tree);
}

/* --- images without data --- */

struct placed {
	FILE *script; /* of commands that put the data where it was told */
	uint64_t last_end, runs;
};

static int record_run(void *context, const struct fsimage_run *run, struct error *error)
{
	struct placed *placed = context;
	struct fsorigin origin = fstree_origin(run->node);
	char *path = fstree_path(run->node);

	(void)error;
	assert_non_null(path);
	assert_string_equal(origin.import_path, "source");
	assert_int_equal(origin.below_bytes, strlen(path));
	assert_true(run->image_offset >= placed->last_end && run->length > 0);
	placed->last_end = run->image_offset + run->length;
	placed->runs++;
	fprintf(placed->script,
		"dd if='source/%s' of=placed.img conv=notrunc iflag=skip_bytes,count_bytes "
		"oflag=seek_bytes skip=%llu seek=%llu count=%llu status=none\n",
		path, (unsigned long long)run->file_offset, (unsigned long long)run->image_offset,
		(unsigned long long)run->length);
	free(path);
	return 0;
}

/* The names of files of "source" that were opened, one after the other. */
static void read_opened(int watch_fd, char *names, size_t size)
{
	char events[4096] __attribute__((aligned(8)));
	ssize_t length;

	names[0] = '\0';
	while ((length = read(watch_fd, events, sizeof(events))) > 0) {
		const struct inotify_event *event;

		for (char *at = events; at < events + length; at += sizeof(*event) + event->len) {
			event = (const struct inotify_event *)at;
			snprintf(names + strlen(names), size - strlen(names), "%s ",
				 event->len ? event->name : ".");
		}
	}
}

static void images_without_data_are_the_same_otherwise(void **state)
{
	struct fsimage_options options = default_options();
	struct placed placed = {.script = fopen("place", "w")};
	char opened[256];
	int watch_fd = inotify_init1(IN_NONBLOCK);

	(void)state;
	assert_true(placed.script && watch_fd >= 0);
	assert_int_equal(run("mkdir -p source/d && seq 100000 >source/d/numbers && "
			     "ln source/d/numbers source/link && printf tail >source/tail && "
			     ": >source/empty && head -c 300000000 /dev/urandom >source/large && "
			     "truncate -s 1G source/hole && "
			     "seq 1000 | dd of=source/hole bs=1 seek=7000000 conv=notrunc 2>&1 && "
			     "cp --sparse=always source/hole source/d/hole"),
			 0);

	struct fstree *tree = import_tree("source");

	assert_true(inotify_add_watch(watch_fd, "source", IN_OPEN) >= 0);
	options.place_run = record_run;
	options.place_context = &placed;
	assert_success(write_image(tree, "placed.img", &options));
	assert_int_equal(fclose(placed.script), 0);
	read_opened(watch_fd, opened, sizeof(opened));
	assert_string_equal(opened, "hole ");
	close(watch_fd);

	/* Nothing of the data is there yet: of 300 MB less than one. */
	struct stat stat_of_image;

	assert_int_equal(stat("placed.img", &stat_of_image), 0);
	assert_true(stat_of_image.st_blocks * 512 < 1000000);
	assert_true(placed.runs >= 5);
	assert_int_equal(run("sh -e place"), 0);
	options.place_run = NULL;
	assert_success(write_image(tree, "test.img", &options));
	fstree_free(tree);
	assert_int_equal(run("cmp test.img placed.img"), 0);
	assert_fsck_clean("placed.img");
}

static int note_lowest(void *context, const struct fsimage_run *run, struct error *error)
{
	uint64_t *lowest = context;

	(void)error;
	if (run->image_offset < *lowest)
		*lowest = run->image_offset;
	return 0;
}

/* Of a small image nothing but the end of its last block is behind the files' data. */
static void data_comes_after_all_else(void **state)
{
	struct fsimage_options options = default_options();
	uint64_t lowest = UINT64_MAX;

	(void)state;
	assert_int_equal(run("mkdir -p source/b/c source/d && for i in $(seq 40); do "
			     "echo $i >source/$i; echo $i >source/b/c/$i; done"),
			 0);
	struct fstree *tree = import_tree("source");
	options.journal = false;
	options.blocks_before_data = 32;
	options.place_run = note_lowest;
	options.place_context = &lowest;
	assert_success(write_image(tree, "test.img", &options));
	assert_fsck_clean("test.img");
	fstree_free(tree);

	int fd = open("test.img", O_RDONLY);
	off_t gap = lseek(fd, (off_t)(lowest - 32 * FSIMAGE_BLOCK_BYTES), SEEK_DATA);

	assert_true(gap < 0 && errno == ENXIO);
	close(fd);
}

static int refuse_run(void *context, const struct fsimage_run *run, struct error *error)
{
	(void)context, (void)run;
	return error_set(error, "no more of that");
}

static void runs_that_cannot_be_placed_end_it(void **state)
{
	struct fsimage_options options = default_options();

	(void)state;
	options.place_run = refuse_run;
	scratch_write_text("source/file", "x");

	struct fstree *tree = import_tree("source");

	assert_error(write_image(tree, "test.img", &options), "no more of that");
	fstree_free(tree);
}

static void requests_that_make_no_sense(void **state)
{
	struct fsimage_options options = default_options();
	struct fstree *tree = new_tree();

	(void)state;
	options.label = "seventeen letters";
	assert_error(write_image(tree, "test.img", &options), "longer than 16 bytes");
	options = default_options();
	scratch_write("full.img", "x", 1);

	int fd = open("full.img", O_RDWR);

	assert_error(fsimage_write(tree, fd, "full.img", &options, &test_error),
		     "full.img is not an empty regular file");
	close(fd);
	options.size_bytes = 1LL << 44;
	assert_error(write_image(tree, "test.img", &options),
		     "test.img: an image must be smaller than 16 TiB");
	fstree_free(tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(round_trip_of_metadata),
		IN_SCRATCH(round_trip_of_names),
		IN_SCRATCH(round_trip_of_symlinks),
		IN_SCRATCH(round_trip_of_sizes),
		IN_SCRATCH(round_trip_of_many_extents),
		IN_SCRATCH(round_trip_of_large_sparse_file),
		IN_SCRATCH(round_trip_of_hard_links),
		IN_SCRATCH(round_trip_of_deep_tree),
		IN_SCRATCH(many_files_in_one_directory),
		IN_SCRATCH(more_subdirectories_than_links),
		IN_SCRATCH(free_inodes_and_bytes),
		IN_SCRATCH(too_small_size_is_an_error),
		IN_SCRATCH(full_host_file_system_is_an_error),
		IN_SCRATCH(data_is_shared_where_the_host_can),
		IN_SCRATCH(changed_sources_are_errors),
		IN_SCRATCH(changed_empty_sources_are_errors),
		IN_SCRATCH(swapped_directory_is_an_error),
		IN_SCRATCH(wrong_names_are_errors),
		IN_SCRATCH(lookups_in_trees),
		IN_SCRATCH(imports_merge_directories_only),
		IN_SCRATCH(imports_keep_where_they_started),
		IN_SCRATCH(imports_that_fail),
		IN_SCRATCH(devices_and_owners),
		IN_SCRATCH(debugfs_agrees),
		IN_SCRATCH(same_tree_gives_same_bytes),
		IN_SCRATCH(zeros_are_the_holes_where_asked),
		IN_SCRATCH(progress_ends_with_the_totals),
		IN_SCRATCH(images_without_data_are_the_same_otherwise),
		IN_SCRATCH(data_comes_after_all_else),
		IN_SCRATCH(runs_that_cannot_be_placed_end_it),
		IN_SCRATCH(requests_that_make_no_sense),
	};

	umask(022); /* what the tests make has the modes that they say */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
