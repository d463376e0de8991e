/* collected: what was brought from a job disk to the host, with its digests. */
#ifndef HOST_TOOLS_COLLECTED_H
#define HOST_TOOLS_COLLECTED_H

#include <stdint.h>
#include <sys/types.h>

#include "imagebuilder/digest.h"

struct collected_item {
	char *path;  /* relative to the directory of the results, or absolute */
	mode_t type; /* S_IFREG, S_IFDIR, S_IFLNK */
	uint64_t size_bytes;
	char sha256[DIGEST_HEX_BYTES]; /* of a file, or "" where its holes are too large */
	char *target;		       /* of a symlink */
};

struct collected {
	struct collected_item *items;
	size_t count, capacity;
};

/* Adds an item whose path and target were allocated and now belong to COLLECTED; exits the program
 * when there is no memory. */
void collected_take(struct collected *collected, const struct collected_item *item);
void collected_free(struct collected *collected);

#endif
