/*
 * gunzip: decompresses gzip's format by zlib, which checks the length and the checksum at its
 * end; libarchive's own filter does not.
 */
#ifndef IMAGEBUILDER_GUNZIP_H
#define IMAGEBUILDER_GUNZIP_H

#include <stdbool.h>

#include "imagebuilder/byte_source.h"

struct gunzip;

/* NULL when there is no memory. */
struct gunzip *gunzip_new(void);
void gunzip_free(struct gunzip *gunzip); /* NULL is allowed */

/* Whether a file that starts with these bytes is gzip's. */
bool gunzip_knows(const char *bytes, size_t size);

/*
 * Takes the SIZE bytes in SOURCE->buffer as the first compressed ones; more are read from SOURCE
 * as they are needed.
 */
void gunzip_start(struct gunzip *gunzip, const struct byte_source *source, size_t size);
/*
 * The next decompressed bytes, valid until the next call: how many, 0 at the end of a whole file,
 * -1 with the reason in *PROBLEM.
 */
ssize_t gunzip_read(struct gunzip *gunzip, struct byte_source *source, const void **bytes,
		    const char **problem);
/* How many of the bytes that were read from the source have not been decompressed yet. */
size_t gunzip_pending(const struct gunzip *gunzip);

#endif
