/*
 * files: the few things that every part of the image builder does with files.
 */
#ifndef IMAGEBUILDER_FILES_H
#define IMAGEBUILDER_FILES_H

#include <fts.h>
#include <stddef.h>
#include <stdint.h>

#include "jobdisk/error.h"

/* Opens the regular file PATH to read it, and tells its size. -1 on error. */
int files_open(const char *path, uint64_t *size_bytes, struct error *error);

/*
 * Reads what is left of FD, at most MAX_BYTES; more is an error. The bytes, with a NUL behind them
 * that *SIZE does not count, belong to the caller. NULL on error.
 */
char *files_read(int fd, const char *name, size_t max_bytes, size_t *size, struct error *error);

int files_write(int fd, const char *name, const void *bytes, size_t size, struct error *error);

/*
 * Appends the SIZE bytes of the file behind INPUT_FD, from its position, to OUTPUT_FD. A file that
 * has fewer by now is an error.
 */
int files_copy(int input_fd, const char *input_name, int output_fd, const char *output_name,
	       uint64_t size_bytes, struct error *error);

/*
 * Starts a walk through DIRECTORY, children in order of name (bytewise), symlinks not followed
 * but for DIRECTORY itself. To be closed with fts_close. NULL on error.
 */
FTS *files_walk(const char *directory, struct error *error);
/*
 * The next file, or directory before its contents; NULL at the end (0 in *RESULT) and on error
 * (-1, ERROR set).
 */
FTSENT *files_walk_next(FTS *walk, int *result, struct error *error);

#endif
