/* state_save: writes a state's file. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>

#include "fsimage/copy.h"
#include "host-tools/suspend/state_format.h"
#include "host-tools/suspend/workers.h"

/* The fastest but for the negative ones: a VM stands still while it is compressed. */
#define COMPRESSION_LEVEL 1

struct saving {
	int fd;
	const struct state_source *source;
	pthread_mutex_t lock; /* for what follows */
	uint64_t end;	      /* of the frames so far */
	struct state_frame *frames;
	uint64_t frame_count;
	struct state_sizes sizes;
};

/* What a worker has for itself. */
struct workspace {
	enum memory_page kinds[MEMORY_RANGE_PAGES];
	unsigned char raw[STATE_MEMORY_MAX_BYTES]; /* the table ends where the pages begin */
	unsigned char packed[ZSTD_COMPRESSBOUND(STATE_MEMORY_MAX_BYTES)];
};

/* The next place in the file, and in the index. */
static void place(struct saving *saving, struct state_frame *frame)
{
	frame->offset = saving->end;
	saving->end += frame->stored_bytes;
	saving->frames[saving->frame_count++] = *frame;
	saving->sizes.stored_bytes += frame->stored_bytes;
}

/* PACKED has room for what zstd makes of RAW at worst. */
static int write_frame(struct saving *saving, struct state_frame *frame, const void *raw,
		       void *packed, struct error *error)
{
	size_t length = ZSTD_compress(packed, ZSTD_compressBound(frame->raw_bytes), raw,
				      frame->raw_bytes, COMPRESSION_LEVEL);
	struct digest *digest = digest_new(error);

	if (!digest)
		return -1;
	frame->is_packed = !ZSTD_isError(length) && length < frame->raw_bytes;
	frame->stored_bytes = frame->is_packed ? length : frame->raw_bytes;
	const void *stored = frame->is_packed ? packed : raw;
	digest_add(digest, stored, frame->stored_bytes);
	if (digest_finish(digest, frame->sha256, error))
		return -1;
	pthread_mutex_lock(&saving->lock);
	place(saving, frame);
	pthread_mutex_unlock(&saving->lock);
	if (write_at(saving->fd, stored, frame->stored_bytes, frame->offset))
		return error_errno(error, "write the state");
	return 0;
}

static size_t make_runs(const enum memory_page *kinds, size_t count, struct state_run *runs)
{
	size_t run_count = 0;

	for (size_t i = 0, length; i < count; i += length) {
		length = 1;
		while (i + length < count && kinds[i + length] == kinds[i])
			length++;
		if (kinds[i] != MEMORY_SAME)
			runs[run_count++] = (struct state_run){.first = (uint16_t)i,
							       .count = (uint16_t)length,
							       .kind = (uint16_t)kinds[i]};
	}
	return run_count;
}

static int save_range(void *context, uint64_t item, void *scratch, struct error *error)
{
	struct state_run runs[MEMORY_RANGE_PAGES];
	struct saving *saving = context;
	const struct vm_memory *memory = saving->source->memory;
	struct workspace *space = scratch;
	unsigned char *pages = space->raw + STATE_TABLE_MAX_BYTES;
	uint64_t first = item * MEMORY_RANGE_PAGES, changed = 0;
	uint64_t count = memory->size_bytes / MEMORY_PAGE_BYTES - first;

	if (count > MEMORY_RANGE_PAGES)
		count = MEMORY_RANGE_PAGES;
	long data = vm_memory_read(memory, first, count, saving->source->whole, space->kinds, pages,
				   &changed);
	if (data < 0)
		return error_errno(error, "read the VM's memory");
	uint16_t run_count = (uint16_t)make_runs(space->kinds, count, runs);
	pthread_mutex_lock(&saving->lock);
	saving->sizes.pages_changed += changed;
	saving->sizes.pages_stored += (uint64_t)data;
	pthread_mutex_unlock(&saving->lock);
	if (run_count == 0)
		return 0;
	size_t runs_bytes = run_count * sizeof(runs[0]);
	unsigned char *raw = pages - runs_bytes - sizeof(run_count);
	memcpy(raw, &run_count, sizeof(run_count));
	memcpy(raw + sizeof(run_count), runs, runs_bytes);
	struct state_frame frame = {.kind = STATE_MEMORY,
				    .first_page = first,
				    .raw_bytes = (uint64_t)(pages - raw) +
						 (uint64_t)data * MEMORY_PAGE_BYTES};
	pthread_mutex_lock(&saving->lock);
	saving->sizes.raw_bytes += frame.raw_bytes;
	pthread_mutex_unlock(&saving->lock);
	return write_frame(saving, &frame, raw, space->packed, error);
}

