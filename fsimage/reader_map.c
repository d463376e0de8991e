#include <endian.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "fsimage/copy.h"
#include "fsimage/reader_private.h"

/* The deepest tree that 2^32 blocks can need. */
#define EXTENT_DEPTH_MAX 5

struct map_walk {
	struct fsimage *image;
	struct file_map *map;
	uint64_t end;	 /* of the last extent: the next one may not start before */
	uint64_t blocks; /* of all extents */
	struct error *error;
};

static int fail(struct map_walk *walk)
{
	return inode_fail(walk->image, walk->map->inode, "its extent tree is damaged", walk->error);
}

static int append(struct map_walk *walk, const struct map_extent *extent)
{
	struct file_map *map = walk->map;

	if (map->count == map->capacity) {
		size_t capacity = map->capacity ? 2 * map->capacity : 64;
		struct map_extent *grown = NULL;

		if (capacity <= MAP_EXTENTS_MAX)
			grown = reallocarray(map->extents, capacity, sizeof(struct map_extent));
		if (!grown)
			return inode_fail(walk->image, map->inode, "it is in too many pieces",
					  walk->error);
		map->extents = grown;
		map->capacity = capacity;
	}
	map->extents[map->count++] = *extent;
	return 0;
}

static int take_extent(struct map_walk *walk, const struct ext3_extent *raw)
{
	uint32_t length = le16toh(raw->ee_len);
	bool unwritten = length > EXT_INIT_MAX_LEN;
	struct map_extent extent = {
		.logical = le32toh(raw->ee_block),
		.physical = le32toh(raw->ee_start),
		.count = unwritten ? length - EXT_INIT_MAX_LEN : length,
		.unwritten = unwritten,
	};
	uint64_t physical_end = (uint64_t)extent.physical + extent.count;

	if (!extent.count || raw->ee_start_hi || !extent.physical ||
	    physical_end > walk->image->block_count || extent.logical < walk->end)
		return fail(walk);
	walk->end = (uint64_t)extent.logical + extent.count;
	if (walk->end > 1ULL << 32)
		return fail(walk);
	walk->blocks += extent.count;
	if (walk->blocks > walk->image->block_count)
		return inode_fail(walk->image, walk->map->inode,
				  "it has more blocks than the whole image", walk->error);
	return append(walk, &extent);
}

static int walk_node(struct map_walk *walk, const void *node, size_t node_bytes, unsigned depth);

static int walk_child(struct map_walk *walk, const struct ext3_extent_idx *index, unsigned depth)
{
	uint32_t block = le32toh(index->ei_leaf);
	uint8_t node[IMAGE_BLOCK_BYTES];

	if (index->ei_leaf_hi || !block || block >= walk->image->block_count)
		return fail(walk);
	if (read_at(walk->image->fd, node, sizeof(node), (uint64_t)block * IMAGE_BLOCK_BYTES) !=
	    (int64_t)sizeof(node))
		return inode_fail(walk->image, walk->map->inode, "cannot read its extent tree",
				  walk->error);
	return walk_node(walk, node, sizeof(node), depth);
}

/*
 * The depth falls by one at each level, so nothing loops; no node below the root is empty and
 * each extent must lie behind the last, so no node is taken twice: the work is bounded by the
 * number of blocks in the image.
 */
static int walk_node(struct map_walk *walk, const void *node, size_t node_bytes, unsigned depth)
{
	const struct ext3_extent_header *header = node;
	const struct ext3_extent *extents = (const void *)(header + 1);
	const struct ext3_extent_idx *indexes = (const void *)(header + 1);
	unsigned count = le16toh(header->eh_entries);
	bool is_root = node_bytes < IMAGE_BLOCK_BYTES;

	if (le16toh(header->eh_magic) != EXT3_EXT_MAGIC || le16toh(header->eh_depth) != depth ||
	    count > (node_bytes - sizeof(*header)) / sizeof(*extents) ||
	    (!count && (!is_root || depth)))
		return fail(walk);
	for (unsigned i = 0; i < count; i++) {
		int result = depth ? walk_child(walk, &indexes[i], depth - 1)
				   : take_extent(walk, &extents[i]);

		if (result < 0)
			return -1;
	}
	return 0;
}

static int compare_inodes(const void *a, const void *b)
{
	return ((uintptr_t)a > (uintptr_t)b) - ((uintptr_t)a < (uintptr_t)b);
}

/*
 * No two files have a block in common. That is not checked block by block, but what all files have
 * together cannot be more than there is: so no image makes more data than it has room for.
 */
static int count_blocks(struct fsimage *image, uint32_t inode, uint64_t blocks, struct error *error)
{
	const void *key = (const void *)(uintptr_t)inode; /* the number itself */

	if (!blocks || tfind(key, &image->mapped, compare_inodes))
		return 0;
	if (!tsearch(key, &image->mapped, compare_inodes))
		return error_set(error, "%s: out of memory", image->name);
	image->mapped_blocks += blocks;
	if (image->mapped_blocks > image->block_count)
		return error_set(error, "%s: its files have more blocks than the whole image",
				 image->name);
	return 0;
}

static void forget_number(void *number)
{
	(void)number;
}

void maps_forget(struct fsimage *image)
{
	tdestroy(image->mapped, forget_number);
	for (size_t i = 0; i < sizeof(image->maps) / sizeof(image->maps[0]); i++)
		free(image->maps[i].extents);
}

/* Fills IMAGE->map with what the extent tree in BUFFER says. */
static int read_map(struct fsimage *image, uint32_t inode, const union inode_buffer *buffer,
		    struct error *error)
{
	const struct ext3_extent_header *root = (const void *)buffer->base.i_block;
	struct file_map *map = image->map;
	struct map_walk walk = {.image = image, .map = map, .error = error};
	unsigned depth = le16toh(root->eh_depth);

	map->inode = inode;
	map->size_bytes = inode_size(buffer);
	map->count = 0;

	int result = depth <= EXTENT_DEPTH_MAX
			     ? walk_node(&walk, root, sizeof(buffer->base.i_block), depth)
			     : fail(&walk);

	return result < 0 ? -1 : count_blocks(image, inode, walk.blocks, error);
}

int map_load(struct fsimage *image, uint32_t inode, mode_t type, struct error *error)
{
	union inode_buffer buffer;

	if (inode_load(image, inode, &buffer, error) < 0)
		return -1;
	if ((buffer.base.i_mode & S_IFMT) != type)
		return inode_fail(image, inode, "it is not of the type that it should be", error);
	if (image->map->inode == inode)
		return 0;
	image->map = image->map == &image->maps[0] ? &image->maps[1] : &image->maps[0];
	if (image->map->inode == inode)
		return 0;
	if (!(buffer.base.i_flags & EXT4_EXTENTS_FL))
		return inode_fail(image, inode, "its blocks are not in extents", error);
	if (read_map(image, inode, &buffer, error) == 0)
		return 0;
	image->map->inode = 0;
	return -1;
}

size_t map_find(const struct file_map *map, uint64_t logical)
{
	size_t low = 0, high = map->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct map_extent *extent = &map->extents[middle];

		if ((uint64_t)extent->logical + extent->count > logical)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}
