/* How text becomes values: sizes, durations, signals, and HTCondor's quoting. */
#include "host-tools/values.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs those before it */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define KIB	     1024ULL
#define MIB	     (1024 * KIB)
#define GIB	     (1024 * MIB)

static struct error error;

static void assert_error_names(const char *text)
{
	if (!strstr(error.text, text))
		fail_msg("'%s' does not say '%s'", error.text, text);
}

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t unit_bytes, bytes;
	} good[] = {
		{"0", MIB, 0},
		{"512", MIB, 512 * MIB},
		{"512", KIB, 512 * KIB},
		{"512", 1, 512},
		{"512B", MIB, 512},
		{"2K", MIB, 2 * KIB},
		{"2KB", MIB, 2 * KIB},
		{"2KiB", MIB, 2 * KIB},
		{"512M", KIB, 512 * MIB},
		{"512mb", KIB, 512 * MIB},
		{"3G", 1, 3 * GIB},
		{"3 GB", 1, 3 * GIB},
		{"1T", 1, 1024 * GIB},
		{"1TiB", 1, 1024 * GIB},
		{"1.5G", 1, GIB + 512 * MIB},
		{"0.25", MIB, 256 * KIB},
		{"0.3", 1, 0},
		{"0.9999999999999K", 1, 1023},
		{"18446744073709551614", 1, UINT64_MAX - 1},
		{"16777215.999T", 1, 18446744072610039988ULL},
	};
	uint64_t bytes;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		if (parse_size(good[i].text, good[i].unit_bytes, &bytes, &error))
			fail_msg("%s: %s", good[i].text, error.text);
		if (bytes != good[i].bytes)
			fail_msg("%s: %llu", good[i].text, (unsigned long long)bytes);
	}
}

static void test_bad_sizes(void **state)
{
	static const char *const wrong[] = {"",	  "M",	 "-1",	"+1",	" 1",  "1.M",	  "1..5",
					    "1X", "1MM", "1 2", "0x10", "1e3", "64*1024", "1,5"};
	static const char *const large[] = {"18446744073709551615B", "18446744073709551616B",
					    "16777216T", "99999999999999999999999999"};
	uint64_t bytes;

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		assert_int_equal(parse_size(wrong[i], MIB, &bytes, &error), -1);
		assert_error_names("is not a size");
		assert_error_names(wrong[i]);
	}
	for (size_t i = 0; i < COUNT(large); i++) {
		assert_int_equal(parse_size(large[i], MIB, &bytes, &error), -1);
		assert_error_names("is too large");
	}
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} good[] = {{"60", 60000},  {"60s", 60000},  {"250ms", 250},	 {"1.5", 1500},
		    {"2m", 120000}, {"1h", 3600000}, {"1.5 h", 5400000}, {"2d", 172800000}};
	static const char *const wrong[] = {"", "60*60", "1w", "-5", "5 minutes", "$(x)"};
	uint64_t ms;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_int_equal(parse_duration_ms(good[i].text, &ms, &error), 0);
		assert_int_equal(ms, good[i].ms);
	}
	for (size_t i = 0; i < COUNT(wrong); i++) {
		assert_int_equal(parse_duration_ms(wrong[i], &ms, &error), -1);
		assert_error_names("is not a duration");
		assert_error_names("expression");
	}
	assert_int_equal(parse_duration_ms("999999999999999999d", &ms, &error), -1);
	assert_error_names("is too large");
}

static void test_signals(void **state)
{
	static const char *const wrong[] = {"", "0", "65", "SIG", "TERMINATE", "-9", "SIGSIGKILL"};
	uint64_t number;

	(void)state;
	assert_int_equal(parse_signal("TERM", &number, &error), 0);
	assert_int_equal(number, SIGTERM);
	assert_int_equal(parse_signal("SIGUSR1", &number, &error), 0);
	assert_int_equal(number, SIGUSR1);
	assert_int_equal(parse_signal("sigint", &number, &error), 0);
	assert_int_equal(number, SIGINT);
	assert_int_equal(parse_signal("64", &number, &error), 0);
	assert_int_equal(number, 64);
	for (size_t i = 0; i < COUNT(wrong); i++) {
		assert_int_equal(parse_signal(wrong[i], &number, &error), -1);
		assert_error_names("is not a signal");
	}
}

