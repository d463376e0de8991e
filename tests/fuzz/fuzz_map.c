/* The map of a lazy disk, as a server sent it, and what is then done with it. */
#include "host-tools/lazy/map.h"
#include "host-tools/lazy/trace.h"
#include "tests/fuzz/fuzz.h"

static void check_block(const struct map *map, uint64_t block)
{
	uint64_t extent = map_find_extent(map, block), range = map_find_metadata(map, block);

	FUZZ_CHECK(extent <= map->extent_count && range <= map->metadata_count);
	if (extent == map->extent_count || range == map->metadata_count)
		return;
	/* A block is not both. */
	FUZZ_CHECK(map->extents[extent].start_block > block ||
		   map->metadata[range].start_block > block);
}

/* What a trace says of a file is the file's again, or another's of the same path. */
static void check_file(const struct map *map, const struct map_file *file)
{
	char line[TRACE_LINE_BYTES_MAX];
	size_t length = trace_line(map, file, line), count;

	if (!length)
		return;
	uint32_t *found = trace_resolve(map, line, length, &count);
	FUZZ_CHECK(found && count == 1);
	FUZZ_CHECK(map->files[found[0]].path_bytes == file->path_bytes);
	FUZZ_CHECK(memcmp(map->strings + map->files[found[0]].path_offset,
			  map->strings + file->path_offset, file->path_bytes) == 0);
	free(found);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	/* As large as the input, so that what is read behind it is seen. */
	void *copy = malloc(size ? size : 1);
	struct error error = {""};
	struct map map;

	FUZZ_CHECK(copy);
	if (size)
		memcpy(copy, bytes, size);
	int result = map_parse(copy, size, &map, &error);
	FUZZ_CHECK_ERROR(result, &error);
	if (result == 0) {
		for (uint64_t i = 0; i < map.extent_count; i++)
			check_block(&map, map.extents[i].start_block);
		for (uint64_t i = 0; i < map.metadata_count; i++)
			check_block(&map, map.metadata[i].start_block);
		check_block(&map, UINT64_MAX);
		for (uint64_t i = 0; i < map.file_count && i < 20; i++)
			check_file(&map, &map.files[i]);
	}
	free(copy);
	return 0;
}
