/*
 * verify: whether files are still what was made: a guest image's parts, and others.
 */
#ifndef IMAGEBUILDER_VERIFY_H
#define IMAGEBUILDER_VERIFY_H

#include "imagebuilder/digest.h"
#include "imagebuilder/image.h"

/*
 * Compares the digests of IMAGE's parts with image.json's; -1 with ERROR set, which names the
 * part, if one differs.
 *
 * MEMORY is a file that keeps what was found whole, so that it need not be read again while its
 * inode, size and times stay; NULL: everything is read. It is made when it is absent, and neither
 * believed nor written when another user owns it or may write it. Without it all works too, only
 * slower: it is never a reason to fail.
 */
int image_verify(const struct image *image, const char *memory, struct error *error);

/* How a file's digest is made: digest_file_hex or digest_sparse_file_hex. */
typedef int digest_function(int fd, const char *name, char hex[DIGEST_HEX_BYTES],
			    struct error *error);

/*
 * Compares the digest of the file behind FD, named NAME in errors, with SHA256; MEMORY as above.
 * 0 if it is the same, 1 if not, -1 with ERROR set if it cannot be read.
 */
int verify_file(int fd, const char *name, digest_function *digest, const char *sha256,
		const char *memory, struct error *error);

/*
 * The digest (digest_file_hex) of the file PATH, which is read only if MEMORY does not know it.
 * 0, or -1 with ERROR set.
 */
int verify_digest(const char *path, const char *memory, char sha256[DIGEST_HEX_BYTES],
		  struct error *error);

#endif
