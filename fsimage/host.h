/*
 * host: directories and files of the host that imported nodes take their data from; private to
 * fsimage. Paths are chains of names, opened one by one and never through a symlink, so a tree
 * may be deeper than PATH_MAX and a directory that was swapped leads nowhere else.
 */
#ifndef FSIMAGE_HOST_H
#define FSIMAGE_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "jobdisk/error.h"

/* A directory below PARENT; without a parent: a directory that is open, where imports start. */
struct host_directory {
	struct host_directory *next_allocated; /* in the tree's list: for freeing */
	struct host_directory *parent;
	struct host_directory *descent; /* scratch of host_enter: the way down */
	int base_fd;			/* -1: has a parent */
	dev_t device;			/* these two: of a base only */
	ino_t inode;
	char name[];
};

/* A regular file as it was when it was imported. */
struct host_file {
	struct host_directory *directory;
	dev_t device;
	ino_t inode;
	uint64_t size_bytes;
	struct timespec mtime, ctime;
	bool sparse;		/* has fewer blocks than its size needs: look for holes */
	bool find_zeros;	/* holes are its blocks of zeros: look for them */
	uint64_t data_bytes;	/* holes not counted */
	uint64_t data_blocks;	/* of the image */
	uint64_t segment_count; /* runs of data between holes */
	char name[];		/* in DIRECTORY */
};

/* The directory that was entered last. Starts as HOST_CURSOR_NOWHERE; end with host_leave. */
struct host_cursor {
	const struct host_directory *directory;
	int fd;
};
#define HOST_CURSOR_NOWHERE ((struct host_cursor){NULL, -1})

/* An O_PATH descriptor of DIRECTORY that lasts until the next call; -1 with ERROR set. */
int host_enter(struct host_cursor *cursor, struct host_directory *directory, struct error *error);
void host_leave(struct host_cursor *cursor);

/* The path of NAME in DIRECTORY for people; a long one loses its beginning. */
#define HOST_PATH_BYTES 900
struct host_path {
	char text[HOST_PATH_BYTES];
};
struct host_path host_path(const struct host_directory *directory, const char *name);
/* Puts NAME before PATH; where there is no room for it, "...", and returns false. */
bool host_path_prepend(struct host_path *path, const char *name);

/* Opens NAME (in the directory behind DIRECTORY_FD) for reading; -1 with errno. */
int host_open_file(int directory_fd, const char *name);

/* Whether FILE is what STAT says. */
bool host_file_is(const struct host_file *file, const struct stat *stat);

/*
 * The next run of data at or after OFFSET (a multiple of the block size) in the file behind FD,
 * in whole blocks but not past the end. 1, or 0 when there is none, or -1 with errno.
 */
struct host_segment {
	uint64_t start, end;
};
int host_next_segment(int fd, const struct host_file *file, uint64_t offset,
		      struct host_segment *segment);

#endif
