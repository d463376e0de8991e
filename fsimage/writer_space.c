#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fsimage/copy.h"
#include "fsimage/writer_private.h"

/* --- blocks --- */

uint32_t space_allocate(struct writer *writer, uint64_t wanted, blk64_t *start)
{
	ext2_filsys fs = writer->fs;
	blk64_t last = ext2fs_blocks_count(fs->super) - 1;
	blk64_t used;

	if (wanted > EXT_INIT_MAX_LEN)
		wanted = EXT_INIT_MAX_LEN;
	if (writer->next_block > last ||
	    ext2fs_find_first_zero_block_bitmap2(fs->block_map, writer->next_block, last, start)) {
		error_set(writer->error, "%s: its contents do not fit into %llu bytes",
			  writer->name, (unsigned long long)writer->size_bytes);
		return 0;
	}
	if (wanted > last - *start + 1)
		wanted = last - *start + 1;
	if (ext2fs_find_first_set_block_bitmap2(fs->block_map, *start, *start + wanted - 1,
						&used) == 0)
		wanted = used - *start;
	ext2fs_block_alloc_stats_range(fs, *start, wanted, +1);
	writer->next_block = *start + wanted;
	writer->block_count += wanted;
	return wanted;
}

void space_skip(struct writer *writer, uint64_t count)
{
	ext2fs_block_bitmap map = writer->fs->block_map;
	blk64_t last = ext2fs_blocks_count(writer->fs->super) - 1;
	blk64_t start = writer->next_block, used;

	while (start + count <= last &&
	       ext2fs_find_first_zero_block_bitmap2(map, start, last, &start) == 0 &&
	       start + count <= last) {
		if (ext2fs_find_first_set_block_bitmap2(map, start, start + count - 1, &used)) {
			writer->next_block = start + count;
			return;
		}
		start = used;
	}
}

static union extent_entry *add_extent(struct writer *writer)
{
	if (writer->extent_count == writer->extent_capacity) {
		size_t capacity = writer->extent_capacity ? 2 * writer->extent_capacity : 64;
		union extent_entry *grown =
			reallocarray(writer->extents, capacity, sizeof(union extent_entry));

		if (!grown)
			return NULL;
		writer->extents = grown;
		writer->extent_capacity = capacity;
	}
	return &writer->extents[writer->extent_count++];
}

uint32_t space_extend(struct writer *writer, uint64_t logical, uint64_t wanted, blk64_t *start)
{
	uint32_t count = space_allocate(writer, wanted, start);
	union extent_entry *entry = count ? add_extent(writer) : NULL;

	if (count && !entry)
		writer_fail(writer, EXT2_ET_NO_MEMORY);
	if (!entry)
		return 0;
	entry->extent = (struct ext3_extent){
		.ee_block = htole32(logical),
		.ee_len = htole16(count),
		.ee_start = htole32(*start),
	};
	return count;
}

/* --- extent trees --- */

static struct ext3_extent_header extent_header(size_t count, size_t max, unsigned depth)
{
	return (struct ext3_extent_header){
		.eh_magic = htole16(EXT3_EXT_MAGIC),
		.eh_entries = htole16(count),
		.eh_max = htole16(max),
		.eh_depth = htole16(depth),
	};
}

/* Moves COUNT entries from FIRST on into a block; ENTRY then points there. */
static int store_extent_block(struct writer *writer, size_t first, size_t count, unsigned depth,
			      union extent_entry *entry)
{
	struct ext3_extent_header header = extent_header(count, EXTENTS_IN_BLOCK, depth);
	uint32_t logical = writer->extents[first].logical;
	blk64_t block;

	if (!space_allocate(writer, 1, &block))
		return -1;

	uint8_t *room = output_room(writer, &writer->data, block * FSIMAGE_BLOCK_BYTES,
				    FSIMAGE_BLOCK_BYTES);

	if (!room)
		return -1;
	memset(room, 0, FSIMAGE_BLOCK_BYTES);
	memcpy(room, &header, sizeof(header));
	memcpy(room + sizeof(header), &writer->extents[first], count * sizeof(*entry));
	entry->index = (struct ext3_extent_idx){.ei_block = logical, .ei_leaf = htole32(block)};
	return 0;
}

int space_store_extents(struct writer *writer, uint32_t *i_block)
{
	size_t count = writer->extent_count;
	unsigned depth = 0;

	/* Each level's entries take the place of those below, which are in the image by then. */
	for (; count > EXTENTS_IN_INODE; depth++) {
		size_t parents = 0, taken;

		for (size_t first = 0; first < count; first += taken) {
			taken = count - first < EXTENTS_IN_BLOCK ? count - first : EXTENTS_IN_BLOCK;
			if (store_extent_block(writer, first, taken, depth,
					       &writer->extents[parents++]) < 0)
				return -1;
		}
		count = parents;
	}

	struct ext3_extent_header header = extent_header(count, EXTENTS_IN_INODE, depth);

	memcpy(i_block, &header, sizeof(header));
	if (count)
		memcpy((uint8_t *)i_block + sizeof(header), writer->extents,
		       count * sizeof(union extent_entry));
	return 0;
}

/* --- output --- */

int output_flush(struct writer *writer, struct output *output)
{
	size_t used = output->used;

	output->used = 0;
	if (used && write_at(writer->fd, output->bytes, used, output->offset) < 0)
		return writer_fail_errno(writer);
	return 0;
}

uint8_t *output_room(struct writer *writer, struct output *output, uint64_t offset, size_t length)
{
	bool follows = offset == output->offset + output->used;

	if ((!follows || output->used + length > OUTPUT_BYTES) && output_flush(writer, output) < 0)
		return NULL;
	if (!output->bytes)
		output->bytes = malloc(OUTPUT_BYTES);
	if (!output->bytes) {
		writer_fail(writer, EXT2_ET_NO_MEMORY);
		return NULL;
	}
	if (!output->used)
		output->offset = offset;
	output->used += length;
	return output->bytes + output->used - length;
}

int output_write(struct writer *writer, struct output *output, uint64_t offset, const void *bytes,
		 size_t length)
{
	if (length > OUTPUT_BYTES / 4)
		return write_at(writer->fd, bytes, length, offset) < 0 ? writer_fail_errno(writer)
								       : 0;

	uint8_t *room = output_room(writer, output, offset, length);

	if (!room)
		return -1;
	memcpy(room, bytes, length);
	return 0;
}
