/*
 * format: values of an inode as ext4 has them on disk, both ways; private to fsimage.
 * On-disk numbers are little-endian; here they are in the host's order.
 */
#ifndef FSIMAGE_FORMAT_H
#define FSIMAGE_FORMAT_H

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* The type byte of a directory entry for a file of MODE; 0 (EXT2_FT_UNKNOWN) if there is none. */
uint8_t format_entry_type(mode_t mode);

/*
 * A time stamp: its seconds, and an extra word with two more bits of them and the nanoseconds.
 * A time out of range becomes the nearest in range (1901 to 2446).
 */
struct format_time {
	uint32_t seconds, extra;
};
struct format_time format_time(struct timespec time);
struct timespec parse_time(struct format_time stored);

/* A device number: the first two words of the inode's block map. */
void format_device(dev_t device, uint32_t words[2]);
void parse_device(const uint32_t words[2], uint32_t *major_id, uint32_t *minor_id);

#endif
