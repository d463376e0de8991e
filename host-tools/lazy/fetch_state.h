/*
 * fetch_state: what a fetching process tells its parent, in memory that they share, so that it
 * outlives the process. The parent believes none of it more than it believes the server.
 */
#ifndef HOST_TOOLS_LAZY_FETCH_STATE_H
#define HOST_TOOLS_LAZY_FETCH_STATE_H

#include <stdatomic.h>
#include <stdint.h>

#include "host-tools/lazy/cache.h"
#include "host-tools/lazy/fetch.h"
#include "jobdisk/error.h"

/* What the process writes to its status pipe, once, when it knows. */
#define FETCH_STATUS_READY  'r' /* identity and image_bytes are there */
#define FETCH_STATUS_FAILED 'f' /* error is there */

struct fetch_state {
	char identity[FETCH_IDENTITY_BYTES];
	uint64_t image_bytes;
	struct error error;

	_Atomic uint64_t bytes_touched, bytes_fetched, bytes_from_cache, bytes_cached;
	_Atomic uint64_t files_touched, errors, reconnects, stalled_ms;
	struct cache_counters cache;

	/* Set to 1 by whoever writes the problem, to 2 when it is there. */
	_Atomic uint32_t problem_state;
	char problem[FETCH_SUMMARY_PROBLEM_BYTES];
};

#endif
