/*
 * export_private: the parts of an export. export.c makes it, export_read.c reads it, and
 * open_files.c keeps the files open that were read last.
 */
#ifndef HOST_TOOLS_LAZY_EXPORT_PRIVATE_H
#define HOST_TOOLS_LAZY_EXPORT_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "host-tools/lazy/export.h"

/* Where an input's files are opened from. */
struct export_base {
	char *path; /* of the directory, for people */
	int fd;	    /* O_PATH */
	char *name; /* of the only file, in it; NULL: all that is below it */
};

/* What the map does not say of its file with the same index. */
struct export_file {
	uint64_t device, inode;
	int64_t ctime_seconds;
	uint32_t ctime_nanoseconds;
	uint32_t base;	      /* index */
	uint32_t below_bytes; /* so much of the end of the map's path is below the base */
	uint32_t zero;
};

/* Slots that a file may be in, and how many such sets there are. */
#define OPEN_FILES_WAYS 4
#define OPEN_FILES_SETS 64

struct open_file {
	int fd; /* -1: none */
	uint32_t file;
	uint32_t users;
	uint64_t last_use;
};

struct open_files {
	pthread_mutex_t lock;
	uint64_t uses;
	struct open_file slots[OPEN_FILES_SETS][OPEN_FILES_WAYS];
};

struct export
{
	struct export_options options; /* without the inputs */
	struct export_base *bases;
	size_t base_count;

	int disk_fd; /* metadata; holes where data is */
	int map_fd;  /* the map, and behind it, from FILES_OFFSET on, the files */
	void *memory;
	size_t memory_bytes; /* of it, mapped */
	uint64_t map_bytes;
	struct map map;
	const struct export_file *files;
	char identity[DIGEST_HEX_BYTES];

	_Atomic uint8_t *lost; /* a bit for each file that was told of */
	struct open_files open_files;
};

/* --- export_read.c --- */

/* Reads LENGTH bytes of file FILE, whose data ends before that perhaps: then zeros. */
int export_read_file(struct export *export, uint32_t file, void *bytes, uint64_t length,
		     uint64_t offset, struct error *error);
/* Looks whether the file is still what it was, and tells if not. */
void export_check_file(struct export *export, uint32_t file);

/* --- open_files.c --- */

void open_files_init(struct open_files *files);
void open_files_close(struct open_files *files);

/* The descriptor of file FILE, in use until open_files_put; -1 where it is not open. */
int open_files_get(struct open_files *files, uint32_t file);
/* Hands over FD, which is in use until open_files_put. */
void open_files_add(struct open_files *files, uint32_t file, int fd);
void open_files_put(struct open_files *files, uint32_t file, int fd);

#endif
