/*
 * read_image FILE.img: reads all that a job disk holds. Prints what it counted, or the reader's
 * error, and then exits with 1.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "jobdisk/layout.h"
#include "tests/hostile/walk.h"

int main(int argc, char **argv)
{
	struct walk_totals totals;
	struct error error;

	if (argc != 2)
		errx(2, "usage: read_image FILE.img");

	int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	int scratch_fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0 || scratch_fd < 0)
		err(2, "%s, and a file to copy into", argv[1]);
	int failed = walk_image(fd, "disk", JOBDISK_LABEL, scratch_fd, &totals, &error);

	printf("%" PRIu64 " entries, %" PRIu64 " bytes\n", totals.entries, totals.bytes);
	if (failed)
		fprintf(stderr, "%s\n", error.text);
	return failed ? 1 : 0;
}
