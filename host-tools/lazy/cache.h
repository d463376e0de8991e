/*
 * cache: what was fetched of lazy disks, on this machine, for good (docs/formats.md).
 *
 * A directory with one directory for each export, named by its identity, and in that a file for
 * each 16 MiB of the disk that anything is known of: a table with a checksum for each block, and
 * the blocks. Checksums depend on what export the block is of and on its place. A block is written
 * before its checksum, and compared with it whenever it is read; one that differs was never
 * written, was written in part, or was damaged: it is absent. So any number of processes share a
 * cache without locks, and the end of any of them, or of the machine, leaves it right.
 *
 * Nothing here is an error for whoever reads the disk. Where the directory cannot be used, or is
 * full, blocks are kept in a file without a name instead, for as long as the process lives, and if
 * that is not possible either, they are not kept.
 */
#ifndef HOST_TOOLS_LAZY_CACHE_H
#define HOST_TOOLS_LAZY_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CACHE_BLOCK_BYTES    4096
#define CACHE_SEGMENT_BLOCKS 4096
/* Of a segment's file: its table and its data. */
#define CACHE_TABLE_BYTES    (8ULL * CACHE_SEGMENT_BLOCKS)
#define CACHE_SEGMENT_BYTES  (CACHE_TABLE_BYTES + (uint64_t)CACHE_SEGMENT_BLOCKS * CACHE_BLOCK_BYTES)

/* What went wrong. May lie in memory that is shared with another process. */
struct cache_counters {
	_Atomic uint64_t damaged;  /* blocks that were not as their checksums say */
	_Atomic uint64_t problems; /* reads and writes that failed */
};

struct cache_options {
	const char *directory;	 /* NULL or one that cannot be used: only SPARE_FD is used */
	const char *export_name; /* the export's directory in it: a file name */
	uint64_t max_bytes;	 /* of the directory, as the file system counts them */
	int spare_fd;		 /* an empty file without a name, kept open by the caller; or -1 */
	struct cache_counters *counters;
};

struct cache;

/* Makes the directories above PATH and PATH itself, for this user alone: 0, or -1 with errno. */
int cache_make_directory(const char *path);

/*
 * Opens the cache of one export. NULL only when there is no memory. Where the directory cannot be
 * used, cache_problem says why. All other functions may be called by several threads at once.
 */
struct cache *cache_open(const struct cache_options *options);
void cache_close(struct cache *cache); /* NULL is allowed */

/* The first thing that was wrong with the directory, as a sentence; "" for nothing. */
const char *cache_problem(struct cache *cache);

/*
 * Reads those of the COUNT blocks from BLOCK on that are in the cache to their places in BYTES,
 * says which in PRESENT, and returns how many. The other places hold anything.
 */
uint32_t cache_read(struct cache *cache, uint64_t block, uint32_t count, void *bytes,
		    bool *present);

/* The same without reading them, so without comparing them. */
uint32_t cache_probe(struct cache *cache, uint64_t block, uint32_t count, bool *present);

/* Keeps COUNT blocks. Returns how many are in the directory now, or -1 where not all are kept. */
int64_t cache_write(struct cache *cache, uint64_t block, uint32_t count, const void *bytes);

/*
 * Removes the segments that were not used for longest until the directory is well within its
 * bound, unless another process is at that. cache_write does it now and then by itself.
 */
void cache_evict(struct cache *cache);

/*
 * Removes exports' directories in DIRECTORY that are empty and were not changed for a day. For a
 * process that may remove directories.
 */
void cache_tidy(const char *directory);

#endif
