/*
 * Reads a lazy disk as QEMU would: fetch-disk KEY=VALUE... -- ACTION...
 *
 * The keys are those of struct fetch_options. Actions, in order:
 *   all SOURCE            read everything, and compare it with the file SOURCE
 *   random SOURCE N SEED  so many blocks of 4096 bytes, anywhere
 *   at SOURCE BLOCK N     N blocks, one after the other
 *   cached BYTES          wait until so many were written to the cache
 *   write                 try everything that changes a disk; prints the errors
 *   pause                 print "paused" and wait for a line on stdin
 *   trace PATH            write the trace
 *   metadata PATH         copy the disk's metadata to a file
 *   finish                end the fetching process; later actions may only be the two before
 * Of reads "good=N bad=N failed=N" is printed, in blocks; at the end, the summary.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-tools/lazy/fetch.h"

#define BLOCK_BYTES 4096
#define CHUNK_BYTES (256 << 10)

static struct fetch fetch;
static struct nbd_handle *disk;
static int source_fd;
static uint64_t good, bad, failed;

static void fail(const char *text)
{
	fprintf(stderr, "fetch-disk: %s\n", text);
	exit(1);
}

static void check(const struct error *error, int result)
{
	if (result < 0)
		fail(error->text);
}

static void set_option(struct fetch_options *options, const char *key, const char *value)
{
	if (strcmp(key, "from") == 0)
		options->from = value;
	else if (strcmp(key, "policy") == 0)
		options->policy = strcmp(value, "file") == 0 ? FETCH_FILE : FETCH_BLOCK;
	else if (strcmp(key, "cache") == 0)
		options->cache_directory = value;
	else if (strcmp(key, "max") == 0)
		options->cache_max_bytes = strtoull(value, NULL, 10);
	else if (strcmp(key, "tls") == 0)
		options->tls_certificates = value;
	else if (strcmp(key, "timeout") == 0)
		options->timeout_ms = strtoull(value, NULL, 10);
	else if (strcmp(key, "prefetch") == 0)
		options->prefetch_path = value;
	else if (strcmp(key, "identity") == 0)
		options->identity = value;
	else
		fail("no such key");
}

/* Reads and compares; of more than one block, block by block where that fails. */
static void read_at(uint64_t offset, size_t size)
{
	static uint8_t got[CHUNK_BYTES], expected[CHUNK_BYTES];

	if (nbd_pread(disk, got, size, offset, 0)) {
		for (size_t done = 0; size > BLOCK_BYTES && done < size; done += BLOCK_BYTES)
			read_at(offset + done, BLOCK_BYTES);
		failed += size == BLOCK_BYTES;
		return;
	}
	if (pread(source_fd, expected, size, (off_t)offset) != (ssize_t)size)
		fail("the source is too short");
	for (size_t done = 0; done < size; done += BLOCK_BYTES) {
		bool is_same = memcmp(got + done, expected + done, BLOCK_BYTES) == 0;

		good += is_same;
		bad += !is_same;
	}
}

static void read_all(void)
{
	for (uint64_t offset = 0; offset < fetch.image_bytes; offset += CHUNK_BYTES)
		read_at(offset, fetch.image_bytes - offset < CHUNK_BYTES
					? (size_t)(fetch.image_bytes - offset)
					: CHUNK_BYTES);
}

static void read_random(unsigned long count, unsigned long seed)
{
	srand48((long)seed);
	while (count--)
		read_at((uint64_t)(drand48() * (double)(fetch.image_bytes / BLOCK_BYTES)) *
				BLOCK_BYTES,
			BLOCK_BYTES);
}

static void read_blocks(uint64_t block, uint64_t count)
{
	for (; count--; block++)
		read_at(block * BLOCK_BYTES, BLOCK_BYTES);
}

static void await_cached(uint64_t bytes)
{
	struct fetch_summary summary;

	for (;;) {
		fetch_summarize(&fetch, &summary);
		if (summary.bytes_cached >= bytes)
			return;
		usleep(1000);
	}
}

static void begin_reading(const char *source)
{
	source_fd = open(source, O_RDONLY);
	if (source_fd < 0)
		fail("cannot open the source");
	good = bad = failed = 0;
}

static void end_reading(void)
{
	close(source_fd);
	printf("good=%" PRIu64 " bad=%" PRIu64 " failed=%" PRIu64 "\n", good, bad, failed);
}

