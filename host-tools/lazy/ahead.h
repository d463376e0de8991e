/*
 * ahead: which reads are parts of reading a file from its beginning to its end, and how much of
 * what follows is worth fetching. Never more than was read so far, so a reader that stops costs no
 * more than twice what it read, and one that jumps about costs nothing.
 */
#ifndef HOST_TOOLS_LAZY_AHEAD_H
#define HOST_TOOLS_LAZY_AHEAD_H

#include <stdint.h>

#define AHEAD_STREAMS	 16
#define AHEAD_BLOCKS_MAX 4096 /* 16 MiB */

/* A place where somebody reads on and on. */
struct ahead_stream {
	uint32_t file;
	uint64_t start, next; /* blocks: the first, and the one after the last */
	uint64_t seen;	      /* blocks in between that were read */
	uint64_t ahead;	      /* all before it was asked for */
	uint64_t last_use;    /* 0: nothing here */
	uint32_t reads;
};

struct ahead {
	struct ahead_stream streams[AHEAD_STREAMS];
	uint64_t uses;
};

struct block_range {
	uint64_t block, end;
};

/*
 * Notes a read of BLOCKS blocks of FILE from BLOCK on, FRESH of which were never read before; the
 * blocks up to LIMIT are the file's. Returns what to fetch now, which may be nothing.
 */
struct block_range ahead_note(struct ahead *ahead, uint32_t file, uint64_t block, uint32_t blocks,
			      uint32_t fresh, uint64_t limit);

#endif
