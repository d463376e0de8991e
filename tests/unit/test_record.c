/* The text format of manifest and result record: what is written, what is read, what is refused. */
#include "jobdisk/record.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs those before it */

#include "jobdisk/crc32c.h"
#include "jobdisk/manifest.h"
#include "jobdisk/result.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct error error;
static struct record_buffer buffer;
static char text[RECORD_MAX_BYTES + 1];

/* --- a record of all types --- */

struct sample {
	uint64_t number, optional;
	const char *string, *other;
	struct record_list list, others;
	bool flag;
	unsigned word;
	uint64_t time;
};

static const char *const colours[] = {"red", "green", NULL};

#define KEY(k, t, m) .name = (k), .type = (t), .offset = offsetof(struct sample, m)

static const struct record_key sample_keys[] = {
	{KEY("number", RECORD_UINT, number), .required = true, .min = 3, .max = 1000},
	{KEY("optional", RECORD_UINT, optional), .max = UINT64_MAX - 1},
	{KEY("string", RECORD_STRING, string)},
	{KEY("other", RECORD_STRING, other)},
	{KEY("list", RECORD_LIST, list)},
	{KEY("others", RECORD_LIST, others)},
	{KEY("flag", RECORD_BOOL, flag)},
	{KEY("word", RECORD_WORD, word), .words = colours},
	{KEY("time", RECORD_SECONDS, time)},
};
static const struct record_schema plain = {.keys = sample_keys, .key_count = COUNT(sample_keys)};
static const struct record_schema sealed = {
	.keys = sample_keys, .key_count = COUNT(sample_keys), .sealed = true};

static int parse_bytes(const struct record_schema *schema, const char *bytes, size_t length,
		       void *object)
{
	memcpy(buffer.text, bytes, length);
	return record_parse(schema, "disk:manifest", &buffer, length, object, &error);
}

static struct sample parse_sample(const char *record)
{
	struct sample sample;

	if (parse_bytes(&plain, record, strlen(record), &sample))
		fail_msg("%s", error.text);
	return sample;
}

static void assert_refused(const char *record, const char *reason)
{
	struct sample sample;

	if (parse_bytes(&plain, record, strlen(record), &sample) != -1)
		fail_msg("accepted: %s", record);
	assert_string_equal(error.text, reason);
}

static long format(const struct record_schema *schema, const void *object)
{
	long length = record_format(schema, object, text, &error);

	if (length < 0)
		fail_msg("%s", error.text);
	assert_int_equal(strlen(text), length);
	return length;
}

static void assert_same_list(const struct record_list *a, const struct record_list *b)
{
	assert_int_equal(a->count, b->count);
	for (size_t i = 0; i < a->count; i++)
		assert_string_equal(a->items[i], b->items[i]);
	assert_null(b->items[b->count]);
}

static void assert_same_string(const char *a, const char *b)
{
	assert_int_equal(!a, !b);
	if (a)
		assert_string_equal(a, b);
}

static void assert_same_value(const struct record_key *key, const void *a, const void *b)
{
	switch (key->type) {
	case RECORD_STRING:
		assert_same_string(*(const char *const *)a, *(const char *const *)b);
		break;
	case RECORD_LIST:
		assert_same_list(a, b);
		break;
	case RECORD_UINT:
	case RECORD_SECONDS:
		if (*(const uint64_t *)a != *(const uint64_t *)b)
			fail_msg("%s: %" PRIu64 ", not %" PRIu64, key->name, *(const uint64_t *)b,
				 *(const uint64_t *)a);
		break;
	case RECORD_BOOL:
		assert_int_equal(*(const bool *)a, *(const bool *)b);
		break;
	case RECORD_WORD:
		assert_int_equal(*(const unsigned *)a, *(const unsigned *)b);
		break;
	}
}

/* Writes OBJECT, reads it into COPY, which lives in `buffer`, and compares them key by key. */
static void assert_round_trip(const struct record_schema *schema, const void *object, void *copy)
{
	long length = format(schema, object);

	memset(copy, 0xee, 8);
	if (parse_bytes(schema, text, (size_t)length, copy))
		fail_msg("%s", error.text);
	for (size_t i = 0; i < schema->key_count; i++) {
		size_t offset = schema->keys[i].offset;
		assert_same_value(&schema->keys[i], (const char *)object + offset,
				  (const char *)copy + offset);
	}
}

static bool has_line_of(const char *record, const char *key)
{
	char start[80];

	snprintf(start, sizeof(start), "\n%s=", key);
	return strncmp(record, start + 1, strlen(start + 1)) == 0 || strstr(record, start);
}

