/* The cache of lazy disks: what is kept, and that nothing wrong ever comes out of it. */
#include "host-tools/lazy/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "tests/unit/scratch.h"

#define NAME   "export"
#define BLOCKS 64

static struct cache_counters counters;
static bool present[CACHE_SEGMENT_BLOCKS * 2];
static uint8_t buffer[CACHE_SEGMENT_BLOCKS * 2 * CACHE_BLOCK_BYTES];

static struct cache *open_named(const char *name, uint64_t max_bytes, int spare_fd)
{
	const struct cache_options options = {
		.directory = "cache",
		.export_name = name,
		.max_bytes = max_bytes,
		.spare_fd = spare_fd,
		.counters = &counters,
	};

	counters.damaged = counters.problems = 0;
	struct cache *cache = cache_open(&options);
	assert_non_null(cache);
	return cache;
}

static struct cache *open_cache(void)
{
	return open_named(NAME, 1ULL << 30, -1);
}

/* What block BLOCK is: no two are alike. */
static void fill(uint8_t *bytes, uint64_t block)
{
	uint64_t value = block * 0x9e3779b97f4a7c15ULL + 1;

	for (size_t i = 0; i < CACHE_BLOCK_BYTES; i += sizeof(value)) {
		value ^= value << 13;
		value ^= value >> 7;
		value ^= value << 17;
		memcpy(bytes + i, &value, sizeof(value));
	}
}

static int64_t keep(struct cache *cache, uint64_t block, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		fill(buffer + (size_t)i * CACHE_BLOCK_BYTES, block + i);
	return cache_write(cache, block, count, buffer);
}

/* Reads, and fails where what is there is not what it must be. Returns how many there are. */
static uint32_t look(struct cache *cache, uint64_t block, uint32_t count)
{
	uint8_t expected[CACHE_BLOCK_BYTES];
	uint32_t seen = 0;

	memset(buffer, 0xee, (size_t)count * CACHE_BLOCK_BYTES);
	uint32_t found = cache_read(cache, block, count, buffer, present);
	for (uint32_t i = 0; i < count; i++) {
		fill(expected, block + i);
		if (present[i])
			assert_memory_equal(buffer + (size_t)i * CACHE_BLOCK_BYTES, expected,
					    CACHE_BLOCK_BYTES);
		seen += present[i];
	}
	assert_int_equal(found, seen);
	return found;
}

static const char *segment_path(uint64_t segment)
{
	static char path[64];

	snprintf(path, sizeof(path), "cache/" NAME "/%08llx", (unsigned long long)segment);
	return path;
}

static void test_round_trip(void **state)
{
	(void)state;
	struct cache *cache = open_cache();

	assert_int_equal(look(cache, 0, BLOCKS), 0);
	assert_int_equal(keep(cache, 3, 5), 5);
	assert_int_equal(look(cache, 0, BLOCKS), 5);
	assert_true(present[3] && present[7] && !present[2] && !present[8]);
	assert_int_equal(cache_probe(cache, 0, BLOCKS, present), 5);
	cache_close(cache);

	cache = open_cache();
	assert_int_equal(look(cache, 0, BLOCKS), 5);
	assert_string_equal(cache_problem(cache), "");
	assert_int_equal(counters.damaged + counters.problems, 0);
	cache_close(cache);
}

/* A run that lies in three segments, at the end of a large disk. */
static void test_segments(void **state)
{
	uint64_t block = (1ULL << 32) - CACHE_SEGMENT_BLOCKS - 10;

	(void)state;
	struct cache *cache = open_cache();

	block -= block % CACHE_SEGMENT_BLOCKS + 10;
	assert_int_equal(keep(cache, block, CACHE_SEGMENT_BLOCKS + 20), CACHE_SEGMENT_BLOCKS + 20);
	assert_int_equal(look(cache, block - 5, CACHE_SEGMENT_BLOCKS + 30),
			 CACHE_SEGMENT_BLOCKS + 20);
	cache_close(cache);
}

