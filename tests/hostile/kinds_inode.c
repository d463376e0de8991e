/* What inodes, extent trees, symlinks and extended attributes can lie about. */
#include <endian.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/hostile/kinds.h"

#define TREE_DAMAGED "its extent tree is damaged"

/* --- extent trees --- */

/* An index block that is its own child, at each depth that there may be. */
static void tree_loops(struct craft *craft)
{
	uint32_t block = craft_blocks(craft, 1);
	uint64_t inode = craft_inode(craft, craft_find(craft, "output/victim"));
	struct {
		struct ext3_extent_header header;
		struct ext3_extent_idx index;
	} node = {
		{.eh_magic = htole16(EXT3_EXT_MAGIC),
		 .eh_entries = htole16(1),
		 .eh_max = htole16(340),
		 .eh_depth = htole16(4)},
		{.ei_leaf = htole32(block)},
	};

	craft_write(craft, block * (uint64_t)BLOCK_BYTES, &node, sizeof(node));
	node.header.eh_depth = htole16(5);
	craft_write(craft, inode + INODE(i_block), &node, sizeof(node));
}

static void map_victim(struct craft *craft, const struct extent *extents, size_t count)
{
	craft_map(craft, craft_find(craft, "output/victim"), extents, count);
}

static void extents_overlap(struct craft *craft)
{
	uint32_t start = craft_blocks(craft, 2);

	map_victim(craft, (struct extent[]){{0, start, 2}, {1, start, 1}}, 2);
}

static void extents_descend(struct craft *craft)
{
	uint32_t start = craft_blocks(craft, 2);

	map_victim(craft, (struct extent[]){{9, start, 1}, {0, start, 1}}, 2);
}

static void extent_past_the_end(struct craft *craft)
{
	map_victim(craft, (struct extent[]){{0, craft->block_count - 1, 2}}, 1);
}

static void extent_beyond(struct craft *craft)
{
	map_victim(craft, (struct extent[]){{0, craft->block_count, 1}}, 1);
}

static void extent_at_0(struct craft *craft)
{
	map_victim(craft, (struct extent[]){{0, 0, 1}}, 1);
}

static void extent_of_0(struct craft *craft)
{
	map_victim(craft, (struct extent[]){{0, craft_blocks(craft, 1), 0}}, 1);
}

static void extent_after_the_last(struct craft *craft)
{
	map_victim(craft, (struct extent[]){{0xffffffff, craft_blocks(craft, 2), 2}}, 1);
}

static void extent_over_table(struct craft *craft)
{
	map_victim(craft,
		   (struct extent[]){{0, (uint32_t)(craft_inode(craft, 1) / BLOCK_BYTES), 1}}, 1);
}

static void extent_over_descriptors(struct craft *craft)
{
	map_victim(craft, (struct extent[]){{0, 1, 1}}, 1);
}

/* --- symlinks --- */

static void set_link(struct craft *craft, const char *path, size_t field, size_t size,
		     uint64_t value)
{
	craft_set(craft, craft_inode(craft, craft_find(craft, path)) + field, size, value);
}

static void link_1t(struct craft *craft)
{
	set_link(craft, "output/long-link", INODE(i_size_high), 4, 256);
}

static void link_with_nul(struct craft *craft)
{
	set_link(craft, "output/link", INODE(i_block) + 3, 1, 0);
}

/* --- extended attributes: the block of output/attributed --- */

static uint64_t xattr_block(const struct craft *craft, const char *path)
{
	uint64_t inode = craft_inode(craft, craft_find(craft, path));

	return craft_number(craft, inode + INODE(i_file_acl), 4) * BLOCK_BYTES;
}

