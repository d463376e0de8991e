/*
 * craft: job disks that no honest kernel leaves behind. A good one is made with fsimage's writer
 * and then changed byte by byte: what is on disk is written here, not by libext2fs, which would
 * refuse much of it. Everything exits with a message when it does not work.
 */
#ifndef TESTS_HOSTILE_CRAFT_H
#define TESTS_HOSTILE_CRAFT_H

#include <ext2fs/ext2fs.h>
#include <ext2fs/ext3_extents.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BLOCK_BYTES    4096
#define INODE_BYTES    256
#define SUPER(field)   (1024 + offsetof(struct ext2_super_block, field))
#define INODE(field)   offsetof(struct ext2_inode_large, field)
#define GROUP_0(field) (BLOCK_BYTES + offsetof(struct ext2_group_desc, field))
/* In the inode of a file: the header of its extent tree and the first extent. */
#define TREE(field)    (INODE(i_block) + offsetof(struct ext3_extent_header, eh_##field))
#define EXTENT(field)                                                                              \
	(INODE(i_block) + sizeof(struct ext3_extent_header) +                                      \
	 offsetof(struct ext3_extent, ee_##field))

struct craft {
	int fd;
	const char *path;
	uint32_t block_count, inode_count;
	uint32_t blocks_per_group, inodes_per_group, group_count;
	uint8_t *used_blocks; /* a bit for each */
	uint32_t next_block, next_inode;
};

/*
 * Makes PATH a job disk after a run, with room for so many more blocks and inodes. In its
 * workspace: see craft_tree in craft.c. Close with craft_close.
 */
void craft_open(struct craft *craft, const char *path, uint64_t free_blocks, uint64_t free_inodes);
void craft_close(struct craft *craft);

/* --- raw bytes --- */

void craft_read(const struct craft *craft, uint64_t offset, void *bytes, size_t size);
void craft_write(struct craft *craft, uint64_t offset, const void *bytes, size_t size);
/* A little-endian number of SIZE bytes (at most 8). */
uint64_t craft_number(const struct craft *craft, uint64_t offset, size_t size);
void craft_set(struct craft *craft, uint64_t offset, size_t size, uint64_t value);
/* Makes the superblock's checksum right, for images that claim to have checksums. */
void craft_seal_super(struct craft *craft);

/* --- where things are --- */

/* The inode number of a file of the good image, by its path. */
uint32_t craft_find(const struct craft *craft, const char *path);
/* The offset of an inode in the image. */
uint64_t craft_inode(const struct craft *craft, uint32_t inode);
/* Where the data of a file starts, whose first extent is in the inode. */
uint64_t craft_data(const struct craft *craft, uint32_t inode);
/* The offset of an entry in the first block of a directory. */
uint64_t craft_entry(const struct craft *craft, uint32_t directory, const char *name);

/* --- new things --- */

/* COUNT free blocks in one run, marked as used. The first one's number. */
uint32_t craft_blocks(struct craft *craft, uint32_t count);
/* Writes a new inode, with its COUNT blocks from START on as one extent. Its number. */
uint32_t craft_file(struct craft *craft, mode_t mode, uint64_t size_bytes, uint32_t start,
		    uint16_t count);
/* The same over an inode that is there. */
void craft_put_inode(struct craft *craft, uint32_t inode, mode_t mode, uint64_t size_bytes,
		     uint32_t start, uint16_t count);

struct extent {
	uint32_t logical, start;
	uint16_t count;
};
/* Makes the COUNT extents the map of an inode that is there. */
void craft_map(struct craft *craft, uint32_t inode, const struct extent *extents, size_t count);

/* --- directories --- */

#define NAMES_EXTENTS_MAX 64

/* A directory while it is filled. */
struct names {
	struct craft *craft;
	uint32_t directory;
	struct extent extents[NAMES_EXTENTS_MAX]; /* of the blocks that are written */
	size_t extent_count;
	uint32_t block_count;
	uint8_t block[BLOCK_BYTES];
	size_t used, last; /* in the block: bytes, and where the last entry is */
};
/* Starts with "." and "..". */
void names_start(struct names *names, struct craft *craft, uint32_t directory, uint32_t parent);
void names_add(struct names *names, uint32_t inode, uint8_t type, const char *name, size_t length);
/* Writes the last block and makes the inode one of a directory with these blocks. */
void names_end(struct names *names);

#endif
