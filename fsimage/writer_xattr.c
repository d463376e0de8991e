#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "fsimage/features.h"
#include "fsimage/writer_private.h"
#include "fsimage/xattr.h"

/* In the inode: a magic number, entries from the front, values from the back, 4 zero bytes between.
 */
#define MAGIC_BYTES	 sizeof(uint32_t)
#define TERMINATOR_BYTES sizeof(uint32_t)
#define IN_INODE_OFFSET	 (EXT2_GOOD_OLD_INODE_SIZE + IMAGE_EXTRA_BYTES)
#define IN_INODE_BYTES	 (IMAGE_INODE_BYTES - IN_INODE_OFFSET - MAGIC_BYTES)

/* The kernel shares a block among no more inodes than these. */
#define REFERENCES_MAX 1024

/* Entries and values that are being filled in. Offsets of values count from BYTES. */
struct xattr_area {
	uint8_t *bytes;
	size_t entries_end, values_start;
};

static size_t need_of(const struct node_xattr *xattr)
{
	return EXT2_EXT_ATTR_LEN(xattr->name_bytes) + EXT2_EXT_ATTR_SIZE(xattr->value_bytes);
}

/* --- planning --- */

static struct node_xattr *next_in_block(struct node_xattr *xattr)
{
	while (xattr && xattr->in_inode)
		xattr = xattr->next;
	return xattr;
}

static int compare_one(const struct node_xattr *a, const struct node_xattr *b)
{
	int order = compare_xattrs(a, b);

	if (order)
		return order;
	if (a->value_bytes != b->value_bytes)
		return a->value_bytes < b->value_bytes ? -1 : 1;
	return memcmp(xattr_value(a), xattr_value(b), a->value_bytes);
}

/* Orders blocks by what is in them. */
static int compare_blocks(const void *left, const void *right)
{
	const struct xattr_block *const one = left, *const other = right;
	struct node_xattr *a = next_in_block(one->xattrs), *b = next_in_block(other->xattrs);
	int order = 0;

	while (a && b && (order = compare_one(a, b)) == 0) {
		a = next_in_block(a->next);
		b = next_in_block(b->next);
	}
	return order ? order : (a != NULL) - (b != NULL);
}

/* The inode first; what has no room there goes into the block. */
static int place_xattrs(struct writer *writer, struct fsnode *node, bool *needs_block)
{
	size_t in_inode = TERMINATOR_BYTES;
	size_t in_block = sizeof(struct ext2_ext_attr_header) + TERMINATOR_BYTES;

	*needs_block = false;
	for (struct node_xattr *xattr = node->xattrs; xattr; xattr = xattr->next) {
		size_t need = need_of(xattr);

		xattr->in_inode = in_inode + need <= IN_INODE_BYTES;
		if (xattr->in_inode) {
			in_inode += need;
			continue;
		}
		*needs_block = true;
		in_block += need;
		if (in_block > FSIMAGE_BLOCK_BYTES)
			return error_set(writer->error,
					 "%s: no room for the extended attribute %s%.*s of '%s'",
					 writer->name, xattr_prefix(xattr->name_index),
					 xattr->name_bytes, (const char *)xattr->bytes,
					 node_path(node).text);
	}
	return 0;
}

/* Finds a block of the same attributes that can be shared, or makes a new one. */
static struct xattr_block *share_block(struct writer *writer, struct fsnode *node)
{
	struct xattr_block *block = calloc(1, sizeof(*block));

	if (!block)
		return NULL;
	block->xattrs = node->xattrs;

	struct xattr_block **known = tsearch(block, &writer->shared_xattrs, compare_blocks);

	if (!known || (*known != block && (*known)->references < REFERENCES_MAX)) {
		free(block);
		return known ? *known : NULL;
	}
	*known = block; /* in the place of a full one */
	block->next = writer->xattr_blocks;
	writer->xattr_blocks = block;
	writer->demand.blocks++;
	return block;
}

int plan_xattrs(struct writer *writer, struct fsnode *node)
{
	bool needs_block;

	node->xattr_block = NULL;
	if (!node->xattrs)
		return 0;
	if (place_xattrs(writer, node, &needs_block) < 0)
		return -1;
	if (!needs_block)
		return 0;
	node->xattr_block = share_block(writer, node);
	if (!node->xattr_block)
		return writer_fail(writer, EXT2_ET_NO_MEMORY);
	node->xattr_block->references++;
	return 0;
}

