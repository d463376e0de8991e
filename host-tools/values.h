/*
 * values: how text becomes values, for command line and submit description alike.
 *
 * Every parser returns 0, or -1 with ERROR saying what is wrong and what would be right; what it
 * should have filled is unspecified then. The caller puts before it which key or option it was.
 */
#ifndef HOST_TOOLS_VALUES_H
#define HOST_TOOLS_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "jobdisk/error.h"

/* An array of owned strings that ends with NULL; zero-initialised it is empty (items is NULL). */
struct strings {
	char **items;
	size_t count;
};

/* Returns MEMORY, fresh from malloc or the like; exits the program where it is NULL. */
void *memory_or_exit(void *memory);

/*
 * Room for one more: ITEMS, which hold COUNT of ITEM_BYTES each, moved to where *CAPACITY is
 * doubled if they are full. NULL when there is no memory; then nothing has changed.
 */
void *list_room(void *items, size_t count, size_t *capacity, size_t item_bytes);

/* Appends a copy of TEXT; exits the program when there is no memory. */
void strings_add(struct strings *strings, const char *text);
/* Appends TEXT itself, which was allocated and now belongs to STRINGS. */
void strings_take(struct strings *strings, char *text);
/* Appends what printf(3) would make of it. */
void strings_format(struct strings *strings, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void strings_clear(struct strings *strings);

/*
 * A size: digits, optionally a decimal fraction, then B, K, M, G or T (the latter optionally with
 * B or iB; powers of 1024, in upper or lower case), else UNIT_BYTES (HTCondor: request_memory
 * counts in MiB, request_disk in KiB). Rounded down to whole bytes.
 */
int parse_size(const char *text, uint64_t unit_bytes, uint64_t *bytes, struct error *error);
/* Seconds, or a number with ms, s, m, h or d; a fraction is fine. */
int parse_duration_ms(const char *text, uint64_t *milliseconds, struct error *error);
/* "TERM", "SIGTERM" or "15". */
int parse_signal(const char *text, uint64_t *signal, struct error *error);
/* true, yes, t, y, 1 or false, no, f, n, 0; in upper or lower case. */
int parse_bool(const char *text, bool *value, struct error *error);
/* A whole number from MIN to MAX. */
int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *number,
		 struct error *error);

/* Cuts blanks off both ends of TEXT, in place, and returns where it now starts. */
char *trim(char *text);
/* Adds the pieces of TEXT between SEPARATORS (a set of bytes), trimmed, the empty ones left out. */
void split_list(const char *text, const char *separators, struct strings *pieces);

/*
 * Copies VALUE without the double quotes around it, each doubled one inside made single; a value
 * that does not start with one comes back as it is. To be freed; NULL on error.
 */
char *unquote(const char *value, struct error *error);
/*
 * Adds the words of VALUE to ARGUMENTS by HTCondor's rules. New syntax (the whole value in double
 * quotes): blanks separate, single quotes group, '' within them and "" anywhere are literal
 * quotes. Old syntax: blanks separate, \" is a double quote, nothing else is special.
 */
int split_arguments(const char *value, struct strings *arguments, struct error *error);
/* The same for NAME=VALUE pairs; the old syntax separates them by semicolons. The last one wins. */
int split_environment(const char *value, struct strings *environment, struct error *error);
/* Puts ENTRY, NAME=VALUE, into ENVIRONMENT, in the place of an older one of that name. */
int environment_set(struct strings *environment, const char *entry, struct error *error);
/* The entry for the name before '=' (or the end) in NAME; NULL: none. */
const char *environment_find(const struct strings *environment, const char *name);

#endif
