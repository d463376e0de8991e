/*
 * touched: what the guest read of a lazy disk: counted, and its files listed in a trace, in the
 * order of their first touch. All of it may be called by several threads at once.
 */
#ifndef HOST_TOOLS_LAZY_ENGINE_TOUCHED_H
#define HOST_TOOLS_LAZY_ENGINE_TOUCHED_H

#include <stdbool.h>

#include "host-tools/lazy/fetch_state.h"
#include "host-tools/lazy/map.h"

struct touched;

/*
 * Counts in STATE, and writes a line for each file to TRACE_FD (-1: none). MAP and STATE must last.
 * NULL with ERROR set.
 */
struct touched *touched_new(const struct map *map, struct fetch_state *state, int trace_fd,
			    struct error *error);
void touched_free(struct touched *touched); /* NULL is allowed */

/* Whether it is the first touch of FILE, an index of the map. */
bool touched_file(struct touched *touched, uint32_t file);
/* How many of the blocks from BLOCK to before END were not touched before. */
uint32_t touched_blocks(struct touched *touched, uint64_t block, uint64_t end);
/* Both, of all that lies there. */
void touched_range(struct touched *touched, uint64_t block, uint64_t end);

/* Counts a read of these blocks that failed, and notes the file as the problem, or one of them. */
void touched_failed(struct touched *touched, uint64_t block, uint64_t end);

/* The state behind FD, shared, or one of this process's own for -1. NULL with ERROR set. */
struct fetch_state *state_map(int fd, struct error *error);
/* Notes the first problem in STATE; later ones are not kept. */
void state_note_problem(struct fetch_state *state, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
