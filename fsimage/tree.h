/*
 * tree: what shall be in an ext4 image, in memory, before a byte of it is written.
 *
 * Nodes carry metadata and say where their data comes from. fsimage/writer.h puts the tree in
 * canonical order (children by name, bytewise) and writes it. Memory is proportional to the
 * number of nodes. All functions report errors as jobdisk/error.h says and print nothing.
 */
#ifndef FSIMAGE_TREE_H
#define FSIMAGE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "jobdisk/error.h"

struct fstree;
struct fsnode;

/* Metadata of one node; mode has the file type bits too. */
struct fsmeta {
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec mtime;
};

/* How a host directory becomes nodes. */
struct fsimport {
	bool override_owner; /* every node gets uid and gid below, not the host file's */
	uid_t uid;
	gid_t gid;
	bool clamp_mtime; /* times later than latest_mtime (seconds since 1970) become it */
	time_t latest_mtime;
};

/* A tree with an empty root directory of META. NULL when there is no memory. */
struct fstree *fstree_new(const struct fsmeta *meta);
/* Frees the tree and all nodes; NULL is allowed. */
void fstree_free(struct fstree *tree);

struct fsnode *fstree_root(struct fstree *tree);
/* The child of that name, or NULL. */
struct fsnode *fstree_child(struct fsnode *directory, const char *name);
/* The node at PATH ("a/b/c", relative to DIRECTORY), or NULL. */
struct fsnode *fstree_lookup(struct fsnode *directory, const char *path);

/*
 * Each adds one child to DIRECTORY and returns it, or NULL with ERROR set (name empty, ".",
 * "..", with a slash, longer than 255 bytes, or there already; no memory).
 * META->mode's type bits are set by the function.
 */
struct fsnode *fstree_add_directory(struct fstree *tree, struct fsnode *directory, const char *name,
				    const struct fsmeta *meta, struct error *error);
/* A regular file whose SIZE bytes are copied from BYTES now. */
struct fsnode *fstree_add_bytes(struct fstree *tree, struct fsnode *directory, const char *name,
				const struct fsmeta *meta, const void *bytes, size_t size,
				struct error *error);
struct fsnode *fstree_add_symlink(struct fstree *tree, struct fsnode *directory, const char *name,
				  const struct fsmeta *meta, const char *target,
				  struct error *error);
/* A character or block device, FIFO or socket, as META->mode says. */
struct fsnode *fstree_add_special(struct fstree *tree, struct fsnode *directory, const char *name,
				  const struct fsmeta *meta, dev_t device, struct error *error);

/*
 * Adds the host's file, directory (with all below it), symlink or special file PATH, looked up
 * relative to DIRECTORY_FD (or AT_FDCWD), as NAME. Symlinks are never followed, PATH's last
 * component neither. Names, modes, nanosecond mtimes, hard links among all imports into one
 * tree, and holes are kept; owners as IMPORT says; sockets are left out. Data is not read now:
 * the writer opens the file again and fails if it has changed since. DIRECTORY_FD may be closed
 * and the working directory changed before that.
 * A directory that is imported over a directory is merged with it and gives it its metadata;
 * every other name that is there already is an error, and so are unreadable files and
 * directories; the error names the path. After an error part of it may be in the tree.
 */
struct fsnode *fstree_import(struct fstree *tree, struct fsnode *directory, const char *name,
			     int directory_fd, const char *path, const struct fsimport *import,
			     struct error *error);
/* The same for the contents of the host directory PATH: its children become DIRECTORY's. */
int fstree_import_contents(struct fstree *tree, struct fsnode *directory, int directory_fd,
			   const char *path, const struct fsimport *import, struct error *error);

/* Adds PERMISSIONS to the mode of NODE (of every name that the file has in the tree). */
void fstree_add_mode(struct fsnode *node, mode_t permissions);

/* How many nodes and how many bytes of file data (holes not counted) the tree holds so far. */
struct fstotals {
	uint64_t nodes;
	uint64_t data_bytes;
};
struct fstotals fstree_totals(const struct fstree *tree);

#endif