/* --- writing and reading --- */

static void text_is_as_documented(void **state)
{
	const char *items[] = {"a", "", "b c"};
	const struct sample sample = {
		.number = 42,
		.optional = UINT64_MAX - 1,
		.string = "100% of \t\303\244\177=~",
		.list = {.items = items, .count = 3},
		.flag = true,
		.word = 1,
		.time = 12000345,
	};

	(void)state;
	format(&plain, &sample);
	assert_string_equal(text, "number=42\n"
				  "optional=18446744073709551614\n"
				  "string=100%25 of %09%C3%A4%7F=~\n"
				  "list=a\n"
				  "list=\n"
				  "list=b c\n"
				  "flag=true\n"
				  "word=green\n"
				  "time=12.000345\n");
}

static void every_type_comes_back(void **state)
{
	const char *items[] = {"first", "", "third=3"}, *others[] = {"%41", "\n"};
	const struct sample sample = {
		.number = 3,
		.optional = 0,
		.string = "",
		.other = "x",
		.list = {.items = items, .count = 3},
		.others = {.items = others, .count = 2},
		.flag = true,
		.word = 1,
		.time = 1,
	};
	struct sample copy;

	(void)state;
	assert_round_trip(&plain, &sample, &copy);
	assert_round_trip(&sealed, &sample, &copy);
}

static void unset_values_are_left_out_and_come_back_unset(void **state)
{
	const struct sample sample = {
		.number = 1000, .optional = RECORD_UNSET, .time = RECORD_UNSET};
	struct sample copy;

	(void)state;
	assert_round_trip(&plain, &sample, &copy);
	assert_string_equal(text, "number=1000\nflag=false\nword=red\n");

	memset(&copy, 0xee, sizeof(copy));
	assert_int_equal(parse_bytes(&plain, "number=7\n", 9, &copy), 0);
	assert_true(copy.optional == RECORD_UNSET && copy.time == RECORD_UNSET);
	assert_true(!copy.string && !copy.flag && copy.word == 0);
	assert_int_equal(copy.list.count, 0);
	assert_null(copy.list.items[0]);
}

static void every_byte_comes_back(void **state)
{
	char bytes[256];
	const struct sample sample = {.number = 3, .string = bytes};
	struct sample copy;

	(void)state;
	for (int i = 0; i < 255; i++)
		bytes[i] = (char)(i + 1);
	bytes[255] = '\0';
	assert_round_trip(&plain, &sample, &copy);
	for (const char *c = text; *c; c++)
		assert_true((*c >= ' ' && *c <= '~') || *c == '\n');
}

static void mixed_lists_keep_their_order(void **state)
{
	struct sample sample =
		parse_sample("list=1\nothers=a\nnumber=3\nlist=2\nothers=b\nlist=3\n");

	(void)state;
	assert_int_equal(sample.list.count, 3);
	assert_string_equal(sample.list.items[0], "1");
	assert_string_equal(sample.list.items[1], "2");
	assert_string_equal(sample.list.items[2], "3");
	assert_null(sample.list.items[3]);
	assert_int_equal(sample.others.count, 2);
	assert_string_equal(sample.others.items[0], "a");
	assert_string_equal(sample.others.items[1], "b");
	assert_null(sample.others.items[2]);
}

static void either_case_of_hexadecimal_is_read(void **state)
{
	struct sample sample = parse_sample("number=3\nstring=%c3%A4%2f%25%0a\n");

	(void)state;
	assert_string_equal(sample.string, "\303\244/%\n");
}

static void time_does_not_wrap_around(void **state)
{
	struct sample sample = parse_sample("number=3\ntime=18446744073708.999999\n");

	(void)state;
	assert_true(sample.time == 18446744073708999999ULL);
	assert_refused("number=3\ntime=18446744073709.000000\n",
		       "disk:manifest:2: key 'time': not seconds with six decimals");
	assert_refused("number=3\ntime=18446744073709551615.000000\n",
		       "disk:manifest:2: key 'time': not seconds with six decimals");
}

/* --- what is wrong, and where --- */

