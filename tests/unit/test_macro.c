/* Names and references of submit descriptions: what $(NAME) and its relatives become. */
#include "host-tools/macro.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs those before it */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct error error;
static struct macro_scope scope;

static int define_names(void **state)
{
	static const char *const names[][2] = {
		{"X", "one"},
		{"Y", "$(X) two"},
		{"empty", ""},
		{"file", "/home/ada/data.d/run.7.tar.gz"},
		{"relative", "data/run"},
		{"bare", "README"},
		{"DOLLAR", "cannot be changed"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++)
		macro_set(&scope, names[i][0], names[i][1], (unsigned)i + 1);
	setenv("JOBVM_TEST", "from $(X)", 1);
	unsetenv("JOBVM_TEST_NOT");
	return 0;
}

static int forget_names(void **state)
{
	(void)state;
	macro_clear(&scope);
	unsetenv("JOBVM_TEST");
	return 0;
}

static void assert_expands(const char *text, const char *expected)
{
	char *result = macro_expand(&scope, text, &error);

	if (!result)
		fail_msg("%s: %s", text, error.text);
	assert_string_equal(result, expected);
	free(result);
}

static void assert_fails(const char *text, const char *reason)
{
	char *result = macro_expand(&scope, text, &error);

	if (result)
		fail_msg("%s became %.100s", text, result);
	assert_string_equal(error.text, reason);
}

static void names_are_found_in_any_case(void **state)
{
	(void)state;
	assert_string_equal(macro_find(&scope, "x")->value, "one");
	assert_int_equal(macro_find(&scope, "EMPTY")->line, 3);
	assert_null(macro_find(&scope, "XX"));
	macro_set(&scope, "x", "uno", 99);
	assert_string_equal(macro_find(&scope, "X")->value, "uno");
	assert_int_equal(macro_find(&scope, "X")->line, 99);
	assert_expands("$(y)", "uno two");
}

static void inner_names_hide_outer_ones(void **state)
{
	struct macro_scope inner = {.outer = &scope};

	(void)state;
	macro_set(&inner, "x", "inside", 1);
	char *result = macro_expand(&inner, "$(Y), $(bare)", &error);
	assert_non_null(result);
	assert_string_equal(result, "inside two, README");
	free(result);
	macro_clear(&inner);
	assert_expands("$(Y)", "one two");
}

static void references_are_replaced(void **state)
{
	(void)state;
	assert_expands("", "");
	assert_expands("plain", "plain");
	assert_expands("$(X)", "one");
	assert_expands("a$(X)b$(x)c", "aonebonec");
	assert_expands("<$(Y)>", "<one two>");
	assert_expands("<$(empty)>", "<>");
	assert_expands("$(DOLLAR)(X) $(dollar)", "$(X) $");
}

static void what_is_no_reference_is_left_alone(void **state)
{
	static const char *const plain[] = {
		"$",	     "$X",	"${X}",	      "$ (X)",	"$(",
		"$(X",	     "$()",	"$(ls -l)",   "$(X Y)", "$(X:a",
		"$$(X)",     "$$(X:y)", "$$",	      "a$$",	"$2(X)",
		"$SHELL(X)", "$FOO(X)", "$env(PATH)", "$(X+1)", "$$([TARGET.Memory * 0.9])"};

	(void)state;
	for (size_t i = 0; i < COUNT(plain); i++)
		assert_expands(plain[i], plain[i]);
	assert_expands("$$$(X)", "$$one");
	assert_expands("$(ls $(X))", "$(ls one)");
	assert_expands("$(X $(X)", "$(X one");
}

static void defaults_count_for_names_without_a_value(void **state)
{
	(void)state;
	assert_expands("$(E:24)", "24");
	assert_expands("<$(E:)>", "<>");
	assert_expands("$(X:24)", "one");
	assert_expands("<$(empty:24)>", "<>");
	assert_expands("$(E:a b)", "a b");
	assert_expands("$(E:a:b)", "a:b");
	assert_expands("$(E:$(X))", "one");
	assert_expands("$(E:$(F:$(X) deep)), more", "one deep, more");
	assert_expands("$(E:f(x))", "f(x)");
	assert_fails("$(E:$(F))", "$(F) is not defined ($(F:DEFAULT) gives a default, "
				  "$(DOLLAR) a plain $)");
}

static void unknown_name_is_an_error(void **state)
{
	(void)state;
	assert_fails("a $(nowhere) b",
		     "$(nowhere) is not defined ($(nowhere:DEFAULT) gives a default, "
		     "$(DOLLAR) a plain $)");
}

/* What comes from the environment is not expanded again. */
static void environment_is_read(void **state)
{
	(void)state;
	assert_expands("<$ENV(JOBVM_TEST)>", "<from $(X)>");
	assert_expands("<$ENV(JOBVM_TEST:no)>", "<from $(X)>");
	assert_expands("<$ENV(JOBVM_TEST_NOT:$(X) more)>", "<one more>");
	assert_fails("$ENV(JOBVM_TEST_NOT)", "the environment has no 'JOBVM_TEST_NOT' "
					     "($ENV(JOBVM_TEST_NOT:DEFAULT) gives a default)");
	assert_fails("$ENV(jobvm_test)", "the environment has no 'jobvm_test' "
					 "($ENV(jobvm_test:DEFAULT) gives a default)");
}

static void parts_of_a_path_are_taken(void **state)
{
	static const char *const parts[][2] = {
		{"$F(file)", "/home/ada/data.d/run.7.tar.gz"},
		{"$Fp(file)", "/home/ada/data.d/"},
		{"$Fd(file)", "data.d/"},
		{"$Fn(file)", "run.7.tar"},
		{"$Fx(file)", ".gz"},
		{"$Fnx(file)", "run.7.tar.gz"},
		{"$Fdnx(file)", "data.d/run.7.tar.gz"},
		{"$Fpn(FILE)", "/home/ada/data.d/run.7.tar"},
		{"$Fpb(file)", "/home/ada/data.d"},
		{"$Fdb(file)", "data.d"},
		{"$Fxb(file)", "gz"},
		{"$Fq(file)", "\"/home/ada/data.d/run.7.tar.gz\""},
		{"$Fqnx(file)", "\"run.7.tar.gz\""},
		{"$Fqanx(file)", "'run.7.tar.gz'"},
		{"$Fp(relative)", "data/"},
		{"$Fd(relative)", "data/"},
		{"$Fnx(relative)", "run"},
		{"<$Fx(relative)>", "<>"},
		{"<$Fp(bare)$Fd(bare)$Fpb(bare)>", "<>"},
		{"$Fn(bare)", "README"},
		{"<$Fpdnxq(empty)>", "<\"\">"},
		{"$Fn(Y)", "one two"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(parts); i++)
		assert_expands(parts[i][0], parts[i][1]);
	assert_fails("$Fn(nowhere)", "'nowhere' is not defined");
	assert_fails("$Fw(file)",
		     "$Fw() is not supported: only p, d, n, x, q, a and b may follow $F");
}

static void other_functions_are_refused(void **state)
{
	static const char *const functions[] = {
		"CHOICE", "EVAL",   "INT",    "RANDOM_CHOICE", "RANDOM_INTEGER",
		"REAL",	  "STRING", "SUBSTR", "BASENAME",      "DIRNAME"};
	char text[64], reason[64];

	(void)state;
	for (size_t i = 0; i < COUNT(functions); i++) {
		snprintf(text, sizeof(text), "a $%s(0, 1, 2)", functions[i]);
		snprintf(reason, sizeof(reason), "$%s() is not supported", functions[i]);
		assert_fails(text, reason);
	}
}

static void endless_macros_are_an_error(void **state)
{
	static const char reason[] = "its macros never end: does one refer to itself?";

	(void)state;
	macro_set(&scope, "self", "$(self) more", 1);
	macro_set(&scope, "b", "$(c) boo", 2);
	macro_set(&scope, "c", "$(b)", 3);
	macro_set(&scope, "path", "$Fn(path)", 4);
	macro_set(&scope, "fallback", "$(none:$(fallback))", 5);
	assert_fails("$(self)", reason);
	assert_fails("$(b)", reason);
	assert_fails("$(path)", reason);
	assert_fails("$(fallback)", reason);
}

static void doubling_macros_are_an_error(void **state)
{
	char name[16], value[64];

	(void)state;
	macro_set(&scope, "long0", "0123456789abcdef", 1);
	macro_set(&scope, "many0", "", 1);
	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "long%d", i + 1);
		snprintf(value, sizeof(value), "$(long%d)$(long%d)", i, i);
		macro_set(&scope, name, value, 1);
		snprintf(name, sizeof(name), "many%d", i + 1);
		snprintf(value, sizeof(value), "$(many%d)$(many%d)", i, i);
		macro_set(&scope, name, value, 1);
	}
	assert_fails("$(long40)", "its macros never end: does one refer to itself?");
	assert_fails("$(many40)", "its macros never end: does one refer to itself?");
	char *result = macro_expand(&scope, "$(long12)", &error);
	assert_non_null(result);
	assert_int_equal(strlen(result), 16 << 12);
	free(result);
}