static void test_bools(void **state)
{
	static const char *const yes[] = {"true", "TRUE", "yes", "t", "Y", "1"};
	static const char *const no[] = {"false", "False", "no", "F", "n", "0"};
	bool value;

	(void)state;
	for (size_t i = 0; i < COUNT(yes); i++) {
		value = false;
		assert_int_equal(parse_bool(yes[i], &value, &error), 0);
		assert_true(value);
		value = true;
		assert_int_equal(parse_bool(no[i], &value, &error), 0);
		assert_false(value);
	}
	assert_int_equal(parse_bool("", &value, &error), -1);
	assert_int_equal(parse_bool("maybe", &value, &error), -1);
	assert_error_names("'maybe' is neither true nor false");
}

static void test_numbers(void **state)
{
	static const char *const wrong[] = {
		"", "1", "11", "-2", "2.0", "2x", "99999999999999999999"};
	uint64_t number;

	(void)state;
	assert_int_equal(parse_number("2", 2, 10, &number, &error), 0);
	assert_int_equal(number, 2);
	assert_int_equal(parse_number("10", 2, 10, &number, &error), 0);
	assert_int_equal(number, 10);
	for (size_t i = 0; i < COUNT(wrong); i++) {
		assert_int_equal(parse_number(wrong[i], 2, 10, &number, &error), -1);
		assert_error_names("is not a whole number from 2 to 10");
	}
}

static void assert_strings(const struct strings *strings, const char *const *expected, size_t count)
{
	assert_int_equal(strings->count, count);
	for (size_t i = 0; i < count; i++)
		assert_string_equal(strings->items[i], expected[i]);
	if (count)
		assert_null(strings->items[count]);
}

static void test_strings_keep_their_order(void **state)
{
	struct strings strings = {0};
	char text[16];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "%d", i);
		strings_add(&strings, text);
		assert_null(strings.items[strings.count]);
	}
	for (int i = 0; i < 1000; i++)
		assert_int_equal(atoi(strings.items[i]), i);
	strings_clear(&strings);
	assert_null(strings.items);
	assert_int_equal(strings.count, 0);
}

struct split_case {
	const char *value;
	size_t count;
	const char *const pieces[4];
};

typedef int (*splitter)(const char *value, struct strings *strings, struct error *error);

static void assert_splits(splitter split, const struct split_case *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct strings strings = {0};
		if (split(cases[i].value, &strings, &error))
			fail_msg("%s: %s", cases[i].value, error.text);
		assert_strings(&strings, cases[i].pieces, cases[i].count);
		strings_clear(&strings);
	}
}

/* The first four are the examples of HTCondor's manual. */
static void test_arguments(void **state)
{
	static const struct split_case cases[] = {
		{"one \\\"two\\\" 'three'", 3, {"one", "\"two\"", "'three'"}},
		{"\"3 simple arguments\"", 3, {"3", "simple", "arguments"}},
		{"\"one 'two with spaces' 3\"", 3, {"one", "two with spaces", "3"}},
		{"\"one \"\"two\"\" 'spacey ''quoted'' argument'\"",
		 3,
		 {"one", "\"two\"", "spacey 'quoted' argument"}},
		{"", 0, {0}},
		{"\"\"", 0, {0}},
		{"\"  \t \"", 0, {0}},
		{"\"''\"", 1, {""}},
		{"\"a '' b\"", 3, {"a", "", "b"}},
		{"\"''''\"", 1, {"'"}},
		{"\"a'b c'd\"", 1, {"ab cd"}},
		{"\"\"\"\"", 1, {"\""}},
		{"\"back\\slash\"", 1, {"back\\slash"}},
		{"a\tb   c", 3, {"a", "b", "c"}},
		{"a\\b \\\\\"", 2, {"a\\b", "\\\""}},
	};

	(void)state;
	assert_splits(split_arguments, cases, COUNT(cases));
}

