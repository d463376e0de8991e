/* A log keeps its beginning and its end, whatever comes in between. */
#include "host-tools/vmm/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs those before it */

static struct log log_under_test;
static char line[128];

static void log_start(void)
{
	memset(&log_under_test, 0, sizeof(log_under_test));
	strcpy(line, "untouched");
}

static void append(const char *text)
{
	log_append(&log_under_test, text, strlen(text));
}

static void append_many(char byte, size_t count)
{
	while (count-- > 0)
		log_append(&log_under_test, &byte, 1);
}

static void assert_text(const char *expected)
{
	char *text = log_text(&log_under_test);

	assert_non_null(text);
	assert_string_equal(text, expected);
	free(text);
}

static void assert_finds(const char *text, const char *expected)
{
	assert_int_equal(log_find_last(&log_under_test, text, line, sizeof(line)), 1);
	assert_string_equal(line, expected);
}

static void short_log_is_kept_whole(void **state)
{
	(void)state;
	log_start();
	assert_text("");
	append("one\n");
	append("");
	append("two");
	assert_text("one\ntwo");
	assert_int_equal(log_under_test.total_bytes, 7);
}

/* Up to here nothing is left out, and nothing says so. */
static void head_and_tail_are_kept(void **state)
{
	(void)state;
	log_start();
	append_many('h', LOG_PART_BYTES);
	append_many('t', LOG_PART_BYTES);
	char *text = log_text(&log_under_test);
	assert_int_equal(strlen(text), 2 * LOG_PART_BYTES);
	assert_int_equal(strspn(text, "h"), LOG_PART_BYTES);
	assert_int_equal(strspn(text + LOG_PART_BYTES, "t"), LOG_PART_BYTES);
	free(text);
	append_many('t', 1);
	text = log_text(&log_under_test);
	assert_non_null(strstr(text, "h\n[jobvm: 1 bytes left out]\nt"));
	free(text);
}

static void what_is_left_out_is_said(void **state)
{
	static const char note[] = "\n[jobvm: 1003 bytes left out]\n";

	(void)state;
	log_start();
	append_many('h', LOG_PART_BYTES);
	append_many('m', 1003);
	append("start of the tail");
	append_many('t', LOG_PART_BYTES - 33);
	append("end of the tail.");
	char *text = log_text(&log_under_test);
	assert_int_equal(strspn(text, "h"), LOG_PART_BYTES);
	assert_memory_equal(text + LOG_PART_BYTES, note, strlen(note));
	const char *tail = text + LOG_PART_BYTES + strlen(note);
	assert_int_equal(strlen(tail), LOG_PART_BYTES);
	assert_memory_equal(tail, "start of the tailttt", 20);
	assert_string_equal(tail + LOG_PART_BYTES - 19, "tttend of the tail.");
	free(text);
}

/* The ring has gone round several times, by pieces that are no divisors of its size. */
static void flood_leaves_the_last_bytes(void **state)
{
	char piece[32];

	(void)state;
	log_start();
	for (int i = 0; i < 50000; i++) {
		snprintf(piece, sizeof(piece), "line %06d\n", i);
		append(piece);
	}
	char *text = log_text(&log_under_test);
	assert_memory_equal(text, "line 000000\nline 000001\n", 24);
	assert_non_null(strstr(text, "\n[jobvm: 468928 bytes left out]\n"));
	assert_string_equal(text + strlen(text) - 24, "line 049998\nline 049999\n");
	free(text);
	assert_finds("line", "line 049999");
	assert_finds("line 000007", "line 000007");
	assert_int_equal(log_find_last(&log_under_test, "line 020000", line, sizeof(line)), 0);
}

static void nul_bytes_do_not_end_the_text(void **state)
{
	(void)state;
	log_start();
	log_append(&log_under_test, "a\0b\0\n", 5);
	assert_text("a?b?\n");
	log_append(&log_under_test, "\0Kernel panic\n", 14);
	assert_finds("Kernel panic", "?Kernel panic");
}

static void last_line_is_found(void **state)
{
	(void)state;
	log_start();
	append("Kernel panic - first\r\nnothing\nKernel panic - second\r\n\nend\n\r\n\n");
	assert_finds("Kernel panic", "Kernel panic - second");
	assert_finds("first", "Kernel panic - first");
	assert_finds("", "end");
	assert_finds("nothing", "nothing");
	append("not ended");
	assert_finds("", "not ended");
}

static void nothing_is_found_in_vain(void **state)
{
	(void)state;
	log_start();
	assert_int_equal(log_find_last(&log_under_test, "", line, sizeof(line)), 0);
	append("\n\r\n\n");
	assert_int_equal(log_find_last(&log_under_test, "", line, sizeof(line)), 0);
	append("some\nthing\n");
	assert_int_equal(log_find_last(&log_under_test, "some\nthing", line, sizeof(line)), 0);
	assert_int_equal(log_find_last(&log_under_test, "something", line, sizeof(line)), 0);
	assert_string_equal(line, "untouched");
}

static void long_line_is_cut(void **state)
{
	char small[8];

	(void)state;
	log_start();
	append("0123456789\n");
	assert_int_equal(log_find_last(&log_under_test, "9", small, sizeof(small)), 1);
	assert_string_equal(small, "0123456");
}

/* A line that lies half in the head and half in the tail is still one line. */
static void line_across_head_and_tail_is_found(void **state)
{
	(void)state;
	log_start();
	append_many('\n', LOG_PART_BYTES - 10);
	append("Kernel panic - not syncing\n");
	assert_finds("Kernel panic", "Kernel panic - not syncing");
	assert_finds("syncing", "Kernel panic - not syncing");
	assert_finds("", "Kernel panic - not syncing");
}

/* Where bytes are missing in between, the halves are no line. */
static void halves_around_a_gap_are_no_line(void **state)
{
	(void)state;
	log_start();
	append_many('\n', LOG_PART_BYTES - 6);
	append("Kernel"); /* the end of the head */
	append_many('x', 100);
	append(" panic\n"); /* the start of the tail */
	append_many('\n', LOG_PART_BYTES - 7);
	assert_int_equal(log_find_last(&log_under_test, "Kernel panic", line, sizeof(line)), 0);
	assert_finds("Kernel", "Kernel");
	assert_finds("panic", " panic");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short_log_is_kept_whole),
		cmocka_unit_test(head_and_tail_are_kept),
		cmocka_unit_test(what_is_left_out_is_said),
		cmocka_unit_test(flood_leaves_the_last_bytes),
		cmocka_unit_test(nul_bytes_do_not_end_the_text),
		cmocka_unit_test(last_line_is_found),
		cmocka_unit_test(nothing_is_found_in_vain),
		cmocka_unit_test(long_line_is_cut),
		cmocka_unit_test(line_across_head_and_tail_is_found),
		cmocka_unit_test(halves_around_a_gap_are_no_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
