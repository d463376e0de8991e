#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "fsimage/features.h"
#include "fsimage/format.h"
#include "fsimage/writer_private.h"

/*
 * A directory of more than one block gets the index that the kernel would make: a root in its
 * first block, nodes below it if it is large, and leaves with the entries in the order of their
 * hashes. Those who do not know the index see blocks of entries, some of them empty.
 */
#define LEAVES_PER_ROOT	  ((FSIMAGE_BLOCK_BYTES - INDEX_ROOT_OFFSET) / sizeof(struct ext2_dx_entry))
#define LEAVES_PER_NODE	  ((FSIMAGE_BLOCK_BYTES - INDEX_NODE_OFFSET) / sizeof(struct ext2_dx_entry))
#define INDEX_INFO_OFFSET (2 * EXT2_DIR_REC_LEN(1)) /* after "." and ".." */
#define INDEX_ROOT_OFFSET (INDEX_INFO_OFFSET + sizeof(struct ext2_dx_root_info))
#define INDEX_NODE_OFFSET EXT2_DIR_REC_LEN(0)

struct hashed_child {
	uint64_t hash; /* major and minor */
	struct fsnode *node;
};

/* How a directory is laid out. */
struct layout {
	struct hashed_child *children; /* in order; NULL: one block, no index */
	size_t count;
	uint32_t nodes, leaves;
	uint64_t size_bytes;
};

/* The blocks of one directory while they are filled. */
struct entry_list {
	uint8_t *bytes;
	uint64_t end; /* of the last entry */
	struct ext2_dir_entry_2 *last;
};

/* Where an entry of NEED bytes goes that is to follow OFFSET: it may not cross blocks. */
static uint64_t place_entry(uint64_t offset, size_t need)
{
	uint64_t left = FSIMAGE_BLOCK_BYTES - offset % FSIMAGE_BLOCK_BYTES;

	return left < need ? offset + left : offset;
}

/* --- layout --- */

static bool fits_one_block(const struct fsnode *directory, size_t *count)
{
	uint64_t bytes = EXT2_DIR_REC_LEN(1) + EXT2_DIR_REC_LEN(2);

	*count = 0;
	for (const struct fsnode *child = directory->directory.first_child; child;
	     child = child->next_sibling) {
		bytes += EXT2_DIR_REC_LEN(strlen(child->name));
		(*count)++;
	}
	return bytes <= FSIMAGE_BLOCK_BYTES;
}

static int compare_hashes(const void *left, const void *right)
{
	const struct hashed_child *a = left, *b = right;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	return strcmp(a->node->name, b->node->name);
}

/* The seed is the UUID: see fill_superblock(). */
static uint64_t hash_name(const struct writer *writer, const char *name)
{
	uint32_t seed[4];
	ext2_dirhash_t major_hash = 0, minor_hash = 0;

	memcpy(seed, writer->options->uuid, sizeof(seed));
	ext2fs_dirhash(EXT2_HASH_HALF_MD4, name, (int)strlen(name), seed, &major_hash, &minor_hash);
	return (uint64_t)major_hash << 32 | minor_hash;
}

static void order_children(struct writer *writer, const struct fsnode *directory,
			   struct layout *layout)
{
	struct fsnode *child = directory->directory.first_child;

	for (size_t i = 0; i < layout->count; i++, child = child->next_sibling)
		layout->children[i] = (struct hashed_child){hash_name(writer, child->name), child};
	qsort(layout->children, layout->count, sizeof(*layout->children), compare_hashes);
}

static int count_blocks(struct writer *writer, const struct fsnode *directory,
			struct layout *layout)
{
	uint64_t end = 0, leaves;

	for (size_t i = 0; i < layout->count; i++) {
		size_t need = EXT2_DIR_REC_LEN(strlen(layout->children[i].node->name));

		end = place_entry(end, need) + need;
	}
	leaves = (end + FSIMAGE_BLOCK_BYTES - 1) / FSIMAGE_BLOCK_BYTES;
	if (leaves > LEAVES_PER_ROOT * LEAVES_PER_NODE)
		return error_set(writer->error, "%s: there are too many files in '%s'",
				 writer->name, node_path(directory).text);
	if (leaves > LEAVES_PER_ROOT)
		layout->nodes = (leaves + LEAVES_PER_NODE - 1) / LEAVES_PER_NODE;
	layout->leaves = leaves;
	layout->size_bytes = (1 + layout->nodes + leaves) * FSIMAGE_BLOCK_BYTES;
	return 0;
}

/* The caller frees LAYOUT->children, also after an error. */
static int lay_out(struct writer *writer, const struct fsnode *directory, struct layout *layout)
{
	*layout = (struct layout){.size_bytes = FSIMAGE_BLOCK_BYTES};
	if (fits_one_block(directory, &layout->count))
		return 0;
	layout->children = calloc(layout->count, sizeof(*layout->children));
	if (!layout->children)
		return writer_fail(writer, EXT2_ET_NO_MEMORY);
	order_children(writer, directory, layout);
	return count_blocks(writer, directory, layout);
}

int plan_directory(struct writer *writer, struct fsnode *directory)
{
	struct layout layout;
	int result = lay_out(writer, directory, &layout);

	directory->directory.block_count = layout.size_bytes / FSIMAGE_BLOCK_BYTES;
	free(layout.children);
	return result;
}

/* --- entries --- */

/* Lets the last entry, if there is one, reach up to where the next one starts. */
static void stretch_last(struct entry_list *list, uint64_t next)
{
	if (!list->last)
		return;

	uint64_t start = (uint8_t *)list->last - list->bytes;

	list->last->rec_len = htole16(next - start);
}