/* The same blocks of another export are not there. */
static void test_exports(void **state)
{
	(void)state;
	struct cache *cache = open_cache(), *other = open_named("other", 1ULL << 30, -1);

	keep(cache, 0, BLOCKS);
	assert_int_equal(look(other, 0, BLOCKS), 0);
	cache_close(cache);
	cache_close(other);

	/* Nor when a file of the one is put in the place of the other's. */
	assert_int_equal(rename(segment_path(0), "cache/other/00000000"), 0);
	other = open_named("other", 1ULL << 30, -1);
	assert_int_equal(look(other, 0, BLOCKS), 0);
	assert_int_equal(counters.damaged, BLOCKS);
	cache_close(other);
}

static void overwrite(const char *path, off_t offset, const void *bytes, size_t size)
{
	int fd = open(path, O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, size, offset), size);
	close(fd);
}

/* Each kind of damage costs what it hits, and no more. */
static void test_damage(void **state)
{
	static const uint64_t wrong = 0x1234567890abcdef;
	const uint32_t count = CACHE_SEGMENT_BLOCKS + 8;
	char moved[64];

	(void)state;
	struct cache *cache = open_cache();

	keep(cache, 0, count);
	overwrite(segment_path(0), CACHE_TABLE_BYTES + 10 * CACHE_BLOCK_BYTES + 77, "x", 1);
	overwrite(segment_path(0), 20 * 8, &wrong, sizeof(wrong));
	assert_int_equal(look(cache, 0, count), count - 2);
	assert_true(!present[10] && !present[20]);
	assert_int_equal(counters.damaged, 2);

	/* What is written again is there again. */
	keep(cache, 10, 1);
	assert_int_equal(look(cache, 0, count), count - 1);

	assert_int_equal(truncate(segment_path(0), CACHE_TABLE_BYTES + 5000), 0);
	assert_int_equal(look(cache, 0, CACHE_SEGMENT_BLOCKS), 1);
	assert_int_equal(truncate(segment_path(0), 100), 0);
	assert_int_equal(look(cache, 0, CACHE_SEGMENT_BLOCKS), 0);
	assert_int_equal(truncate(segment_path(0), 0), 0);
	assert_int_equal(look(cache, 0, CACHE_SEGMENT_BLOCKS), 0);
	cache_close(cache);

	/* Swapped segments. */
	cache = open_cache();
	keep(cache, 0, 2 * CACHE_SEGMENT_BLOCKS);
	cache_close(cache);
	snprintf(moved, sizeof(moved), "%s", segment_path(1));
	assert_int_equal(rename(segment_path(0), "aside"), 0);
	assert_int_equal(rename(moved, segment_path(0)), 0);
	assert_int_equal(rename("aside", moved), 0);
	cache = open_cache();
	assert_int_equal(look(cache, 0, 2 * CACHE_SEGMENT_BLOCKS), 0);
	cache_close(cache);
}

/* Under a segment's name may be anything. */
static void test_other_types(void **state)
{
	(void)state;
	struct cache *cache = open_cache();

	scratch_write_text("precious", "untouched");
	assert_int_equal(mkfifo(segment_path(0), 0600), 0);
	assert_int_equal(mkdir(segment_path(1), 0700), 0);
	assert_int_equal(symlink("../../precious", segment_path(2)), 0);
	assert_int_equal(look(cache, 0, 2), 0);
	assert_int_equal(keep(cache, 2ULL * CACHE_SEGMENT_BLOCKS, 2), -1);
	assert_int_equal(keep(cache, 0, 2), -1);
	assert_int_equal(keep(cache, CACHE_SEGMENT_BLOCKS, 2), -1);
	assert_true(counters.problems >= 3);
	assert_string_not_equal(cache_problem(cache), "");
	cache_close(cache);

	size_t size;
	char *text = scratch_read("precious", &size);
	assert_string_equal(text, "untouched");
	free(text);
}

static int spare_file(void)
{
	int fd = open(".", O_RDWR | O_TMPFILE, 0600);

	assert_true(fd >= 0);
	return fd;
}

