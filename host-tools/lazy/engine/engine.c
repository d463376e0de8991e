#include "host-tools/lazy/engine/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host-tools/lazy/engine/engine_private.h"

/* Metadata that lies together is fetched together, in aligned pieces of that size. */
#define METADATA_BLOCKS	  32
/* A file that is to be fetched whole and has no more blocks is fetched with its first read. */
#define SMALL_FILE_BLOCKS 64
/* What one read holds at a time. */
#define WISH_PIECES	  32
/* A server is asked twice before what it says of a block is believed. */
#define TRIES		  2

/* One read while it is served. */
struct wish {
	struct engine *engine;
	uint64_t block;
	uint32_t blocks;
	uint8_t *bytes;
	bool *have;    /* which of its blocks are there */
	bool *planned; /* which are in one of its pieces */
	uint32_t missing;
	uint64_t deadline_ms;
	unsigned tries;
	bool is_counted;
	struct piece *pieces[WISH_PIECES];
	size_t piece_count;
};

/* --- what was touched --- */

static void touch_file(struct engine *engine, uint32_t file)
{
	if (!touched_file(engine->touched, file) || !engine->options.fetches_files)
		return;
	pthread_mutex_lock(&engine->lock);
	planner_add_file(engine, file);
	pthread_mutex_unlock(&engine->lock);
}

/* Up to where the file goes on, block after block, from its EXTENT on. */
static uint64_t end_of_file(const struct engine *engine, const struct map_extent *extent)
{
	const struct map *map = engine->options.map;
	const struct map_extent *last = map->extents + map->extent_count - 1;

	while (extent < last && extent[1].file == extent->file &&
	       extent[1].start_block == (uint64_t)extent->start_block + extent->blocks)
		extent++;
	return (uint64_t)extent->start_block + extent->blocks;
}

static void touch_data(struct engine *engine, uint64_t block, uint64_t end,
		       const struct map_extent *extent)
{
	touch_file(engine, extent->file);

	uint32_t fresh = touched_blocks(engine->touched, block, end);

	pthread_mutex_lock(&engine->lock);
	planner_add_range(engine,
			  ahead_note(&engine->ahead, extent->file, block, (uint32_t)(end - block),
				     fresh, end_of_file(engine, extent)));
	pthread_mutex_unlock(&engine->lock);
}

/* Fills in the zeros, and notes what the guest touches. */
static void look_over(struct wish *wish)
{
	uint64_t end = wish->block + wish->blocks;

	for (uint64_t block = wish->block; block < end;) {
		struct map_stretch stretch = map_stretch_at(wish->engine->options.map, block);
		uint64_t stop = stretch.end < end ? stretch.end : end;
		uint32_t first = (uint32_t)(block - wish->block), count = (uint32_t)(stop - block);

		if (!stretch.extent && !stretch.metadata) {
			memset(wish->bytes + (size_t)first * CACHE_BLOCK_BYTES, 0,
			       (size_t)count * CACHE_BLOCK_BYTES);
			memset(wish->have + first, true, count);
			wish->missing -= count;
		} else if (wish->is_counted && stretch.extent) {
			touch_data(wish->engine, block, stop, stretch.extent);
		} else if (wish->is_counted) {
			touched_blocks(wish->engine->touched, block, stop);
		}
		block = stop;
	}
}

/* --- gathering --- */

static bool is_open(const struct wish *wish, uint32_t index)
{
	return !wish->have[index] && !wish->planned[index];
}

/* Plans to take from PIECE what it has and the wish lacks. */
static void plan_piece(struct wish *wish, struct piece *piece)
{
	uint64_t start = piece->block > wish->block ? piece->block - wish->block : 0;
	uint64_t end = piece->block + piece->blocks - wish->block;
	bool is_needed = false;

	for (uint64_t i = start; i < end && i < wish->blocks; i++) {
		is_needed |= is_open(wish, (uint32_t)i);
		wish->planned[i] |= !wish->have[i];
	}
	if (!is_needed)
		return;
	piece_hold(piece);
	piece_hurry(piece);
	wish->pieces[wish->piece_count++] = piece;
}

/*
 * A read that met an error of the server's asks by itself, for what it needs only: of a piece that
 * others asked for, another block may be the bad one.
 */