/* Where it is now. */
static uint64_t append_entry(struct entry_list *list, const char *name, const struct fsnode *node)
{
	size_t name_bytes = strlen(name), need = EXT2_DIR_REC_LEN(name_bytes);
	uint64_t start = place_entry(list->end, need);

	stretch_last(list, start);
	list->last = (void *)(list->bytes + start);
	list->last->inode = htole32(node->inode);
	list->last->name_len = name_bytes;
	list->last->file_type = format_entry_type(node->meta.mode);
	memcpy(list->last->name, name, name_bytes);
	list->end = start + need;
	return start;
}

static void append_dots(struct entry_list *list, const struct fsnode *directory)
{
	append_entry(list, ".", directory);
	append_entry(list, "..", directory->parent ? directory->parent : directory);
}

static void fill_single_block(uint8_t *bytes, const struct fsnode *directory)
{
	struct entry_list list = {.bytes = bytes};

	append_dots(&list, directory);
	for (struct fsnode *child = directory->directory.first_child; child;
	     child = child->next_sibling)
		append_entry(&list, child->name, node_target(child));
	stretch_last(&list, FSIMAGE_BLOCK_BYTES);
}

/* --- the index --- */

/*
 * Puts COUNT entries to where there is room for LIMIT; the first has no hash, and these two
 * numbers in its place. They are for blocks from BLOCK on, and every STRIDE-th hash.
 */
static void put_index(uint8_t *bytes, size_t limit, const uint32_t *hashes, size_t stride,
		      uint32_t block, size_t count)
{
	struct ext2_dx_entry *entries = (void *)bytes;
	struct ext2_dx_countlimit head = {.limit = htole16(limit), .count = htole16(count)};

	for (size_t i = 0; i < count; i++) {
		entries[i].hash = htole32(hashes[i * stride]);
		entries[i].block = htole32(block + i);
	}
	memcpy(&entries[0].hash, &head, sizeof(head));
}

static void fill_index(uint8_t *bytes, const struct fsnode *directory, const struct layout *layout,
		       const uint32_t *hashes)
{
	struct entry_list list = {.bytes = bytes};
	struct ext2_dx_root_info *info = (void *)(bytes + INDEX_INFO_OFFSET);
	uint32_t first_leaf = 1 + layout->nodes;

	append_dots(&list, directory);
	stretch_last(&list, FSIMAGE_BLOCK_BYTES);
	info->hash_version = EXT2_HASH_HALF_MD4;
	info->info_length = sizeof(*info);
	info->indirect_levels = layout->nodes > 0;
	if (!layout->nodes) {
		put_index(bytes + INDEX_ROOT_OFFSET, LEAVES_PER_ROOT, hashes, 1, first_leaf,
			  layout->leaves);
		return;
	}
	put_index(bytes + INDEX_ROOT_OFFSET, LEAVES_PER_ROOT, hashes, LEAVES_PER_NODE, 1,
		  layout->nodes);
	for (uint32_t done = 0; done < layout->leaves; done += LEAVES_PER_NODE) {
		uint8_t *node = bytes + (1 + done / LEAVES_PER_NODE) * FSIMAGE_BLOCK_BYTES;
		struct ext2_dir_entry_2 *empty = (void *)node;
		uint32_t left = layout->leaves - done;

		empty->rec_len = htole16(FSIMAGE_BLOCK_BYTES);
		put_index(node + INDEX_NODE_OFFSET, LEAVES_PER_NODE, hashes + done, 1,
			  first_leaf + done, left < LEAVES_PER_NODE ? left : LEAVES_PER_NODE);
	}
}

/* HASHES: of the first entry of each leaf; odd if the leaf before has the same one too. */
static void fill_leaves(uint8_t *bytes, const struct layout *layout, uint32_t *hashes)
{
	uint64_t first = (1 + (uint64_t)layout->nodes) * FSIMAGE_BLOCK_BYTES;
	struct entry_list list = {.bytes = bytes, .end = first};
	uint32_t before = 0;

	for (size_t i = 0; i < layout->count; i++) {
		struct fsnode *child = layout->children[i].node;
		uint32_t hash = layout->children[i].hash >> 32;
		uint64_t start = append_entry(&list, child->name, node_target(child));

		if (start % FSIMAGE_BLOCK_BYTES == 0)
			hashes[(start - first) / FSIMAGE_BLOCK_BYTES] =
				i > 0 && hash == before ? hash | 1 : hash;
		before = hash;
	}
	stretch_last(&list, layout->size_bytes);
}

static int fill_blocks(struct writer *writer, const struct fsnode *directory,
		       const struct layout *layout, uint8_t *bytes)
{
	uint32_t *hashes;

	if (!layout->children) {
		fill_single_block(bytes, directory);
		return 0;
	}
	hashes = calloc(layout->leaves, sizeof(*hashes));
	if (!hashes)
		return writer_fail(writer, EXT2_ET_NO_MEMORY);
	fill_leaves(bytes, layout, hashes);
	fill_index(bytes, directory, layout, hashes);
	free(hashes);
	return 0;
}

int write_directory(struct writer *writer, const struct fsnode *directory,
		    struct ext2_inode_large *inode)
{
	struct layout layout;
	uint8_t *bytes = NULL;
	int result = lay_out(writer, directory, &layout);

	if (result == 0) {
		bytes = calloc(1, layout.size_bytes);
		result = bytes ? fill_blocks(writer, directory, &layout, bytes)
			       : writer_fail(writer, EXT2_ET_NO_MEMORY);
	}
	if (result == 0)
		result = write_bytes(writer, bytes, layout.size_bytes);
	if (layout.children)
		inode->i_flags |= htole32(EXT2_INDEX_FL);
	free(bytes);
	free(layout.children);
	return result;
}
