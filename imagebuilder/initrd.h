/*
 * initrd: writes a cpio archive in the "newc" format, as the kernel unpacks it.
 *
 * The same entries give the same bytes: all belong to root, all times are 0, and the inode
 * numbers are the order in which entries are added. A directory is added before what is in it.
 * PATH is absolute, as the guest will see it.
 */
#ifndef IMAGEBUILDER_INITRD_H
#define IMAGEBUILDER_INITRD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "jobdisk/error.h"

struct initrd {
	int fd; /* the empty file, owned by the caller */
	const char *name;
	uint32_t entry_count;
};

/* MODE: permission bits only. */
int initrd_add_directory(struct initrd *initrd, const char *path, mode_t mode, struct error *error);
int initrd_add_character_device(struct initrd *initrd, const char *path, mode_t mode,
				unsigned device_major, unsigned device_minor, struct error *error);
int initrd_add_bytes(struct initrd *initrd, const char *path, mode_t mode, const void *bytes,
		     size_t size, struct error *error);
/* A copy of the host's regular file SOURCE. */
int initrd_add_file(struct initrd *initrd, const char *path, mode_t mode, const char *source,
		    struct error *error);
/* Writes the trailer; nothing can be added after it. */
int initrd_finish(struct initrd *initrd, struct error *error);

#endif