static void plan_pieces(struct wish *wish)
{
	struct engine *engine = wish->engine;
	uint64_t end = wish->block + wish->blocks;
	struct piece *piece;

	for (piece = TAILQ_FIRST(&engine->pieces); piece && wish->piece_count < WISH_PIECES;
	     piece = TAILQ_NEXT(piece, link))
		if (piece->block < end && piece->block + piece->blocks > wish->block &&
		    (wish->tries == 0 || piece->state == PIECE_HERE))
			plan_piece(wish, piece);
}

/* The next run of open blocks from FIRST on; none has length 0. */
static uint32_t next_run(const struct wish *wish, uint32_t *first)
{
	uint32_t length = 0;

	while (*first < wish->blocks && !is_open(wish, *first))
		(*first)++;
	while (*first + length < wish->blocks && is_open(wish, *first + length))
		length++;
	return length;
}

static void read_cache(struct wish *wish)
{
	struct engine *engine = wish->engine;
	uint32_t length;

	for (uint32_t first = 0; (length = next_run(wish, &first)); first += length) {
		uint32_t found = cache_read(engine->options.cache, wish->block + first, length,
					    wish->bytes + (size_t)first * CACHE_BLOCK_BYTES,
					    wish->have + first);

		wish->missing -= found;
		if (wish->is_counted && found)
			atomic_fetch_add(&engine->options.state->bytes_from_cache,
					 (uint64_t)found * CACHE_BLOCK_BYTES);
	}
}

/* What is worth fetching with BLOCK: a piece of the metadata, or a small file. */
static struct block_range neighbourhood(const struct engine *engine, uint64_t block)
{
	struct map_stretch stretch = map_stretch_at(engine->options.map, block);
	struct block_range range = {block, block + 1};

	if (stretch.metadata) {
		uint64_t start = block / METADATA_BLOCKS * METADATA_BLOCKS;
		uint64_t end = start + METADATA_BLOCKS;

		range.block = start > stretch.metadata->start_block ? start
								    : stretch.metadata->start_block;
		range.end = end < stretch.end ? end : stretch.end;
	} else if (stretch.extent && stretch.extent->blocks <= SMALL_FILE_BLOCKS &&
		   engine->options.fetches_files) {
		range = (struct block_range){stretch.extent->start_block, stretch.end};
	}
	return range;
}

/* Makes RANGE larger, as far as neither the cache nor a piece has what is around it. */
static struct block_range widen(struct engine *engine, struct block_range range)
{
	struct block_range before = neighbourhood(engine, range.block);
	struct block_range after = neighbourhood(engine, range.end - 1);
	bool present;

	while (range.block > before.block && range.end - range.block < engine->piece_blocks_max &&
	       !piece_find(engine, range.block - 1, range.block) &&
	       !cache_probe(engine->options.cache, range.block - 1, 1, &present))
		range.block--;
	while (range.end < after.end && range.end - range.block < engine->piece_blocks_max &&
	       !piece_find(engine, range.end, range.end + 1) &&
	       !cache_probe(engine->options.cache, range.end, 1, &present))
		range.end++;
	return range;
}

/* Asks the server for what is open still. -1: no memory. */
static int ask_server(struct wish *wish)
{
	struct engine *engine = wish->engine;
	uint32_t length;

	for (uint32_t first = 0;
	     wish->piece_count < WISH_PIECES && (length = next_run(wish, &first));
	     first += length) {
		if (length > engine->piece_blocks_max)
			length = engine->piece_blocks_max;

		struct block_range range = {wish->block + first, wish->block + first + length};

		if (wish->tries == 0)
			range = widen(engine, range);

		struct piece *piece =
			piece_ask(engine, range.block, (uint32_t)(range.end - range.block), true);
		if (!piece)
			return -1;
		plan_piece(wish, piece);
	}
	return 0;
}

/* --- waiting --- */

static void begin_waiting(struct engine *engine)
{
	if (engine->waiting++ == 0)
		engine->waiting_since_ms = monotonic_ms();
}

static void end_waiting(struct engine *engine)
{
	if (--engine->waiting)
		return;
	atomic_fetch_add(&engine->options.state->stalled_ms,
			 monotonic_ms() - engine->waiting_since_ms);
	planner_wake(engine);
}