static void keep(void *block)
{
	(void)block; /* it is in the list too */
}

void release_xattrs(struct writer *writer)
{
	tdestroy(writer->shared_xattrs, keep);
	for (struct xattr_block *block = writer->xattr_blocks, *next; block; block = next) {
		next = block->next;
		free(block);
	}
}

/* --- writing --- */

static struct ext2_ext_attr_entry *put_xattr(struct xattr_area *area,
					     const struct node_xattr *xattr)
{
	struct ext2_ext_attr_entry *entry = (void *)(area->bytes + area->entries_end);

	entry->e_name_len = xattr->name_bytes;
	entry->e_name_index = xattr->name_index;
	entry->e_value_size = htole32(xattr->value_bytes);
	memcpy(EXT2_EXT_ATTR_NAME(entry), xattr->bytes, xattr->name_bytes);
	area->entries_end += EXT2_EXT_ATTR_LEN(xattr->name_bytes);
	if (xattr->value_bytes) {
		area->values_start -= EXT2_EXT_ATTR_SIZE(xattr->value_bytes);
		entry->e_value_offs = htole16(area->values_start);
		memcpy(area->bytes + area->values_start, xattr_value(xattr), xattr->value_bytes);
	}
	return entry;
}

/* In the inode the kernel leaves the hashes zero, and so do we. */
static void put_in_inode(const struct fsnode *node, uint8_t *inode)
{
	uint32_t magic = htole32(EXT2_EXT_ATTR_MAGIC);
	struct xattr_area area = {
		.bytes = inode + IN_INODE_OFFSET + MAGIC_BYTES,
		.values_start = IN_INODE_BYTES,
	};

	for (const struct node_xattr *xattr = node->xattrs; xattr; xattr = xattr->next) {
		if (!xattr->in_inode)
			continue;
		memcpy(inode + IN_INODE_OFFSET, &magic, sizeof(magic));
		put_xattr(&area, xattr);
	}
}

/* Fills a block that is zero. */
static void fill_block(uint8_t *bytes, const struct xattr_block *block)
{
	struct ext2_ext_attr_header *header = (void *)bytes;
	struct xattr_area area = {
		.bytes = bytes,
		.entries_end = sizeof(*header),
		.values_start = FSIMAGE_BLOCK_BYTES,
	};
	uint32_t block_hash = 0;

	for (struct node_xattr *xattr = next_in_block(block->xattrs); xattr;
	     xattr = next_in_block(xattr->next)) {
		struct ext2_ext_attr_entry *entry = put_xattr(&area, xattr);
		uint32_t hash = ext2fs_ext_attr_hash_entry(entry, area.bytes + area.values_start);

		entry->e_hash = htole32(hash);
		block_hash = (block_hash << 16 | block_hash >> 16) ^ hash;
	}
	header->h_magic = htole32(EXT2_EXT_ATTR_MAGIC);
	header->h_refcount = htole32(block->references);
	header->h_blocks = htole32(1);
	header->h_hash = htole32(block_hash);
}

static int write_block(struct writer *writer, struct xattr_block *block)
{
	if (block->number) {
		writer->block_count++; /* every inode counts it */
		return 0;
	}
	if (!space_allocate(writer, 1, &block->number))
		return -1;

	uint8_t *room = output_room(writer, &writer->data, block->number * FSIMAGE_BLOCK_BYTES,
				    FSIMAGE_BLOCK_BYTES);

	if (!room)
		return -1;
	memset(room, 0, FSIMAGE_BLOCK_BYTES);
	fill_block(room, block);
	return 0;
}

int write_xattrs(struct writer *writer, const struct fsnode *node, uint8_t *inode)
{
	uint32_t number;

	put_in_inode(node, inode);
	if (!node->xattr_block)
		return 0;
	if (write_block(writer, node->xattr_block) < 0)
		return -1;
	number = htole32(node->xattr_block->number);
	memcpy(inode + offsetof(struct ext2_inode_large, i_file_acl), &number, sizeof(number));
	return 0;
}
