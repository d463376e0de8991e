/* engine_private: what the parts of the engine share. */
#ifndef HOST_TOOLS_LAZY_ENGINE_ENGINE_PRIVATE_H
#define HOST_TOOLS_LAZY_ENGINE_ENGINE_PRIVATE_H

#include <pthread.h>
#include <sys/queue.h>

#include "host-tools/lazy/ahead.h"
#include "host-tools/lazy/engine/engine.h"
#include "host-tools/lazy/engine/touched.h"

#define PIECE_BLOCKS	  256 /* 1 MiB: the most that is asked for at once */
#define PIECE_BYTES	  (PIECE_BLOCKS * CACHE_BLOCK_BYTES)
/*
 * In memory, after they came: what is fetched ahead is needed soon. More than is ever ahead of a
 * reader, or each piece would be dropped just before its use; in bytes, and in pieces of 64 KiB,
 * the smallest that is asked for ahead.
 */
#define PIECES_KEPT_BYTES (32 << 20)
#define PIECES_KEPT	  512
/* With more than that to give to the cache, nothing is fetched ahead. */
#define UNSAVED_BYTES_MAX (32 << 20)
#define RANGES		  64
#define FREE_BUFFERS	  64

_Static_assert(2ULL * AHEAD_BLOCKS_MAX * CACHE_BLOCK_BYTES <= PIECES_KEPT_BYTES,
	       "what is ahead of a reader is kept until it is read");

enum piece_state { PIECE_WAITING, PIECE_HERE, PIECE_FAILED };

struct piece {
	struct remote_read read; /* first: remote knows this only */
	struct engine *engine;
	uint64_t block;
	uint32_t blocks;
	enum piece_state state;
	int problem;	/* remote's, of a failed one */
	unsigned users; /* threads that hold it, the one that saves it included */
	bool is_ahead;	/* it was asked for ahead of its use */
	bool is_listed;
	pthread_cond_t came;
	TAILQ_ENTRY(piece) link;
	STAILQ_ENTRY(piece) save_link;
};

TAILQ_HEAD(pieces, piece);
STAILQ_HEAD(save_queue, piece);

/* A file that is fetched from its first block to its last. */
struct file_cursor {
	bool is_active;
	uint32_t file;
	uint64_t extent; /* index */
	uint64_t block;	 /* of the disk, in the extent */
};

struct planner {
	pthread_t thread;
	pthread_cond_t wake;
	struct block_range ranges[RANGES]; /* a ring */
	size_t range_first, range_count;
	uint32_t *files; /* that were touched and are to be fetched */
	size_t file_first, file_count, file_capacity;
	struct file_cursor file, prefetch_file;
	size_t prefetch_next;
	/* How much may be under way, so that nobody who waits is much delayed by it. */
	uint64_t window_bytes, under_way_bytes;
	uint64_t fastest_ms; /* answer */
};

struct engine {
	struct engine_options options;
	uint32_t piece_blocks_max;
	struct touched *touched;
	_Atomic bool is_stopping;
	_Atomic bool keeps_nothing; /* neither the cache nor the spare file take anything */

	pthread_mutex_t lock; /* guards all that follows */
	struct pieces pieces; /* that others may find, oldest first */
	uint64_t kept_bytes;  /* of those, here, and so many of them */
	size_t kept_count;
	struct save_queue save_queue;
	pthread_cond_t save_wake;
	pthread_t saver;
	uint64_t unsaved_bytes;
	void *buffers[FREE_BUFFERS]; /* of PIECE_BYTES, for new pieces */
	size_t buffer_count;
	struct ahead ahead;
	struct planner planner;
	unsigned waiting; /* reads that wait for the server, since when */
	uint64_t waiting_since_ms;
};

/* --- pieces; all with the lock held --- */

/* Asks for BLOCKS blocks, of which no listed piece has any. NULL when there is no memory. */
struct piece *piece_ask(struct engine *engine, uint64_t block, uint32_t blocks, bool is_urgent);
void piece_hold(struct piece *piece);
void piece_release(struct piece *piece);
/* Others find it no more. */
void piece_forget(struct piece *piece);
/* Somebody waits for it now. */
void piece_hurry(struct piece *piece);
/* The first listed piece with a block from BLOCK to before END; NULL: none. */
struct piece *piece_find(struct engine *engine, uint64_t block, uint64_t end);
/* Forgets what nobody needs. */
void pieces_trim(struct engine *engine);
void pieces_free_buffers(struct engine *engine);

/* --- the planner --- */

int planner_start(struct engine *engine, struct error *error);
void planner_stop(struct engine *engine); /* without the lock */
void planner_free(struct engine *engine); /* when nothing wakes it any more */
/* With the lock held: */
void planner_add_range(struct engine *engine, struct block_range range);
void planner_add_file(struct engine *engine, uint32_t file);
/* One that was fetched ahead is here, or failed. */
void planner_done(struct engine *engine, const struct piece *piece);
void planner_wake(struct engine *engine);

/* The first extent of FILE; the count: it has none. */
uint64_t file_first_extent(const struct map *map, uint32_t file);

#endif
