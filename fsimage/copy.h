/*
 * copy: whole reads, writes and copies at offsets.
 */
#ifndef FSIMAGE_COPY_H
#define FSIMAGE_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads until LENGTH bytes are there or the file ends; how many, or -1 with errno. */
int64_t read_at(int fd, void *bytes, size_t length, uint64_t offset);

/* Writes all LENGTH bytes; 0, or -1 with errno. */
int write_at(int fd, const void *bytes, size_t length, uint64_t offset);

/*
 * Copies LENGTH bytes between two files, inside the kernel where it can. On one file system that
 * can share blocks that is what copy_file_range does with whole blocks at offsets of whole blocks;
 * asking for it by FICLONERANGE would gain nothing. How many bytes: fewer only when the input ends;
 * or -1 with errno.
 */
int64_t copy_at(int from_fd, uint64_t from_offset, int to_fd, uint64_t to_offset, uint64_t length);

/*
 * Makes the empty file behind TO_FD a copy of the regular file behind FROM_FD, holes kept.
 * 0, or -1 with errno.
 */
int copy_whole(int from_fd, int to_fd);

/* Whether errno CODE says that there is no room (left) where something was written. */
bool is_full(long code);

#endif
