/* Which bytes are text, and which of it may be shown. */
#include "host-tools/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h> /* needs those before it */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void assert_lengths(const char *text, size_t length, size_t printable)
{
	if (utf8_length(text) != length)
		fail_msg("\"%s\": %zu bytes, not %zu", text, utf8_length(text), length);
	if (utf8_printable_length(text) != printable)
		fail_msg("\"%s\": %zu printable bytes, not %zu", text, utf8_printable_length(text),
			 printable);
}

/* RFC 3629, by its bit patterns. */
static void encode(uint32_t code, char *text)
{
	if (code < 0x80) {
		*text++ = (char)code;
	} else if (code < 0x800) {
		*text++ = (char)(0xc0 | code >> 6);
	} else if (code < 0x10000) {
		*text++ = (char)(0xe0 | code >> 12);
		*text++ = (char)(0x80 | (code >> 6 & 0x3f));
	} else {
		*text++ = (char)(0xf0 | code >> 18);
		*text++ = (char)(0x80 | (code >> 12 & 0x3f));
		*text++ = (char)(0x80 | (code >> 6 & 0x3f));
	}
	if (code >= 0x80)
		*text++ = (char)(0x80 | (code & 0x3f));
	*text = '\0';
}

static void text_is_shown(void **state)
{
	static const struct {
		const char *text;
		size_t length;
	} good[] = {
		{" ", 1},
		{"a", 1},
		{"~", 1},
		{"\302\240", 2},	 /* U+00A0, the first behind the C1 controls */
		{"\303\244", 2},	 /* a umlaut */
		{"\337\277", 2},	 /* U+07FF */
		{"\340\240\200", 3},	 /* U+0800 */
		{"\342\202\254", 3},	 /* the euro sign */
		{"\355\237\277", 3},	 /* U+D7FF, the last before the surrogates */
		{"\356\200\200", 3},	 /* U+E000, the first behind them */
		{"\357\277\275", 3},	 /* U+FFFD */
		{"\360\220\200\200", 4}, /* U+10000 */
		{"\364\217\277\275", 4}, /* U+10FFFD */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++)
		assert_lengths(good[i].text, good[i].length, good[i].length);
	assert_lengths("ab", 1, 1);
	assert_lengths("\303\244\303\244", 2, 2);
}

static void every_character_has_its_length(void **state)
{
	char text[5];

	(void)state;
	for (uint32_t code = 1; code <= 0x10ffff; code++) {
		if (code == 0xd800)
			code = 0xe000;
		encode(code, text);
		if (utf8_length(text) != strlen(text) || !utf8_is_valid(text))
			fail_msg("U+%04X is not taken for text", code);
	}
}

static void control_characters_are_not_shown(void **state)
{
	char text[5];

	(void)state;
	for (uint32_t code = 0; code < 0xa0; code++) {
		if (code >= ' ' && code < 0x7f)
			continue;
		encode(code, text);
		assert_lengths(text, code < 0x80 ? 1 : 2, 0);
	}
}

static void direction_marks_are_not_shown(void **state)
{
	static const uint32_t marks[] = {
		0x061c,					/* Arabic letter mark */
		0x200b, 0x200c, 0x200d,			/* of no width */
		0x200e, 0x200f,				/* left-to-right, right-to-left marks */
		0x2028, 0x2029,				/* line and paragraph separators */
		0x202a, 0x202b, 0x202c, 0x202d, 0x202e, /* embeddings and overrides */
		0x2060, 0x2066, 0x2067, 0x2068, 0x2069, /* word joiner, isolates */
		0xfeff,					/* byte order mark */
		0xfff9, 0xfffb,				/* annotations */
	};
	static const uint32_t neighbours[] = {0x061b, 0x061d, 0x200a, 0x2010, 0x2027, 0x202f,
					      0x205f, 0x206a, 0xfefe, 0xfff8, 0xfffc};
	char text[5];

	(void)state;
	for (size_t i = 0; i < COUNT(marks); i++) {
		encode(marks[i], text);
		assert_lengths(text, strlen(text), 0);
	}
	for (size_t i = 0; i < COUNT(neighbours); i++) {
		encode(neighbours[i], text);
		assert_lengths(text, strlen(text), strlen(text));
	}
}

static void other_bytes_are_no_text(void **state)
{
	static const char *const wrong[] = {
		"\200", /* a continuation alone */
		"\277",
		"\300\200", /* overlong NUL */
		"\300\257", /* overlong slash */
		"\301\277",
		"\340\200\257", /* the same in three bytes */
		"\340\237\277",
		"\360\200\200\257", /* and in four */
		"\360\217\277\277",
		"\355\240\200", /* surrogates */
		"\355\277\277",
		"\355\240\275\355\270\200", /* a pair of them, CESU-8 */
		"\364\220\200\200",	    /* U+110000 */
		"\365\200\200\200",
		"\370\210\200\200\200", /* five and six bytes */
		"\374\204\200\200\200\200",
		"\376",
		"\377",
		"\303", /* cut short */
		"\303a",
		"\342\202",
		"\342\202a",
		"\342a\254",
		"\360\220\200",
		"\360\220\200\303\244",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		assert_lengths(wrong[i], 0, 0);
		assert_false(utf8_is_valid(wrong[i]));
	}
}

static void text_is_valid_as_a_whole(void **state)
{
	(void)state;
	assert_true(utf8_is_valid(""));
	assert_true(utf8_is_valid("plain"));
	assert_true(utf8_is_valid("\303\244 \342\202\254\033\n"));
	assert_false(utf8_is_valid("a\377"));
	assert_false(utf8_is_valid("\303\244\303"));
	assert_false(utf8_is_valid("latin\3441"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_shown),
		cmocka_unit_test(every_character_has_its_length),
		cmocka_unit_test(control_characters_are_not_shown),
		cmocka_unit_test(direction_marks_are_not_shown),
		cmocka_unit_test(other_bytes_are_no_text),
		cmocka_unit_test(text_is_valid_as_a_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
