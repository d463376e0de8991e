/*
 * fsimage_helpers: commands and images, for the tests of fsimage.
 * Everything fails the running test when it does not work.
 */
#ifndef TESTS_UNIT_FSIMAGE_HELPERS_H
#define TESTS_UNIT_FSIMAGE_HELPERS_H

#include "tests/unit/scratch.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>

#include "fsimage/reader.h"
#include "fsimage/tree.h"
#include "fsimage/writer.h"

#define TEST_LABEL "JOBVM-TEST"
#define TEST_NOW   1700000000

static struct error test_error;

/* --- attributes to set --- */

/* user::rw-, user:5:r--, group::r--, mask::r--, other::r-- as getxattr(2) has it */
static const uint8_t access_list[] = {
	2, 0, 0,    0,	  1,	0,    6,    0, 0xff, 0xff, 0xff, 0xff, 2,    0,	   4,
	0, 5, 0,    0,	  0,	4,    0,    4, 0,    0xff, 0xff, 0xff, 0xff, 0x10, 0,
	4, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 4,    0,	   0xff, 0xff, 0xff, 0xff};
/* cap_net_raw=ep */
static const uint8_t capability[20] = {1, 0, 0, 2, 0, 0x20};

/* Asserts that a library call has succeeded, and shows its error if not. */
#define assert_success(call)                                                                       \
	do {                                                                                       \
		test_error.text[0] = '\0';                                                         \
		if ((call) != 0)                                                                   \
			fail_msg("%s: %s", #call, test_error.text);                                \
	} while (0)

/* Asserts that the call returns -1 and that its error contains TEXT. */
#define assert_error(call, what)                                                                   \
	do {                                                                                       \
		test_error.text[0] = '\0';                                                         \
		assert_int_equal((call), -1);                                                      \
		if (!strstr(test_error.text, what))                                                \
			fail_msg("'%s' is not in '%s'", what, test_error.text);                    \
	} while (0)

/* Runs a shell command; its exit code. */
static inline int run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline int run(const char *format, ...)
{
	char command[2048] = "export PATH=\"$PATH:/usr/sbin:/sbin\"; ";
	size_t length = strlen(command);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(command + length, sizeof(command) - length, format, arguments);
	va_end(arguments);

	int status = system(command);

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline void patch(const char *path, uint64_t offset, const void *bytes, size_t size)
{
	int fd = open(path, O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, size, offset), size);
	close(fd);
}

/* Becomes root in a user namespace, if need be: mounts are allowed there. */
static inline bool become_mounter(void)
{
	char users[32], groups[32];

	snprintf(users, sizeof(users), "0 %u 1", geteuid());
	snprintf(groups, sizeof(groups), "0 %u 1", getegid());
	if (geteuid() != 0) {
		if (unshare(CLONE_NEWUSER) < 0)
			return false;
		scratch_write("/proc/self/uid_map", users, strlen(users));
		scratch_write("/proc/self/setgroups", "deny", 4);
		scratch_write("/proc/self/gid_map", groups, strlen(groups));
	}
	return unshare(CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static inline struct fstree *new_tree(void)
{
	struct fsmeta meta = {.mode = 0755, .mtime = {TEST_NOW, 0}};
	struct fstree *tree = fstree_new(&meta);

	assert_non_null(tree);
	return tree;
}

static inline struct fsimage_options default_options(void)
{
	return (struct fsimage_options){
		.label = TEST_LABEL,
		.uuid = {0x6a, 0x6f, 0x62, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		.free_bytes = 1 << 20,
		.free_inodes = 100,
		.journal = true,
		.now = TEST_NOW,
	};
}

static inline int write_image(struct fstree *tree, const char *path,
			      const struct fsimage_options *options)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);

	int result = fsimage_write(tree, fd, path, options, &test_error);

	close(fd);
	return result;
}

static inline void assert_fsck_clean(const char *path)
{
	if (run("e2fsck -fn %s >fsck.log 2>&1", path) != 0) {
		run("cat fsck.log");
		fail_msg("e2fsck finds fault with %s", path);
	}
}

/* Imports the contents of the host directory SOURCE into a new tree. */
static inline struct fstree *import_tree(const char *source)
{
	static const struct fsimport import;
	struct fstree *tree = new_tree();

	assert_success(fstree_import_contents(tree, fstree_root(tree), AT_FDCWD, source, &import,
					      &test_error));
	return tree;
}

/* Writes TREE as "test.img", has e2fsck look at it, and frees the tree. */
static inline void make_checked_image(struct fstree *tree)
{
	struct fsimage_options options = default_options();

	assert_success(write_image(tree, "test.img", &options));
	fstree_free(tree);
	assert_fsck_clean("test.img");
}

/* An image that is open; close with close_image. */
struct opened {
	int fd;
	struct fsimage *image;
};

static inline struct opened open_image(const char *path)
{
	struct opened opened = {.fd = open(path, O_RDONLY)};

	assert_true(opened.fd >= 0);
	test_error.text[0] = '\0';
	opened.image = fsimage_open(opened.fd, path, NULL, &test_error);
	if (!opened.image)
		fail_msg("fsimage_open: %s", test_error.text);
	return opened;
}

static inline void close_image(struct opened *opened)
{
	fsimage_close(opened->image);
	close(opened->fd);
}

static inline struct fsstat stat_in(struct fsimage *image, const char *path)
{
	struct fsstat stat;

	assert_success(fsimage_lookup(image, path, &stat, &test_error));
	return stat;
}

/* Closes both. */
static inline void assert_same_bytes_and_holes(int expected_fd, int actual_fd)
{
	static char expected[1 << 16], actual[1 << 16];
	off_t data = 0;

	assert_true(expected_fd >= 0 && actual_fd >= 0);
	while ((data = lseek(expected_fd, data, SEEK_DATA)) >= 0) {
		off_t hole = lseek(expected_fd, data, SEEK_HOLE);

		assert_int_equal(lseek(actual_fd, data, SEEK_DATA), data);
		assert_int_equal(lseek(actual_fd, data, SEEK_HOLE), hole);
		for (; data < hole; data += sizeof(expected)) {
			size_t size = hole - data < (off_t)sizeof(expected)
					      ? hole - data
					      : (off_t)sizeof(expected);

			assert_int_equal(pread(expected_fd, expected, size, data), size);
			assert_int_equal(pread(actual_fd, actual, size, data), size);
			assert_memory_equal(expected, actual, size);
		}
		data = hole;
	}
	assert_int_equal(errno, ENXIO);
	assert_int_equal(lseek(expected_fd, 0, SEEK_END), lseek(actual_fd, 0, SEEK_END));
	close(expected_fd);
	close(actual_fd);
}

#endif
