/*
 * sink: writes a job's outputs below one directory, and nowhere else.
 *
 * Paths come from a hostile disk: every one is opened beneath the directory, step by step, without
 * ".." and without following a link. Regular files, directories and symlinks only; no set-id
 * or sticky bits; the owner is the caller. A file is written beside its name, then renamed; a
 * failed one is removed. What takes the place of another file is synced before; the rest is for
 * sink_sync.
 */
#ifndef HOST_TOOLS_SINK_H
#define HOST_TOOLS_SINK_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "fsimage/reader.h"

struct sink {
	int directory_fd;
	const char *directory; /* its name in errors */
	struct fsimage *image;
	uint64_t bytes_left; /* RECORD_UNSET: no cap */
	bool cap_reached;    /* why a copy failed */
	/*
	 * Told of each file before its data is copied, by its name for the time being, and of each
	 * piece of data that is there; may be NULL. Non-zero, with ERROR set, stops the copy.
	 */
	int (*started)(void *context, const char *beside, const struct fsstat *stat,
		       struct error *error);
	fsimage_copied *copied;
	void *context;
	bool is_staging; /* files get their modes and times later, and until then 0600 */
	bool one_mount;	 /* sink_open and sink_look enter nothing that is mounted below: EXDEV */
	/*
	 * PATH_MAX bytes that keep the name for the time being of what is being made, or NULL:
	 * in shared memory they tell a parent what a child that was killed left behind.
	 */
	char *unfinished;
};

/* A file that has no name of its own yet. */
struct sink_file {
	int fd; /* read-write */
	int parent_fd;
	char shown[PATH_MAX];	   /* in errors */
	char beside[NAME_MAX + 1]; /* its name for the time being */
	char name[NAME_MAX + 1];   /* and then */
};

/*
 * Makes a file that is to be PATH, of MODE less the umask until then; missing parent directories
 * are made. 0, or -1 with ERROR set.
 */
int sink_begin(const struct sink *sink, const char *path, mode_t mode, struct sink_file *file,
	       struct error *error);
/*
 * Gives it its name, in the place of a file or link that has it, but never of a directory or a
 * special file; closes it. With SYNC its bytes are on the disk before. -1 with ERROR set when that
 * failed; the file is gone then.
 */
int sink_commit(struct sink_file *file, bool sync, struct error *error);
void sink_abandon(struct sink_file *file);

/* Each puts one object at PATH. 0, or -1 with ERROR set. */
int sink_directory(const struct sink *sink, const char *path, struct error *error);
int sink_copy(struct sink *sink, const char *path, const struct fsstat *stat, struct error *error);
int sink_symlink(const struct sink *sink, const char *path, const char *target,
		 struct error *error);
/* Gives a symlink its time. Not for a confined child, whose times are set by descriptor only. */
int sink_symlink_done(const struct sink *sink, const char *path, const struct timespec *mtime,
		      struct error *error);
/* Gives a directory its mode and time; after everything in it has been written. */
int sink_directory_done(struct sink *sink, const char *path, const struct fsstat *stat,
			struct error *error);
/* A file with the given bytes (job.json, the console log). */
int sink_bytes(struct sink *sink, const char *path, const char *bytes, size_t length,
	       struct error *error);

/*
 * Removes what UNFINISHED names, written by a child that is gone and may have been taken over:
 * only a file with a name for the time being, and only below the sink.
 */
void sink_remove_unfinished(const struct sink *sink);

/* Opens what lies at PATH for reading, not through a link: its descriptor, or -1 with errno. Not
 * for a confined child (openat2). */
int sink_open(const struct sink *sink, const char *path);

/*
 * A descriptor of what lies at PATH, whatever it is, for fstat(2) and readlinkat(2) and nothing
 * else: not even a device is opened. -1 with errno.
 */
int sink_look(const struct sink *sink, const char *path);

/*
 * All that was written is on the disk when this returns, as far as it is on the directory's own
 * file system. DIRECTORY_FD is not O_PATH. 0, or -1 with ERROR set.
 */
int sink_sync(const struct sink *sink, struct error *error);

#endif
