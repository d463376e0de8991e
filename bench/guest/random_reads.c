/*
 * random_reads COUNT FILE...: COUNT reads of 4 KiB from each file, at random places that are the
 * same each time. Prints how many milliseconds they took, and the sum of the bytes, for comparing.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES 4096

/* xorshift64 (Marsaglia 2003). */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t sum_reads(const char *path, uint64_t count)
{
	static unsigned char bytes[READ_BYTES];
	uint64_t state = 88172645463325252ULL, sum = 0;
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &status))
		err(1, "open %s", path);
	uint64_t blocks = ((uint64_t)status.st_size + READ_BYTES - 1) / READ_BYTES;
	for (uint64_t i = 0; i < count; i++) {
		off_t offset = (off_t)(next_random(&state) % blocks * READ_BYTES);
		ssize_t got = pread(fd, bytes, sizeof(bytes), offset);
		if (got <= 0)
			err(1, "read %s", path);
		sum += bytes[i % (uint64_t)got];
	}
	close(fd);
	return sum;
}

int main(int argc, char **argv)
{
	struct timespec start, end;
	uint64_t sum = 0;

	if (argc < 3)
		errx(2, "usage: random_reads COUNT FILE...");
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (int i = 2; i < argc; i++)
		sum += sum_reads(argv[i], strtoull(argv[1], NULL, 10));
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%lld %" PRIu64 "\n",
	       (long long)(end.tv_sec - start.tv_sec) * 1000 +
		       (end.tv_nsec - start.tv_nsec) / 1000000,
	       sum);
	return 0;
}
