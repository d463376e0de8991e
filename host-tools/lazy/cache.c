#include "host-tools/lazy/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <xxh_x86dispatch.h>

#include "host-tools/lazy/cache_private.h"

/* Files that are kept open: 1 GiB of the disk. */
#define OPEN_SEGMENTS 64
/* How often a segment's file is marked as used and looked after. */
#define REFRESH_MS    1000

struct segment {
	uint64_t index;
	int fd; /* -1: the slot is free */
	unsigned users;
	uint64_t last_use, refreshed_ms;
};

struct cache {
	int root_fd, export_fd; /* -1: not used */
	int spare_fd;
	uint64_t seed;
	uint64_t max_bytes;
	struct cache_counters *counters;
	_Atomic bool is_full;	       /* the directory takes nothing more */
	_Atomic uint64_t spare_blocks; /* written */
	_Atomic uint64_t spare_max_blocks;

	pthread_mutex_t lock; /* guards all that follows */
	struct segment segments[OPEN_SEGMENTS];
	uint64_t uses;
	uint64_t written_bytes; /* since the last eviction */
	char problem[256];
};

/* A part of the disk that lies in one segment, where that is kept. */
struct part {
	uint64_t block; /* on the disk */
	uint32_t first; /* in the segment */
	uint32_t count;
	int fd;
	uint64_t offset; /* of the segment in its file */
};

static uint64_t coarse_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void note_problem(struct cache *cache, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void note_problem(struct cache *cache, const char *format, ...)
{
	va_list values;

	atomic_fetch_add(&cache->counters->problems, 1);
	pthread_mutex_lock(&cache->lock);
	if (!cache->problem[0]) {
		va_start(values, format);
		vsnprintf(cache->problem, sizeof(cache->problem), format, values);
		va_end(values);
	}
	pthread_mutex_unlock(&cache->lock);
}

/* --- opening --- */

int cache_make_directory(const char *path)
{
	struct stat status;
	char copy[PATH_MAX];

	if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(copy, 0700) && errno != EEXIST && access(copy, F_OK))
			return -1;
		*slash = '/';
	}
	if (mkdir(copy, 0700) == 0)
		return 0;
	if (errno != EEXIST || stat(copy, &status))
		return -1;
	errno = ENOTDIR;
	return S_ISDIR(status.st_mode) ? 0 : -1;
}

