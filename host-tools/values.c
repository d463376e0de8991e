#include "host-tools/values.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host-tools/exitcodes.h"
#include "jobdisk/record.h"

#define BLANKS	   " \t"
#define SIGNAL_MAX 64

/* --- strings --- */

void *memory_or_exit(void *memory)
{
	if (!memory) {
		fputs("jobvm: out of memory\n", stderr);
		exit(EXIT_JOBVM_FAILED);
	}
	return memory;
}

void strings_take(struct strings *strings, char *text)
{
	/* Grown at powers of two only: a list can have a hundred thousand items. */
	if ((strings->count & (strings->count + 1)) == 0) {
		size_t capacity = 2 * (strings->count + 1);
		strings->items = memory_or_exit(
			reallocarray(strings->items, capacity, sizeof(*strings->items)));
	}
	strings->items[strings->count++] = text;
	strings->items[strings->count] = NULL;
}

void strings_format(struct strings *strings, const char *format, ...)
{
	va_list values;
	char *text;

	va_start(values, format);
	if (vasprintf(&text, format, values) < 0)
		text = NULL;
	va_end(values);
	strings_take(strings, memory_or_exit(text));
}

void *list_room(void *items, size_t count, size_t *capacity, size_t item_bytes)
{
	size_t wanted = *capacity ? 2 * *capacity : 16;

	if (count < *capacity)
		return items;
	items = reallocarray(items, wanted, item_bytes);
	if (items)
		*capacity = wanted;
	return items;
}

void strings_add(struct strings *strings, const char *text)
{
	strings_take(strings, memory_or_exit(strdup(text)));
}

void strings_clear(struct strings *strings)
{
	for (size_t i = 0; i < strings->count; i++)
		free(strings->items[i]);
	free(strings->items);
	*strings = (struct strings){0};
}

char *trim(char *text)
{
	text += strspn(text, BLANKS);
	size_t length = strlen(text);
	while (length > 0 && strchr(BLANKS, text[length - 1]))
		length--;
	text[length] = '\0';
	return text;
}

void split_list(const char *text, const char *separators, struct strings *pieces)
{
	char *copy = memory_or_exit(strdup(text));
	char *rest = copy;
	char *piece;

	while ((piece = strsep(&rest, separators))) {
		piece = trim(piece);
		if (*piece)
			strings_add(pieces, piece);
	}
	free(copy);
}

/* --- numbers --- */

struct unit {
	const char *name;
	uint64_t scale;
};

static const struct unit size_units[] = {
	{"B", 1},
	{"K", 1 << 10},
	{"KB", 1 << 10},
	{"KiB", 1 << 10},
	{"M", 1 << 20},
	{"MB", 1 << 20},
	{"MiB", 1 << 20},
	{"G", 1 << 30},
	{"GB", 1 << 30},
	{"GiB", 1 << 30},
	{"T", 1ULL << 40},
	{"TB", 1ULL << 40},
	{"TiB", 1ULL << 40},
	{NULL, 0},
};

static const struct unit duration_units[] = {
	{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 24 * 3600 * 1000},
	{NULL, 0},
};

/* 0 where there is no such unit. */
static uint64_t find_scale(const struct unit *units, const char *name)
{
	while (units->name && strcasecmp(units->name, name) != 0)
		units++;
	return units->scale;
}

/* The number that TEXT starts with; NULL: it starts with none, or errno is ERANGE. */
static const char *parse_digits(const char *text, uint64_t *number)
{
	char *end;

	errno = 0;
	if (!isdigit((unsigned char)*text))
		return NULL;
	*number = strtoull(text, &end, 10);
	return errno ? NULL : end;
}

/* A decimal fraction as FRACTION / DIVISOR; digits past the ninth are dropped. */
static const char *parse_fraction(const char *text, uint64_t *fraction, uint64_t *divisor)
{
	*fraction = 0;
	*divisor = 1;
	for (; isdigit((unsigned char)*text); text++) {
		if (*divisor == 1000 * 1000 * 1000)
			continue;
		*fraction = 10 * *fraction + (uint64_t)(*text - '0');
		*divisor *= 10;
	}
	return text;
}

/* A number with a unit, multiplied out. -1 with errno ERANGE (too large) or 0 (not one). */
static int parse_scaled(const char *text, const struct unit *units, uint64_t default_scale,
			uint64_t *value)
{
	uint64_t whole, fraction = 0, divisor = 1;
	const char *end = parse_digits(text, &whole);

	if (!end)
		return -1;
	if (end[0] == '.' && isdigit((unsigned char)end[1]))
		end = parse_fraction(end + 1, &fraction, &divisor);
	end += strspn(end, BLANKS);

	uint64_t scale = *end ? find_scale(units, end) : default_scale;
	if (scale == 0)
		return -1;
	unsigned __int128 product =
		(unsigned __int128)whole * scale + (unsigned __int128)fraction * scale / divisor;
	if (product >= RECORD_UNSET) {
		errno = ERANGE;
		return -1;
	}
	*value = (uint64_t)product;
	return 0;
}

int parse_size(const char *text, uint64_t unit_bytes, uint64_t *bytes, struct error *error)
{
	if (parse_scaled(text, size_units, unit_bytes, bytes) == 0)
		return 0;
	if (errno == ERANGE)
		return error_set(error, "'%.100s' is too large", text);
	return error_set(
		error, "'%.100s' is not a size: give a number, optionally with K, M, G or T", text);
}

