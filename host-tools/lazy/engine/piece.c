#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "host-tools/lazy/engine/engine_private.h"

/* Smaller ones are not worth a large buffer. */
#define SMALL_BYTES (128 << 10)

static void *take_buffer(struct engine *engine, size_t bytes)
{
	if (bytes <= SMALL_BYTES || bytes > PIECE_BYTES)
		return malloc(bytes);
	return engine->buffer_count ? engine->buffers[--engine->buffer_count] : malloc(PIECE_BYTES);
}

static void give_buffer(struct engine *engine, void *buffer, size_t bytes)
{
	if (bytes <= SMALL_BYTES || bytes > PIECE_BYTES || engine->buffer_count == FREE_BUFFERS)
		free(buffer);
	else
		engine->buffers[engine->buffer_count++] = buffer;
}

void pieces_free_buffers(struct engine *engine)
{
	while (engine->buffer_count)
		free(engine->buffers[--engine->buffer_count]);
}

static void piece_free(struct piece *piece)
{
	give_buffer(piece->engine, piece->read.buffer, piece->read.bytes);
	pthread_cond_destroy(&piece->came);
	free(piece);
}

void piece_forget(struct piece *piece)
{
	struct engine *engine = piece->engine;

	if (!piece->is_listed)
		return;
	TAILQ_REMOVE(&engine->pieces, piece, link);
	piece->is_listed = false;
	if (piece->state == PIECE_HERE) {
		engine->kept_bytes -= piece->read.bytes;
		engine->kept_count--;
	}
}

void piece_hold(struct piece *piece)
{
	piece->users++;
}

void piece_hurry(struct piece *piece)
{
	struct remote *remote = piece->engine->options.remote;

	if (piece->state != PIECE_WAITING || piece->read.is_urgent ||
	    !remote_cancel(remote, &piece->read))
		return;
	piece->read.is_urgent = true;
	remote_submit(remote, &piece->read);
}

/*
 * One that nobody waits for any more, and that was not even sent, is not needed: whoever waited
 * gave up, and what is fetched ahead can be asked for again.
 */
static void give_up(struct piece *piece)
{
	if (piece->state == PIECE_WAITING && piece->read.is_urgent &&
	    remote_cancel(piece->engine->options.remote, &piece->read)) {
		piece->state = PIECE_FAILED;
		piece_forget(piece);
	}
}

void piece_release(struct piece *piece)
{
	piece->users--;
	if (piece->users)
		return;
	give_up(piece);
	if (!piece->is_listed && piece->state != PIECE_WAITING)
		piece_free(piece);
}

struct piece *piece_find(struct engine *engine, uint64_t block, uint64_t end)
{
	struct piece *piece, *first = NULL;

	for (piece = TAILQ_FIRST(&engine->pieces); piece; piece = TAILQ_NEXT(piece, link))
		if (piece->block < end && piece->block + piece->blocks > block &&
		    (!first || piece->block < first->block))
			first = piece;
	return first;
}

void pieces_trim(struct engine *engine)
{
	struct piece *piece, *next;

	for (piece = TAILQ_FIRST(&engine->pieces);
	     piece && (engine->kept_bytes > PIECES_KEPT_BYTES || engine->kept_count > PIECES_KEPT);
	     piece = next) {
		next = TAILQ_NEXT(piece, link);
		if (piece->state != PIECE_HERE || piece->users)
			continue;
		piece_forget(piece);
		piece_free(piece);
	}
}

/* In remote's thread. */
static void piece_done(struct remote_read *read, int problem)
{
	struct piece *piece = (struct piece *)read;
	struct engine *engine = piece->engine;

	pthread_mutex_lock(&engine->lock);
	piece->problem = problem;
	if (piece->is_ahead)
		planner_done(engine, piece);
	if (problem) {
		piece->state = PIECE_FAILED;
		piece_forget(piece);
	} else {
		piece->state = PIECE_HERE;
		engine->kept_bytes += read->bytes;
		engine->kept_count++;
		atomic_fetch_add(&engine->options.state->bytes_fetched, read->bytes);
		engine->unsaved_bytes += read->bytes;
		piece_hold(piece);
		STAILQ_INSERT_TAIL(&engine->save_queue, piece, save_link);
		pthread_cond_signal(&engine->save_wake);
	}
	pthread_cond_broadcast(&piece->came);
	if (!piece->users)
		piece_free(piece);
	pthread_mutex_unlock(&engine->lock);
}

struct piece *piece_ask(struct engine *engine, uint64_t block, uint32_t blocks, bool is_urgent)
{
	struct piece *piece = calloc(1, sizeof(*piece));
	size_t bytes = (size_t)blocks * CACHE_BLOCK_BYTES;
	void *buffer = piece ? take_buffer(engine, bytes) : NULL;
	pthread_condattr_t attributes;

	if (!buffer) {
		free(piece);
		return NULL;
	}
	*piece = (struct piece){
		.read = {.offset = block * CACHE_BLOCK_BYTES,
			 .bytes = (uint32_t)bytes,
			 .buffer = buffer,
			 .is_urgent = is_urgent,
			 .done = piece_done},
		.engine = engine,
		.block = block,
		.blocks = blocks,
		.is_ahead = !is_urgent,
		.is_listed = true,
	};
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&piece->came, &attributes);
	pthread_condattr_destroy(&attributes);
	TAILQ_INSERT_TAIL(&engine->pieces, piece, link);
	remote_submit(engine->options.remote, &piece->read);
	return piece;
}
