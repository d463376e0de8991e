/*
 * byte_source: bytes that are read once from start to end: a file, a pipe, or a piece of a file.
 */
#ifndef IMAGEBUILDER_BYTE_SOURCE_H
#define IMAGEBUILDER_BYTE_SOURCE_H

#include <stdint.h>
#include <sys/types.h>

#include "imagebuilder/digest.h"

#define BYTE_SOURCE_STREAM UINT64_MAX /* as `offset`: from the descriptor's position on */

struct byte_source {
	int fd;
	const char *name;      /* for errors */
	uint64_t offset;       /* of the next byte */
	uint64_t rest;	       /* bytes that are left at most */
	uint64_t done;	       /* bytes that were read */
	struct digest *digest; /* of what is read; NULL: none; owned by the caller */
	char buffer[65536];
};

/* Fills SOURCE->buffer with the next bytes: how many, less only at the end, or -1 with errno. */
ssize_t byte_source_read(struct byte_source *source);
/* Reads what is left, for the digest's sake. */
int byte_source_drain(struct byte_source *source, struct error *error);

#endif