/* Of the block's header, and of its first entry. */
#define HEADER(field) offsetof(struct ext2_ext_attr_header, h_##field)
#define ENTRY(field)                                                                               \
	(sizeof(struct ext2_ext_attr_header) + offsetof(struct ext2_ext_attr_entry, e_##field))

#define XATTR_KIND(kind, at, bytes, value)                                                         \
	static void xattr_##kind(struct craft *craft)                                              \
	{                                                                                          \
		craft_set(craft, xattr_block(craft, "output/attributed") + (at), bytes, value);    \
	}

XATTR_KIND(no_magic, HEADER(magic), 4, 0)
XATTR_KIND(many_blocks, HEADER(blocks), 4, 0xffffffff)
XATTR_KIND(no_references, HEADER(refcount), 4, 0)
XATTR_KIND(name_too_long, ENTRY(name_len), 1, 255)
XATTR_KIND(unknown_prefix, ENTRY(name_index), 1, 255)
XATTR_KIND(value_beyond, ENTRY(value_offs), 2, 0xfffc)
XATTR_KIND(value_over_entries, ENTRY(value_offs), 2, 32)
XATTR_KIND(value_huge, ENTRY(value_size), 4, 0xffffffff)
XATTR_KIND(value_64k, ENTRY(value_size), 4, 65536)
XATTR_KIND(value_in_inode, ENTRY(value_inum), 4, 11)
XATTR_KIND(wrong_hash, ENTRY(hash), 4, 0xdeadbeef)

static void xattr_block_beyond(struct craft *craft)
{
	set_link(craft, "output/attributed", INODE(i_file_acl), 4, craft->block_count);
}

static void xattr_block_is_table(struct craft *craft)
{
	set_link(craft, "output/attributed", INODE(i_file_acl), 4,
		 craft_inode(craft, 1) / BLOCK_BYTES);
}

static void xattr_block_high(struct craft *craft)
{
	set_link(craft, "output/attributed", INODE(osd2.linux2.l_i_file_acl_high), 2, 1);
}

/* Entries up to the last byte, and no end mark. */
static void xattr_no_end(struct craft *craft)
{
	uint64_t block = xattr_block(craft, "output/attributed");
	struct ext2_ext_attr_entry entries[(BLOCK_BYTES - 32) / 16];

	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++)
		entries[i] = (struct ext2_ext_attr_entry){.e_name_index = 1};
	craft_write(craft, block + 32, entries, sizeof(entries));
}

/* In the inode, after the extra fields: the magic number, then entries. */
#define IN_INODE (EXT2_GOOD_OLD_INODE_SIZE + 32 + 4)

static void in_inode(struct craft *craft, size_t at, size_t size, uint64_t value)
{
	set_link(craft, "output/attributed", IN_INODE + at, size, value);
}

static void inode_xattr_value_beyond(struct craft *craft)
{
	in_inode(craft, offsetof(struct ext2_ext_attr_entry, e_value_offs), 2, 0xfff0);
}

static void inode_xattr_value_huge(struct craft *craft)
{
	in_inode(craft, offsetof(struct ext2_ext_attr_entry, e_value_size), 4, 0x7fffffff);
}

static void inode_xattr_name_too_long(struct craft *craft)
{
	in_inode(craft, offsetof(struct ext2_ext_attr_entry, e_name_len), 1, 255);
}

#define VICTIM_LIE(at, bytes, value) .lie = {"output/victim", at, bytes, value}
#define LINK_LIE(at, bytes, value)   .lie = {"output/link", at, bytes, value}
#define LONG_LIE(at, bytes, value)   .lie = {"output/long-link", at, bytes, value}
#define EXTRA_LIE(value)	     VICTIM_LIE(INODE(i_extra_isize), 2, value)

/* What only reading a file's data finds. */
#define DATA_ERROR(text) .read = (text), .inspect = FINE

const struct kind inode_kinds[] = {
	{"no_links", VICTIM_LIE(INODE(i_links_count), 2, 0), .read = "not in use"},
	{"no_mode", VICTIM_LIE(INODE(i_mode), 2, 0), .read = "not in use"},
	{"mode_absurd", VICTIM_LIE(INODE(i_mode), 2, 0xffff), .read = "not in use"},
	{"set_user_id", VICTIM_LIE(INODE(i_mode), 2, S_IFREG | 07777), .read = FINE},
	{"flag_inline_data", VICTIM_LIE(INODE(i_flags), 4, 0x10080000), .read = "flags"},
	{"flag_encrypt", VICTIM_LIE(INODE(i_flags), 4, 0x00080800), .read = "flags"},
	{"flag_verity", VICTIM_LIE(INODE(i_flags), 4, 0x00180000), .read = "flags"},
	{"flag_casefold", VICTIM_LIE(INODE(i_flags), 4, 0x40080000), .read = "flags"},
	{"flag_ea_inode", VICTIM_LIE(INODE(i_flags), 4, 0x00280000), .read = "flags"},
	{"no_extents_flag", VICTIM_LIE(INODE(i_flags), 4, 0), DATA_ERROR("not in extents")},
	{"extra_size_0", EXTRA_LIE(0), .read = "extra fields"},
	{"extra_size_odd", EXTRA_LIE(33), .read = "extra fields"},
	{"extra_size_too_large", EXTRA_LIE(132), .read = "extra fields"},
	{"extra_size_absurd", EXTRA_LIE(0xffff), .read = "extra fields"},
	{"size_16e", VICTIM_LIE(INODE(i_size_high), 4, 0xffffffff), .read = "size is impossible"},
	{"size_1t", VICTIM_LIE(INODE(i_size_high), 4, 256), .read = FINE},
	{"time_1901", VICTIM_LIE(INODE(i_mtime), 4, 0x80000000), .read = FINE},
	{"time_2446", VICTIM_LIE(INODE(i_mtime_extra), 4, 3), .read = FINE},
	{"time_nanoseconds", VICTIM_LIE(INODE(i_mtime_extra), 4, 0xfffffffc), .read = "time stamp"},
	{"owner_absurd", VICTIM_LIE(INODE(i_uid), 2, 0xffff), .read = FINE},
	{"inode_block_count", VICTIM_LIE(INODE(i_blocks), 4, 0xffffffff), .read = FINE},

	{"device", VICTIM_LIE(INODE(i_mode), 2, S_IFBLK | 0666), .read = "as another type"},

	{"tree_no_magic", VICTIM_LIE(TREE(magic), 2, 0), DATA_ERROR(TREE_DAMAGED)},
	{"tree_too_many", VICTIM_LIE(TREE(entries), 2, 5), DATA_ERROR(TREE_DAMAGED)},
	{"tree_65535", VICTIM_LIE(TREE(entries), 2, 0xffff), DATA_ERROR(TREE_DAMAGED)},
	{"tree_empty", VICTIM_LIE(TREE(entries), 2, 0), .read = FINE},
	{"tree_depth_6", VICTIM_LIE(TREE(depth), 2, 6), DATA_ERROR(TREE_DAMAGED)},
	{"tree_depth_65535", VICTIM_LIE(TREE(depth), 2, 0xffff), DATA_ERROR(TREE_DAMAGED)},
	{"tree_depth_1", VICTIM_LIE(TREE(depth), 2, 1), DATA_ERROR(TREE_DAMAGED)},
	{"tree_loops", .craft = tree_loops, DATA_ERROR(TREE_DAMAGED)},
	{"extents_overlap", .craft = extents_overlap, DATA_ERROR(TREE_DAMAGED)},
	{"extents_descend", .craft = extents_descend, DATA_ERROR(TREE_DAMAGED)},
	{"extent_past_the_end", .craft = extent_past_the_end, DATA_ERROR(TREE_DAMAGED)},
	{"extent_beyond", .craft = extent_beyond, DATA_ERROR(TREE_DAMAGED)},
	{"extent_high", VICTIM_LIE(EXTENT(start_hi), 2, 1), DATA_ERROR(TREE_DAMAGED)},
	{"extent_at_0", .craft = extent_at_0, DATA_ERROR(TREE_DAMAGED)},
	{"extent_of_0", .craft = extent_of_0, DATA_ERROR(TREE_DAMAGED)},
	{"extent_after_the_last", .craft = extent_after_the_last, DATA_ERROR(TREE_DAMAGED)},
	{"extent_over_table", .craft = extent_over_table, .read = FINE},
	{"extent_over_descriptors", .craft = extent_over_descriptors, .read = FINE},

	{"link_1t", .craft = link_1t, DATA_ERROR("target is too long")},
	{"link_with_nul", .craft = link_with_nul, DATA_ERROR("target is damaged")},
	{"link_empty", LINK_LIE(INODE(i_size), 4, 0), DATA_ERROR("target is damaged")},
	{"link_too_long", LINK_LIE(INODE(i_size), 4, 59), DATA_ERROR("target is damaged")},
	{"link_60", LINK_LIE(INODE(i_size), 4, 60), DATA_ERROR("target is damaged")},
	{"link_block_too_long", LONG_LIE(INODE(i_size), 4, 101), DATA_ERROR("target is damaged")},
	{"link_not_fast", LONG_LIE(INODE(i_flags), 4, 0), DATA_ERROR("target is damaged")},

	/* libext2fs reads these. */
	{"xattr_no_magic", .craft = xattr_no_magic, .read = "inode"},
	{"xattr_many_blocks", .craft = xattr_many_blocks, .read = "inode"},
	{"xattr_no_references", .craft = xattr_no_references, .read = FINE},
	{"xattr_name_too_long", .craft = xattr_name_too_long, .read = "inode"},
	{"xattr_unknown_prefix", .craft = xattr_unknown_prefix, .read = FINE},
	{"xattr_value_beyond", .craft = xattr_value_beyond, .read = "inode"},
	{"xattr_value_over_entries", .craft = xattr_value_over_entries, .read = "inode"},
	{"xattr_value_huge", .craft = xattr_value_huge, .read = "inode"},
	{"xattr_value_64k", .craft = xattr_value_64k, .read = "inode"},
	{"xattr_value_in_inode", .craft = xattr_value_in_inode, .read = "inode"},
	{"xattr_wrong_hash", .craft = xattr_wrong_hash, .read = "inode"},
	{"xattr_block_beyond", .craft = xattr_block_beyond, .read = "inode"},
	{"xattr_block_is_table", .craft = xattr_block_is_table, .read = "inode"},
	{"xattr_block_high", .craft = xattr_block_high, .read = FINE},
	{"xattr_no_end", .craft = xattr_no_end, .read = FINE},
	{"inode_xattr_value_beyond", .craft = inode_xattr_value_beyond, .read = "inode"},
	{"inode_xattr_value_huge", .craft = inode_xattr_value_huge, .read = "inode"},
	{"inode_xattr_name_too_long", .craft = inode_xattr_name_too_long, .read = "inode"},
	{.name = NULL},
};
