/* PID 1's own formatted output says what the C library's says. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/unit/scratch.h"

int small_vsnprintf(char *text, size_t size, const char *format, va_list values);
int small_snprintf(char *text, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int small_dprintf(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));

#undef vsnprintf
#undef snprintf
#undef dprintf
#define vsnprintf small_vsnprintf
#define snprintf  small_snprintf
#define dprintf	  small_dprintf
#include "init/print.c"
#undef vsnprintf
#undef snprintf
#undef dprintf

#define ASSERT_SAME(size, ...)                                                                     \
	do {                                                                                       \
		char expected[64] = "", got[64] = "";                                              \
		assert_int_equal(snprintf(expected, size, __VA_ARGS__),                            \
				 small_snprintf(got, size, __VA_ARGS__));                          \
		assert_string_equal(got, expected);                                                \
	} while (0)

static void formats_as_the_library_does(void **state)
{
	(void)state;
	ASSERT_SAME(64, "plain");
	ASSERT_SAME(64, "%s=%s%%", "key", "");
	ASSERT_SAME(64, "%d %d %d", 0, -1, INT32_MIN);
	ASSERT_SAME(64, "%u %x %X", UINT32_MAX, 0xdeadU, 0xbeefU);
	ASSERT_SAME(64, "%lld %lld", (long long)INT64_MIN, (long long)INT64_MAX);
	ASSERT_SAME(64, "%" PRIu64 " %zu", UINT64_MAX, (size_t)12);
	ASSERT_SAME(64, "%lld.%06ld", 3LL, 42L);
	ASSERT_SAME(64, "%06d %5d %02X %08" PRIx32, -42, 42, 7U, 0xabcU);
	ASSERT_SAME(64, "%.4s|%.4s|%6s", "longer", "no", "wide");
}

static void cuts_as_the_library_does(void **state)
{
	(void)state;
	ASSERT_SAME(1, "cut");
	ASSERT_SAME(4, "%s", "exactly");
	ASSERT_SAME(4, "%s", "fit");
	ASSERT_SAME(5, "%d", 123456);
	assert_int_equal(small_snprintf(NULL, 0, "%s", "count"), 5);
}

static void lines_end_at_the_buffer(void **state)
{
	char *text, line[3000];
	size_t size;

	(void)state;
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	int fd = open("out", O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(small_dprintf(fd, "%s", line), LINE_BYTES - 1);
	close(fd);
	text = scratch_read("out", &size);
	assert_int_equal(size, LINE_BYTES - 1);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(formats_as_the_library_does),
		IN_SCRATCH(cuts_as_the_library_does),
		IN_SCRATCH(lines_end_at_the_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