static void expansion_has_a_largest_size(void **state)
{
	size_t size = (4 << 20) / 16;
	char *value = malloc(size + 1);

	(void)state;
	assert_non_null(value);
	memset(value, 'x', size);
	value[size] = '\0';
	macro_set(&scope, "big", value, 1);
	macro_set(&scope, "all",
		  "$(big)$(big)$(big)$(big)$(big)$(big)$(big)$(big)"
		  "$(big)$(big)$(big)$(big)$(big)$(big)$(big)$(big)",
		  1);
	free(value);
	value = macro_expand(&scope, "$(all)", &error);
	assert_non_null(value);
	assert_int_equal(strlen(value), 4 << 20);
	free(value);
	assert_fails("$(all).", "expands to more than 4194304 bytes");
}

static void assert_self(const char *name, const char *text, const char *expected)
{
	char *result = macro_expand_self(&scope, name, text);

	assert_string_equal(result, expected);
	free(result);
}

/* The first two are HTCondor's examples. */
static void own_value_is_taken_at_once(void **state)
{
	(void)state;
	assert_self("x", "snap $(x)", "snap one");
	assert_self("X", "$(x) snap", "one snap");
	assert_self("X", "$(Y) $(X:24) $(X)", "$(Y) one one");
	assert_self("Y", "$(Y), $(X)", "$(X) two, $(X)");
	assert_self("new", "$(new:first) $(X)", "first $(X)");
	assert_self("new", "$(new) bar", "$(new) bar");
	assert_self("X", "$$(X) $ENV(X) $(XX)", "$$(X) $ENV(X) $(XX)");
}