/* Who else can write there decides what the guest reads. */
static bool is_ours_alone(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && status.st_uid == geteuid() &&
	       (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static void open_directories(struct cache *cache, const struct cache_options *options)
{
	const char *directory = options->directory;

	if (cache_make_directory(directory) == 0)
		cache->root_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cache->root_fd < 0) {
		note_problem(cache, "the cache %s: %s", directory, strerror(errno));
		return;
	}
	if (!is_ours_alone(cache->root_fd)) {
		note_problem(cache, "the cache %s is another user's, or others can write to it",
			     directory);
		return;
	}
	if (mkdirat(cache->root_fd, options->export_name, 0700) && errno != EEXIST) {
		note_problem(cache, "the cache %s: %s", directory, strerror(errno));
		return;
	}
	cache->export_fd = openat(cache->root_fd, options->export_name,
				  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (cache->export_fd < 0)
		note_problem(cache, "the cache %s/%s: %s", directory, options->export_name,
			     strerror(errno));
}

struct cache *cache_open(const struct cache_options *options)
{
	struct cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return NULL;
	pthread_mutex_init(&cache->lock, NULL);
	cache->root_fd = cache->export_fd = -1;
	cache->spare_fd = options->spare_fd;
	cache->max_bytes = options->max_bytes;
	cache->spare_max_blocks = options->max_bytes / CACHE_BLOCK_BYTES;
	cache->counters = options->counters;
	cache->seed = XXH3_64bits(options->export_name, strlen(options->export_name));
	for (size_t i = 0; i < OPEN_SEGMENTS; i++)
		cache->segments[i].fd = -1;
	if (options->directory)
		open_directories(cache, options);
	if (cache->export_fd >= 0)
		cache_evict(cache);
	return cache;
}

void cache_close(struct cache *cache)
{
	if (!cache)
		return;
	for (size_t i = 0; i < OPEN_SEGMENTS; i++)
		if (cache->segments[i].fd >= 0)
			close(cache->segments[i].fd);
	if (cache->export_fd >= 0)
		close(cache->export_fd);
	if (cache->root_fd >= 0)
		close(cache->root_fd);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
}

const char *cache_problem(struct cache *cache)
{
	pthread_mutex_lock(&cache->lock);
	const char *problem = cache->problem;
	pthread_mutex_unlock(&cache->lock);
	return problem;
}

/* --- open segments --- */

/* Whether the segment's file still has its name. Once in a while its time of use is set. */
static bool refresh(struct segment *segment)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
	uint64_t now = coarse_ms();
	struct stat status;

	if (now - segment->refreshed_ms < REFRESH_MS)
		return true;
	segment->refreshed_ms = now;
	futimens(segment->fd, times);
	return fstat(segment->fd, &status) == 0 && status.st_nlink > 0;
}

static bool has(const struct segment *segment, uint64_t index)
{
	return segment->fd >= 0 && segment->index == index;
}

/* The slot of a segment that is open, or one that may be used for it, or NULL. */
static struct segment *find_slot(struct cache *cache, uint64_t index)
{
	struct segment *oldest = NULL;

	for (size_t i = 0; i < OPEN_SEGMENTS; i++) {
		struct segment *segment = &cache->segments[i];

		if (has(segment, index)) {
			if (segment->users || refresh(segment))
				return segment;
			/* Evicted: a file under its name is another. */
			close(segment->fd);
			segment->fd = -1;
			return segment;
		}
		if (!segment->users && (!oldest || segment->fd < 0 ||
					(oldest->fd >= 0 && segment->last_use < oldest->last_use)))
			oldest = segment;
	}
	return oldest;
}

static int open_segment(struct cache *cache, uint64_t index, bool creates)
{
	char name[CACHE_SEGMENT_NAME_BYTES];
	struct stat status;

	snprintf(name, sizeof(name), CACHE_SEGMENT_NAME, index);
	int fd = openat(cache->export_fd, name,
			O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (creates ? O_CREAT : 0),
			0600);
	if (fd < 0) {
		if (errno != ENOENT || creates)
			note_problem(cache, "the cache's segment %s: %s", name, strerror(errno));
		return -1;
	}
	if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
		return fd;
	note_problem(cache, "the cache's segment %s is not a regular file", name);
	close(fd);
	return -1;
}

/* Takes over FD; NULL, and closes it, where all slots are in use. */
static struct segment *put_into_slot(struct cache *cache, uint64_t index, int fd)
{
	struct segment *segment = find_slot(cache, index);

	/* Another thread may have been faster. */
	if (!segment || has(segment, index)) {
		close(fd);
		return segment;
	}
	if (segment->fd >= 0)
		close(segment->fd);
	*segment = (struct segment){.index = index, .fd = fd};
	refresh(segment);
	return segment;
}

/* Holds the segment's file open until release(); NULL where there is none. */
static struct segment *hold(struct cache *cache, uint64_t index, bool creates)
{
	pthread_mutex_lock(&cache->lock);
	struct segment *segment = find_slot(cache, index);
	if (segment && !has(segment, index)) {
		pthread_mutex_unlock(&cache->lock);
		int fd = open_segment(cache, index, creates);
		pthread_mutex_lock(&cache->lock);
		segment = fd >= 0 ? put_into_slot(cache, index, fd) : NULL;
	}
	if (segment) {
		segment->users++;
		segment->last_use = ++cache->uses;
	}
	pthread_mutex_unlock(&cache->lock);
	return segment;
}

static void release(struct cache *cache, struct segment *segment)
{
	pthread_mutex_lock(&cache->lock);
	segment->users--;
	pthread_mutex_unlock(&cache->lock);
}

/* --- blocks --- */

/* Never 0, which stands for an absent block. */
static uint64_t checksum(const struct cache *cache, uint64_t block, const uint8_t *bytes)
{
	uint64_t sum = XXH3_64bits_withSeed(bytes, CACHE_BLOCK_BYTES,
					    cache->seed + block * 0x9e3779b97f4a7c15ULL);

	return sum ? sum : 1;
}

static uint64_t data_offset(const struct part *part, uint32_t index)
{
	return part->offset + CACHE_TABLE_BYTES +
	       (uint64_t)(part->first + index) * CACHE_BLOCK_BYTES;
}

/* What cannot be read is absent: zeros. */
static void read_table(struct cache *cache, const struct part *part, uint64_t *sums)
{
	size_t size = part->count * sizeof(*sums);
	ssize_t got =
		pread(part->fd, sums, size, (off_t)(part->offset + part->first * sizeof(*sums)));

	if (got < 0) {
		note_problem(cache, "read the cache: %s", strerror(errno));
		got = 0;
	}
	memset((char *)sums + got, 0, size - (size_t)got);
}

/* Reads COUNT blocks from INDEX of the part on, which the table has. */
static uint32_t read_run(struct cache *cache, const struct part *part, uint32_t index,
			 uint32_t count, const uint64_t *sums, uint8_t *bytes, bool *present)
{
	uint8_t *start = bytes + (size_t)index * CACHE_BLOCK_BYTES;
	ssize_t got = pread(part->fd, start, (size_t)count * CACHE_BLOCK_BYTES,
			    (off_t)data_offset(part, index));
	uint32_t good = 0;

	if (got < 0) {
		note_problem(cache, "read the cache: %s", strerror(errno));
		got = 0;
	}
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *block = start + (size_t)i * CACHE_BLOCK_BYTES;

		if ((size_t)got < (size_t)(i + 1) * CACHE_BLOCK_BYTES ||
		    checksum(cache, part->block + index + i, block) != sums[index + i]) {
			atomic_fetch_add(&cache->counters->damaged, 1);
			continue;
		}
		present[index + i] = true;
		good++;
	}
	return good;
}