int parse_duration_ms(const char *text, uint64_t *milliseconds, struct error *error)
{
	if (parse_scaled(text, duration_units, 1000, milliseconds) == 0)
		return 0;
	if (errno == ERANGE)
		return error_set(error, "'%.100s' is too large", text);
	return error_set(
		error,
		"'%.100s' is not a duration: give seconds, or a number with ms, s, m, h or d "
		"(not an expression)",
		text);
}

int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *number,
		 struct error *error)
{
	const char *end = parse_digits(text, number);

	if (!end || *end || *number < min || *number > max)
		return error_set(error,
				 "'%.100s' is not a whole number from %" PRIu64 " to %" PRIu64,
				 text, min, max);
	return 0;
}

int parse_signal(const char *text, uint64_t *signal, struct error *error)
{
	const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
	struct error not_a_number;

	if (parse_number(text, 1, SIGNAL_MAX, signal, &not_a_number) == 0)
		return 0;
	for (int number = 1; number <= SIGNAL_MAX; number++) {
		const char *known = sigabbrev_np(number);
		if (known && strcasecmp(name, known) == 0) {
			*signal = (uint64_t)number;
			return 0;
		}
	}
	return error_set(error,
			 "'%.100s' is not a signal: give a name like TERM or a number up to %d",
			 text, SIGNAL_MAX);
}

int parse_bool(const char *text, bool *value, struct error *error)
{
	static const char *const words[][2] = {
		{"false", "true"}, {"no", "yes"}, {"f", "t"}, {"n", "y"}, {"0", "1"}};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		*value = strcasecmp(text, words[i][1]) == 0;
		if (*value || strcasecmp(text, words[i][0]) == 0)
			return 0;
	}
	return error_set(error, "'%.100s' is neither true nor false", text);
}

/* --- quoting --- */

char *unquote(const char *value, struct error *error)
{
	char *text = memory_or_exit(strdup(value));
	char *out = text;
	bool closed = false;

	if (*value != '"')
		return text;
	for (value++; *value; value++) {
		closed = *value == '"' && *++value != '"';
		if (closed)
			break;
		*out++ = *value;
	}
	*out = '\0';
	if (closed && *value == '\0')
		return text;
	error_set(error, closed ? "a double quote inside double quotes must be doubled"
				: "the closing double quote is missing");
	free(text);
	return NULL;
}

/* Takes the next word off *TEXT, its single quotes resolved. */
static int take_word(const char **text, struct strings *words, struct error *error)
{
	char *word = memory_or_exit(malloc(strlen(*text) + 1));
	char *out = word;
	bool quoted = false;
	const char *c;

	for (c = *text; *c && (quoted || !strchr(BLANKS, *c)); c++) {
		if (*c != '\'')
			*out++ = *c;
		else if (quoted && c[1] == '\'')
			*out++ = *c++;
		else
			quoted = !quoted;
	}
	*out = '\0';
	*text = c;
	if (quoted) {
		free(word);
		return error_set(error, "a single quote is not closed");
	}
	strings_take(words, word);
	return 0;
}

/* The new syntax, for arguments and environment. */
static int split_quoted(const char *value, struct strings *words, struct error *error)
{
	char *text = unquote(value, error);
	int result = text ? 0 : -1;
	const char *rest = text;

	while (result == 0 && *(rest += strspn(rest, BLANKS)))
		result = take_word(&rest, words, error);
	free(text);
	return result;
}

/* Makes each \" a double quote, in place; a bare one is an error, as it is for HTCondor. */
static int resolve_backslashes(char *text, struct error *error)
{
	char *out = text;

	for (; *text; text++) {
		if (*text == '"')
			return error_set(error, "a double quote must be written \\\", or the whole "
						"value be put in double quotes");
		if (text[0] == '\\' && text[1] == '"')
			text++;
		*out++ = *text;
	}
	*out = '\0';
	return 0;
}

int split_arguments(const char *value, struct strings *arguments, struct error *error)
{
	if (*value == '"')
		return split_quoted(value, arguments, error);

	size_t first = arguments->count;
	split_list(value, BLANKS, arguments);
	for (size_t i = first; i < arguments->count; i++)
		if (resolve_backslashes(arguments->items[i], error))
			return -1;
	return 0;
}

static char **find_entry(const struct strings *environment, const char *name)
{
	size_t length = strcspn(name, "=");

	for (size_t i = 0; i < environment->count; i++)
		if (strncmp(environment->items[i], name, length) == 0 &&
		    environment->items[i][length] == '=')
			return &environment->items[i];
	return NULL;
}

const char *environment_find(const struct strings *environment, const char *name)
{
	char **entry = find_entry(environment, name);

	return entry ? *entry : NULL;
}

int environment_set(struct strings *environment, const char *entry, struct error *error)
{
	if (*entry == '=' || !strchr(entry, '='))
		return error_set(error, "'%.100s' is not of the form NAME=VALUE", entry);

	char **old = find_entry(environment, entry);
	if (old) {
		free(*old);
		*old = memory_or_exit(strdup(entry));
		return 0;
	}
	/* More would not fit into the manifest, and looking for each name would take ages. */
	if (environment->count == RECORD_MAX_LINES)
		return error_set(error, "more than %d environment variables", RECORD_MAX_LINES);
	strings_add(environment, entry);
	return 0;
}

int split_environment(const char *value, struct strings *environment, struct error *error)
{
	struct strings entries = {0};
	int result = 0;

	if (*value == '"')
		result = split_quoted(value, &entries, error);
	else
		split_list(value, ";", &entries);
	for (size_t i = 0; result == 0 && i < entries.count; i++)
		result = environment_set(environment, entries.items[i], error);
	strings_clear(&entries);
	return result;
}
