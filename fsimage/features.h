/*
 * features: the one ext4 feature set of jobvm's images. The writer makes it, the reader accepts
 * exactly it.
 *
 * A kernel that mounts an image turns some features on by itself when it first needs them
 * (ext_attr, large_file, in older versions dir_nlink), so these are here from the start: the
 * set is then the same after a job as before it. Not here, because each is code that hostile
 * input could reach: checksums, 64-bit block numbers, resize_inode, inline data, orphan file,
 * encryption, case folding, quotas, bigalloc.
 */
#ifndef FSIMAGE_FEATURES_H
#define FSIMAGE_FEATURES_H

#include <ext2fs/ext2_fs.h>

#define FEATURES_COMPAT (EXT2_FEATURE_COMPAT_EXT_ATTR | EXT2_FEATURE_COMPAT_DIR_INDEX)

/* In COMPAT too, of an image with a journal. */
#define FEATURE_JOURNAL EXT3_FEATURE_COMPAT_HAS_JOURNAL

#define FEATURES_INCOMPAT                                                                          \
	(EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS |                          \
	 EXT4_FEATURE_INCOMPAT_FLEX_BG)

/* In INCOMPAT too, of an image that is mounted or was not unmounted. */
#define FEATURE_NEEDS_RECOVERY EXT3_FEATURE_INCOMPAT_RECOVER

#define FEATURES_RO_COMPAT                                                                         \
	(EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |                 \
	 EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_DIR_NLINK |                     \
	 EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE)

#define IMAGE_BLOCK_BITS       12
#define IMAGE_INODE_BYTES      256
#define IMAGE_GROUP_BLOCKS_MAX 32768
#define IMAGE_EXTRA_BYTES      32 /* i_extra_isize: up to nanoseconds, creation time, project */
#define IMAGE_FIRST_INODE      11

/* 32-bit block numbers, of an image and within a file, the last of them taken: 16 TiB. */
#define IMAGE_BLOCKS_MAX     UINT32_MAX
#define IMAGE_FILE_BYTES_MAX ((uint64_t)UINT32_MAX << IMAGE_BLOCK_BITS)

/* A target of up to this many bytes is kept in the inode. */
#define FAST_SYMLINK_BYTES_MAX 59

#endif