static void try_writes(void)
{
	static const uint8_t zeros[BLOCK_BYTES];

	nbd_pwrite(disk, zeros, sizeof(zeros), 0, 0);
	printf("write: %s\n", strerrorname_np(nbd_get_errno()));
	nbd_trim(disk, sizeof(zeros), 0, 0);
	printf("trim: %s\n", strerrorname_np(nbd_get_errno()));
	nbd_zero(disk, sizeof(zeros), 0, 0);
	printf("zero: %s\n", strerrorname_np(nbd_get_errno()));
	printf("read-only: %d\n", nbd_is_read_only(disk));
}

static void copy_metadata(const char *path)
{
	struct error error;
	char command[96];
	int fd = fetch_metadata(&fetch, &error);

	check(&error, fd);
	snprintf(command, sizeof(command), "cp --sparse=always /proc/%d/fd/%d ", getpid(), fd);
	char *whole = malloc(strlen(command) + strlen(path) + 1);
	sprintf(whole, "%s%s", command, path);
	if (system(whole))
		fail("cannot copy the metadata");
	free(whole);
	close(fd);
}

static void finish(void)
{
	struct error error = {""};

	if (disk) {
		nbd_close(disk);
		disk = NULL;
		if (fetch_finish(&fetch, NULL, &error))
			printf("ended: %s\n", error.text);
	}
}

static void pause_here(void)
{
	char line[64];

	printf("paused\n");
	if (!fgets(line, sizeof(line), stdin))
		fail("nobody there");
}

/* Returns how many arguments it took. */
static int act(char **argv, int argc)
{
	struct error error;
	const char *first = argc > 1 ? argv[1] : "";

	if (strcmp(argv[0], "all") == 0) {
		begin_reading(first);
		read_all();
		end_reading();
		return 2;
	}
	if (strcmp(argv[0], "random") == 0 && argc > 3) {
		begin_reading(first);
		read_random(strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
		end_reading();
		return 4;
	}
	if (strcmp(argv[0], "at") == 0 && argc > 3) {
		begin_reading(first);
		read_blocks(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
		end_reading();
		return 4;
	}
	if (strcmp(argv[0], "cached") == 0) {
		await_cached(strtoull(first, NULL, 10));
		return 2;
	}
	if (strcmp(argv[0], "trace") == 0) {
		check(&error, fetch_trace(&fetch, first, &error));
		return 2;
	}
	if (strcmp(argv[0], "metadata") == 0) {
		copy_metadata(first);
		return 2;
	}
	if (strcmp(argv[0], "write") == 0)
		try_writes();
	else if (strcmp(argv[0], "pause") == 0)
		pause_here();
	else if (strcmp(argv[0], "finish") == 0)
		finish();
	else
		fail("no such action");
	return 1;
}

static void print_summary(void)
{
	struct fetch_summary summary;

	fetch_summarize(&fetch, &summary);
	printf("bytes_touched=%" PRIu64 "\nbytes_fetched=%" PRIu64 "\nbytes_from_cache=%" PRIu64
	       "\nbytes_cached=%" PRIu64 "\nfiles_touched=%" PRIu64 "\nerrors=%" PRIu64
	       "\nreconnects=%" PRIu64 "\nstalled_ms=%" PRIu64 "\ncache_damaged=%" PRIu64
	       "\ncache_problems=%" PRIu64 "\nproblem=%s\n",
	       summary.bytes_touched, summary.bytes_fetched, summary.bytes_from_cache,
	       summary.bytes_cached, summary.files_touched, summary.errors, summary.reconnects,
	       summary.stalled_ms, summary.cache_damaged, summary.cache_problems, summary.problem);
}

int main(int argc, char **argv)
{
	struct fetch_options options = {.policy = FETCH_BLOCK, .extra_fd = -1};
	struct error error = {""};
	int next = 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (; next < argc && strcmp(argv[next], "--") != 0; next++) {
		char *value = strchr(argv[next], '=');

		if (!value)
			fail("KEY=VALUE is missing");
		*value++ = '\0';
		set_option(&options, argv[next], value);
	}
	check(&error, fetch_start(&options, &fetch, &error));
	printf("pid=%d identity=%s bytes=%" PRIu64 "\n", fetch.pid, fetch.identity,
	       fetch.image_bytes);
	disk = nbd_create();
	if (!disk || nbd_connect_socket(disk, fetch.qemu_fd))
		fail(nbd_get_error());
	fetch.qemu_fd = -1;
	for (next++; next < argc;)
		next += act(argv + next, argc - next);
	finish();
	print_summary();
	fetch_free(&fetch);
	return 0;
}