/* Waits until PIECE is not waited for any more: 0, or what is wrong with it. */
static int await_piece(struct piece *piece, uint64_t deadline_ms)
{
	struct engine *engine = piece->engine;
	struct timespec until = {.tv_sec = (time_t)(deadline_ms / 1000),
				 .tv_nsec = (long)(deadline_ms % 1000) * 1000000};

	if (piece->state == PIECE_WAITING) {
		int result = 0;

		begin_waiting(engine);
		while (piece->state == PIECE_WAITING && result != ETIMEDOUT)
			result = pthread_cond_timedwait(&piece->came, &engine->lock, &until);
		end_waiting(engine);
	}
	if (piece->state == PIECE_WAITING)
		return ETIMEDOUT;
	return piece->state == PIECE_FAILED ? piece->problem : 0;
}

static void copy_piece(struct wish *wish, const struct piece *piece)
{
	uint64_t start = piece->block > wish->block ? piece->block : wish->block;
	uint64_t end = piece->block + piece->blocks;
	uint64_t wish_end = wish->block + wish->blocks;

	end = end < wish_end ? end : wish_end;
	memcpy(wish->bytes + (size_t)(start - wish->block) * CACHE_BLOCK_BYTES,
	       (const uint8_t *)piece->read.buffer +
		       (size_t)(start - piece->block) * CACHE_BLOCK_BYTES,
	       (size_t)(end - start) * CACHE_BLOCK_BYTES);
	for (uint64_t i = start - wish->block; i < end - wish->block; i++) {
		wish->missing -= !wish->have[i];
		wish->have[i] = true;
	}
}

/* Waits for the wish's pieces and takes what came. Returns the worst of what is wrong. */
static int await_pieces(struct wish *wish)
{
	struct engine *engine = wish->engine;
	int worst = 0;

	for (size_t i = 0; i < wish->piece_count; i++) {
		struct piece *piece = wish->pieces[i];
		int problem = await_piece(piece, wish->deadline_ms);

		if (!problem) {
			/* Held, it stays as it is. */
			pthread_mutex_unlock(&engine->lock);
			copy_piece(wish, piece);
			pthread_mutex_lock(&engine->lock);
		} else if (worst == 0 || worst == ENOTCONN) {
			worst = problem;
		}
		piece_release(piece);
	}
	wish->piece_count = 0;
	memset(wish->planned, false, wish->blocks);
	return worst;
}

static int fulfil(struct wish *wish)
{
	struct engine *engine = wish->engine;
	int problem = 0;

	look_over(wish);
	while (wish->missing) {
		pthread_mutex_lock(&engine->lock);
		plan_pieces(wish);
		pthread_mutex_unlock(&engine->lock);
		read_cache(wish);
		pthread_mutex_lock(&engine->lock);
		/* What another thread asked for in the meantime. */
		plan_pieces(wish);
		int failed = ask_server(wish);
		problem = await_pieces(wish);
		pthread_mutex_unlock(&engine->lock);
		if (failed || problem == ETIMEDOUT || problem == ESTALE || engine->is_stopping ||
		    (problem == EIO && ++wish->tries == TRIES) ||
		    (problem && monotonic_ms() >= wish->deadline_ms))
			return -1;
	}
	return 0;
}

/* --- the outside --- */

static int read_blocks(struct engine *engine, uint8_t *bytes, uint64_t block, uint32_t blocks,
		       bool is_counted)
{
	struct wish wish = {
		.engine = engine,
		.block = block,
		.blocks = blocks,
		.bytes = bytes,
		.have = calloc(blocks, 2 * sizeof(bool)),
		.missing = blocks,
		.deadline_ms = monotonic_ms() + engine->options.timeout_ms,
		.is_counted = is_counted,
	};

	wish.planned = wish.have + blocks;
	int failed = wish.have ? fulfil(&wish) : -1;
	free(wish.have);
	if (failed && is_counted)
		touched_failed(engine->touched, block, block + blocks);
	if (failed)
		errno = EIO;
	return failed;
}

/* A read that does not start or end between blocks. */
static int read_unaligned(struct engine *engine, void *buffer, uint32_t bytes, uint64_t offset,
			  bool is_counted)
{
	uint64_t block = offset / CACHE_BLOCK_BYTES;
	uint64_t end = (offset + bytes + CACHE_BLOCK_BYTES - 1) / CACHE_BLOCK_BYTES;
	uint8_t *blocks = malloc((size_t)(end - block) * CACHE_BLOCK_BYTES);
	int failed = -1;

	if (blocks)
		failed = read_blocks(engine, blocks, block, (uint32_t)(end - block), is_counted);
	if (!failed)
		memcpy(buffer, blocks + offset % CACHE_BLOCK_BYTES, bytes);
	free(blocks);
	return failed;
}

