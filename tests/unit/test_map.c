#include "tests/unit/scratch.h"

#include "host-tools/lazy/map.h"

/* A map of two files in three extents. */
struct small_map {
	union {
		struct map_header header;
		uint8_t header_room[MAP_HEADER_BYTES];
	};
	struct map_file files[2];
	struct map_extent extents[3];
	struct map_range metadata[2];
	char strings[16];
};

#define SECTION(field, how_many)                                                                   \
	{                                                                                          \
		.offset = offsetof(struct small_map, field), .count = (how_many)                   \
	}

static struct small_map good_map(void)
{
	struct small_map map = {
		.header = {.magic = MAP_MAGIC,
			   .version = MAP_VERSION,
			   .image_bytes = 100 * MAP_BLOCK_BYTES,
			   .files = SECTION(files, 2),
			   .extents = SECTION(extents, 3),
			   .metadata = SECTION(metadata, 2),
			   .strings = SECTION(strings, 8)},
		.files = {{.size_bytes = 5 * MAP_BLOCK_BYTES - 1,
			   .mode = S_IFREG | 0644,
			   .path_offset = 0,
			   .path_bytes = 3},
			  {.size_bytes = 1,
			   .mtime_nanoseconds = 999999999,
			   .mode = S_IFREG | 04755,
			   .path_offset = 3,
			   .path_bytes = 5}},
		.extents = {{10, 2, 0, 0}, {12, 2, 0, 3}, {99, 1, 1, 0}},
		.metadata = {{0, 10}, {14, 85}},
		.strings = "one..x/y",
	};

	return map;
}

/* Whether a map is taken: as it was made, and with what a test has changed. */
static int parse(const struct small_map *small, struct map *map)
{
	struct error error;

	return map_parse(small, sizeof(*small), map, &error);
}

static void a_good_map_is_found_through(void **state)
{
	struct small_map small = good_map();
	struct map map;

	(void)state;
	assert_int_equal(parse(&small, &map), 0);
	assert_int_equal(map.file_count, 2);
	assert_int_equal(map.extent_count, 3);
	assert_int_equal(map.metadata_count, 2);
	assert_memory_equal(map.strings, "one..x/y", 8);

	static const struct {
		uint64_t block, extent, metadata;
	} expected[] = {{0, 0, 0},  {9, 0, 0},	{10, 0, 1}, {11, 0, 1}, {12, 1, 1},
			{13, 1, 1}, {14, 2, 1}, {98, 2, 1}, {99, 2, 2}, {100, 3, 2}};

	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		assert_int_equal(map_find_extent(&map, expected[i].block), expected[i].extent);
		assert_int_equal(map_find_metadata(&map, expected[i].block), expected[i].metadata);
	}
}

/* Each is one change of a good map, and no map may be taken with it. */
#define BAD_MAPS(BAD)                                                                              \
	BAD(header.magic[0] = 'J')                                                                 \
	BAD(header.version = 2)                                                                    \
	BAD(header.zero = 1)                                                                       \
	BAD(header.image_bytes = 0)                                                                \
	BAD(header.image_bytes += 1)                                                               \
	BAD(header.image_bytes -= MAP_BLOCK_BYTES)                                                 \
	BAD(header.image_bytes = (1ULL << 32) * MAP_BLOCK_BYTES)                                   \
	BAD(header.files.offset = 0)                                                               \
	BAD(header.files.offset += 4)                                                              \
	BAD(header.files.offset = UINT64_MAX - 7)                                                  \
	BAD(header.files.count = 1)                                                                \
	BAD(header.files.count = UINT64_MAX)                                                       \
	BAD(header.extents.offset = sizeof(struct small_map) + 8)                                  \
	BAD(header.extents.count = UINT64_MAX / 16 + 2)                                            \
	BAD(header.metadata.count = 1ULL << 61)                                                    \
	BAD(header.metadata.offset = 1ULL << 63)                                                   \
	BAD(header.strings.count = 7)                                                              \
	BAD(header.strings.count = UINT64_MAX)                                                     \
	BAD(files[0].size_bytes = 0)                                                               \
	BAD(files[0].size_bytes -= MAP_BLOCK_BYTES)                                                \
	BAD(files[0].size_bytes = UINT64_MAX)                                                      \
	BAD(files[0].mtime_nanoseconds = 1000000000)                                               \
	BAD(files[0].mode = S_IFDIR | 0755)                                                        \
	BAD(files[0].mode = S_IFLNK | 0777)                                                        \
	BAD(files[0].mode |= 0x10000)                                                              \
	BAD(files[0].zero = 1)                                                                     \
	BAD(files[0].path_offset = 7)                                                              \
	BAD(files[0].path_offset = UINT64_MAX)                                                     \
	BAD(files[0].path_bytes = 0)                                                               \
	BAD(files[0].path_bytes = UINT32_MAX)                                                      \
	BAD(files[1].path_bytes = 2) /* ".." */                                                    \
	BAD(strings[0] = '/')                                                                      \
	BAD(strings[2] = '/')                                                                      \
	BAD(strings[1] = '\0')                                                                     \
	BAD(strings[5] = '/')                                                                      \
	BAD(strings[7] = '.')                                                                      \
	BAD(extents[0].blocks = 0)                                                                 \
	BAD(extents[0].blocks = 3)                                                                 \
	BAD(extents[0].blocks = UINT32_MAX)                                                        \
	BAD(extents[0].file = 1)                                                                   \
	BAD(extents[1].file = 2)                                                                   \
	BAD(extents[1].file_block = 1)                                                             \
	BAD(extents[1].file_block = 4)                                                             \
	BAD(extents[1].file_block = UINT32_MAX)                                                    \
	BAD(extents[1].start_block = 11)                                                           \
	BAD(extents[1].start_block = 13)                                                           \
	BAD(extents[2].start_block = 100)                                                          \
	BAD(extents[2].start_block = UINT32_MAX)                                                   \
	BAD(extents[2].file_block = 1)                                                             \
	BAD(metadata[0].blocks = 0)                                                                \
	BAD(metadata[0].blocks = 11)                                                               \
	BAD(metadata[1].blocks = 86)                                                               \
	BAD(metadata[1].blocks = UINT32_MAX)                                                       \
	BAD(metadata[1].start_block = 9)                                                           \
	BAD(metadata[1].start_block = 13)

static void a_map_that_lies_is_none(void **state)
{
	struct map map;
	unsigned taken = 0;

	(void)state;
#define TRY(change)                                                                                \
	{                                                                                          \
		struct small_map small = good_map();                                               \
                                                                                                   \
		small.change;                                                                      \
		if (parse(&small, &map) == 0) {                                                    \
			print_message("taken: " #change "\n");                                     \
			taken++;                                                                   \
		}                                                                                  \
	}
	BAD_MAPS(TRY)
	assert_int_equal(taken, 0);
}

static void a_map_that_is_cut_off_is_none(void **state)
{
	struct small_map small = good_map();
	struct error error;
	struct map map;

	(void)state;
	/* The last string's last byte is the last that is needed. */
	assert_int_equal(map_parse(&small, offsetof(struct small_map, strings) + 8, &map, &error),
			 0);
	assert_int_equal(map_parse(&small, offsetof(struct small_map, strings) + 7, &map, &error),
			 -1);
	assert_int_equal(map_parse(&small, MAP_HEADER_BYTES - 1, &map, &error), -1);
	assert_int_equal(map_parse(&small, 0, &map, &error), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_map_is_found_through),
		cmocka_unit_test(a_map_that_lies_is_none),
		cmocka_unit_test(a_map_that_is_cut_off_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