/* Adds to PRESENT what of the part is there; BYTES NULL: by the table alone. */
static uint32_t read_part(struct cache *cache, const struct part *part, uint8_t *bytes,
			  bool *present)
{
	uint64_t sums[CACHE_SEGMENT_BLOCKS];
	uint32_t found = 0;

	read_table(cache, part, sums);
	for (uint32_t i = 0; i < part->count;) {
		uint32_t run = 0;

		while (i + run < part->count && sums[i + run] && !present[i + run])
			run++;
		if (run && bytes) {
			found += read_run(cache, part, i, run, sums, bytes, present);
		} else {
			memset(present + i, run != 0, run);
			found += run;
		}
		i += run ? run : 1;
	}
	return found;
}

static int write_all(int fd, const void *bytes, size_t size, uint64_t offset)
{
	for (size_t done = 0; done < size;) {
		ssize_t got =
			pwrite(fd, (const char *)bytes + done, size - done, (off_t)(offset + done));

		if (got <= 0)
			return -1;
		done += (size_t)got;
	}
	return 0;
}

/* The data, then what says that it is there. */
static int write_part(struct cache *cache, const struct part *part, const uint8_t *bytes)
{
	uint64_t sums[CACHE_SEGMENT_BLOCKS];

	for (uint32_t i = 0; i < part->count; i++)
		sums[i] = checksum(cache, part->block + i, bytes + (size_t)i * CACHE_BLOCK_BYTES);
	if (write_all(part->fd, bytes, (size_t)part->count * CACHE_BLOCK_BYTES,
		      data_offset(part, 0)))
		return -1;
	return write_all(part->fd, sums, part->count * sizeof(*sums),
			 part->offset + part->first * sizeof(*sums));
}

static struct part first_part(uint64_t block, uint32_t count)
{
	uint32_t first = (uint32_t)(block % CACHE_SEGMENT_BLOCKS);
	uint32_t room = CACHE_SEGMENT_BLOCKS - first;

	return (struct part){
		.block = block, .first = first, .count = count < room ? count : room, .fd = -1};
}

static uint64_t segment_of(const struct part *part)
{
	return part->block / CACHE_SEGMENT_BLOCKS;
}

static struct part spare_part(const struct cache *cache, const struct part *part)
{
	struct part spare = *part;