static void use_of_a_name_is_seen(void **state)
{
	(void)state;
	assert_true(macro_is_used("a $(X) b", "x"));
	assert_true(macro_is_used("$(Y)$(X:1)", "X"));
	assert_true(macro_is_used("$(Y:$(Z:$(X)))", "X"));
	assert_true(macro_is_used("$Fn(X)", "X"));
	assert_false(macro_is_used("X $X $$(X) $(XX) $(ls X) $ENV(X)", "X"));
	assert_false(macro_is_used("$(X)", "XX"));
	assert_false(macro_is_used("", "X"));
}

#define WITH_NAMES(test) cmocka_unit_test_setup_teardown(test, define_names, forget_names)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_NAMES(names_are_found_in_any_case),
		WITH_NAMES(inner_names_hide_outer_ones),
		WITH_NAMES(references_are_replaced),
		WITH_NAMES(what_is_no_reference_is_left_alone),
		WITH_NAMES(defaults_count_for_names_without_a_value),
		WITH_NAMES(unknown_name_is_an_error),
		WITH_NAMES(environment_is_read),
		WITH_NAMES(parts_of_a_path_are_taken),
		WITH_NAMES(other_functions_are_refused),
		WITH_NAMES(endless_macros_are_an_error),
		WITH_NAMES(doubling_macros_are_an_error),
		WITH_NAMES(expansion_has_a_largest_size),
		WITH_NAMES(own_value_is_taken_at_once),
		WITH_NAMES(use_of_a_name_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