static void bad_keys_are_named(void **state)
{
	(void)state;
	assert_refused("number=3\nnumbr=4\n", "disk:manifest:2: key 'numbr': unknown key");
	assert_refused("number=3\nNumber=4\n", "disk:manifest:2: key 'Number': unknown key");
	assert_refused("number=3\n number=4\n", "disk:manifest:2: key ' number': unknown key");
	assert_refused("=1\n", "disk:manifest:1: key '': unknown key");
	assert_refused("number=3\nend=00000000\n", "disk:manifest:2: key 'end': unknown key");
	assert_refused("string=a\nnumber=3\nstring=a\n",
		       "disk:manifest:3: key 'string': given twice");
	assert_refused("number=3\nnumber=3\n", "disk:manifest:2: key 'number': given twice");
	assert_refused("number=3\nflag=true\nflag=true\n",
		       "disk:manifest:3: key 'flag': given twice");
	assert_refused("string=a\n", "disk:manifest: key 'number' is missing");
	assert_refused("", "disk:manifest: key 'number' is missing");
}

static void bad_numbers_are_named(void **state)
{
	static const char *const wrong[] = {"",
					    "x",
					    "-3",
					    "+3",
					    " 3",
					    "3 ",
					    "3.0",
					    "0x3",
					    "3k",
					    "%",
					    "1e2",
					    "18446744073709551616",
					    "99999999999999999999999"};
	static const char *const outside[] = {"0", "2", "1001", "18446744073709551615"};
	char record[80];

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		snprintf(record, sizeof(record), "flag=true\nnumber=%s\n", wrong[i]);
		assert_refused(record,
			       strcmp(wrong[i], "%") == 0
				       ? "disk:manifest:2: key 'number': '%' must be "
					 "followed by two hexadecimal digits"
				       : "disk:manifest:2: key 'number': not a whole number");
	}
	for (size_t i = 0; i < COUNT(outside); i++) {
		snprintf(record, sizeof(record), "flag=true\nnumber=%s\n", outside[i]);
		assert_refused(record, "disk:manifest:2: key 'number': must be a whole number from "
				       "3 to 1000");
	}
	assert_int_equal(parse_sample("number=3\n").number, 3);
	assert_int_equal(parse_sample("number=1000\n").number, 1000);
}

/* What stands for "unset" in memory cannot be put there by a record. */
static void unset_cannot_be_given(void **state)
{
	(void)state;
	assert_refused("number=3\noptional=18446744073709551615\n",
		       "disk:manifest:2: key 'optional': must be a whole number from 0 to "
		       "18446744073709551614");
}

static void bad_words_and_times_are_named(void **state)
{
	static const char *const times[] = {
		"",	     "1",	"1.5",	    "1.0000000", "1.00000x",
		"-1.000000", ".500000", "1,000000", "1.-00001",	 "18446744073710.000000"};
	char record[80];

	(void)state;
	assert_refused("number=3\nflag=yes\n",
		       "disk:manifest:2: key 'flag': must be 'true' or 'false'");
	assert_refused("number=3\nflag=TRUE\n",
		       "disk:manifest:2: key 'flag': must be 'true' or 'false'");
	assert_refused("number=3\nword=blue\n",
		       "disk:manifest:2: key 'word': not one of its words");
	assert_refused("number=3\nword=\n", "disk:manifest:2: key 'word': not one of its words");
	assert_refused("number=3\nword=Red\n", "disk:manifest:2: key 'word': not one of its words");
	for (size_t i = 0; i < COUNT(times); i++) {
		snprintf(record, sizeof(record), "time=%s\nnumber=3\n", times[i]);
		assert_refused(record,
			       "disk:manifest:1: key 'time': not seconds with six decimals");
	}
}

static void bad_bytes_are_named(void **state)
{
	static const char *const escapes[] = {"%", "%4", "%G0", "%0G", "a%", "%%", "% 1", "%-1"};
	static const char *const bytes[] = {"\t", "\r", "\177", "\200", "\303\244", "ok\033[m"};
	char record[80];

	(void)state;
	for (size_t i = 0; i < COUNT(escapes); i++) {
		snprintf(record, sizeof(record), "number=3\nlist=%s\n", escapes[i]);
		assert_refused(record, "disk:manifest:2: key 'list': '%' must be followed by two "
				       "hexadecimal digits");
	}
	for (size_t i = 0; i < COUNT(bytes); i++) {
		snprintf(record, sizeof(record), "number=3\nstring=%s\n", bytes[i]);
		assert_refused(record, "disk:manifest:2: key 'string': a byte outside printable "
				       "ASCII must be written %XX");
	}
	assert_refused("number=3\nstring=a%00b\n",
		       "disk:manifest:2: key 'string': %00 may not stand in a value");
}