/* Where the directory cannot be used, blocks are kept as long as the process lives. */
static void test_without_directory(void **state)
{
	int spare_fd = spare_file();

	(void)state;
	scratch_write_text("cache", "a file");
	struct cache *cache = open_named(NAME, 1 << 20, spare_fd);

	assert_string_not_equal(cache_problem(cache), "");
	assert_int_equal(keep(cache, 5, BLOCKS), 0);
	assert_int_equal(look(cache, 0, 2 * BLOCKS), BLOCKS);
	/* Within its bound: 256 blocks. */
	assert_int_equal(keep(cache, 1000, 256), -1);
	assert_int_equal(look(cache, 1000, 256), 0);
	cache_close(cache);
	close(spare_fd);

	cache = open_named(NAME, 1 << 20, -1);
	assert_int_equal(keep(cache, 5, BLOCKS), -1);
	assert_int_equal(look(cache, 0, 2 * BLOCKS), 0);
	cache_close(cache);
}

/* A directory that others can write to is not believed. */
static void test_shared_directory(void **state)
{
	(void)state;
	assert_int_equal(mkdir("cache", 0777), 0);
	assert_int_equal(chmod("cache", 0777), 0);
	struct cache *cache = open_cache();

	assert_int_equal(keep(cache, 0, BLOCKS), -1);
	assert_non_null(strstr(cache_problem(cache), "others can write"));
	cache_close(cache);
}

/* A full disk, in the middle of a block: what was written in part is absent. */
static void test_full(void **state)
{
	const struct rlimit full = {CACHE_TABLE_BYTES + 10 * CACHE_BLOCK_BYTES + 100,
				    RLIM_INFINITY};
	struct rlimit before;
	int spare_fd = spare_file();

	(void)state;
	struct cache *cache = open_named(NAME, 1ULL << 30, spare_fd);

	keep(cache, 0, 2);
	getrlimit(RLIMIT_FSIZE, &before);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
	assert_int_equal(keep(cache, 2, BLOCKS), -1);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(counters.problems, 2);
	assert_int_equal(look(cache, 0, BLOCKS), 2);
	cache_close(cache);
	close(spare_fd);
}

/* --- its bound --- */

static uint64_t bytes_in(const char *path)
{
	struct stat status;

	return stat(path, &status) ? 0 : (uint64_t)status.st_blocks * 512;
}

static void set_used(uint64_t segment, time_t time)
{
	const struct timeval times[2] = {{.tv_sec = time}, {.tv_sec = time}};

	assert_int_equal(utimes(segment_path(segment), times), 0);
}

/* Those that were used last stay, whatever the order in which they were made. */
static void test_eviction(void **state)
{
	const uint64_t max_bytes = 64ULL << 20;
	uint64_t sum = 0;

	(void)state;
	struct cache *cache = open_named(NAME, 1ULL << 30, -1);

	/* 2 MiB in each of 40 segments. */
	for (uint64_t i = 0; i < 40; i++)
		assert_int_equal(keep(cache, i * CACHE_SEGMENT_BLOCKS, 512), 512);
	cache_close(cache);
	for (uint64_t i = 0; i < 40; i++)
		set_used(i, (time_t)(1000000 + (i * 7) % 40));

	cache = open_named(NAME, max_bytes, -1);
	for (uint64_t i = 0; i < 40; i++) {
		bool is_there = access(segment_path(i), F_OK) == 0;

		sum += bytes_in(segment_path(i));
		/* 40 are 80 MiB and their tables; three quarters of 64 MiB are left. */
		if ((i * 7) % 40 < 16)
			assert_false(is_there);
		if ((i * 7) % 40 >= 18)
			assert_true(is_there);
	}
	assert_true(sum <= max_bytes * 3 / 4);
	cache_close(cache);
}

/* A cache that is written to all the time stays within its bound. */
static void test_bound(void **state)
{
	const uint64_t max_bytes = 32ULL << 20;
	uint64_t most = 0;

	(void)state;
	struct cache *cache = open_named(NAME, max_bytes, -1);

	for (uint64_t i = 0; i < 100; i++) {
		uint64_t sum = 0;

		keep(cache, i * CACHE_SEGMENT_BLOCKS, 128);
		keep(cache, i * CACHE_SEGMENT_BLOCKS + 128, 128);
		for (uint64_t j = 0; j <= i; j++)
			sum += bytes_in(segment_path(j));
		most = sum > most ? sum : most;
	}
	assert_true(most <= max_bytes);
	assert_true(most > max_bytes / 2);
	assert_int_equal(look(cache, 99 * CACHE_SEGMENT_BLOCKS, 256), 256);
	assert_int_equal(look(cache, 0, 256), 0);
	cache_close(cache);
}

