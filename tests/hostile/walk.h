/* walk: reads all that is in an image through the reader, as a host tool would. */
#ifndef TESTS_HOSTILE_WALK_H
#define TESTS_HOSTILE_WALK_H

#include "fsimage/reader.h"

struct walk_totals {
	uint64_t entries;
	uint64_t bytes; /* as the sizes of files say */
};

/*
 * Opens the image behind FD and reads every name, file, symlink and attribute. SCRATCH_FD is an
 * empty file that each file is copied into. 0, or -1 with ERROR set.
 */
int walk_image(int fd, const char *name, const char *label, int scratch_fd,
	       struct walk_totals *totals, struct error *error);

#endif
