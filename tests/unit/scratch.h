/* scratch: an empty current directory for each test, and files in it. */
#ifndef TESTS_UNIT_SCRATCH_H
#define TESTS_UNIT_SCRATCH_H

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h> /* needs those before it */

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_enter, scratch_leave)

/* cmocka's setup and teardown functions. */
static inline int scratch_enter(void **state)
{
	char *directory = strdup("/tmp/jobvm-test.XXXXXX");

	*state = directory;
	return !directory || !mkdtemp(directory) || chdir(directory);
}

static inline int scratch_remove(const char *path, const struct stat *stat, int type,
				 struct FTW *where)
{
	(void)stat, (void)type, (void)where;
	return remove(path);
}

static inline int scratch_leave(void **state)
{
	int result = chdir("/") || nftw(*state, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);

	free(*state);
	return result;
}

/* Writes a file, and makes the directories that it is in. */
static inline void scratch_write(const char *path, const void *bytes, size_t size)
{
	char directory[256];

	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(directory, sizeof(directory), "%.*s", (int)(slash - path), path);
		mkdir(directory, 0755);
	}
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, size), size);
	close(fd);
}

static inline void scratch_write_text(const char *path, const char *text)
{
	scratch_write(path, text, strlen(text));
}

/* The whole file with a NUL after it, to be freed. */
static inline char *scratch_read(const char *path, size_t *size)
{
	struct stat stat;
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &stat), 0);
	char *bytes = calloc(1, (size_t)stat.st_size + 1);
	assert_non_null(bytes);
	assert_int_equal(read(fd, bytes, (size_t)stat.st_size), stat.st_size);
	close(fd);
	if (size)
		*size = (size_t)stat.st_size;
	return bytes;
}

#endif
