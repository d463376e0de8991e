/*
 * writer: writes a tree as an ext4 image with libext2fs. No mount, no root, no child process.
 *
 * Feature set, and no other (the reader accepts exactly it): see fsimage/features.h.
 * Block size 4096, inode size 256. The image file stays sparse: what is not used is a hole.
 */
#ifndef FSIMAGE_WRITER_H
#define FSIMAGE_WRITER_H

#include "fsimage/tree.h"

/* A run of a file's data: LENGTH bytes from FILE_OFFSET on have their place at IMAGE_OFFSET. */
struct fsimage_run {
	const struct fsnode *node;
	uint64_t file_offset, image_offset; /* multiples of FSIMAGE_BLOCK_BYTES */
	uint64_t length;
};

struct fsimage_options {
	const char *label; /* at most 16 bytes */
	uint8_t uuid[16];
	/* Of the image file; 0: as large as contents and free space need; else a valid one. */
	uint64_t size_bytes;
	uint64_t free_bytes;	 /* with size_bytes 0: this much shall be left for later files */
	uint64_t free_inodes;	 /* this many inodes, at least, shall be left for later files */
	uint64_t reserved_bytes; /* of the free space, only for holders of CAP_SYS_RESOURCE */
	bool journal;		 /* a journal of FSIMAGE_JOURNAL_BLOCKS */
	time_t now;		 /* every time stamp that is not a node's own */
	/*
	 * Not 0: files' data comes after all else, with so many free blocks before it. A kernel
	 * that reads ahead behind a directory then does not touch files.
	 */
	uint32_t blocks_before_data;
	/* Called now and then with the data bytes and nodes done so far; may be NULL. */
	void (*progress)(void *context, const struct fstotals *done);
	void *progress_context;
	/*
	 * Not NULL: the data of the host's files is not copied. Instead, each run of it is told, in
	 * the order of the image; the image has holes there. Files without holes are not opened, so
	 * that they have not changed is for the caller to see. Returns 0, or -1 with ERROR set.
	 */
	int (*place_run)(void *context, const struct fsimage_run *run, struct error *error);
	void *place_context;
};

#define FSIMAGE_BLOCK_BYTES    4096
#define FSIMAGE_JOURNAL_BLOCKS 1024

/* Whether an image can have that size: 0, or -1 with ERROR saying what would be right. */
int fsimage_check_size(uint64_t size_bytes, struct error *error);

/*
 * Writes TREE into the empty file behind IMAGE_FD (read-write; any position), named IMAGE_NAME
 * in errors. Does not sync. On failure returns -1 with ERROR set; the file then holds garbage
 * and the caller removes it. A full host file system, an image too small for its contents
 * (both sizes named) and a source file that changed are such failures.
 */
int fsimage_write(struct fstree *tree, int image_fd, const char *image_name,
		  const struct fsimage_options *options, struct error *error);

#endif
