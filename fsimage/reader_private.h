/*
 * reader_private: the parts of the reader. reader.c opens images and reads inodes;
 * reader_super.c judges a superblock; reader_map.c finds a file's blocks; reader_copy.c reads
 * its data; reader_directory.c reads names.
 *
 * Extent trees and directories are parsed here and not by libext2fs: this is what a hostile
 * guest shapes most freely, and the library checks little of it.
 */
#ifndef FSIMAGE_READER_PRIVATE_H
#define FSIMAGE_READER_PRIVATE_H

#include <ext2fs/ext2fs.h>
#include <ext2fs/ext3_extents.h>
#include <sys/stat.h>

#include "fsimage/features.h"
#include "fsimage/reader.h"

#define IMAGE_BLOCK_BYTES (1 << IMAGE_BLOCK_BITS)

/* Bounds on what one image may make the reader do. */
#define DIRECTORY_DEPTH_MAX 4096
#define DIRECTORY_BYTES_MAX (1ULL << 30)
#define SCANNED_BLOCKS_MAX  (2ULL << 20) /* of directories, by all lists and lookups */
#define MAP_EXTENTS_MAX	    (1U << 20)	 /* of one file */
/*
 * By all lists: the paths of what was listed, and so much more for each. Callers keep these: what
 * they need is six times this.
 */
#define LISTED_BYTES_MAX    (36ULL << 20)
#define LISTED_NAME_BYTES   128

/* COUNT blocks of a file from LOGICAL on are at PHYSICAL. */
struct map_extent {
	uint32_t logical;
	uint32_t physical;
	uint16_t count;
	bool unwritten; /* allocated, but reads as zeros */
};

/* Where a file's data is: extents in ascending order that do not overlap. */
struct file_map {
	uint32_t inode; /* 0: no file */
	uint64_t size_bytes;
	struct map_extent *extents;
	size_t count, capacity;
};

struct fsimage {
	int fd;
	char *name;
	ext2_filsys fs;
	uint32_t block_count;
	struct file_map maps[2]; /* of the files that were used last, */
	struct file_map *map;	 /* and of the very last; not NULL */
	void *mapped;		 /* tsearch(3): the inodes of all that ever were */
	uint64_t mapped_blocks;	 /* of these, together */
	void *directories;	 /* tsearch(3): where each directory was found */
	uint64_t listed_bytes, scanned_blocks;
	uint64_t compared_bytes;
};

/* An inode in the host's byte order, but for i_block. */
union inode_buffer {
	struct ext2_inode base;
	struct ext2_inode_large large;
	uint8_t bytes[IMAGE_INODE_BYTES];
};

/* Sets ERROR to "IMAGE: inode INODE: WHAT" and returns -1. */
int inode_fail(const struct fsimage *image, uint32_t inode, const char *what, struct error *error);

/* Reads the inode of a file that may be in use: not of a reserved number, not deleted. */
int inode_load(struct fsimage *image, uint32_t inode, union inode_buffer *buffer,
	       struct error *error);
uint64_t inode_size(const union inode_buffer *buffer);

/* --- reader_super.c --- */

/*
 * Checks that the file is an ext4 image of ours and nothing else, and that its superblock can
 * be true for a file of its size. It may still be unclean. 0, or -1 with ERROR set.
 */
int super_load(int image_fd, const char *name, struct ext2_super_block *super, struct error *error);
/* Whether the file system of SUPER is mounted or was not unmounted. */
bool super_is_unclean(const struct ext2_super_block *super);

/* --- reader_map.c --- */

/*
 * Makes IMAGE->map that of INODE, whose type must be TYPE (S_IFREG, ...). The map that was before
 * stays as it is.
 */
int map_load(struct fsimage *image, uint32_t inode, mode_t type, struct error *error);
/* The index of the first extent that ends after block LOGICAL, or map->count. */
size_t map_find(const struct file_map *map, uint64_t logical);
void maps_forget(struct fsimage *image);

/* --- reader_copy.c --- */

/* Reads from the file of IMAGE->map, holes as zeros; how many bytes, or -1. */
int64_t map_read(struct fsimage *image, uint64_t offset, void *bytes, size_t size,
		 struct error *error);

/* --- reader_directory.c --- */

void directories_forget(struct fsimage *image);

#endif
