/*
 * engine: reads a lazy disk, block by block, from the cache or from the server.
 *
 * What is asked of the server is a "piece": some blocks, on their way or in memory. Whoever needs a
 * block that is in a piece waits for that, so a block is fetched once. Pieces that came are given
 * to the cache by a thread of its own, and forgotten a while later. Another thread fetches ahead
 * (planner.c): what a reader will read next, whole files, and what a trace names.
 */
#ifndef HOST_TOOLS_LAZY_ENGINE_ENGINE_H
#define HOST_TOOLS_LAZY_ENGINE_ENGINE_H

#include "host-tools/lazy/engine/remote.h"
#include "host-tools/lazy/map.h"

struct engine_options {
	struct remote *remote; /* of remote_open, which has not been run; now the engine's */
	const struct map *map; /* for as long as the engine */
	struct cache *cache;   /* now the engine's */
	struct fetch_state *state;
	int trace_fd;		 /* gets a line for each file that is touched; or -1 */
	uint64_t timeout_ms;	 /* of one read */
	bool fetches_files;	 /* whole ones, at their first touch */
	uint64_t file_bytes_max; /* larger ones are not fetched whole */
	/* Files that are fetched whole, in this order, while nobody waits; owned by the engine. */
	uint32_t *prefetch;
	size_t prefetch_count;
};

struct engine;

/* Starts the threads. NULL with ERROR set; what the engine owns is freed then too. */
struct engine *engine_start(const struct engine_options *options, struct error *error);

/* Ends all that is under way, gives the cache what came, and frees. NULL is allowed. */
void engine_stop(struct engine *engine);

/*
 * Reads BYTES at OFFSET of the disk, within its size. 0, or -1 with errno: EIO where the server
 * could not be reached in time or does not have the data as it was. May be called by any number of
 * threads. A read that is COUNTED is the guest's.
 */
int engine_read(struct engine *engine, void *buffer, uint32_t bytes, uint64_t offset,
		bool is_counted);

#endif
