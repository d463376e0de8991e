/* What is fetched ahead of a reader. */
#include "host-tools/lazy/ahead.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h> /* needs those before it */

#define FILE_BLOCKS 262144ULL /* 1 GiB */

static struct ahead ahead;

static int fresh_state(void **state)
{
	(void)state;
	ahead = (struct ahead){.uses = 0};
	return 0;
}

/* Reads on from BLOCK to END; returns where what was fetched ahead ends. */
static uint64_t read_on(uint32_t file, uint64_t block, uint64_t end, uint32_t step, uint64_t limit)
{
	uint64_t last = block;

	for (; block < end; block += step) {
		struct block_range range = ahead_note(&ahead, file, block, step, step, limit);

		if (range.block == range.end)
			continue;
		/* Without gaps, and nothing twice. */
		assert_true(range.block >= last || last <= block + step);
		assert_true(range.end > range.block);
		assert_true(range.end <= limit);
		last = range.end;
	}
	return last;
}

static void test_sequential(void **state)
{
	(void)state;
	/* Twice as far as was read, at most; but not much less either. */
	uint64_t last = read_on(1, 0, 1024, 32, FILE_BLOCKS);
	assert_true(last <= 2048 && last >= 1536);

	/* And not beyond a window. */
	last = read_on(1, 1024, 100000, 32, FILE_BLOCKS);
	assert_true(last <= 100000 + 32 + AHEAD_BLOCKS_MAX);
	assert_true(last >= 100000 + AHEAD_BLOCKS_MAX / 2);
}

static void test_limit(void **state)
{
	(void)state;
	assert_int_equal(read_on(1, 0, 1000, 10, 1100), 1100);
}

/* A few reads in a row are no reader. */
static void test_short(void **state)
{
	(void)state;
	assert_int_equal(read_on(1, 500, 500 + 2 * 32, 32, FILE_BLOCKS), 500);
}

/* Reads that jump about in a file cost less than a fifth on top, also within a few MiB. */
static void assert_cheap(uint64_t blocks, size_t reads, long seed)
{
	bool *seen = calloc(blocks, sizeof(*seen));
	uint64_t touched = 0, fetched = 0;

	assert_non_null(seen);
	ahead = (struct ahead){.uses = 0};
	srand48(seed);
	for (size_t i = 0; i < reads; i++) {
		uint64_t block = (uint64_t)(drand48() * (double)blocks);
		struct block_range range = ahead_note(&ahead, 1, block, 1, !seen[block], blocks);

		touched += !seen[block];
		seen[block] = true;
		for (uint64_t j = range.block; j < range.end; j++)
			fetched += !seen[j];
	}
	free(seen);
	assert_true(fetched * 5 <= touched);
}

static void test_random(void **state)
{
	(void)state;
	for (long seed = 0; seed < 50; seed++) {
		assert_cheap(FILE_BLOCKS, FILE_BLOCKS / 100, seed);
		assert_cheap(25600, 256, seed);
		assert_cheap(2000, 300, seed);
	}
}

/* Readers of several files at once do not disturb each other. */
static void test_streams(void **state)
{
	uint64_t last[8] = {0};

	(void)state;
	for (uint64_t block = 0; block < 4096; block += 64)
		for (uint32_t file = 0; file < 8; file++) {
			struct block_range range =
				ahead_note(&ahead, file, file * FILE_BLOCKS + block, 64, 64,
					   (file + 1) * FILE_BLOCKS);

			if (range.end > range.block)
				last[file] = range.end - file * FILE_BLOCKS;
		}
	for (uint32_t file = 0; file < 8; file++)
		assert_true(last[file] >= 6000);
}

/* Requests of one reader that overtake each other. */
static void test_out_of_order(void **state)
{
	uint64_t last = 0;

	(void)state;
	for (uint64_t block = 0; block < 4096; block += 64) {
		uint64_t swapped = block / 64 % 2 ? block - 64 : block + 64;
		struct block_range range = ahead_note(&ahead, 1, swapped, 64, 64, FILE_BLOCKS);

		if (range.end > range.block)
			last = range.end;
	}
	assert_true(last >= 6000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_sequential, fresh_state),
		cmocka_unit_test_setup(test_limit, fresh_state),
		cmocka_unit_test_setup(test_short, fresh_state),
		cmocka_unit_test_setup(test_random, fresh_state),
		cmocka_unit_test_setup(test_streams, fresh_state),
		cmocka_unit_test_setup(test_out_of_order, fresh_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
