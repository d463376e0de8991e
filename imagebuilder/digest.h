/*
 * digest: SHA-256, of bytes as they come and of whole files.
 */
#ifndef IMAGEBUILDER_DIGEST_H
#define IMAGEBUILDER_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "jobdisk/error.h"

#define DIGEST_BYTES	 32
#define DIGEST_HEX_BYTES (2 * DIGEST_BYTES + 1) /* lower case, with the final NUL */

struct digest;

/* A digest of nothing yet; NULL with ERROR set. Ended by digest_finish or digest_free. */
struct digest *digest_new(struct error *error);
void digest_free(struct digest *digest); /* NULL is allowed */

/* Adds bytes. A failure is kept and told by digest_finish. */
void digest_add(struct digest *digest, const void *bytes, size_t size);
/* Puts the result into VALUE and frees DIGEST, whether it succeeds or not. */
int digest_finish(struct digest *digest, uint8_t value[DIGEST_BYTES], struct error *error);
/* The same, as text. */
int digest_finish_hex(struct digest *digest, char hex[DIGEST_HEX_BYTES], struct error *error);

/* Digests the file behind FD, named NAME in errors, from its start; the position stays. */
int digest_file(int fd, const char *name, uint8_t value[DIGEST_BYTES], struct error *error);
int digest_file_hex(int fd, const char *name, char hex[DIGEST_HEX_BYTES], struct error *error);

/* Digests SIZE bytes into HEX. */
int digest_bytes(const void *bytes, size_t size, char hex[DIGEST_HEX_BYTES], struct error *error);

/*
 * The same for a file that is mostly holes, in the time that its data takes: of its size and of
 * each page that is not all zeros, with its place. What is a hole and what is zeros plays no part.
 */
int digest_sparse_file_hex(int fd, const char *name, char hex[DIGEST_HEX_BYTES],
			   struct error *error);

void digest_hex(const uint8_t value[DIGEST_BYTES], char hex[DIGEST_HEX_BYTES]);

#endif
