/*
 * sink: writes a job's outputs below one directory, and nowhere else.
 *
 * Paths come from a hostile disk: every one is opened beneath the directory with openat2 and
 * RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS. Regular files, directories and symlinks only; no set-id
 * or sticky bits; the owner is the caller. A file is written beside its name, then renamed; a
 * failed one is removed.
 */
#ifndef HOST_TOOLS_SINK_H
#define HOST_TOOLS_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "fsimage/reader.h"

struct sink {
	int directory_fd;
	const char *directory; /* its name in errors */
	struct fsimage *image;
	uint64_t bytes_left; /* RECORD_UNSET: no cap */
};

/* Each puts one object at PATH; missing parent directories are made. 0, or -1 with ERROR set. */
int sink_directory(const struct sink *sink, const char *path, struct error *error);
int sink_file(struct sink *sink, const char *path, const struct fsstat *stat, struct error *error);
int sink_symlink(struct sink *sink, const char *path, const struct fsstat *stat,
		 struct error *error);
/* Gives a directory its mode and time; after everything in it has been written. */
int sink_directory_done(struct sink *sink, const char *path, const struct fsstat *stat,
			struct error *error);
/* A file with the given bytes (job.json, the console log). */
int sink_bytes(struct sink *sink, const char *path, const char *bytes, size_t length,
	       struct error *error);

#endif
