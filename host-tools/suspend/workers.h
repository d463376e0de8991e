/* workers: the same work on many items, by as many threads as there are processors. */
#ifndef HOST_TOOLS_SUSPEND_WORKERS_H
#define HOST_TOOLS_SUSPEND_WORKERS_H

#include <stdint.h>

#include "jobdisk/error.h"

/*
 * Calls WORK for each ITEM below COUNT, from several threads at once, in no certain order, each
 * with SCRATCH_BYTES of memory of its own. The first error ends them all. 0, or -1 with ERROR set.
 */
typedef int worker(void *context, uint64_t item, void *scratch, struct error *error);
int workers_run(uint64_t count, worker *work, void *context, uint64_t scratch_bytes,
		struct error *error);

#endif
