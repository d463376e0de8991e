#include "host-tools/lazy/engine/touched.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host-tools/lazy/trace.h"

struct touched {
	const struct map *map;
	struct fetch_state *state;
	int trace_fd;
	uint64_t block_count;
	_Atomic uint8_t *blocks; /* a bit for each */
	_Atomic bool *files;	 /* for each: whether it was touched */
	pthread_mutex_t lock;	 /* for the trace's order */
};

static void *map_zeros(uint64_t bytes)
{
	void *zeros = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return zeros == MAP_FAILED ? NULL : zeros;
}

struct touched *touched_new(const struct map *map, struct fetch_state *state, int trace_fd,
			    struct error *error)
{
	struct touched *touched = calloc(1, sizeof(*touched));

	if (!touched) {
		error_errno(error, "count what is read");
		return NULL;
	}
	*touched = (struct touched){
		.map = map,
		.state = state,
		.trace_fd = trace_fd,
		.block_count = map->header->image_bytes / MAP_BLOCK_BYTES,
	};
	pthread_mutex_init(&touched->lock, NULL);
	touched->blocks = map_zeros(touched->block_count / 8 + 1);
	touched->files = map_zeros(map->file_count + 1);
	if (touched->blocks && touched->files)
		return touched;
	error_errno(error, "memory for a disk of %llu blocks",
		    (unsigned long long)touched->block_count);
	touched_free(touched);
	return NULL;
}

void touched_free(struct touched *touched)
{
	if (!touched)
		return;
	if (touched->blocks)
		munmap((void *)(uintptr_t)touched->blocks, touched->block_count / 8 + 1);
	if (touched->files)
		munmap((void *)(uintptr_t)touched->files, touched->map->file_count + 1);
	pthread_mutex_destroy(&touched->lock);
	free(touched);
}

bool touched_file(struct touched *touched, uint32_t file)
{
	const struct map *map = touched->map;
	char line[TRACE_LINE_BYTES_MAX];

	/* Nearly always it was touched before. */
	if (touched->files[file])
		return false;
	pthread_mutex_lock(&touched->lock);
	bool is_first = !atomic_exchange(&touched->files[file], true);
	if (is_first) {
		size_t length = trace_line(map, &map->files[file], line);

		atomic_fetch_add(&touched->state->files_touched, 1);
		if (touched->trace_fd >= 0 && length && write(touched->trace_fd, line, length) < 0)
			state_note_problem(touched->state, "cannot write the trace");
	}
	pthread_mutex_unlock(&touched->lock);
	return is_first;
}

uint32_t touched_blocks(struct touched *touched, uint64_t block, uint64_t end)
{
	uint32_t fresh = 0;

	for (uint64_t i = block; i < end; i++) {
		uint8_t bit = (uint8_t)(1U << i % 8);

		if (!(touched->blocks[i / 8] & bit))
			fresh += !(atomic_fetch_or(&touched->blocks[i / 8], bit) & bit);
	}
	if (fresh)
		atomic_fetch_add(&touched->state->bytes_touched, (uint64_t)fresh * MAP_BLOCK_BYTES);
	return fresh;
}

void touched_range(struct touched *touched, uint64_t block, uint64_t end)
{
	while (block < end) {
		struct map_stretch stretch = map_stretch_at(touched->map, block);
		uint64_t stop = stretch.end < end ? stretch.end : end;

		if (stretch.extent)
			touched_file(touched, stretch.extent->file);
		if (stretch.extent || stretch.metadata)
			touched_blocks(touched, block, stop);
		block = stop;
	}
}

void touched_failed(struct touched *touched, uint64_t block, uint64_t end)
{
	const struct map *map = touched->map;
	uint64_t extent = map_find_extent(map, block);

	atomic_fetch_add(&touched->state->errors, 1);
	if (extent < map->extent_count && map->extents[extent].start_block < end) {
		const struct map_file *file = &map->files[map->extents[extent].file];
		state_note_problem(touched->state, "%.*s: could not be fetched",
				   (int)file->path_bytes, map->strings + file->path_offset);
	} else {
		state_note_problem(touched->state, "the list of inputs could not be fetched");
	}
}

struct fetch_state *state_map(int fd, struct error *error)
{
	struct fetch_state *state = mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE,
					 fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);

	if (state != MAP_FAILED)
		return state;
	error_errno(error, "map the shared state");
	return NULL;
}

void state_note_problem(struct fetch_state *state, const char *format, ...)
{
	uint32_t none = 0;
	va_list values;

	if (!atomic_compare_exchange_strong(&state->problem_state, &none, 1))
		return;
	va_start(values, format);
	vsnprintf(state->problem, sizeof(state->problem), format, values);
	va_end(values);
	state->problem_state = 2;
}
