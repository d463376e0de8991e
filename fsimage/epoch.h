/* epoch: SOURCE_DATE_EPOCH, the time of images that shall be the same whenever they are made. */
#ifndef FSIMAGE_EPOCH_H
#define FSIMAGE_EPOCH_H

#include <stdbool.h>
#include <time.h>

#include "jobdisk/error.h"

struct epoch {
	bool is_set;
	time_t seconds; /* since 1970, not negative; 0 when it is not set */
};

/* Reads it from the environment. -1 with ERROR set when it is no number of seconds. */
int epoch_read(struct epoch *epoch, struct error *error);

#endif
