/*
 * record: the one text format of jobvm, used by the manifest and the result record.
 *
 * Lines of `key=value`. A list is a repeated key. Bytes outside printable ASCII, and `%`, are
 * written %XX. At most RECORD_MAX_BYTES. A sealed record's last line is `end=` with the CRC-32C
 * (8 lower-case hexadecimal digits) of all bytes before that line, so that a torn record
 * differs from a whole one. Unknown keys, repeated single keys, missing required keys and bad
 * values are errors that name file, line and key.
 *
 * The keys of a format stand once, in a table of `struct record_key`, which parser, formatter
 * and the host's JSON writer all read. Nothing here allocates memory: PID 1 uses it.
 */
#ifndef JOBDISK_RECORD_H
#define JOBDISK_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "jobdisk/error.h"

#define RECORD_MAX_BYTES 65536
#define RECORD_MAX_LINES 8192

/* What an optional RECORD_UINT or RECORD_SECONDS holds that was not given. */
#define RECORD_UNSET UINT64_MAX

enum record_type {
	RECORD_STRING,	/* const char *; NULL when not given */
	RECORD_LIST,	/* struct record_list */
	RECORD_UINT,	/* uint64_t within min..max */
	RECORD_BOOL,	/* bool; written `true` or `false` */
	RECORD_WORD,	/* unsigned: an index into words */
	RECORD_SECONDS, /* uint64_t microseconds; written as seconds with six decimals */
};

/* The values of a repeated key in order; items[count] is NULL, so it serves as argv or environ. */
struct record_list {
	const char **items;
	size_t count;
};

struct record_key {
	const char *name;
	enum record_type type;
	size_t offset; /* of the value in the record's struct */
	bool required;
	uint64_t min, max;	  /* RECORD_UINT: bounds, both included */
	const char *const *words; /* RECORD_WORD: the words, then NULL */
};

struct record_schema {
	const struct record_key *keys;
	size_t key_count;
	bool sealed; /* ends with `end=CRC` */
};

/* The memory behind a parsed record: decoded strings and list items point into it. */
struct record_buffer {
	char text[RECORD_MAX_BYTES + 1];
	const char *items[2 * RECORD_MAX_LINES];
};

/*
 * Parses the LENGTH bytes in BUFFER->text, decoding in place, into OBJECT, which lives as long
 * as BUFFER. FILE names the source in errors ("FILE:LINE: key 'K': what is wrong").
 * Returns 0, or -1 with ERROR set and OBJECT unspecified.
 */
int record_parse(const struct record_schema *schema, const char *file, struct record_buffer *buffer,
		 size_t length, void *object, struct error *error);

/*
 * Writes OBJECT as text of at most RECORD_MAX_BYTES (and a final NUL) into TEXT, which has
 * RECORD_MAX_BYTES + 1 bytes. Optional values that are not set are left out.
 * Returns the length without the NUL, or -1 with ERROR set when it does not fit.
 */
long record_format(const struct record_schema *schema, const void *object, char *text,
		   struct error *error);

/*
 * Whether VALUE may stand in KEY (for values that come from elsewhere than a record: command
 * line, submit description). Returns 0, or -1 with ERROR set.
 */
int record_check_uint(const struct record_key *key, uint64_t value, struct error *error);

#endif