static void bad_lines_are_named(void **state)
{
	static const char nul[] = "number=3\nstring=a\0b\n", nul_alone[] = "number=3\n\0\n";
	struct sample sample;

	(void)state;
	assert_refused("number=3\n\n", "disk:manifest:2: not of the form key=value");
	assert_refused("number=3\nflag\n", "disk:manifest:2: not of the form key=value");
	assert_refused("number=3", "disk:manifest:1: the last line has no end");
	assert_refused("number=3\nflag=true", "disk:manifest:2: the last line has no end");
	assert_int_equal(parse_bytes(&plain, nul, sizeof(nul) - 1, &sample), -1);
	assert_string_equal(error.text, "disk:manifest:2: a NUL byte");
	assert_int_equal(parse_bytes(&plain, nul_alone, sizeof(nul_alone) - 1, &sample), -1);
	assert_string_equal(error.text, "disk:manifest:2: a NUL byte");
}

/* --- bounds --- */

/* A record of exactly LENGTH bytes. */
static void fill_record(size_t length)
{
	int start = sprintf(buffer.text, "number=3\nstring=");

	memset(buffer.text + start, 'x', length - (size_t)start);
	buffer.text[length - 1] = '\n';
}

static void record_has_a_largest_size(void **state)
{
	struct sample sample;

	(void)state;
	fill_record(RECORD_MAX_BYTES);
	assert_int_equal(record_parse(&plain, "f", &buffer, RECORD_MAX_BYTES, &sample, &error), 0);
	fill_record(RECORD_MAX_BYTES + 1);
	assert_int_equal(record_parse(&plain, "f", &buffer, RECORD_MAX_BYTES + 1, &sample, &error),
			 -1);
	assert_string_equal(error.text, "f: larger than 65536 bytes");
}

static void record_has_a_largest_number_of_lines(void **state)
{
	static const char line[] = "list=\n";
	char name[] = "number=3\n";
	size_t length = strlen(name);
	struct sample sample;

	(void)state;
	memcpy(buffer.text, name, length);
	for (int i = 1; i < RECORD_MAX_LINES; i++, length += strlen(line))
		memcpy(buffer.text + length, line, strlen(line));
	assert_int_equal(record_parse(&plain, "f", &buffer, length, &sample, &error), 0);
	assert_int_equal(sample.list.count, RECORD_MAX_LINES - 1);
	assert_null(sample.list.items[RECORD_MAX_LINES - 1]);
	assert_int_equal(sample.others.count, 0);

	memcpy(buffer.text, name, strlen(name));
	for (length = strlen(name); length < strlen(name) + RECORD_MAX_LINES * strlen(line);
	     length += strlen(line))
		memcpy(buffer.text + length, line, strlen(line));
	assert_int_equal(record_parse(&plain, "f", &buffer, length, &sample, &error), -1);
	assert_string_equal(error.text, "f:8193: more than 8192 lines");
}

static void format_refuses_what_does_not_fit(void **state)
{
	static char long_string[RECORD_MAX_BYTES];
	size_t rest = strlen("number=3\nstring=\nflag=false\nword=red\n");
	struct sample sample = {
		.number = 3, .optional = RECORD_UNSET, .time = RECORD_UNSET, .string = long_string};
	struct sample copy;

	(void)state;
	memset(long_string, 'x', RECORD_MAX_BYTES - rest);
	assert_int_equal(format(&plain, &sample), RECORD_MAX_BYTES);
	assert_round_trip(&plain, &sample, &copy);
	assert_int_equal(record_format(&sealed, &sample, text, &error), -1);
	assert_string_equal(error.text, "longer than 65536 bytes");

	long_string[RECORD_MAX_BYTES - rest] = 'x';
	assert_int_equal(record_format(&plain, &sample, text, &error), -1);
	assert_string_equal(error.text, "longer than 65536 bytes");
	long_string[RECORD_MAX_BYTES - rest] = '\0';
	long_string[0] = '\n';
	assert_int_equal(record_format(&plain, &sample, text, &error), -1);
}

/* --- the seal --- */

static void crc32c_has_its_check_values(void **state)
{
	unsigned char bytes[32];

	(void)state;
	assert_int_equal(crc32c("123456789", 9), 0xe3069283);
	assert_int_equal(crc32c("", 0), 0);
	/* RFC 3720, appendix B.4 */
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(crc32c(bytes, sizeof(bytes)), 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(crc32c(bytes, sizeof(bytes)), 0x62a8ab43);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)i;
	assert_int_equal(crc32c(bytes, sizeof(bytes)), 0x46dd794e);
}

