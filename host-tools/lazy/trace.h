/*
 * trace: the files that a job touched, in the order in which it did: one path a line, relative to
 * the disk's root. Bytes outside printable ASCII, and %, are written %XX, as in a record.
 */
#ifndef HOST_TOOLS_LAZY_TRACE_H
#define HOST_TOOLS_LAZY_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "host-tools/lazy/map.h"

/* Longer paths are left out. */
#define TRACE_PATH_BYTES_MAX 4096
#define TRACE_LINE_BYTES_MAX (3 * TRACE_PATH_BYTES_MAX + 1)
/* A larger trace is not read. */
#define TRACE_BYTES_MAX	     (256 << 20)

/* Writes the line of FILE with its newline to LINE; returns its length, 0 where it is too long. */
size_t trace_line(const struct map *map, const struct map_file *file,
		  char line[TRACE_LINE_BYTES_MAX]);

/*
 * The path in the next line of the SIZE bytes of a trace, which it changes, *CURSOR being 0 at
 * first; *LENGTH is 0 for a line that is none. NULL at the end. A path is not ended by a NUL, and
 * may hold any byte.
 */
const char *trace_next(char *bytes, size_t size, size_t *cursor, size_t *length);

/*
 * Turns the SIZE bytes of a trace, which it changes, into indexes of the map's files, in order.
 * What is not in the map, and what is no line of a trace, is left out. Returns COUNT of them, to be
 * freed; NULL when there is no memory.
 */
uint32_t *trace_resolve(const struct map *map, char *bytes, size_t size, size_t *count);

#endif
