/*
 * writer_private: the parts of the writer. writer.c has the order of things; writer_plan.c
 * decides sizes and makes the empty file system; writer_space.c hands out blocks, records
 * extents and collects small writes; writer_data.c writes what inodes consist of;
 * writer_directory.c writes directories and writer_xattr.c extended attributes.
 */
#ifndef FSIMAGE_WRITER_PRIVATE_H
#define FSIMAGE_WRITER_PRIVATE_H

#include <ext2fs/ext2fs.h>
#include <ext2fs/ext3_extents.h>

#include "fsimage/node.h"
#include "fsimage/writer.h"

/* A leaf or an index of an extent tree: both have 12 bytes and the logical block first. */
union extent_entry {
	uint32_t logical; /* like all of it, little-endian */
	struct ext3_extent extent;
	struct ext3_extent_idx index;
};

#define EXTENTS_IN_INODE 4
#define EXTENTS_IN_BLOCK                                                                           \
	((FSIMAGE_BLOCK_BYTES - sizeof(struct ext3_extent_header)) / sizeof(union extent_entry))

/* Writes that follow one another in the image, put together into large ones. */
struct output {
	uint8_t *bytes;
	uint64_t offset; /* in the image, of bytes[0] */
	size_t used;
};
#define OUTPUT_BYTES (1 << 20)

/* A block of extended attributes that are the same for several files. */
struct xattr_block {
	struct xattr_block *next;
	struct node_xattr *xattrs; /* of one of them: those that are not IN_INODE */
	uint32_t references;
	blk64_t number; /* 0: not written yet */
};

/* What the tree needs, at most. */
struct demand {
	uint64_t inodes;
	uint64_t blocks; /* contents and journal */
};

struct writer {
	struct fstree *tree;
	const struct fsimage_options *options;
	int fd;
	const char *name;
	struct error *error;

	struct demand demand;
	ext2_filsys fs;
	uint64_t size_bytes;
	blk64_t next_block; /* everything before it is in use */
	struct output data, inodes;
	struct host_cursor sources;
	struct xattr_block *xattr_blocks;
	void *shared_xattrs; /* tsearch(3): those of them that can take more files, by contents */

	/* Of the inode that is being written. */
	const struct fsnode *node;
	union extent_entry *extents;
	size_t extent_count, extent_capacity;
	uint64_t block_count; /* data, extent tree and extended attributes */

	struct fstotals done, reported;
};

/* Sets the writer's error from errno, or from one of libext2fs; returns -1. */
int writer_fail_errno(struct writer *writer);
int writer_fail(struct writer *writer, errcode_t code);

/* --- writer_plan.c --- */

/* Sorts and numbers the tree and works out what it demands. */
int plan_tree(struct writer *writer);
/* Makes the empty file system, as large as asked or as the demand needs, in memory. */
int plan_file_system(struct writer *writer);
/* The directory that comes after DIRECTORY in canonical order, or NULL. */
struct fsnode *next_directory(struct fsnode *directory);

/* --- writer_space.c --- */

/* Allocates up to WANTED blocks in one run: from *START on, as many as returned; 0 on error. */
uint32_t space_allocate(struct writer *writer, uint64_t wanted, blk64_t *start);
/* Leaves the next run of so many free blocks free, and all before it, if there is one. */
void space_skip(struct writer *writer, uint64_t count);
/* Allocates such a run and makes it the inode's at block LOGICAL. 0 on error. */
uint32_t space_extend(struct writer *writer, uint64_t logical, uint64_t wanted, blk64_t *start);
/* Puts the inode's extents into I_BLOCK, and into blocks where that is too small. */
int space_store_extents(struct writer *writer, uint32_t *i_block);

/* Room for LENGTH bytes (at most OUTPUT_BYTES) that go to OFFSET; NULL on error. */
uint8_t *output_room(struct writer *writer, struct output *output, uint64_t offset, size_t length);
int output_write(struct writer *writer, struct output *output, uint64_t offset, const void *bytes,
		 size_t length);
int output_flush(struct writer *writer, struct output *output);

/* --- writer_xattr.c --- */

/* Decides where the attributes of NODE go; adds to the demand. */
int plan_xattrs(struct writer *writer, struct fsnode *node);
/* Puts them into its inode (IMAGE_INODE_BYTES) and their block into the image. */
int write_xattrs(struct writer *writer, const struct fsnode *node, uint8_t *inode);
void release_xattrs(struct writer *writer);

/* --- writer_directory.c --- */

/* Works out how many blocks DIRECTORY has, whose children are sorted. */
int plan_directory(struct writer *writer, struct fsnode *directory);
/* Writes them, and sets the flags of INODE. */
int write_directory(struct writer *writer, const struct fsnode *directory,
		    struct ext2_inode_large *inode);

/* --- writer_data.c --- */

/* Writes SIZE bytes as the data of the inode that is being written. */
int write_bytes(struct writer *writer, const uint8_t *bytes, uint64_t size);

/* Writes NODE's inode and everything that belongs to it. */
int write_node(struct writer *writer, const struct fsnode *node);

#endif
