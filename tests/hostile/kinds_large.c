/* Images that are small, or sparse, and ask for much: memory, time, space on the host. */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/hostile/kinds.h"

#define TOO_MANY "has more names"
#define TOO_LONG "is too long"

/* COUNT entries in output/alpha, all for output/victim, under names of LENGTH bytes. */
static void add_many_names(struct craft *craft, unsigned count, int length)
{
	uint32_t victim = craft_find(craft, "output/victim");
	struct names names;
	char name[256];

	names_start(&names, craft, craft_find(craft, "output/alpha"), craft_find(craft, "output"));
	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%0*u", length, i);
		names_add(&names, victim, EXT2_FT_REG_FILE, name, (size_t)length);
	}
	names_end(&names);
}

static void entries_10m(struct craft *craft)
{
	add_many_names(craft, 10000000, 8);
}

/* No lie: as many as a job may well leave. */
static void names_100k(struct craft *craft)
{
	add_many_names(craft, 100000, 8);
}

/* As many as the reader lists, with the good image's own. */
static void names_most(struct craft *craft)
{
	add_many_names(craft, 245000, 8);
}

static void long_names(struct craft *craft)
{
	add_many_names(craft, 400000, 255);
}

/* Directories in one another below output/alpha, each under a name of LENGTH bytes. The last. */
static uint32_t nest(struct craft *craft, unsigned depth, int length)
{
	uint32_t inode = craft_find(craft, "output/alpha"), parent = craft_find(craft, "output");
	struct names names;
	char name[256];

	snprintf(name, sizeof(name), "%0*d", length, 0);
	for (unsigned i = 0; i < depth; i++) {
		uint32_t child = craft_file(craft, S_IFDIR | 0755, 0, 0, 0);

		names_start(&names, craft, inode, parent);
		names_add(&names, child, EXT2_FT_DIR, name, (size_t)length);
		names_end(&names);
		parent = inode;
		inode = child;
	}
	names_start(&names, craft, inode, parent);
	names_end(&names);
	return inode;
}

static void depth_100000(struct craft *craft)
{
	nest(craft, 100000, 1);
}

/* Many names at the end of the longest path: each is short, and each path is long. */
static void add_long_paths(struct craft *craft, unsigned count)
{
	uint32_t victim = craft_find(craft, "output/victim");
	uint32_t last = nest(craft, 15, 255);
	uint32_t parent = craft->next_inode - 2;
	struct names names;
	char name[32];

	names_start(&names, craft, last, parent);
	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%u", i);
		names_add(&names, victim, EXT2_FT_REG_FILE, name, strlen(name));
	}
	names_end(&names);
}

static void long_paths(struct craft *craft)
{
	add_long_paths(craft, 200000);
}

/* Just what the reader lists. */
static void long_paths_most(struct craft *craft)
{
	add_long_paths(craft, 9000);
}

/* Directories that each have no more than their own block. */
static void many_directories(struct craft *craft)
{
	uint32_t alpha = craft_find(craft, "output/alpha"), parent = craft_find(craft, "output");
	uint32_t first = craft->next_inode;
	struct names names;
	char name[32];

	for (unsigned i = 0; i < 100000; i++) {
		names_start(&names, craft, craft_file(craft, S_IFDIR | 0755, 0, 0, 0), alpha);
		names_end(&names);
	}
	names_start(&names, craft, alpha, parent);
	for (unsigned i = 0; i < 100000; i++) {
		snprintf(name, sizeof(name), "%u", i);
		names_add(&names, first + i, EXT2_FT_DIR, name, strlen(name));
	}
	names_end(&names);
}

/* --- shared blocks --- */

/* 100,000 files of one block each, which is the same one. */
static void shared_block(struct craft *craft)
{
	uint32_t block = craft_blocks(craft, 1);
	struct names names;
	char name[32];

	names_start(&names, craft, craft_find(craft, "output/alpha"), craft_find(craft, "output"));
	for (unsigned i = 0; i < 100000; i++) {
		uint32_t inode = craft_file(craft, S_IFREG | 0644, BLOCK_BYTES, block, 1);

		snprintf(name, sizeof(name), "%u", i);
		names_add(&names, inode, EXT2_FT_REG_FILE, name, strlen(name));
	}
	names_end(&names);
}

