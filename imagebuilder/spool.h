/*
 * spool: a file without a name for data that the finished image needs, but that can only be read
 * once on its way in: what archives hold.
 */
#ifndef IMAGEBUILDER_SPOOL_H
#define IMAGEBUILDER_SPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "jobdisk/error.h"

struct spool {
	int directory_fd; /* where the file goes; owned by the caller */
	int fd;		  /* -1 until the first bytes come; the caller closes it */
	const char *name; /* of the directory, for errors */
	uint64_t end_bytes;
};

/* A spool that has no file yet. */
struct spool spool_start(int directory_fd, const char *name);

/* The descriptor of SPOOL's file, which is made now if need be; -1 with ERROR set. */
int spool_fd(struct spool *spool, struct error *error);
/* Appends SIZE bytes: they start at what end_bytes was before. */
int spool_append(struct spool *spool, const void *bytes, size_t size, struct error *error);

#endif
