/* A copy of a whole file: the same bytes, and holes where there were holes. */
#include "fsimage/copy.h"

#include <errno.h>

#include "tests/unit/scratch.h"

#define MIB (1 << 20)

static int new_file(void)
{
	char name[] = "file.XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	return fd;
}

static struct stat stat_of(int fd)
{
	struct stat status;

	assert_int_equal(fstat(fd, &status), 0);
	return status;
}

static void assert_byte(int fd, off_t offset, char expected)
{
	char byte = '?';

	assert_int_equal(pread(fd, &byte, 1, offset), 1);
	assert_int_equal(byte, expected);
}

static void holes_stay_holes(void **state)
{
	int from = new_file(), to = new_file();

	(void)state;
	assert_int_equal(ftruncate(from, 64 * MIB), 0);
	assert_int_equal(write_at(from, "first", 5, MIB), 0);
	assert_int_equal(write_at(from, "second", 6, 40 * MIB + 3), 0);
	assert_int_equal(copy_whole(from, to), 0);
	assert_int_equal(stat_of(to).st_size, 64 * MIB);
	assert_true(stat_of(to).st_blocks < 2 * MIB / 512);
	assert_byte(to, 0, 0);
	assert_byte(to, MIB, 'f');
	assert_byte(to, MIB + 4, 't');
	assert_byte(to, MIB + 5, 0);
	assert_byte(to, 40 * MIB + 8, 'd');
	assert_byte(to, 64 * MIB - 1, 0);
	close(from);
	close(to);
}

static void data_at_both_ends_is_copied(void **state)
{
	int from = new_file(), to = new_file();

	(void)state;
	assert_int_equal(write_at(from, "begin", 5, 0), 0);
	assert_int_equal(write_at(from, "end", 3, 2 * MIB + 1), 0);
	assert_int_equal(copy_whole(from, to), 0);
	assert_int_equal(stat_of(to).st_size, 2 * MIB + 4);
	assert_byte(to, 0, 'b');
	assert_byte(to, 2 * MIB + 3, 'd');
	close(from);
	close(to);
}

static void nothing_is_copied_too(void **state)
{
	int from = new_file(), to = new_file();

	(void)state;
	assert_int_equal(copy_whole(from, to), 0);
	assert_int_equal(stat_of(to).st_size, 0);
	close(from);
	close(to);
}

static void what_cannot_be_written_is_an_error(void **state)
{
	int from = new_file();
	int to = open("/dev/null", O_RDONLY);

	(void)state;
	assert_int_equal(write_at(from, "x", 1, 0), 0);
	assert_int_equal(copy_whole(from, to), -1);
	close(from);
	close(to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(holes_stay_holes),
		IN_SCRATCH(data_at_both_ends_is_copied),
		IN_SCRATCH(nothing_is_copied_too),
		IN_SCRATCH(what_cannot_be_written_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
