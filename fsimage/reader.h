/*
 * reader: reads an ext4 image that may be hostile, in user space.
 *
 * fsimage_open probes with libblkid first, checks the superblock against the file's size before
 * libext2fs allocates from it, accepts exactly the feature set of fsimage/features.h, and
 * refuses a file system that was not cleanly unmounted. Names are validated ("", ".", "..",
 * slash, NUL and duplicates are errors). A directory that has two names is an error, so no
 * walk enters one twice. Nothing is ever written to the image. Nothing is printed.
 *
 * Bounds on what one open image may make of its reader, which are errors when they are reached:
 * - depth of directories: 4096;
 * - names that are listed, in all: their paths with 128 bytes more for each, 36 MiB; that is
 *   250,000 names in directories that are not deep;
 * - one directory: 1 GiB; directories that are read, for lists and lookups in all: 8 GiB;
 * - one file: 1,048,576 extents;
 * - blocks of all files that are read, each counted once: as many as the image has, so that files
 *   which share their blocks make no more data than it has room for.
 * So the reader itself takes less than 100 MiB. Time is in proportion to what is read.
 */
#ifndef FSIMAGE_READER_H
#define FSIMAGE_READER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "jobdisk/error.h"

struct fsimage;

/* What stat() would say. INODE is an inode number of the image. */
struct fsstat {
	uint32_t inode;
	mode_t mode;
	uint32_t uid, gid;
	uint32_t links;
	uint64_t size_bytes;
	struct timespec mtime;
	uint32_t device_major, device_minor;
};

/*
 * Opens the image behind IMAGE_FD (kept open by the caller for as long as the image is used),
 * named NAME in errors. LABEL: the label that it must have, or NULL. NULL on error.
 */
struct fsimage *fsimage_open(int image_fd, const char *name, const char *label,
			     struct error *error);
void fsimage_close(struct fsimage *image); /* NULL is allowed */

/* The file system's UUID. */
void fsimage_uuid(const struct fsimage *image, uint8_t uuid[16]);

/*
 * Whether a file system was left unclean: fsimage_open refuses such an image; this tells why.
 * 1: an image of ours that needs journal recovery (or, without a journal, was never
 * unmounted); 0: it does not; -1: not an image (ERROR set).
 */
int fsimage_needs_recovery(int image_fd, const char *name, struct error *error);

/* Path lookup from the root, "a/b/c" ("" is the root); symlinks are not followed.
 * 0 found, 1 not there, -1 error. */
int fsimage_lookup(struct fsimage *image, const char *path, struct fsstat *stat,
		   struct error *error);
int fsimage_stat(struct fsimage *image, uint32_t inode, struct fsstat *stat, struct error *error);

/*
 * Calls VISIT for each entry of a directory, in order of name (bytewise), without "." and "..".
 * DIRECTORY must be the root or have been met in a list or lookup. VISIT may use the image.
 * A visitor that returns non-zero ends the walk, and that value is returned.
 */
typedef int fsimage_visit(void *context, const char *name, const struct fsstat *stat,
			  struct error *error);
int fsimage_list(struct fsimage *image, uint32_t directory, fsimage_visit *visit, void *context,
		 struct error *error);

/* Reads up to SIZE bytes of a regular file at OFFSET; returns how many (0 at its end), or -1. */
int64_t fsimage_read(struct fsimage *image, uint32_t inode, uint64_t offset, void *bytes,
		     size_t size, struct error *error);
/*
 * Copies a regular file into the empty file OUTPUT_FD, holes kept, data by copy_file_range where
 * the host can. At most MAX_BYTES; a larger file is an error. OUTPUT_NAME for errors.
 * On an error, OUTPUT_FD has the beginning of the file.
 * The file's size must not exceed what its blocks can hold by more than a hole may: a sparse
 * file stays sparse whatever size it claims.
 */
int fsimage_copy(struct fsimage *image, uint32_t inode, uint64_t max_bytes, int output_fd,
		 const char *output_name, struct error *error);
/*
 * The same, and calls COPIED for each piece of data that is there now: bytes START to END of the
 * file, ascending, of at most FSIMAGE_PIECE_BYTES. If it returns non-zero (ERROR is its own), -1
 * is returned at once.
 */
#define FSIMAGE_PIECE_BYTES (16ULL << 20)
typedef int fsimage_copied(void *context, uint64_t start, uint64_t end, struct error *error);
int fsimage_copy_told(struct fsimage *image, uint32_t inode, uint64_t max_bytes, int output_fd,
		      const char *output_name, fsimage_copied *copied, void *context,
		      struct error *error);
/*
 * Whether two regular files have the same bytes; holes cost nothing. 1 when they have, 0 when not,
 * -1 with ERROR set: also when much more was compared than the image has room for.
 */
int fsimage_same(struct fsimage *image, uint32_t a, uint32_t b, struct error *error);
/* The target of a symlink into TARGET (SIZE bytes, NUL-terminated); -1 if longer or not one. */
int fsimage_readlink(struct fsimage *image, uint32_t inode, char *target, size_t size,
		     struct error *error);
/*
 * The value of an extended attribute ("trusted.overlay.opaque"), as getxattr(2) would show it:
 * its length, 0 if none, or -1.
 */
int fsimage_getxattr(struct fsimage *image, uint32_t inode, const char *name, void *value,
		     size_t size, struct error *error);

#endif