/* Reading is use too; and a segment that was evicted while it was open is made again. */
static void test_use(void **state)
{
	struct stat status;

	(void)state;
	struct cache *cache = open_cache();

	keep(cache, 0, 1);
	cache_close(cache);
	set_used(0, 1000000);
	cache = open_cache();
	assert_int_equal(look(cache, 0, 1), 1);
	assert_int_equal(stat(segment_path(0), &status), 0);
	assert_true(status.st_mtime > 1000000);
	cache_close(cache);
}

static void test_lock(void **state)
{
	(void)state;
	struct cache *cache = open_cache();

	keep(cache, 0, 512);
	cache_close(cache);
	int fd = open("cache", O_RDONLY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	/* Somebody is at it already. */
	cache_close(open_named(NAME, 4096, -1));
	assert_int_equal(access(segment_path(0), F_OK), 0);
	close(fd);
	cache_close(open_named(NAME, 4096, -1));
	assert_int_equal(access(segment_path(0), F_OK), -1);
}

static void test_tidy(void **state)
{
	static const struct timeval old[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};

	(void)state;
	struct cache *cache = open_cache();

	keep(cache, 0, 1);
	cache_close(cache);
	assert_int_equal(mkdir("cache/old", 0700), 0);
	assert_int_equal(mkdir("cache/new", 0700), 0);
	assert_int_equal(utimes("cache/old", old), 0);
	assert_int_equal(utimes("cache/" NAME, old), 0);
	cache_tidy("cache");
	assert_int_equal(access("cache/old", F_OK), -1);
	assert_int_equal(access("cache/new", F_OK), 0);
	assert_int_equal(access(segment_path(0), F_OK), 0);
}

/* --- processes that are killed --- */

/* Never returns: reads and writes at random. */
static void hammer(unsigned seed)
{
	struct cache *cache = open_cache();

	srand(seed);
	for (;;) {
		uint64_t block = (uint64_t)rand() % (2 * CACHE_SEGMENT_BLOCKS);
		uint32_t count = 1 + (uint32_t)rand() % 32;

		if (rand() % 2)
			keep(cache, block, count);
		else
			look(cache, block, count);
	}
}

static void test_killed_processes(void **state)
{
	const char *rounds_text = getenv("CACHE_KILLS");
	int rounds = rounds_text ? atoi(rounds_text) : 20;
	uint32_t seen = 0;

	(void)state;
	for (int round = 0; round < rounds; round++) {
		pid_t pids[3];

		for (int i = 0; i < 3; i++) {
			pids[i] = fork();
			if (pids[i] == 0)
				hammer((unsigned)(round * 3 + i));
		}
		/* Any moment will do. */
		usleep(1000 + (unsigned)(round * 7919 % 30000));
		for (int i = 0; i < 3; i++) {
			int status;

			kill(pids[i], SIGKILL);
			assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
			assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		}
		struct cache *cache = open_cache();
		seen = look(cache, 0, 2 * CACHE_SEGMENT_BLOCKS);
		cache_close(cache);
	}
	assert_true(seen > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(test_round_trip),
		IN_SCRATCH(test_segments),
		IN_SCRATCH(test_exports),
		IN_SCRATCH(test_damage),
		IN_SCRATCH(test_other_types),
		IN_SCRATCH(test_without_directory),
		IN_SCRATCH(test_shared_directory),
		IN_SCRATCH(test_full),
		IN_SCRATCH(test_eviction),
		IN_SCRATCH(test_bound),
		IN_SCRATCH(test_use),
		IN_SCRATCH(test_lock),
		IN_SCRATCH(test_tidy),
		IN_SCRATCH(test_killed_processes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