static const char sealed_text[] = "number=42\nflag=false\nword=red\nend=cb888c67\n";

static void seal_is_the_last_line(void **state)
{
	struct sample sample = {.number = 42, .optional = RECORD_UNSET, .time = RECORD_UNSET};
	char expected[80];
	size_t body = strlen(sealed_text) - strlen("end=12345678\n");

	(void)state;
	snprintf(expected, sizeof(expected), "%.*send=%08" PRIx32 "\n", (int)body, sealed_text,
		 crc32c(sealed_text, body));
	format(&sealed, &sample);
	assert_string_equal(text, expected);
	assert_string_equal(text, sealed_text);
	assert_round_trip(&sealed, &sample, &sample);
}

static void record_torn_anywhere_is_refused(void **state)
{
	struct sample sample;

	(void)state;
	for (size_t length = 0; length < strlen(sealed_text); length++) {
		if (parse_bytes(&sealed, sealed_text, length, &sample) != -1)
			fail_msg("accepted when torn at %zu", length);
		assert_string_equal(error.text, "disk:manifest: torn: it has no 'end' line");
	}
	assert_int_equal(parse_bytes(&sealed, sealed_text, strlen(sealed_text), &sample), 0);
}

/* The first pages of a record are there, the last ones still hold zeros, or the other way round. */
static void half_written_record_is_refused(void **state)
{
	char record[sizeof(sealed_text)];
	struct sample sample;

	(void)state;
	for (size_t i = 1; i < strlen(sealed_text); i++) {
		memcpy(record, sealed_text, sizeof(record));
		memset(record + i, 0, strlen(sealed_text) - i);
		assert_int_equal(parse_bytes(&sealed, record, strlen(sealed_text), &sample), -1);
		memcpy(record, sealed_text, sizeof(record));
		memset(record, 0, i);
		assert_int_equal(parse_bytes(&sealed, record, strlen(sealed_text), &sample), -1);
		assert_non_null(strstr(error.text, "disk:manifest: torn: "));
	}
}

static void flipped_bit_is_refused(void **state)
{
	char record[sizeof(sealed_text)];
	struct sample sample;

	(void)state;
	for (size_t bit = 0; bit < 8 * strlen(sealed_text); bit++) {
		memcpy(record, sealed_text, sizeof(record));
		record[bit / 8] ^= (char)(1 << bit % 8);
		if (parse_bytes(&sealed, record, strlen(sealed_text), &sample) != -1)
			fail_msg("accepted with bit %zu flipped", bit);
		assert_non_null(strstr(error.text, "disk:manifest: torn: "));
	}
}

static void record_without_its_seal_is_refused(void **state)
{
	static const char *const wrong[] = {
		"number=42\nflag=false\nword=red\n",
		"number=42\nflag=false\nword=red\nend=cb888c67\n\n",
		"number=42\nflag=false\nword=red\nend=cb888c67\nword=red\n",
		"number=42\nflag=false\nword=red\nend=CB888C67\n",
		"number=42\nflag=false\nword=red\nend=cb888c67 ",
		"number=42\nflag=false\nword=red\nend=00000000\n",
		"end=\n",
		"",
	};
	struct sample sample;

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		if (parse_bytes(&sealed, wrong[i], strlen(wrong[i]), &sample) != -1)
			fail_msg("accepted: %s", wrong[i]);
		assert_non_null(strstr(error.text, "disk:manifest: torn: "));
	}
}

/* The seal only says that the bytes are whole: what they say is checked all the same. */
static void sealed_nonsense_is_refused(void **state)
{
	static const char body[] = "number=42\nnonsense=1\n";
	struct sample sample;
	char record[80];

	(void)state;
	snprintf(record, sizeof(record), "%send=%08" PRIx32 "\n", body, crc32c(body, strlen(body)));
	assert_int_equal(parse_bytes(&sealed, record, strlen(record), &sample), -1);
	assert_string_equal(error.text, "disk:manifest:2: key 'nonsense': unknown key");
	snprintf(record, sizeof(record), "end=%08" PRIx32 "\n", crc32c("", 0));
	assert_int_equal(parse_bytes(&sealed, record, strlen(record), &sample), -1);
	assert_string_equal(error.text, "disk:manifest: key 'number' is missing");
}

/* --- manifest and result --- */

static struct manifest full_manifest(void)
{
	static const char *arguments[] = {"/bin/sh", "-c", "echo \"$X\"\n"};
	static const char *environment[] = {"X=a=b", "EMPTY="};
	static const char *outputs[] = {"out/", "\303\244.txt"}, *remaps[] = {"a=b"};

