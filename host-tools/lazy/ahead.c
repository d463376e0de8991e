#include "host-tools/lazy/ahead.h"

#include <stdbool.h>
#include <stddef.h>

/* Reads of one reader may come in another order, or with gaps that its own cache filled. */
#define SLACK_BLOCKS 1024
/* Fewer reads that follow one another may be chance. */
#define READS_MIN    3
/* Less is fetched with what comes after it. */
#define BATCH_BLOCKS 64

static bool continues(const struct ahead_stream *stream, uint32_t file, uint64_t block)
{
	return stream->last_use && stream->file == file && block >= stream->start &&
	       block <= stream->next + SLACK_BLOCKS;
}

/* The stream that the read continues, or the one that was left for longest. */
static struct ahead_stream *find_stream(struct ahead *ahead, uint32_t file, uint64_t block)
{
	struct ahead_stream *oldest = &ahead->streams[0];

	for (size_t i = 0; i < AHEAD_STREAMS; i++) {
		struct ahead_stream *stream = &ahead->streams[i];

		if (continues(stream, file, block))
			return stream;
		if (stream->last_use < oldest->last_use)
			oldest = stream;
	}
	*oldest =
		(struct ahead_stream){.file = file, .start = block, .next = block, .ahead = block};
	return oldest;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

struct block_range ahead_note(struct ahead *ahead, uint32_t file, uint64_t block, uint32_t blocks,
			      uint32_t fresh, uint64_t limit)
{
	const struct block_range nothing = {0, 0};
	struct ahead_stream *stream = find_stream(ahead, file, block);

	stream->last_use = ++ahead->uses;
	stream->reads++;
	stream->seen += fresh;
	if (block + blocks > stream->next)
		stream->next = block + blocks;
	if (stream->reads < READS_MIN || stream->seen * 4 < (stream->next - stream->start) * 3)
		return nothing;

	uint64_t window = smaller(stream->seen, AHEAD_BLOCKS_MAX);
	uint64_t end = smaller(limit, stream->next + window);
	uint64_t from = stream->ahead > stream->next ? stream->ahead : stream->next;

	if (from >= end || (end - from < smaller(BATCH_BLOCKS, window / 2) && end < limit))
		return nothing;
	stream->ahead = end;
	return (struct block_range){from, end};
}
