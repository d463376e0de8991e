/* What a superblock, a group descriptor or a whole file can lie about. */
#include <err.h>
#include <string.h>
#include <unistd.h>

#include "tests/hostile/kinds.h"

#define IMPOSSIBLE_GROUPS "block groups have an impossible size"
#define WRONG_ID	  "not the disk's own id"
#define IMPOSSIBLE_TABLES "inode tables have an impossible size"

/* A feature that the good image has not. */
static void add_feature(struct craft *craft, uint64_t word, uint32_t bit)
{
	craft_set(craft, word, 4, craft_number(craft, word, 4) | bit);
	craft_seal_super(craft);
}

#define FEATURE_KIND(set, prefix, feature)                                                         \
	static void craft_##feature(struct craft *craft)                                           \
	{                                                                                          \
		add_feature(craft, SUPER(s_feature_##set), prefix##feature);                       \
	}

FEATURE_KIND(compat, EXT2_FEATURE_COMPAT_, DIR_PREALLOC)
FEATURE_KIND(compat, EXT2_FEATURE_COMPAT_, IMAGIC_INODES)
FEATURE_KIND(compat, EXT2_FEATURE_COMPAT_, RESIZE_INODE)
FEATURE_KIND(compat, EXT4_FEATURE_COMPAT_, SPARSE_SUPER2)
FEATURE_KIND(compat, EXT4_FEATURE_COMPAT_, FAST_COMMIT)
FEATURE_KIND(compat, EXT4_FEATURE_COMPAT_, STABLE_INODES)
FEATURE_KIND(compat, EXT4_FEATURE_COMPAT_, ORPHAN_FILE)
FEATURE_KIND(incompat, EXT2_FEATURE_INCOMPAT_, COMPRESSION)
FEATURE_KIND(incompat, EXT3_FEATURE_INCOMPAT_, JOURNAL_DEV)
FEATURE_KIND(incompat, EXT2_FEATURE_INCOMPAT_, META_BG)
FEATURE_KIND(incompat, EXT4_FEATURE_INCOMPAT_, 64BIT)
FEATURE_KIND(incompat, EXT4_FEATURE_INCOMPAT_, MMP)
FEATURE_KIND(incompat, EXT4_FEATURE_INCOMPAT_, EA_INODE)
FEATURE_KIND(incompat, EXT4_FEATURE_INCOMPAT_, DIRDATA)
FEATURE_KIND(incompat, EXT4_FEATURE_INCOMPAT_, CSUM_SEED)
FEATURE_KIND(incompat, EXT4_FEATURE_INCOMPAT_, LARGEDIR)
FEATURE_KIND(incompat, EXT4_FEATURE_INCOMPAT_, INLINE_DATA)
FEATURE_KIND(incompat, EXT4_FEATURE_INCOMPAT_, ENCRYPT)
FEATURE_KIND(incompat, EXT4_FEATURE_INCOMPAT_, CASEFOLD)
FEATURE_KIND(ro_compat, EXT4_FEATURE_RO_COMPAT_, GDT_CSUM)
FEATURE_KIND(ro_compat, EXT4_FEATURE_RO_COMPAT_, QUOTA)
FEATURE_KIND(ro_compat, EXT4_FEATURE_RO_COMPAT_, BIGALLOC)
FEATURE_KIND(ro_compat, EXT4_FEATURE_RO_COMPAT_, METADATA_CSUM)
FEATURE_KIND(ro_compat, EXT4_FEATURE_RO_COMPAT_, READONLY)
FEATURE_KIND(ro_compat, EXT4_FEATURE_RO_COMPAT_, PROJECT)
FEATURE_KIND(ro_compat, EXT4_FEATURE_RO_COMPAT_, SHARED_BLOCKS)
FEATURE_KIND(ro_compat, EXT4_FEATURE_RO_COMPAT_, VERITY)

static void unknown_feature(struct craft *craft)
{
	add_feature(craft, SUPER(s_feature_incompat), 1U << 31);
}

static void missing_feature(struct craft *craft)
{
	craft_set(craft, SUPER(s_feature_incompat), 4,
		  craft_number(craft, SUPER(s_feature_incompat), 4) &
			  ~(uint32_t)EXT3_FEATURE_INCOMPAT_EXTENTS);
}

static void bad_super_checksum(struct craft *craft)
{
	craft_METADATA_CSUM(craft);
	craft_set(craft, SUPER(s_checksum), 4, ~craft_number(craft, SUPER(s_checksum), 4));
}

/* Our images have no checksums: what stands in their places means nothing. */
static void checksums_of_structures(struct craft *craft)
{
	uint64_t victim = craft_inode(craft, craft_find(craft, "output/victim"));

	craft_set(craft, SUPER(s_checksum), 4, 0xdeadbeef);
	craft_set(craft, GROUP_0(bg_checksum), 2, 0xdead);
	craft_set(craft, GROUP_0(bg_block_bitmap_csum_lo), 2, 0xdead);
	craft_set(craft, GROUP_0(bg_inode_bitmap_csum_lo), 2, 0xdead);
	craft_set(craft, victim + INODE(i_checksum_hi), 2, 0xdead);
	craft_set(craft, victim + INODE(osd2), 8, 0xdeadULL << 32);
}

static void needs_recovery(struct craft *craft)
{
	add_feature(craft, SUPER(s_feature_incompat), EXT3_FEATURE_INCOMPAT_RECOVER);
}

/* --- other formats --- */

static void qcow2_header(struct craft *craft)
{
	/* Version 3, with a backing file that it names at byte 512. */
	static const uint8_t header[] = {'Q', 'F', 'I', 0xfb, 0, 0, 0, 3, 0, 0,
					 0,   0,   0,	0,    2, 0, 0, 0, 0, 11};

	craft_write(craft, 0, header, sizeof(header));
	craft_write(craft, 512, "/etc/shadow", 11);
}

static void luks_header(struct craft *craft)
{
	static const char header[] = "LUKS\xba\xbe\0\1aes";
	static const char uuid[] = "6a6f6276-6d00-4000-8000-000000000002";

	craft_write(craft, 0, header, sizeof(header));
	craft_write(craft, 168, uuid, sizeof(uuid));
}

static void squashfs_header(struct craft *craft)
{
	craft_write(craft, 0, "hsqs", 4);
	craft_set(craft, 28, 2, 4);
}

static void resize(struct craft *craft, uint64_t size_bytes)
{
	if (ftruncate(craft->fd, (off_t)size_bytes) < 0)
		err(1, "resize %s", craft->path);
}

static void cut_to_half(struct craft *craft)
{
	resize(craft, craft->block_count / 2 * (uint64_t)BLOCK_BYTES);
}

static void cut_by_a_byte(struct craft *craft)
{
	resize(craft, craft->block_count * (uint64_t)BLOCK_BYTES - 1);
}

static void cut_in_the_super(struct craft *craft)
{
	resize(craft, 1500);
}

static void grown(struct craft *craft)
{
	resize(craft, 1ULL << 40);
}

/* The file is as large as 4 billion blocks, and so says the superblock. */
static void sparse_16t(struct craft *craft)
{
	const uint64_t blocks = (1ULL << 32) - (1 << 20);

	resize(craft, blocks * BLOCK_BYTES);
	craft_set(craft, SUPER(s_blocks_count), 4, blocks);
	craft_set(craft, SUPER(s_inodes_count), 4,
		  craft->inodes_per_group * (blocks / craft->blocks_per_group));
}

/* The most descriptors that the reader lets a superblock claim. */
static void most_groups(struct craft *craft)
{
	const uint64_t blocks = (1ULL << 32) - (1 << 20);

	resize(craft, blocks * BLOCK_BYTES);
	craft_set(craft, SUPER(s_blocks_count), 4, blocks);
	craft_set(craft, SUPER(s_blocks_per_group), 4, 2048);
	craft_set(craft, SUPER(s_clusters_per_group), 4, 2048);
	craft_set(craft, SUPER(s_inodes_per_group), 4, 16);
	craft_set(craft, SUPER(s_inodes_count), 4, 16 * (blocks / 2048));
}

/* --- group descriptors --- */

static void table_over_data(struct craft *craft)
{
	craft_set(craft, GROUP_0(bg_inode_table), 4,
		  craft_data(craft, craft_find(craft, "output/file")) / BLOCK_BYTES);
}

static void uninitialised_groups(struct craft *craft)
{
	craft_set(craft, GROUP_0(bg_flags), 2,
		  EXT2_BG_INODE_UNINIT | EXT2_BG_BLOCK_UNINIT | EXT2_BG_INODE_ZEROED);
	craft_set(craft, GROUP_0(bg_itable_unused), 2, 0xffff);
}

static void journal_over_data(struct craft *craft)
{
	uint64_t file = craft_data(craft, craft_find(craft, "output/file"));

	craft_set(craft, craft_inode(craft, EXT2_JOURNAL_INO) + EXTENT(start), 4,
		  file / BLOCK_BYTES);
}

#define SUPER_LIE(field, bytes, value) .lie = {NULL, SUPER(field), bytes, value}
#define GROUP_LIE(field, bytes, value) .lie = {NULL, GROUP_0(field), bytes, value}

const struct kind super_kinds[] = {
	{"good", .read = FINE},

	{"label", SUPER_LIE(s_volume_name, 8, 0x656d736568544f4e), .read = "has the label"},
	{"uuid", SUPER_LIE(s_uuid, 8, 1), .read = FINE, .inspect = WRONG_ID, .collect = WRONG_ID},
	{"no_magic", SUPER_LIE(s_magic, 2, 0), .read = "not an ext4 image"},
	{"revision_0", SUPER_LIE(s_rev_level, 4, 0), .read = "not an"},
	{"block_size_1k", SUPER_LIE(s_log_block_size, 4, 0), .read = "blocks are not of 4096"},
	{"block_size_absurd", SUPER_LIE(s_log_block_size, 4, 0xffffffff), .read = "blocks"},
	{"cluster_size", SUPER_LIE(s_log_cluster_size, 4, 9), .read = "blocks are not of 4096"},
	{"first_data_block", SUPER_LIE(s_first_data_block, 4, 1), .read = "blocks"},
	{"inode_size", SUPER_LIE(s_inode_size, 2, 0x8000), .read = "inodes are not of 256"},
	{"inode_size_0", SUPER_LIE(s_inode_size, 2, 0), .read = "inodes are not of 256"},
	{"first_inode", SUPER_LIE(s_first_ino, 4, 2), .read = "inodes are not of 256"},
	{"block_count_0", SUPER_LIE(s_blocks_count, 4, 0), .read = "not an"},
	{"block_count", SUPER_LIE(s_blocks_count, 4, 0xffffffff), .read = "larger than its file"},
	{"group_blocks_0", SUPER_LIE(s_blocks_per_group, 4, 0), .read = IMPOSSIBLE_GROUPS},
	{"group_blocks_8", SUPER_LIE(s_blocks_per_group, 4, 8), .read = IMPOSSIBLE_GROUPS},
	{"group_blocks", SUPER_LIE(s_blocks_per_group, 4, 0xfffffff8), .read = IMPOSSIBLE_GROUPS},
	{"inode_count", SUPER_LIE(s_inodes_count, 4, 0x7fffffff), .read = IMPOSSIBLE_TABLES},
	{"inode_count_0", SUPER_LIE(s_inodes_count, 4, 0), .read = IMPOSSIBLE_TABLES},
	{"group_inodes", SUPER_LIE(s_inodes_per_group, 4, 0x80000000), .read = IMPOSSIBLE_TABLES},
	{"group_inodes_0", SUPER_LIE(s_inodes_per_group, 4, 0), .read = IMPOSSIBLE_TABLES},
	{"descriptor_size", SUPER_LIE(s_desc_size, 2, 0xffff), .read = "descriptors"},
	{"descriptor_size_1", SUPER_LIE(s_desc_size, 2, 1), .read = "descriptors"},
	{"first_meta_group", SUPER_LIE(s_first_meta_bg, 4, 0xffffffff), .read = "descriptors"},
	{"reserved_descriptors", SUPER_LIE(s_reserved_gdt_blocks, 2, 1024), .read = "resizing"},
	{"flex_size", SUPER_LIE(s_log_groups_per_flex, 1, 0xff), .read = "superblock is corrupt"},
	{"journal_inode", SUPER_LIE(s_journal_inum, 4, 12), .read = FINE},
	{"journal_device", SUPER_LIE(s_journal_dev, 4, 0x0801), .read = FINE},
	{"last_orphan", SUPER_LIE(s_last_orphan, 4, 0xffffffff), .read = FINE},
	{"error_state", SUPER_LIE(s_state, 2, 3), .read = "found errors"},
	{"not_unmounted", SUPER_LIE(s_state, 2, 0), .read = "not cleanly unmounted"},
	{"needs_recovery", .craft = needs_recovery, .read = "not cleanly unmounted"},

	{"dir_prealloc", .craft = craft_DIR_PREALLOC, .read = "feature dir_prealloc"},
	{"imagic_inodes", .craft = craft_IMAGIC_INODES, .read = "feature imagic_inodes"},
	{"resize_inode", .craft = craft_RESIZE_INODE, .read = "feature resize_inode"},
	{"sparse_super2", .craft = craft_SPARSE_SUPER2, .read = "feature sparse_super2"},
	{"fast_commit", .craft = craft_FAST_COMMIT, .read = "feature fast_commit"},
	{"stable_inodes", .craft = craft_STABLE_INODES, .read = "feature stable_inodes"},
	{"orphan_file", .craft = craft_ORPHAN_FILE, .read = "feature orphan_file"},
	{"compression", .craft = craft_COMPRESSION, .read = "feature compression"},
	{"journal_dev", .craft = craft_JOURNAL_DEV, .read = "not an ext4 image"},
	{"meta_bg", .craft = craft_META_BG, .read = "feature meta_bg"},
	{"64bit", .craft = craft_64BIT, .read = "feature 64bit"},
	{"mmp", .craft = craft_MMP, .read = "feature mmp"},
	{"ea_inode", .craft = craft_EA_INODE, .read = "feature ea_inode"},
	{"dirdata", .craft = craft_DIRDATA, .read = "feature dirdata"},
	{"metadata_csum_seed", .craft = craft_CSUM_SEED, .read = "feature metadata_csum_seed"},
	{"large_dir", .craft = craft_LARGEDIR, .read = "feature large_dir"},
	{"inline_data", .craft = craft_INLINE_DATA, .read = "feature inline_data"},
	{"encrypt", .craft = craft_ENCRYPT, .read = "feature encrypt"},
	{"casefold", .craft = craft_CASEFOLD, .read = "feature casefold"},
	{"uninit_bg", .craft = craft_GDT_CSUM, .read = "feature uninit_bg"},
	{"quota", .craft = craft_QUOTA, .read = "feature quota"},
	{"bigalloc", .craft = craft_BIGALLOC, .read = "feature bigalloc"},
	{"metadata_csum", .craft = craft_METADATA_CSUM, .read = "feature metadata_csum"},
	{"read-only", .craft = craft_READONLY, .read = "feature read-only"},
	{"project", .craft = craft_PROJECT, .read = "feature project"},
	{"shared_blocks", .craft = craft_SHARED_BLOCKS, .read = "feature shared_blocks"},
	{"verity", .craft = craft_VERITY, .read = "feature verity"},
	{"unknown_feature", .craft = unknown_feature, .read = "feature FEATURE_I31"},
	{"no_extents", .craft = missing_feature, .read = "lacks the ext4 feature extent"},

	{"bad_super_checksum", .craft = bad_super_checksum, .read = "feature metadata_csum"},
	{"checksums_of_structures", .craft = checksums_of_structures, .read = FINE},

	{"qcow2_header", .craft = qcow2_header, .read = "first 1024 bytes are not empty"},
	{"luks_header", .craft = luks_header, .read = "not an ext4 image"},
	{"squashfs_header", .craft = squashfs_header, .read = "more than one kind"},
	{"cut_to_half", .craft = cut_to_half, .read = "larger than its file"},
	{"cut_by_a_byte", .craft = cut_by_a_byte, .read = "larger than its file"},
	{"cut_in_the_super", .craft = cut_in_the_super, .read = "not an ext4 image"},
	{"grown", .craft = grown, .read = FINE},
	{"sparse_16t", .craft = sparse_16t, .read = FINE},
	{"most_groups", .craft = most_groups, .read = "disk"},

	{"no_inode_table", GROUP_LIE(bg_inode_table, 4, 0), .read = "inode 2"},
	{"inode_table_beyond", GROUP_LIE(bg_inode_table, 4, 0xfffffff0), .read = "inode 2"},
	{"table_over_data", .craft = table_over_data, .read = "inode 2"},
	{"block_bitmap_beyond", GROUP_LIE(bg_block_bitmap, 4, 0xffffffff), .read = FINE},
	{"uninitialised_groups", .craft = uninitialised_groups, .read = FINE},
	{"journal_over_data", .craft = journal_over_data, .read = FINE},
	{.name = NULL},
};
