/* The traces of lazy disks: paths in, the map's files out. */
#include "host-tools/lazy/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs those before it */

static const char strings[] = "aa/baplain 1\n%\xff..b";

static const struct map_file files[] = {
	{.path_offset = 0, .path_bytes = 1},  /* a */
	{.path_offset = 1, .path_bytes = 3},  /* a/b */
	{.path_offset = 4, .path_bytes = 7},  /* aplain */
	{.path_offset = 11, .path_bytes = 4}, /* 1, newline, percent, 0xff */
	{.path_offset = 17, .path_bytes = 1}, /* b */
};

static const struct map map = {
	.files = files,
	.strings = strings,
	.file_count = sizeof(files) / sizeof(files[0]),
	.strings_bytes = sizeof(strings) - 1,
};

static void assert_line(size_t file, const char *expected)
{
	char line[TRACE_LINE_BYTES_MAX];
	size_t length = trace_line(&map, &files[file], line);

	assert_int_equal(length, strlen(expected));
	assert_memory_equal(line, expected, length);
}

static void test_lines(void **state)
{
	(void)state;
	assert_line(0, "a\n");
	assert_line(1, "a/b\n");
	assert_line(3, "1%0A%25%FF\n");
}

static void test_long_path(void **state)
{
	static char path[TRACE_PATH_BYTES_MAX + 1];
	const struct map long_map = {.strings = path};
	struct map_file file = {.path_bytes = TRACE_PATH_BYTES_MAX};
	char line[TRACE_LINE_BYTES_MAX];

	(void)state;
	memset(path, '\n', sizeof(path));
	assert_int_equal(trace_line(&long_map, &file, line), TRACE_LINE_BYTES_MAX);
	file.path_bytes++;
	assert_int_equal(trace_line(&long_map, &file, line), 0);
}

static void assert_resolved(const char *text, const uint32_t *expected, size_t expected_count)
{
	/* Of its own size, so that a byte too many is seen. */
	size_t size = strlen(text), count;
	char *copy = malloc(size ? size : 1);

	assert_non_null(copy);
	memcpy(copy, text, size);
	uint32_t *found = trace_resolve(&map, copy, size, &count);
	assert_non_null(found);
	assert_int_equal(count, expected_count);
	if (count)
		assert_memory_equal(found, expected, count * sizeof(*found));
	free(found);
	free(copy);
}

static void test_resolve(void **state)
{
	(void)state;
	assert_resolved("", NULL, 0);
	assert_resolved("\n\n", NULL, 0);
	assert_resolved("b\na/b\na\n", (const uint32_t[]){4, 1, 0}, 3);
	/* Without a last newline; twice; with other digits; in full. */
	assert_resolved("a/b\na/b", (const uint32_t[]){1, 1}, 2);
	assert_resolved("1%0a%25%fF\n%61\n", (const uint32_t[]){3, 0}, 2);
}

static void test_what_is_no_path(void **state)
{
	(void)state;
	assert_resolved("gone\nb\n/b\n./b\nb/\nb \n", (const uint32_t[]){4}, 1);
	assert_resolved("%\n%4\n%4g\nb%\nb%6\n%00\n", NULL, 0);
	assert_resolved("%6", NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_long_path),
		cmocka_unit_test(test_resolve),
		cmocka_unit_test(test_what_is_no_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
