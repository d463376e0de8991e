/*
 * decompress: the plain bytes of what is compressed by gzip, bzip2, xz or zstd, or not at all;
 * its own bytes tell.
 */
#ifndef IMAGEBUILDER_DECOMPRESS_H
#define IMAGEBUILDER_DECOMPRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "imagebuilder/byte_source.h"

struct gunzip;
struct archive;

struct decompress {
	struct byte_source *source; /* the caller's */
	struct digest *digest;	    /* of the plain bytes; NULL: none; the caller's */
	struct gunzip *gunzip;	    /* NULL: not compressed by gzip */
	struct archive *filter;	    /* does all but gzip */
	ssize_t first_bytes;	    /* in the source's buffer, which FILTER has not had yet */
};

/* Starts to read SOURCE; to be ended by decompress_end. It must stay where it is until then. */
struct decompress decompress_start(struct byte_source *source, struct digest *digest);
void decompress_end(struct decompress *decompress);

/*
 * The next plain bytes, valid until the next call: how many, 0 at the end, -1 with *PROBLEM set,
 * which is valid as long.
 */
ssize_t decompress_read(struct decompress *decompress, const void **bytes, const char **problem);

/* How many bytes of the source, as it lies there, that took: approximate but for gzip. */
uint64_t decompress_offset(const struct decompress *decompress);

#endif
