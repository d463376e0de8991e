/*
 * fuzz: what the harnesses share. Each fuzz_*.c is one program of libFuzzer's, which calls
 * LLVMFuzzerTestOneInput with one input after the other; a crash, a sanitizer's report, a leak,
 * a timeout or FUZZ_CHECK is a finding.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "jobdisk/error.h"

/* libFuzzer's. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t size, size_t max_size);

#define FUZZ_CHECK(condition)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);  \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* A failure says what failed. ERROR must have been empty before the call. */
#define FUZZ_CHECK_ERROR(result, error) FUZZ_CHECK((result) >= 0 || (error)->text[0])

/* A file without a name that holds the SIZE bytes, at its start. */
static inline int fuzz_file(const void *bytes, size_t size)
{
	int fd = memfd_create("input", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0);
	FUZZ_CHECK(pwrite(fd, bytes, size, 0) == (ssize_t)size);
	return fd;
}

/* What is unpacked may be much larger than its input: beyond BYTES a file cannot be written. */
static inline void fuzz_limit_files(uint64_t bytes)
{
	struct rlimit limit = {bytes, bytes};

	signal(SIGXFSZ, SIG_IGN);
	FUZZ_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

#endif