	spare.fd = cache->spare_fd;
	spare.offset = segment_of(part) * CACHE_SEGMENT_BYTES;
	return spare;
}

static uint32_t find_in_part(struct cache *cache, struct part *part, uint8_t *bytes, bool *present)
{
	uint32_t found = 0;

	memset(present, 0, part->count);
	if (cache->export_fd >= 0) {
		struct segment *segment = hold(cache, segment_of(part), false);

		if (segment) {
			part->fd = segment->fd;
			found = read_part(cache, part, bytes, present);
			release(cache, segment);
		}
	}
	if (found < part->count && cache->spare_blocks) {
		struct part spare = spare_part(cache, part);

		found += read_part(cache, &spare, bytes, present);
	}
	return found;
}

static uint32_t find_blocks(struct cache *cache, uint64_t block, uint32_t count, uint8_t *bytes,
			    bool *present)
{
	uint32_t found = 0;

	for (uint32_t done = 0; done < count;) {
		struct part part = first_part(block + done, count - done);

		found += find_in_part(cache, &part,
				      bytes ? bytes + (size_t)done * CACHE_BLOCK_BYTES : NULL,
				      present + done);
		done += part.count;
	}
	return found;
}

uint32_t cache_read(struct cache *cache, uint64_t block, uint32_t count, void *bytes, bool *present)
{
	return find_blocks(cache, block, count, bytes, present);
}

uint32_t cache_probe(struct cache *cache, uint64_t block, uint32_t count, bool *present)
{
	return find_blocks(cache, block, count, NULL, present);
}

/* --- writing --- */

/* After an error the directory gets nothing more: a full disk is not asked again and again. */
static int write_to_directory(struct cache *cache, struct part *part, const uint8_t *bytes)
{
	if (cache->export_fd < 0 || cache->is_full)
		return -1;

	struct segment *segment = hold(cache, segment_of(part), true);

	if (!segment)
		return -1;
	part->fd = segment->fd;
	int failed = write_part(cache, part, bytes);
	if (failed) {
		note_problem(cache, "write to the cache: %s", strerror(errno));
		cache->is_full = true;
	}
	release(cache, segment);
	return failed;
}

static int write_to_spare(struct cache *cache, const struct part *part, const uint8_t *bytes)
{
	struct part spare = spare_part(cache, part);

	if (cache->spare_fd < 0 || cache->spare_blocks + part->count > cache->spare_max_blocks)
		return -1;
	atomic_fetch_add(&cache->spare_blocks, part->count);
	if (write_part(cache, &spare, bytes)) {
		note_problem(cache, "write to a temporary file: %s", strerror(errno));
		cache->spare_max_blocks = 0;
		return -1;
	}
	return 0;
}

/* So that the bound, of which cache_evict keeps an eighth free, holds for four at once. */
static void evict_in_time(struct cache *cache, uint64_t written_bytes)
{
	uint64_t interval = cache->max_bytes / 32;

	pthread_mutex_lock(&cache->lock);
	cache->written_bytes += written_bytes;
	bool is_due = cache->written_bytes >= interval;
	if (is_due)
		cache->written_bytes = 0;
	pthread_mutex_unlock(&cache->lock);
	if (is_due)
		cache_evict(cache);
}

int64_t cache_write(struct cache *cache, uint64_t block, uint32_t count, const void *bytes)
{
	int64_t persistent = 0;
	bool all_kept = true;

	for (uint32_t done = 0; done < count;) {
		struct part part = first_part(block + done, count - done);
		const uint8_t *start = (const uint8_t *)bytes + (size_t)done * CACHE_BLOCK_BYTES;

		if (write_to_directory(cache, &part, start) == 0)
			persistent += part.count;
		else if (write_to_spare(cache, &part, start))
			all_kept = false;
		done += part.count;
	}
	evict_in_time(cache, (uint64_t)persistent * CACHE_BLOCK_BYTES);
	return all_kept ? persistent : -1;
}

void cache_evict(struct cache *cache)
{
	uint64_t eighth = cache->max_bytes / 8;

	if (cache->export_fd >= 0)
		cache_evict_down(cache->root_fd, 7 * eighth, 6 * eighth);
}