	return (struct manifest){
		.version = MANIFEST_VERSION,
		.job_id = "3f0cbb2e-0b9f-4d9c-8a34-9d1d1e1b2c3d",
		.arguments = {.items = arguments, .count = COUNT(arguments)},
		.environment = {.items = environment, .count = COUNT(environment)},
		.user = USER_ROOT,
		.privileged = true,
		.has_stdin = false,
		.cpus = 64,
		.memory_limit_bytes = 1ULL << 44,
		.processes_max = 1 << 20,
		.time_limit_ms = 1,
		.kill_signal = 64,
		.kill_grace_ms = 24ULL * 3600 * 1000,
		.stdout_max_bytes = 1ULL << 44,
		.stderr_max_bytes = 9,
		.output_overflow = OVERFLOW_KILL,
		.core_max_bytes = UINT64_MAX - 1,
		.stack_max_bytes = 8 << 20,
		.checkpoint_exit_code = 85,
		.fetch = FETCH_FILE,
		.outputs = OUTPUTS_DECLARED,
		.transfer_outputs = {.items = outputs, .count = COUNT(outputs)},
		.transfer_output_remaps = {.items = remaps, .count = COUNT(remaps)},
		.preserve_relative_paths = true,
		.when_to_transfer_output = TRANSFER_ON_SUCCESS,
		.output_max_bytes = 0,
		.success_exit_code = 255,
		.job_time_limit_ms = 3650ULL * 24 * 3600 * 1000,
	};
}

static const char full_manifest_text[] = "version=1\n"
					 "job_id=3f0cbb2e-0b9f-4d9c-8a34-9d1d1e1b2c3d\n"
					 "argument=/bin/sh\n"
					 "argument=-c\n"
					 "argument=echo \"$X\"%0A\n"
					 "environment=X=a=b\n"
					 "environment=EMPTY=\n"
					 "user=root\n"
					 "privileged=true\n"
					 "stdin=false\n"
					 "cpus=64\n"
					 "memory_limit_bytes=17592186044416\n"
					 "processes_max=1048576\n"
					 "time_limit_ms=1\n"
					 "kill_signal=64\n"
					 "kill_grace_ms=86400000\n"
					 "stdout_max_bytes=17592186044416\n"
					 "stderr_max_bytes=9\n"
					 "output_overflow=kill\n"
					 "core_max_bytes=18446744073709551614\n"
					 "stack_max_bytes=8388608\n"
					 "checkpoint_exit_code=85\n"
					 "fetch=file\n"
					 "outputs=declared\n"
					 "transfer_output=out/\n"
					 "transfer_output=%C3%A4.txt\n"
					 "transfer_output_remap=a=b\n"
					 "preserve_relative_paths=true\n"
					 "when_to_transfer_output=ON_SUCCESS\n"
					 "output_max_bytes=0\n"
					 "success_exit_code=255\n"
					 "job_time_limit_ms=315360000000\n";

static struct manifest least_manifest(void)
{
	static const char *arguments[] = {"true"};
	struct manifest manifest = manifest_defaults();

	manifest.job_id = "";
	manifest.arguments = (struct record_list){.items = arguments, .count = 1};
	return manifest;
}

static void manifest_comes_back(void **state)
{
	const struct manifest full = full_manifest(), least = least_manifest();
	struct manifest copy;

	(void)state;
	assert_round_trip(&manifest_schema, &full, &copy);
	assert_string_equal(text, full_manifest_text);
	assert_round_trip(&manifest_schema, &least, &copy);
	for (size_t i = 0; i < manifest_schema.key_count; i++)
		assert_int_equal(has_line_of(text, manifest_schema.keys[i].name),
				 manifest_schema.keys[i].required);
}

static struct result full_result(void)
{
	static const char *timings[] = {"mount_job 0.412345", "start_job 0.512345"};

	return (struct result){
		.version = RESULT_VERSION,
		.job_id = "3f0cbb2e-0b9f-4d9c-8a34-9d1d1e1b2c3d",
		.status = STATUS_OUT_OF_MEMORY,
		.exit_code = 255,
		.exit_signal = 64,
		.message = "the job's memory was used up\n100%",
		.stage = "supervise",
		.time_wall = 60000001,
		.time_user = 0,
		.time_system = 999999,
		.memory_peak = 1,
		.oom_killed = true,
		.processes_peak = 2,
		.io_read_bytes = 3,
		.io_write_bytes = 4,
		.stdout_bytes = 5,
		.stderr_bytes = UINT64_MAX - 1,
		.stdout_truncated = true,
		.stderr_truncated = false,
		.limit = "memory_limit_bytes",
		.limit_requested = 6,
		.limit_observed = 7,
		.checkpoints = 8,
		.privileged = true,
		.stage_timings = {.items = timings, .count = COUNT(timings)},
	};
}

