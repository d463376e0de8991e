#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host-tools/lazy/engine/engine_private.h"
#include "host-tools/values.h"

/*
 * How much is under way ahead of its use is found as a sender finds its window (RFC 6817, in
 * short): as long as answers take about as long as the fastest did, more.
 */
#define WINDOW_BYTES_MIN (256ULL << 10)
#define WINDOW_BYTES_MAX (16ULL << 20)
#define DELAY_MS_MAX	 100
/* Without a connection there is nothing to wait for but time. */
#define RETRY_MS	 100

uint64_t file_first_extent(const struct map *map, uint32_t file)
{
	uint64_t low = 0, high = map->extent_count;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (map->extents[middle].file >= file)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static bool has_work(const struct engine *engine)
{
	const struct planner *planner = &engine->planner;

	return planner->range_count || planner->file.is_active ||
	       planner->file_first < planner->file_count || planner->prefetch_file.is_active ||
	       planner->prefetch_next < engine->options.prefetch_count;
}

/* Mostly there is nothing to do, and waking a thread is dear. */
void planner_wake(struct engine *engine)
{
	if (engine->is_stopping || has_work(engine))
		pthread_cond_signal(&engine->planner.wake);
}

void planner_add_range(struct engine *engine, struct block_range range)
{
	struct planner *planner = &engine->planner;

	if (range.block >= range.end || planner->range_count == RANGES)
		return;
	planner->ranges[(planner->range_first + planner->range_count++) % RANGES] = range;
	planner_wake(engine);
}

void planner_add_file(struct engine *engine, uint32_t file)
{
	struct planner *planner = &engine->planner;
	void *moved = list_room(planner->files, planner->file_count, &planner->file_capacity,
				sizeof(*planner->files));

	if (!moved)
		return;
	planner->files = moved;
	planner->files[planner->file_count++] = file;
	planner_wake(engine);
}

void planner_done(struct engine *engine, const struct piece *piece)
{
	struct planner *planner = &engine->planner;
	uint64_t bytes = piece->read.bytes;

	planner->under_way_bytes -= bytes;
	if (piece->problem == ENOTCONN && !engine->is_stopping)
		planner_add_range(engine,
				  (struct block_range){piece->block, piece->block + piece->blocks});
	if (!piece->problem && piece->read.sent_ms) {
		uint64_t answer_ms = monotonic_ms() - piece->read.sent_ms;

		if (answer_ms < planner->fastest_ms)
			planner->fastest_ms = answer_ms;
		if (answer_ms > planner->fastest_ms + DELAY_MS_MAX)
			planner->window_bytes /= 2;
		else
			planner->window_bytes += bytes;
		if (planner->window_bytes < WINDOW_BYTES_MIN)
			planner->window_bytes = WINDOW_BYTES_MIN;
		if (planner->window_bytes > WINDOW_BYTES_MAX)
			planner->window_bytes = WINDOW_BYTES_MAX;
	}
	planner_wake(engine);
}

/* --- what comes next --- */

static uint32_t blocks_at_once(const struct engine *engine)
{
	uint64_t blocks = engine->planner.window_bytes / 4 / CACHE_BLOCK_BYTES;

	if (blocks > engine->piece_blocks_max)
		return engine->piece_blocks_max;
	return blocks ? (uint32_t)blocks : 1;
}

static bool cut(struct block_range *from, uint32_t blocks, struct block_range *taken)
{
	*taken = *from;
	if (taken->end - taken->block > blocks)
		taken->end = taken->block + blocks;
	from->block = taken->end;
	return from->block == from->end;
}

static bool next_of_ranges(struct engine *engine, struct block_range *taken)
{
	struct planner *planner = &engine->planner;

	if (!planner->range_count)
		return false;
	if (cut(&planner->ranges[planner->range_first], blocks_at_once(engine), taken)) {
		planner->range_first = (planner->range_first + 1) % RANGES;
		planner->range_count--;
	}
	return true;
}

static void open_cursor(const struct engine *engine, struct file_cursor *cursor, uint32_t file)
{
	const struct map *map = engine->options.map;
	uint64_t extent = file_first_extent(map, file);
	bool has_data = extent < map->extent_count && map->extents[extent].file == file;

	*cursor = (struct file_cursor){
		.is_active =
			has_data && map->files[file].size_bytes <= engine->options.file_bytes_max,
		.file = file,
		.extent = extent,
		.block = has_data ? map->extents[extent].start_block : 0,
	};
}

static bool next_of_file(const struct engine *engine, struct file_cursor *cursor,
			 struct block_range *taken)
{
	const struct map *map = engine->options.map;

	if (!cursor->is_active)
		return false;

	const struct map_extent *extent = &map->extents[cursor->extent];
	struct block_range rest = {cursor->block, (uint64_t)extent->start_block + extent->blocks};

	if (cut(&rest, blocks_at_once(engine), taken)) {
		cursor->extent++;
		cursor->is_active = cursor->extent < map->extent_count &&
				    map->extents[cursor->extent].file == cursor->file;
		if (cursor->is_active)
			rest.block = map->extents[cursor->extent].start_block;
	}
	cursor->block = rest.block;
	return true;
}

static bool next_of_touched(struct engine *engine, struct block_range *taken)
{
	struct planner *planner = &engine->planner;

	while (!planner->file.is_active && planner->file_first < planner->file_count)
		open_cursor(engine, &planner->file, planner->files[planner->file_first++]);
	if (planner->file_first == planner->file_count)
		planner->file_first = planner->file_count = 0;
	return next_of_file(engine, &planner->file, taken);
}

/* Only while nobody waits. */
static bool next_of_prefetch(struct engine *engine, struct block_range *taken)
{
	struct planner *planner = &engine->planner;
	const struct engine_options *options = &engine->options;

	if (engine->waiting)
		return false;
	while (!planner->prefetch_file.is_active &&
	       planner->prefetch_next < options->prefetch_count)
		open_cursor(engine, &planner->prefetch_file,
			    options->prefetch[planner->prefetch_next++]);
	return next_of_file(engine, &planner->prefetch_file, taken);
}

static bool next_range(struct engine *engine, struct block_range *taken)
{
	/* Where nothing is kept, only what is read soon is worth fetching. */
	return next_of_ranges(engine, taken) ||
	       (!engine->keeps_nothing &&
		(next_of_touched(engine, taken) || next_of_prefetch(engine, taken)));
}

/* --- the thread --- */

/* Asks for what of the range is neither in the cache nor in a piece. */
static void fetch_range(struct engine *engine, struct block_range range)
{
	bool present[PIECE_BLOCKS];
	uint32_t count = (uint32_t)(range.end - range.block);

	pthread_mutex_unlock(&engine->lock);
	cache_probe(engine->options.cache, range.block, count, present);
	pthread_mutex_lock(&engine->lock);
	for (uint32_t i = 0; i < count;) {
		struct piece *piece = piece_find(engine, range.block + i, range.end);
		uint32_t end = count, run = 0;

		if (piece && piece->block <= range.block + i) {
			i = (uint32_t)(piece->block + piece->blocks - range.block);
			continue;
		}
		if (piece)
			end = (uint32_t)(piece->block - range.block);
		while (i + run < end && !present[i + run])
			run++;
		if (run && piece_ask(engine, range.block + i, run, false))
			engine->planner.under_way_bytes += (uint64_t)run * CACHE_BLOCK_BYTES;
		i += run ? run : 1;
	}
}

static bool may_fetch(const struct engine *engine)
{
	return engine->planner.under_way_bytes < engine->planner.window_bytes &&
	       engine->unsaved_bytes < UNSAVED_BYTES_MAX &&
	       remote_is_connected(engine->options.remote);
}

static void wait_a_little(struct engine *engine)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += RETRY_MS * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_cond_timedwait(&engine->planner.wake, &engine->lock, &until);
}

static void *plan(void *context)
{
	struct engine *engine = context;
	struct block_range range;

	pthread_mutex_lock(&engine->lock);
	while (!engine->is_stopping) {
		if (may_fetch(engine) && next_range(engine, &range))
			fetch_range(engine, range);
		else if (!remote_is_connected(engine->options.remote))
			wait_a_little(engine);
		else
			pthread_cond_wait(&engine->planner.wake, &engine->lock);
	}
	pthread_mutex_unlock(&engine->lock);
	return NULL;
}

int planner_start(struct engine *engine, struct error *error)
{
	struct planner *planner = &engine->planner;

	planner->window_bytes = 2 * WINDOW_BYTES_MIN;
	planner->fastest_ms = UINT64_MAX / 2;
	pthread_cond_init(&planner->wake, NULL);
	errno = pthread_create(&planner->thread, NULL, plan, engine);
	return errno ? error_errno(error, "start a thread") : 0;
}

void planner_stop(struct engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	planner_wake(engine);
	pthread_mutex_unlock(&engine->lock);
	pthread_join(engine->planner.thread, NULL);
}

void planner_free(struct engine *engine)
{
	pthread_cond_destroy(&engine->planner.wake);
	free(engine->planner.files);
}
