#include <blkid/blkid.h>
#include <e2p/e2p.h>
#include <endian.h>
#include <string.h>
#include <sys/stat.h>

#include "fsimage/copy.h"
#include "fsimage/reader_private.h"

#define SUPERBLOCK_OFFSET 1024

/* A group of less could not hold the largest inode table that it may have. */
#define GROUP_BLOCKS_MIN 2048
#define GROUP_INODES_MAX (8 * IMAGE_BLOCK_BYTES)

static int probe(blkid_probe prober, int image_fd, const char *name, struct error *error)
{
	const char *type;

	if (blkid_probe_set_device(prober, image_fd, 0, 0) < 0)
		return error_errno(error, "cannot examine %s", name);
	blkid_probe_enable_superblocks(prober, 1);
	blkid_probe_set_superblocks_flags(prober, BLKID_SUBLKS_TYPE);
	switch (blkid_do_safeprobe(prober)) {
	case 0:
		break;
	case 1:
		return error_set(error, "%s is not an ext4 image", name);
	case -2:
		return error_set(error, "%s looks like more than one kind of file system", name);
	default:
		return error_set(error, "cannot find out what %s is", name);
	}
	if (blkid_probe_lookup_value(prober, "TYPE", &type, NULL) < 0 || strcmp(type, "ext4") != 0)
		return error_set(error, "%s is not an ext4 image", name);
	return 0;
}

static int probe_type(int image_fd, const char *name, struct error *error)
{
	blkid_probe prober = blkid_new_probe();
	int result;

	if (!prober)
		return error_set(error, "%s: out of memory", name);
	result = probe(prober, image_fd, name, error);
	blkid_free_probe(prober);
	return result;
}

/* The number of block groups, or 0 when that cannot be said. */
static uint32_t group_count(const struct ext2_super_block *super)
{
	uint32_t per_group = le32toh(super->s_blocks_per_group);

	return per_group ? ((uint64_t)le32toh(super->s_blocks_count) + per_group - 1) / per_group
			 : 0;
}

/* The lowest of them is as good as any other. */
static const char *feature_name(int word, uint32_t features)
{
	return e2p_feature2string(word, features & -features);
}

static int check_features(const struct ext2_super_block *super, const char *name,
			  struct error *error)
{
	const struct {
		int word;
		uint32_t found, needed, allowed;
	} sets[] = {
		{E2P_FEATURE_COMPAT, le32toh(super->s_feature_compat), FEATURES_COMPAT,
		 FEATURE_JOURNAL},
		{E2P_FEATURE_INCOMPAT, le32toh(super->s_feature_incompat), FEATURES_INCOMPAT,
		 FEATURE_NEEDS_RECOVERY},
		{E2P_FEATURE_RO_INCOMPAT, le32toh(super->s_feature_ro_compat), FEATURES_RO_COMPAT,
		 0},
	};

	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		uint32_t added = sets[i].found & ~(sets[i].needed | sets[i].allowed);
		uint32_t missing = sets[i].needed & ~sets[i].found;

		if (added)
			return error_set(error,
					 "%s is not an image of jobvm: it has the ext4 feature %s",
					 name, feature_name(sets[i].word, added));
		if (missing)
			return error_set(
				error, "%s is not an image of jobvm: it lacks the ext4 feature %s",
				name, feature_name(sets[i].word, missing));
	}
	return 0;
}

static int check_super(const struct ext2_super_block *super, uint64_t file_bytes, const char *name,
		       struct error *error)
{
	uint32_t group_blocks = le32toh(super->s_blocks_per_group);
	uint32_t group_inodes = le32toh(super->s_inodes_per_group);
	uint64_t blocks = le32toh(super->s_blocks_count);
	uint64_t inodes = (uint64_t)group_inodes * group_count(super);
	const struct {
		bool fulfilled;
		const char *complaint;
	} demands[] = {
		{le16toh(super->s_magic) == EXT2_SUPER_MAGIC, "it has no ext4 superblock"},
		{le32toh(super->s_rev_level) == EXT2_DYNAMIC_REV, "it is of an old revision"},
		{le32toh(super->s_log_block_size) == IMAGE_BLOCK_BITS - EXT2_MIN_BLOCK_LOG_SIZE &&
			 le32toh(super->s_log_cluster_size) == le32toh(super->s_log_block_size) &&
			 le32toh(super->s_first_data_block) == 0,
		 "its blocks are not of 4096 bytes"},
		{le16toh(super->s_inode_size) == IMAGE_INODE_BYTES &&
			 le32toh(super->s_first_ino) == IMAGE_FIRST_INODE,
		 "its inodes are not of 256 bytes"},
		{blocks > 0 && blocks * IMAGE_BLOCK_BYTES <= file_bytes,
		 "it claims to be larger than its file"},
		{group_blocks >= GROUP_BLOCKS_MIN && group_blocks <= IMAGE_GROUP_BLOCKS_MAX &&
			 group_blocks % 8 == 0 &&
			 le32toh(super->s_clusters_per_group) == group_blocks,
		 "its block groups have an impossible size"},
		{group_inodes > 0 && group_inodes <= GROUP_INODES_MAX && group_inodes % 8 == 0 &&
			 inodes == le32toh(super->s_inodes_count),
		 "its inode tables have an impossible size"},
		{le16toh(super->s_reserved_gdt_blocks) == 0, "it has room for resizing"},
		{le16toh(super->s_desc_size) == 0 && le32toh(super->s_first_meta_bg) == 0,
		 "its group descriptors are not those of jobvm"},
	};

	for (size_t i = 0; i < sizeof(demands) / sizeof(demands[0]); i++) {
		if (!demands[i].fulfilled)
			return error_set(error, "%s is not an image of jobvm: %s", name,
					 demands[i].complaint);
	}
	return 0;
}

/*
 * Nobody needs what other programs look for there: a boot sector, or a header of another format of
 * images, which names files of the host.
 */
static int check_start(int image_fd, const char *name, struct error *error)
{
	static const uint8_t empty[SUPERBLOCK_OFFSET];
	uint8_t start[SUPERBLOCK_OFFSET];

	if (read_at(image_fd, start, sizeof(start), 0) != (int64_t)sizeof(start))
		return error_set(error, "cannot read %s", name);
	if (memcmp(start, empty, sizeof(start)) != 0)
		return error_set(error,
				 "%s is not an image of jobvm: its first 1024 bytes are not empty",
				 name);
	return 0;
}

int super_load(int image_fd, const char *name, struct ext2_super_block *super, struct error *error)
{
	struct stat stat;

	if (fstat(image_fd, &stat) < 0)
		return error_errno(error, "cannot examine %s", name);
	if (!S_ISREG(stat.st_mode))
		return error_set(error, "%s is not a regular file", name);
	if (probe_type(image_fd, name, error) < 0)
		return -1;

	int64_t got = read_at(image_fd, super, sizeof(*super), SUPERBLOCK_OFFSET);

	if (got < 0)
		return error_errno(error, "cannot read %s", name);
	if ((size_t)got < sizeof(*super))
		return error_set(error, "%s is not an ext4 image", name);
	if (check_start(image_fd, name, error) < 0 || check_features(super, name, error) < 0)
		return -1;
	return check_super(super, stat.st_size, name, error);
}

bool super_is_unclean(const struct ext2_super_block *super)
{
	return (le32toh(super->s_feature_incompat) & FEATURE_NEEDS_RECOVERY) ||
	       !(le16toh(super->s_state) & EXT2_VALID_FS);
}
