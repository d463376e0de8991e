/* disk_digest: the digest of a sparse file, such as a job disk. */
#ifndef HOST_TOOLS_SUSPEND_DISK_DIGEST_H
#define HOST_TOOLS_SUSPEND_DISK_DIGEST_H

#include "imagebuilder/digest.h"

/*
 * The SHA-256 of the file's size and of the SHA-256 of each of its pieces of 1 MiB that is not all
 * zeros, with its place: what is a hole and what is zeros plays no part, and pieces are read by
 * several threads. NAME is the file's in errors. 0, or -1 with ERROR set.
 */
int disk_digest_hex(int fd, const char *name, char hex[DIGEST_HEX_BYTES], struct error *error);

#endif