static const char full_result_text[] = "version=1\n"
				       "job_id=3f0cbb2e-0b9f-4d9c-8a34-9d1d1e1b2c3d\n"
				       "status=out_of_memory\n"
				       "exit_code=255\n"
				       "exit_signal=64\n"
				       "message=the job's memory was used up%0A100%25\n"
				       "stage=supervise\n"
				       "time_wall=60.000001\n"
				       "time_user=0.000000\n"
				       "time_system=0.999999\n"
				       "memory_peak=1\n"
				       "oom_killed=true\n"
				       "processes_peak=2\n"
				       "io_read_bytes=3\n"
				       "io_write_bytes=4\n"
				       "stdout_bytes=5\n"
				       "stderr_bytes=18446744073709551614\n"
				       "stdout_truncated=true\n"
				       "stderr_truncated=false\n"
				       "limit=memory_limit_bytes\n"
				       "limit_requested=6\n"
				       "limit_observed=7\n"
				       "checkpoints=8\n"
				       "privileged=true\n"
				       "stage_timing=mount_job 0.412345\n"
				       "stage_timing=start_job 0.512345\n"
				       "end=3a068dff\n";

static void result_comes_back(void **state)
{
	const struct result full = full_result(), least = result_defaults();
	struct result copy;

	(void)state;
	assert_round_trip(&result_schema, &full, &copy);
	assert_string_equal(text, full_result_text);
	assert_round_trip(&result_schema, &least, &copy);
	assert_int_equal(copy.status, STATUS_FAILED_TO_START);
	assert_true(copy.exit_code == RECORD_UNSET && copy.exit_signal == RECORD_UNSET);
	assert_null(copy.message);
}

static void every_status_has_its_word(void **state)
{
	struct result result = result_defaults(), copy;

	(void)state;
	for (unsigned status = 0; status <= STATUS_CANCELLED; status++) {
		assert_non_null(job_status_words[status]);
		result.status = status;
		assert_round_trip(&result_schema, &result, &copy);
	}
	assert_null(job_status_words[STATUS_CANCELLED + 1]);
}

/* RECORD without the lines of KEY. */
static void drop_key(const char *record, const char *key, char *rest)
{
	size_t key_length = strlen(key);

	while (*record) {
		size_t length = strcspn(record, "\n") + 1;
		if (strncmp(record, key, key_length) != 0 || record[key_length] != '=') {
			memcpy(rest, record, length);
			rest += length;
		}
		record += length;
	}
	*rest = '\0';
}

static void manifest_lacks_none_of_its_required_keys(void **state)
{
	const struct manifest full = full_manifest();
	struct manifest copy;
	char rest[4096], reason[128];

	(void)state;
	format(&manifest_schema, &full);
	for (size_t i = 0; i < manifest_schema.key_count; i++) {
		const struct record_key *key = &manifest_schema.keys[i];
		drop_key(text, key->name, rest);
		int result = parse_bytes(&manifest_schema, rest, strlen(rest), &copy);
		snprintf(reason, sizeof(reason), "disk:manifest: key '%s' is missing", key->name);
		assert_int_equal(result, key->required ? -1 : 0);
		if (key->required)
			assert_string_equal(error.text, reason);
	}
}

static void assert_bound(const struct record_key *key, uint64_t value, bool inside)
{
	struct manifest copy;
	char record[4096];

	drop_key(text, key->name, record);
	size_t length = strlen(record);
	snprintf(record + length, sizeof(record) - length, "%s=%" PRIu64 "\n", key->name, value);
	if (parse_bytes(&manifest_schema, record, strlen(record), &copy) != (inside ? 0 : -1))
		fail_msg("%s=%" PRIu64 " is %s", key->name, value,
			 inside ? error.text : "accepted");
	assert_int_equal(record_check_uint(key, value, &error), inside ? 0 : -1);
	if (!inside)
		assert_non_null(strstr(error.text, "must be a whole number from "));
}

