/*
 * write_image: fsimage's importer and writer alone, for bench/image.
 *
 *   write_image IMAGE DIRECTORY   an image of the host's DIRECTORY
 *   write_image IMAGE -p DIRECTORY the same without extended attributes
 *   write_image IMAGE -n COUNT    an image of COUNT small files that lie in memory
 *
 * Prints: files, data bytes, seconds to make the tree, seconds to write it, bytes of memory that
 * the program took at its peak beyond what it started with, seconds of processor time for both.
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "fsimage/tree.h"
#include "fsimage/writer.h"

#define FILES_PER_DIRECTORY 100

static const struct fsmeta directory_meta = {.mode = 0755};
static const struct fsmeta file_meta = {.mode = 0644};

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double processor_time(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static long peak_bytes(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss * 1024;
}

static void add_files(struct fstree *tree, unsigned long count)
{
	struct error error = {0};
	struct fsnode *directory = NULL;
	char name[32];

	for (unsigned long i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%lu", i);
		if (i % FILES_PER_DIRECTORY == 0)
			directory = fstree_add_directory(tree, fstree_root(tree), name,
							 &directory_meta, &error);
		if (!directory || !fstree_add_bytes(tree, directory, name, &file_meta, name,
						    strlen(name), &error))
			errx(1, "%s", error.text);
	}
}

static void import(struct fstree *tree, const char *path, bool xattrs)
{
	const struct fsimport options = {.xattrs = xattrs};
	struct error error = {0};

	if (fstree_import_contents(tree, fstree_root(tree), AT_FDCWD, path, &options, &error) < 0)
		errx(1, "%s", error.text);
}

static void write_tree(struct fstree *tree, const char *path)
{
	struct fsimage_options options = {.label = "BENCH", .uuid = {1}, .now = 1};
	struct error error = {0};
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	if (fd < 0)
		err(1, "%s", path);
	if (fsimage_write(tree, fd, path, &options, &error) < 0)
		errx(1, "%s", error.text);
	close(fd);
}

int main(int argc, char **argv)
{
	bool plain = argc == 4 && strcmp(argv[2], "-p") == 0;
	bool synthetic = argc == 4 && strcmp(argv[2], "-n") == 0;

	if (argc != 3 && !plain && !synthetic) {
		fprintf(stderr, "usage: write_image IMAGE [-p] DIRECTORY\n"
				"       write_image IMAGE -n COUNT\n");
		return 2;
	}

	long base_bytes = peak_bytes();
	double start = now();
	struct fstree *tree = fstree_new(&directory_meta);

	if (!tree)
		errx(1, "out of memory");
	if (synthetic)
		add_files(tree, strtoul(argv[3], NULL, 10));
	else
		import(tree, argv[argc - 1], !plain);

	struct fstotals totals = fstree_totals(tree);
	double made = now();

	write_tree(tree, argv[1]);
	printf("%llu %llu %.6f %.6f %ld %.6f\n", (unsigned long long)totals.nodes,
	       (unsigned long long)totals.data_bytes, made - start, now() - made,
	       peak_bytes() - base_bytes, processor_time());
	fstree_free(tree);
	return 0;
}
