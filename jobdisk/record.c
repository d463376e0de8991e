#include "jobdisk/record.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "jobdisk/crc32c.h"

#define SEAL_BYTES   (sizeof("end=01234567\n") - 1)
#define MICROSECONDS ((uint64_t)1000000)

static void *field(const struct record_key *key, void *object)
{
	return (char *)object + key->offset;
}

static const void *const_field(const struct record_key *key, const void *object)
{
	return (const char *)object + key->offset;
}

/* --- parsing --- */

struct parser {
	const struct record_schema *schema;
	const char *file;
	struct record_buffer *buffer;
	size_t items_used;
	void *object;
	struct error *error;
	uint16_t line_count;
	/* The key and decoded value of each line, for the second pass over lists. */
	const struct record_key *line_keys[RECORD_MAX_LINES];
	const char *line_values[RECORD_MAX_LINES];
};

static int bad_line(struct parser *p, size_t line, const char *key, const char *reason)
{
	return error_set(p->error, "%s:%zu: key '%.64s': %s", p->file, line, key, reason);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Decodes %XX in place. Returns NULL, or what is wrong. */
static const char *decode(char *value)
{
	char *out = value;

	for (const char *in = value; *in; in++) {
		if (*in < ' ' || *in > '~')
			return "a byte outside printable ASCII must be written %XX";
		if (*in != '%') {
			*out++ = *in;
			continue;
		}
		int high = hex_digit(in[1]);
		int low = high < 0 ? -1 : hex_digit(in[2]);
		if (low < 0)
			return "'%' must be followed by two hexadecimal digits";
		if (high == 0 && low == 0)
			return "%00 may not stand in a value";
		*out++ = (char)(high << 4 | low);
		in += 2;
	}
	*out = '\0';
	return NULL;
}

/* Decimal digits only, no sign, no blank. Returns the first byte behind them, or NULL. */
static const char *parse_digits(const char *text, uint64_t *number)
{
	const char *c = text;

	*number = 0;
	for (; *c >= '0' && *c <= '9'; c++) {
		uint64_t digit = (uint64_t)(*c - '0');
		if (*number > (UINT64_MAX - digit) / 10)
			return NULL;
		*number = *number * 10 + digit;
	}
	return c == text ? NULL : c;
}

static bool parse_uint(const char *text, uint64_t *number)
{
	const char *end = parse_digits(text, number);

	return end && *end == '\0';
}

/* "12.345678": exactly six decimals, as the formatter writes them. */
static bool parse_seconds(const char *text, uint64_t *microseconds)
{
	uint64_t seconds, fraction;
	const char *point = parse_digits(text, &seconds);

	if (!point || *point != '.' || strlen(point + 1) != 6 || !parse_uint(point + 1, &fraction))
		return false;
	if (seconds > UINT64_MAX / MICROSECONDS - 1)
		return false;
	*microseconds = seconds * MICROSECONDS + fraction;
	return true;
}

static int parse_word(const char *const *words, const char *text)
{
	for (int i = 0; words[i]; i++)
		if (strcmp(words[i], text) == 0)
			return i;
	return -1;
}

int record_check_uint(const struct record_key *key, uint64_t value, struct error *error)
{
	if (value < key->min || value > key->max)
		return error_set(error, "must be a whole number from %" PRIu64 " to %" PRIu64,
				 key->min, key->max);
	return 0;
}

static int store_uint(struct parser *p, size_t line, const struct record_key *key,
		      const char *value)
{
	struct error reason;
	uint64_t number = 0;

	if (!parse_uint(value, &number))
		return bad_line(p, line, key->name, "not a whole number");
	if (record_check_uint(key, number, &reason))
		return bad_line(p, line, key->name, reason.text);
	*(uint64_t *)field(key, p->object) = number;
	return 0;
}

static int store_word(struct parser *p, size_t line, const struct record_key *key,
		      const char *value)
{
	int word = parse_word(key->words, value);

	if (word < 0)
		return bad_line(p, line, key->name, "not one of its words");
	*(unsigned *)field(key, p->object) = (unsigned)word;
	return 0;
}

static int store_single(struct parser *p, size_t line, const struct record_key *key,
			const char *value)
{
	switch (key->type) {
	case RECORD_STRING:
		*(const char **)field(key, p->object) = value;
		return 0;
	case RECORD_UINT:
		return store_uint(p, line, key, value);
	case RECORD_WORD:
		return store_word(p, line, key, value);
	case RECORD_BOOL:
		if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
			return bad_line(p, line, key->name, "must be 'true' or 'false'");
		*(bool *)field(key, p->object) = strcmp(value, "true") == 0;
		return 0;
	case RECORD_SECONDS:
		if (!parse_seconds(value, field(key, p->object)))
			return bad_line(p, line, key->name, "not seconds with six decimals");
		return 0;
	case RECORD_LIST:
		break;
	}
	return 0;
}

static const struct record_key *find_key(const struct record_schema *schema, const char *name)
{
	for (size_t i = 0; i < schema->key_count; i++)
		if (strcmp(schema->keys[i].name, name) == 0)
			return &schema->keys[i];
	return NULL;
}

static bool seen_before(const struct parser *p, const struct record_key *key)
{
	for (size_t i = 0; i < p->line_count; i++)
		if (p->line_keys[i] == key)
			return true;
	return false;
}

static int parse_line(struct parser *p, char *text)
{
	size_t line = p->line_count + 1U;
	char *equals = strchr(text, '=');

	if (p->line_count == RECORD_MAX_LINES)
		return error_set(p->error, "%s:%zu: more than %d lines", p->file, line,
				 RECORD_MAX_LINES);
	if (!equals)
		return error_set(p->error, "%s:%zu: not of the form key=value", p->file, line);
	*equals = '\0';

	const struct record_key *key = find_key(p->schema, text);
	if (!key)
		return bad_line(p, line, text, "unknown key");
	if (key->type != RECORD_LIST && seen_before(p, key))
		return bad_line(p, line, text, "given twice");
	const char *wrong = decode(equals + 1);
	if (wrong)
		return bad_line(p, line, text, wrong);
	if (store_single(p, line, key, equals + 1))
		return -1;
	p->line_keys[p->line_count] = key;
	p->line_values[p->line_count] = equals + 1;
	p->line_count++;
	return 0;
}

static int parse_lines(struct parser *p, char *text, const char *end)
{
	while (text < end) {
		char *newline = memchr(text, '\n', (size_t)(end - text));
		if (!newline)
			return error_set(p->error, "%s:%u: the last line has no end", p->file,
					 p->line_count + 1U);
		*newline = '\0';
		if (strlen(text) != (size_t)(newline - text))
			return error_set(p->error, "%s:%u: a NUL byte", p->file,
					 p->line_count + 1U);
		if (parse_line(p, text))
			return -1;
		text = newline + 1;
	}
	return 0;
}

/* Gathers the lines of a repeated key into one array behind the arrays of the keys before it. */
static void gather_list(struct parser *p, const struct record_key *key)
{
	struct record_list *list = field(key, p->object);

	list->items = &p->buffer->items[p->items_used];
	list->count = 0;
	for (size_t i = 0; i < p->line_count; i++)
		if (p->line_keys[i] == key)
			list->items[list->count++] = p->line_values[i];
	list->items[list->count] = NULL;
	p->items_used += list->count + 1;
}

static void unset_optional(const struct record_key *key, void *object)
{
	if (key->type == RECORD_UINT || key->type == RECORD_SECONDS)
		*(uint64_t *)field(key, object) = RECORD_UNSET;
	else if (key->type == RECORD_BOOL)
		*(bool *)field(key, object) = false;
	else if (key->type == RECORD_WORD)
		*(unsigned *)field(key, object) = 0;
	else if (key->type == RECORD_STRING)
		*(const char **)field(key, object) = NULL;
}

static int finish_keys(struct parser *p)
{
	for (size_t i = 0; i < p->schema->key_count; i++) {
		const struct record_key *key = &p->schema->keys[i];
		if (key->required && !seen_before(p, key))
			return error_set(p->error, "%s: key '%s' is missing", p->file, key->name);
		if (key->type == RECORD_LIST)
			gather_list(p, key);
	}
	return 0;
}

/* Checks the `end=CRC` line and cuts it off *LENGTH. */
static int check_seal(const char *file, const char *text, size_t *length, struct error *error)
{
	char seal[SEAL_BYTES + 1];

	if (*length < SEAL_BYTES || memcmp(text + *length - SEAL_BYTES, "end=", 4) != 0)
		return error_set(error, "%s: torn: it has no 'end' line", file);
	*length -= SEAL_BYTES;
	snprintf(seal, sizeof(seal), "end=%08" PRIx32 "\n", crc32c(text, *length));
	if (memcmp(text + *length, seal, SEAL_BYTES) != 0)
		return error_set(error, "%s: torn: its checksum is wrong", file);
	return 0;
}

int record_parse(const struct record_schema *schema, const char *file, struct record_buffer *buffer,
		 size_t length, void *object, struct error *error)
{
	/* Static: too large for PID 1's stack; records are parsed one at a time. */
	static struct parser p;

	p = (struct parser){
		.schema = schema, .file = file, .buffer = buffer, .object = object, .error = error};
	if (length > RECORD_MAX_BYTES)
		return error_set(error, "%s: larger than %d bytes", file, RECORD_MAX_BYTES);
	if (schema->sealed && check_seal(file, buffer->text, &length, error))
		return -1;
	for (size_t i = 0; i < schema->key_count; i++)
		unset_optional(&schema->keys[i], object);
	if (parse_lines(&p, buffer->text, buffer->text + length))
		return -1;
	return finish_keys(&p);
}

/* --- formatting --- */

struct writer {
	char *text;
	size_t length;
	bool overflow;
};

static void put_byte(struct writer *w, char byte)
{
	if (w->length < RECORD_MAX_BYTES)
		w->text[w->length++] = byte;
	else
		w->overflow = true;
}

static void put_plain(struct writer *w, const char *text)
{
	for (; *text; text++)
		put_byte(w, *text);
}

static void put_encoded(struct writer *w, const char *text)
{
	static const char hex[] = "0123456789ABCDEF";

	for (; *text; text++) {
		unsigned char byte = (unsigned char)*text;
		if (byte >= ' ' && byte <= '~' && byte != '%') {
			put_byte(w, *text);
			continue;
		}
		put_byte(w, '%');
		put_byte(w, hex[byte >> 4]);
		put_byte(w, hex[byte & 15]);
	}
}

static void put_line(struct writer *w, const char *key, const char *value)
{
	put_plain(w, key);
	put_byte(w, '=');
	put_encoded(w, value);
	put_byte(w, '\n');
}

static void put_number(struct writer *w, const struct record_key *key, uint64_t number)
{
	char digits[40];

	if (number == RECORD_UNSET)
		return;
	if (key->type == RECORD_SECONDS)
		snprintf(digits, sizeof(digits), "%" PRIu64 ".%06" PRIu64, number / MICROSECONDS,
			 number % MICROSECONDS);
	else
		snprintf(digits, sizeof(digits), "%" PRIu64, number);
	put_line(w, key->name, digits);
}

static void put_key(struct writer *w, const struct record_key *key, const void *value)
{
	switch (key->type) {
	case RECORD_STRING:
		if (*(const char *const *)value)
			put_line(w, key->name, *(const char *const *)value);
		break;
	case RECORD_LIST:
		for (size_t i = 0; i < ((const struct record_list *)value)->count; i++)
			put_line(w, key->name, ((const struct record_list *)value)->items[i]);
		break;
	case RECORD_UINT:
	case RECORD_SECONDS:
		put_number(w, key, *(const uint64_t *)value);
		break;
	case RECORD_BOOL:
		put_line(w, key->name, *(const bool *)value ? "true" : "false");
		break;
	case RECORD_WORD:
		put_line(w, key->name, key->words[*(const unsigned *)value]);
		break;
	}
}

long record_format(const struct record_schema *schema, const void *object, char *text,
		   struct error *error)
{
	struct writer w = {.text = text};

	for (size_t i = 0; i < schema->key_count; i++)
		put_key(&w, &schema->keys[i], const_field(&schema->keys[i], object));
	if (schema->sealed) {
		char seal[SEAL_BYTES + 1];
		snprintf(seal, sizeof(seal), "end=%08" PRIx32 "\n", crc32c(text, w.length));
		put_plain(&w, seal);
	}
	if (w.overflow)
		return error_set(error, "longer than %d bytes", RECORD_MAX_BYTES);
	text[w.length] = '\0';
	return (long)w.length;
}
