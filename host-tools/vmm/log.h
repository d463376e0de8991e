/*
 * log: keeps the beginning and the end of a text of any length, for the guest's console, which a
 * hostile guest may flood.
 */
#ifndef HOST_TOOLS_VMM_LOG_H
#define HOST_TOOLS_VMM_LOG_H

#include <stddef.h>
#include <stdint.h>

#define LOG_PART_BYTES 65536

struct log {
	uint64_t total_bytes;
	char head[LOG_PART_BYTES];
	char tail[LOG_PART_BYTES]; /* a ring, in use behind the head */
};

void log_append(struct log *log, const char *bytes, size_t length);

/* What was kept, with a line that says how much is missing; to be freed. NULL: no memory. */
char *log_text(const struct log *log);

/*
 * Copies the last line that contains TEXT (or, with "", the last line that is not empty) into
 * LINE, cut to SIZE. Returns whether there is one.
 */
int log_find_last(const struct log *log, const char *text, char *line, size_t size);

#endif