/* One file of 16 TiB, all of it the same few blocks. */
static void shared_extents(struct craft *craft)
{
	enum { COUNT = 1024, FILES = 100000 };
	struct extent *extents = calloc(FILES, sizeof(*extents));
	uint32_t victim = craft_find(craft, "output/victim");
	uint32_t start = craft_blocks(craft, COUNT);

	if (!extents)
		errx(1, "no memory");
	for (uint32_t i = 0; i < FILES; i++)
		extents[i] = (struct extent){i * COUNT, start, COUNT};
	craft_put_inode(craft, victim, S_IFREG | 0644, FILES * (uint64_t)COUNT * BLOCK_BYTES, 0, 0);
	craft_map(craft, victim, extents, FILES);
	free(extents);
}

/* A directory of 1 GiB, all of it one empty block. */
static void shared_directory(struct craft *craft)
{
	enum { COUNT = 262144 };
	struct extent *extents = calloc(COUNT, sizeof(*extents));
	uint32_t alpha = craft_find(craft, "output/alpha");
	uint32_t first = craft_data(craft, alpha) / BLOCK_BYTES;
	uint32_t empty = craft_blocks(craft, 1);

	if (!extents)
		errx(1, "no memory");
	craft_set(craft, empty * (uint64_t)BLOCK_BYTES + 4, 2, BLOCK_BYTES);
	for (uint32_t i = 0; i < COUNT; i++)
		extents[i] = (struct extent){i, i ? empty : first, 1};
	craft_put_inode(craft, alpha, S_IFDIR | 0755, COUNT * (uint64_t)BLOCK_BYTES, 0, 0);
	craft_map(craft, alpha, extents, COUNT);
	free(extents);
}

/* --- extents --- */

/*
 * One file in PIECES pieces, each of one block and with a hole after it. They are not written to,
 * so that it does not matter which blocks they are: from FIRST on.
 */
static void break_up(struct craft *craft, uint32_t inode, uint32_t first, uint32_t pieces)
{
	struct extent *extents = calloc(pieces, sizeof(*extents));

	if (!extents)
		errx(1, "no memory");
	for (uint32_t i = 0; i < pieces; i++)
		extents[i] = (struct extent){2 * i, first + i, EXT_INIT_MAX_LEN + 1};
	craft_put_inode(craft, inode, S_IFREG | 0755, 2ULL * pieces * BLOCK_BYTES, 0, 0);
	craft_map(craft, inode, extents, pieces);
	free(extents);
}

static void many_pieces(struct craft *craft)
{
	break_up(craft, craft_find(craft, "output/victim"), 1, 3000000);
}

/* An input and an output that are the same as far as sizes and times say. */
static void twins_4t(struct craft *craft)
{
	const uint64_t size = 4ULL << 40;

	craft_put_inode(craft, craft_find(craft, "input/twin"), S_IFREG | 0755, size, 0, 0);
	craft_put_inode(craft, craft_find(craft, "output/twin"), S_IFREG | 0755, size, 0, 0);
}

/* The same in many pieces each. */
#define TWIN_PIECES 900000
static void broken_twins(struct craft *craft)
{
	break_up(craft, craft_find(craft, "input/twin"), 1, TWIN_PIECES);
	break_up(craft, craft_find(craft, "output/twin"), TWIN_PIECES, TWIN_PIECES);
}

const struct kind large_kinds[] = {
	{"names_100k", .craft = names_100k, .free_blocks = 500, .read = FINE, .is_honest = true},
	{"names_most", .craft = names_most, .free_blocks = 1200, .read = FINE, .is_honest = true},
	{"long_paths_most", .craft = long_paths_most, .free_blocks = 200, .read = FINE},
	{"entries_10m", .craft = entries_10m, .free_blocks = 42000, .read = TOO_MANY},
	{"long_names", .craft = long_names, .free_blocks = 28000, .read = TOO_MANY},
	{"depth_100000", .craft = depth_100000, .free_blocks = 100100, .free_inodes = 100100,
	 .read = "too deep", .inspect = TOO_LONG, .collect = TOO_LONG},
	{"long_paths", .craft = long_paths, .free_blocks = 2000, .read = TOO_MANY},
	{"many_directories", .craft = many_directories, .free_blocks = 102000,
	 .free_inodes = 100100, .read = FINE},
	{"shared_block", .craft = shared_block, .free_inodes = 100100,
	 .read = "its files have more blocks", .inspect = FINE},
	{"shared_extents", .craft = shared_extents, .free_blocks = 1024,
	 .read = "it has more blocks than", .inspect = FINE},
	{"shared_directory", .craft = shared_directory, .read = "it has more blocks than"},
	{"many_pieces", .craft = many_pieces, .free_blocks = 3100000, .read = "too many pieces",
	 .inspect = FINE},
	{"twins_4t", .craft = twins_4t, .read = FINE},
	{"broken_twins", .craft = broken_twins, .free_blocks = 2000000, .read = FINE},
	{.name = NULL},
};