static int save_other(struct saving *saving, enum state_frame_kind kind, const void *bytes,
		      uint64_t size, struct error *error)
{
	struct state_frame frame = {.kind = kind, .raw_bytes = size};
	void *packed = malloc(ZSTD_compressBound(size));

	if (size > STATE_OTHER_MAX_BYTES || !packed) {
		free(packed);
		return error_set(error, "QEMU's state is too large");
	}
	int failed = write_frame(saving, &frame, bytes, packed, error);
	free(packed);
	return failed;
}

static int save_device(struct saving *saving, struct error *error)
{
	struct stat status;
	int failed = -1;

	if (fstat(saving->source->device_fd, &status))
		return error_errno(error, "look at QEMU's state");
	uint64_t size = (uint64_t)status.st_size;
	if (size == 0 || size > STATE_OTHER_MAX_BYTES)
		return error_set(error, "QEMU's state has not the size of one");
	void *bytes = malloc(size);
	if (!bytes)
		return error_set(error, "out of memory");
	if (read_at(saving->source->device_fd, bytes, size, 0) != (int64_t)size)
		error_errno(error, "read QEMU's state");
	else
		failed = save_other(saving, STATE_DEVICE, bytes, size, error);
	free(bytes);
	return failed;
}

/* What makes a state of the frames. */
static int write_end(struct saving *saving, const struct state_facts *facts,
		     const uint8_t key[STATE_KEY_BYTES], struct error *error)
{
	static char text[RECORD_MAX_BYTES + 1];
	uint8_t mac[STATE_MAC_BYTES];
	struct state_facts versioned = *facts;

	versioned.version = STATE_VERSION;
	versioned.pages_changed = saving->sizes.pages_changed;
	versioned.raw_bytes = saving->sizes.raw_bytes;
	long length = record_format(&state_schema, &versioned, text, error);
	if (length < 0)
		return -1;
	const struct state_head head =
		state_head_make(saving->end, saving->frame_count, (uint64_t)length);
	if (state_mac(key, &head, saving->frames, text, mac, error))
		return -1;
	uint64_t index_bytes = saving->frame_count * sizeof(saving->frames[0]);
	if (write_at(saving->fd, saving->frames, index_bytes, saving->end) ||
	    write_at(saving->fd, text, (size_t)length, saving->end + index_bytes) ||
	    write_at(saving->fd, mac, sizeof(mac), saving->end + index_bytes + (uint64_t)length) ||
	    write_at(saving->fd, &head, sizeof(head), 0))
		return error_errno(error, "write the state");
	saving->sizes.stored_bytes += sizeof(head) + index_bytes + (uint64_t)length + sizeof(mac);
	return 0;
}

int state_save(int fd, const struct state_facts *facts, const struct state_source *source,
	       const uint8_t key[STATE_KEY_BYTES], struct state_sizes *sizes, struct error *error)
{
	uint64_t pages = source->memory->size_bytes / MEMORY_PAGE_BYTES;
	uint64_t ranges = (pages + MEMORY_RANGE_PAGES - 1) / MEMORY_RANGE_PAGES;
	struct saving saving = {.fd = fd,
				.source = source,
				.lock = PTHREAD_MUTEX_INITIALIZER,
				.end = STATE_HEAD_BYTES,
				.frames = calloc(ranges + 2, sizeof(struct state_frame))};

	if (!saving.frames)
		return error_set(error, "out of memory");
	int failed =
		save_device(&saving, error) ||
		save_other(&saving, STATE_NOTES, source->notes, strlen(source->notes), error) ||
		workers_run(ranges, save_range, &saving, sizeof(struct workspace), error) ||
		write_end(&saving, facts, key, error);
	*sizes = saving.sizes;
	free(saving.frames);
	return failed ? -1 : 0;
}