static void manifest_numbers_have_bounds(void **state)
{
	const struct manifest full = full_manifest();

	(void)state;
	format(&manifest_schema, &full);
	for (size_t i = 0; i < manifest_schema.key_count; i++) {
		const struct record_key *key = &manifest_schema.keys[i];
		if (key->type != RECORD_UINT)
			continue;
		assert_true(key->max < RECORD_UNSET);
		assert_bound(key, key->min, true);
		assert_bound(key, key->max, true);
		assert_bound(key, key->max + 1, false);
		if (key->min > 0)
			assert_bound(key, key->min - 1, false);
	}
}

/* --- hostile bytes --- */

static uint64_t random_state;

/* xorshift64*: the same numbers in every run. */
static uint32_t random_below(uint32_t bound)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)((random_state * 0x2545f4914f6cdd1dULL) >> 32) % bound;
}

/* What is accepted must come out again as it went in. */
static void parse_hostile(const char *bytes, size_t length)
{
	static char again[RECORD_MAX_BYTES + 1];
	struct manifest manifest, copy;

	if (parse_bytes(&manifest_schema, bytes, length, &manifest)) {
		assert_non_null(strstr(error.text, "disk:manifest:"));
		return;
	}
	format(&manifest_schema, &manifest);
	memcpy(again, text, sizeof(again));
	assert_round_trip(&manifest_schema, &manifest, &copy);
	assert_string_equal(text, again);
}

static void random_bytes_are_refused(void **state)
{
	static const char likely[] = "\n=%0123456789abcdefversion\0\200";
	char bytes[512];

	(void)state;
	random_state = 1;
	for (int run = 0; run < 20000; run++) {
		size_t length = random_below(sizeof(bytes));
		for (size_t i = 0; i < length; i++)
			bytes[i] = run % 2 ? (char)random_below(256)
					   : likely[random_below(sizeof(likely))];
		struct manifest manifest;
		assert_int_equal(parse_bytes(&manifest_schema, bytes, length, &manifest), -1);
		struct result result;
		assert_int_equal(parse_bytes(&result_schema, bytes, length, &result), -1);
	}
}

static void mutated_manifests_are_read_or_refused(void **state)
{
	const struct manifest full = full_manifest();
	char original[4096], mutant[4096];
	size_t length = (size_t)format(&manifest_schema, &full);

	(void)state;
	memcpy(original, text, length);
	random_state = 2;
	for (int run = 0; run < 20000; run++) {
		size_t size = length;
		memcpy(mutant, original, length);
		for (uint32_t edits = 1 + random_below(4); edits > 0; edits--) {
			size_t where = random_below((uint32_t)size - 1);
			size_t span = random_below(8);
			if (random_below(2)) {
				mutant[where] = (char)random_below(256);
			} else if (where + span < size) {
				memmove(mutant + where, mutant + where + span, size - where - span);
				size -= span;
			}
		}
		parse_hostile(mutant, size);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_as_documented),
		cmocka_unit_test(every_type_comes_back),
		cmocka_unit_test(unset_values_are_left_out_and_come_back_unset),
		cmocka_unit_test(every_byte_comes_back),
		cmocka_unit_test(mixed_lists_keep_their_order),
		cmocka_unit_test(either_case_of_hexadecimal_is_read),
		cmocka_unit_test(time_does_not_wrap_around),
		cmocka_unit_test(bad_keys_are_named),
		cmocka_unit_test(bad_numbers_are_named),
		cmocka_unit_test(unset_cannot_be_given),
		cmocka_unit_test(bad_words_and_times_are_named),
		cmocka_unit_test(bad_bytes_are_named),
		cmocka_unit_test(bad_lines_are_named),
		cmocka_unit_test(record_has_a_largest_size),
		cmocka_unit_test(record_has_a_largest_number_of_lines),
		cmocka_unit_test(format_refuses_what_does_not_fit),
		cmocka_unit_test(crc32c_has_its_check_values),
		cmocka_unit_test(seal_is_the_last_line),
		cmocka_unit_test(record_torn_anywhere_is_refused),
		cmocka_unit_test(half_written_record_is_refused),
		cmocka_unit_test(flipped_bit_is_refused),
		cmocka_unit_test(record_without_its_seal_is_refused),
		cmocka_unit_test(sealed_nonsense_is_refused),
		cmocka_unit_test(manifest_comes_back),
		cmocka_unit_test(result_comes_back),
		cmocka_unit_test(every_status_has_its_word),
		cmocka_unit_test(manifest_lacks_none_of_its_required_keys),
		cmocka_unit_test(manifest_numbers_have_bounds),
		cmocka_unit_test(random_bytes_are_refused),
		cmocka_unit_test(mutated_manifests_are_read_or_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