int engine_read(struct engine *engine, void *buffer, uint32_t bytes, uint64_t offset,
		bool is_counted)
{
	int failed;

	if (!bytes)
		return 0;
	if (bytes % CACHE_BLOCK_BYTES || offset % CACHE_BLOCK_BYTES)
		failed = read_unaligned(engine, buffer, bytes, offset, is_counted);
	else
		failed = read_blocks(engine, buffer, offset / CACHE_BLOCK_BYTES,
				     bytes / CACHE_BLOCK_BYTES, is_counted);
	return failed;
}

/* --- the saver: gives the cache what came --- */

static void save(struct engine *engine, struct piece *piece)
{
	int64_t kept =
		cache_write(engine->options.cache, piece->block, piece->blocks, piece->read.buffer);

	if (kept < piece->blocks)
		state_note_problem(engine->options.state, "%s",
				   cache_problem(engine->options.cache));
	if (kept < 0)
		engine->keeps_nothing = true;
	else
		atomic_fetch_add(&engine->options.state->bytes_cached,
				 (uint64_t)kept * CACHE_BLOCK_BYTES);
}

static void *save_pieces(void *context)
{
	struct engine *engine = context;
	struct piece *piece;

	pthread_mutex_lock(&engine->lock);
	while ((piece = STAILQ_FIRST(&engine->save_queue)) || !engine->is_stopping) {
		if (!piece) {
			pthread_cond_wait(&engine->save_wake, &engine->lock);
			continue;
		}
		STAILQ_REMOVE_HEAD(&engine->save_queue, save_link);
		pthread_mutex_unlock(&engine->lock);
		save(engine, piece);
		pthread_mutex_lock(&engine->lock);
		engine->unsaved_bytes -= piece->read.bytes;
		piece_release(piece);
		pieces_trim(engine);
		planner_wake(engine);
	}
	pthread_mutex_unlock(&engine->lock);
	return NULL;
}

/* --- starting and stopping --- */

static int start_threads(struct engine *engine, struct error *error)
{
	if (planner_start(engine, error))
		return -1;
	errno = pthread_create(&engine->saver, NULL, save_pieces, engine);
	if (errno)
		return error_errno(error, "start a thread");
	return remote_run(engine->options.remote, error);
}

struct engine *engine_start(const struct engine_options *options, struct error *error)
{
	struct engine *engine = calloc(1, sizeof(*engine));

	if (!engine) {
		error_errno(error, "start fetching");
		return NULL;
	}
	engine->options = *options;
	engine->piece_blocks_max = remote_read_bytes_max(options->remote) / CACHE_BLOCK_BYTES;
	if (engine->piece_blocks_max > PIECE_BLOCKS)
		engine->piece_blocks_max = PIECE_BLOCKS;
	engine->touched = touched_new(options->map, options->state, options->trace_fd, error);
	TAILQ_INIT(&engine->pieces);
	STAILQ_INIT(&engine->save_queue);
	pthread_mutex_init(&engine->lock, NULL);
	pthread_cond_init(&engine->save_wake, NULL);
	if (engine->touched && start_threads(engine, error) == 0)
		return engine;
	/* The process ends now: threads that run already go with it. */
	return NULL;
}

static void free_pieces(struct engine *engine)
{
	struct piece *piece;

	while ((piece = TAILQ_FIRST(&engine->pieces))) {
		piece_hold(piece);
		piece_forget(piece);
		piece_release(piece);
	}
	pieces_free_buffers(engine);
}

void engine_stop(struct engine *engine)
{
	if (!engine)
		return;
	engine->is_stopping = true;
	planner_stop(engine);
	remote_close(engine->options.remote);
	pthread_mutex_lock(&engine->lock);
	pthread_cond_signal(&engine->save_wake);
	pthread_mutex_unlock(&engine->lock);
	pthread_join(engine->saver, NULL);
	free_pieces(engine);
	planner_free(engine);
	cache_close(engine->options.cache);
	touched_free(engine->touched);
	free(engine->options.prefetch);
	pthread_cond_destroy(&engine->save_wake);
	pthread_mutex_destroy(&engine->lock);
	free(engine);
}
