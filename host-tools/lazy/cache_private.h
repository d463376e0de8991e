/* cache_private: what the parts of the cache share. */
#ifndef HOST_TOOLS_LAZY_CACHE_PRIVATE_H
#define HOST_TOOLS_LAZY_CACHE_PRIVATE_H

#include <inttypes.h>
#include <stdint.h>

/* A segment's file: its place on the disk, counted in segments. */
#define CACHE_SEGMENT_NAME	 "%08" PRIx64
#define CACHE_SEGMENT_NAME_BYTES 24

/*
 * Where the cache's directory ROOT_FD holds more than HIGH_BYTES, removes segments until it holds
 * LOW_BYTES at the most; those first that were not used for longest. Does nothing while another
 * process does it.
 */
void cache_evict_down(int root_fd, uint64_t high_bytes, uint64_t low_bytes);

#endif