static void test_environment(void **state)
{
	static const struct split_case cases[] = {
		{"\"one=1 two=\"\"2\"\" three='spacey ''quoted'' value'\"",
		 3,
		 {"one=1", "two=\"2\"", "three=spacey 'quoted' value"}},
		{"one=1;two=2;three=\"quotes have no 'special' meaning\"",
		 3,
		 {"one=1", "two=2", "three=\"quotes have no 'special' meaning\""}},
		{"\"A=1 B=2 A=3\"", 2, {"A=3", "B=2"}},
		{"\"A=1 AB=2\"", 2, {"A=1", "AB=2"}},
		{"\"A=\"", 1, {"A="}},
		{"\"'A=b=c d'\"", 1, {"A=b=c d"}},
		{"A=1;;B=x y;", 2, {"A=1", "B=x y"}},
		{"", 0, {0}},
	};

	(void)state;
	assert_splits(split_environment, cases, COUNT(cases));
}

static void assert_refuses(splitter split, const char *value, const char *reason)
{
	struct strings strings = {0};

	if (split(value, &strings, &error) != -1)
		fail_msg("'%s' was accepted", value);
	assert_error_names(reason);
	strings_clear(&strings);
}

static void test_bad_quoting(void **state)
{
	(void)state;
	assert_refuses(split_arguments, "\"open", "closing double quote is missing");
	assert_refuses(split_arguments, "\"", "closing double quote is missing");
	assert_refuses(split_arguments, "\"a\"\"", "closing double quote is missing");
	assert_refuses(split_arguments, "\"a\" b", "must be doubled");
	assert_refuses(split_arguments, "\"a \"b\" c\"", "must be doubled");
	assert_refuses(split_arguments, "\"it's\"", "single quote is not closed");
	assert_refuses(split_arguments, "one \"two\"", "must be written \\\"");
	assert_refuses(split_environment, "\"A=1 B\"", "'B' is not of the form NAME=VALUE");
	assert_refuses(split_environment, "A", "'A' is not of the form NAME=VALUE");
	assert_refuses(split_environment, "=1", "'=1' is not of the form NAME=VALUE");
	assert_refuses(split_environment, "\"A='1\"", "single quote is not closed");
}

static void test_environment_has_a_bound(void **state)
{
	struct strings environment = {0};
	char entry[16];
	int result = 0;

	(void)state;
	for (int i = 0; result == 0 && i < 10000; i++) {
		snprintf(entry, sizeof(entry), "V%d=", i);
		result = environment_set(&environment, entry, &error);
	}
	assert_int_equal(result, -1);
	assert_error_names("more than 8192 environment variables");
	assert_int_equal(environment.count, 8192);
	assert_string_equal(environment_find(&environment, "V17"), "V17=");
	assert_string_equal(environment_find(&environment, "V17=x"), "V17=");
	assert_null(environment_find(&environment, "V"));
	strings_clear(&environment);
}

static void test_lists(void **state)
{
	static const char *const expected[] = {"a", "b c", "d"};
	struct strings pieces = {0};

	(void)state;
	split_list(" a ,\tb c,, , d", ",", &pieces);
	assert_strings(&pieces, expected, COUNT(expected));
	strings_clear(&pieces);
	split_list(" , ", ",", &pieces);
	assert_int_equal(pieces.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_bad_sizes),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_bools),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_strings_keep_their_order),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_bad_quoting),
		cmocka_unit_test(test_environment_has_a_bound),
		cmocka_unit_test(test_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
