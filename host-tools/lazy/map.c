#include "host-tools/lazy/map.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "fsimage/features.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the structs are the format");
_Static_assert(sizeof(struct map_header) <= MAP_HEADER_BYTES, "the header has its room");
_Static_assert(sizeof(struct map_file) == 40 && sizeof(struct map_extent) == 16 &&
		       sizeof(struct map_range) == 8,
	       "nothing is padded");

#define BLOCKS_OF(bytes) (((bytes) + MAP_BLOCK_BYTES - 1) / MAP_BLOCK_BYTES)

static int check_header(const struct map_header *header, uint64_t size, struct error *error)
{
	if (memcmp(header->magic, MAP_MAGIC, sizeof(header->magic)) != 0)
		return error_set(error, "the map of the disk is none");
	if (header->version != MAP_VERSION || header->zero)
		return error_set(error, "the map of the disk has version %" PRIu32 ", not %d",
				 header->version, MAP_VERSION);
	if (size > MAP_BYTES_MAX)
		return error_set(error, "the map of the disk is larger than %" PRIu64 " bytes",
				 MAP_BYTES_MAX);
	if (!header->image_bytes || header->image_bytes % MAP_BLOCK_BYTES ||
	    header->image_bytes / MAP_BLOCK_BYTES > IMAGE_BLOCKS_MAX)
		return error_set(error, "a disk cannot have the map's %" PRIu64 " bytes",
				 header->image_bytes);
	return 0;
}

/* Where the section's records are, or NULL with ERROR set. */
static const void *find_section(const void *bytes, uint64_t size, const struct map_section *section,
				size_t record_bytes, struct error *error)
{
	if (section->offset % 8 || section->offset < MAP_HEADER_BYTES || section->offset > size ||
	    section->count > (size - section->offset) / record_bytes) {
		error_set(error, "a section of the map is not in it");
		return NULL;
	}
	return (const uint8_t *)bytes + section->offset;
}

static bool is_good_name(const char *name, size_t length)
{
	return length != 0 && !(length == 1 && name[0] == '.') &&
	       !(length == 2 && name[0] == '.' && name[1] == '.');
}

static bool is_good_path(const char *path, size_t length)
{
	const char *end = path + length, *slash;

	if (memchr(path, '\0', length))
		return false;
	while ((slash = memchr(path, '/', (size_t)(end - path)))) {
		if (!is_good_name(path, (size_t)(slash - path)))
			return false;
		path = slash + 1;
	}
	return is_good_name(path, (size_t)(end - path));
}

static bool is_good_file(const struct map *map, const struct map_file *file)
{
	return file->size_bytes && file->size_bytes <= IMAGE_FILE_BYTES_MAX &&
	       file->mtime_nanoseconds < 1000000000 && S_ISREG(file->mode) &&
	       file->mode <= (S_IFMT | 07777) && !file->zero &&
	       file->path_offset <= map->strings_bytes &&
	       file->path_bytes <= map->strings_bytes - file->path_offset &&
	       is_good_path(map->strings + file->path_offset, file->path_bytes);
}

static bool is_good_extent(const struct map *map, const struct map_extent *extent,
			   const struct map_extent *before)
{
	uint64_t image_blocks = map->header->image_bytes / MAP_BLOCK_BYTES;

	if (!extent->blocks || (uint64_t)extent->start_block + extent->blocks > image_blocks ||
	    extent->file >= map->file_count ||
	    (uint64_t)extent->file_block + extent->blocks >
		    BLOCKS_OF(map->files[extent->file].size_bytes))
		return false;
	if (!before)
		return true;
	return extent->start_block >= (uint64_t)before->start_block + before->blocks &&
	       extent->file >= before->file &&
	       (extent->file > before->file ||
		extent->file_block >= (uint64_t)before->file_block + before->blocks);
}

static bool is_good_range(const struct map *map, const struct map_range *range,
			  const struct map_range *before)
{
	uint64_t end = (uint64_t)range->start_block + range->blocks;

	if (!range->blocks || end > map->header->image_bytes / MAP_BLOCK_BYTES ||
	    (before && range->start_block < (uint64_t)before->start_block + before->blocks))
		return false;

	uint64_t next = map_find_extent(map, range->start_block);

	return next == map->extent_count || map->extents[next].start_block >= end;
}

static int check_records(const struct map *map, struct error *error)
{
	for (uint64_t i = 0; i < map->file_count; i++)
		if (!is_good_file(map, &map->files[i]))
			return error_set(error, "the map's file %" PRIu64 " cannot be", i);
	for (uint64_t i = 0; i < map->extent_count; i++)
		if (!is_good_extent(map, &map->extents[i], i ? &map->extents[i - 1] : NULL))
			return error_set(error, "the map's extent %" PRIu64 " cannot be", i);
	for (uint64_t i = 0; i < map->metadata_count; i++)
		if (!is_good_range(map, &map->metadata[i], i ? &map->metadata[i - 1] : NULL))
			return error_set(error, "the map's metadata %" PRIu64 " cannot be", i);
	return 0;
}

int map_parse(const void *bytes, uint64_t size, struct map *map, struct error *error)
{
	const struct map_header *header = bytes;

	if (size < MAP_HEADER_BYTES)
		return error_set(error, "the map of the disk is cut off");
	if (check_header(header, size, error))
		return -1;
	*map = (struct map){
		.header = header,
		.files = find_section(bytes, size, &header->files, sizeof(*map->files), error),
		.extents =
			find_section(bytes, size, &header->extents, sizeof(*map->extents), error),
		.metadata =
			find_section(bytes, size, &header->metadata, sizeof(*map->metadata), error),
		.strings = find_section(bytes, size, &header->strings, 1, error),
		.file_count = header->files.count,
		.extent_count = header->extents.count,
		.metadata_count = header->metadata.count,
		.strings_bytes = header->strings.count,
	};
	if (!map->files || !map->extents || !map->metadata || !map->strings)
		return -1;
	return check_records(map, error);
}

uint64_t map_find_extent(const struct map *map, uint64_t block)
{
	uint64_t low = 0, high = map->extent_count;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		const struct map_extent *extent = &map->extents[middle];

		if ((uint64_t)extent->start_block + extent->blocks > block)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

uint64_t map_find_metadata(const struct map *map, uint64_t block)
{
	uint64_t low = 0, high = map->metadata_count;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		const struct map_range *range = &map->metadata[middle];

		if ((uint64_t)range->start_block + range->blocks > block)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

struct map_stretch map_stretch_at(const struct map *map, uint64_t block)
{
	uint64_t e = map_find_extent(map, block), m = map_find_metadata(map, block);
	const struct map_extent *extent = e < map->extent_count ? &map->extents[e] : NULL;
	const struct map_range *range = m < map->metadata_count ? &map->metadata[m] : NULL;
	struct map_stretch zeros = {.end = map->header->image_bytes / MAP_BLOCK_BYTES};

	if (extent && extent->start_block <= block)
		return (struct map_stretch){.end = (uint64_t)extent->start_block + extent->blocks,
					    .extent = extent};
	if (range && range->start_block <= block)
		return (struct map_stretch){.end = (uint64_t)range->start_block + range->blocks,
					    .metadata = range};
	if (extent && extent->start_block < zeros.end)
		zeros.end = extent->start_block;
	if (range && range->start_block < zeros.end)
		zeros.end = range->start_block;
	return zeros;
}
