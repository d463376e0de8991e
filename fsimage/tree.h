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
	/*
	 * Holes are the blocks of zeros in a file, and no others: the tree then does not depend on
	 * what file system it lay on, or how it came there. Files are read for it.
	 */
	bool zeros_are_holes;
	/*
	 * Extended attributes too, as far as this process may read them: user.*, trusted.*,
	 * security.capability and access control lists; no others.
	 */
	bool xattrs;
	/* But not trusted.*, which only root may read: without it, all see the same. */
	bool omit_trusted;
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
/* LENGTH bytes at SOURCE_OFFSET of the source are at OFFSET of the file; what no run covers is a
 * hole. */
struct fsrun {
	uint64_t offset, source_offset, length;
};
/*
 * A regular file of SIZE_BYTES whose data is read from SOURCE_FD (kept open by the caller until
 * the tree is written; named SOURCE_NAME in errors) when the image is written. RUNS ascend, do
 * not overlap, lie within the size and are copied; so is the name.
 */
struct fsnode *fstree_add_runs(struct fstree *tree, struct fsnode *directory, const char *name,
			       const struct fsmeta *meta, int source_fd, const char *source_name,
			       const struct fsrun *runs, size_t run_count, uint64_t size_bytes,
			       struct error *error);
/* Another name of TARGET, which must be in the tree and not a directory. */
struct fsnode *fstree_add_link(struct fstree *tree, struct fsnode *directory, const char *name,
			       struct fsnode *target, struct error *error);
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

/*
 * Gives NODE the extended attributes of the host's file PATH, as far as IMPORT wants them, in the
 * place of those that it has. The rest of what fstree_import does is not done.
 */
int fstree_import_xattrs(struct fstree *tree, struct fsnode *node, int directory_fd,
			 const char *path, const struct fsimport *import, struct error *error);

/*
 * Takes NODE and all below it out of the tree; the pointers are then no longer to be used. Other
 * names of a file stay and keep its data. NODE is not the root.
 */
void fstree_remove(struct fstree *tree, struct fsnode *node);

/* The next three are about the file that NODE is a name of: every other name shows it too. */

/* Adds PERMISSIONS to its mode. */
void fstree_add_mode(struct fsnode *node, mode_t permissions);
/* Replaces its metadata, but for the type bits of the mode. */
void fstree_set_meta(struct fsnode *node, const struct fsmeta *meta);
/*
 * Sets an extended attribute by its full name: "user.x", "trusted.x", "security.capability", or
 * an access control list, "system.posix_acl_access" or "..._default", in the form that
 * getxattr(2) has. The value is copied; it replaces one of the same name. 0, or -1 with ERROR
 * set: unknown kind of name, name over 255 bytes, no such list, no memory. Whether
 * all attributes of a file fit is seen when the image is written.
 */
int fstree_set_xattr(struct fstree *tree, struct fsnode *node, const char *name, const void *value,
		     size_t size, struct error *error);

/* Takes all extended attributes from it. */
void fstree_clear_xattrs(struct fsnode *node);

/*
 * Calls VISIT for each extended attribute of it, in an order that depends on nothing but them.
 * Values are as ext4 stores them: those of access control lists have a form of their own.
 */
typedef void fstree_visit_xattr(void *context, const char *name, const void *value, size_t size);
void fstree_each_xattr(const struct fsnode *node, fstree_visit_xattr *visit, void *context);

/* The metadata of the file that NODE is a name of, until it changes. */
const struct fsmeta *fstree_meta(const struct fsnode *node);
/*
 * Copies the target of the symlink NODE, cut to fit, with a final NUL into TARGET, which has SIZE
 * bytes. Returns its length as copied.
 */
size_t fstree_symlink(const struct fsnode *node, char *target, size_t size);
/* The path of NODE from the root ("a/b/c"), to be freed; NULL when there is no memory. */
char *fstree_path(const struct fsnode *node);

/* Where a file of the host was imported from, and what it was then. */
struct fsorigin {
	const char *import_path; /* as the import was given it; lasts as long as the tree */
	/* So much of the end of its path in the tree is its path below that; 0: it is that. */
	size_t below_bytes;
	dev_t device;
	ino_t inode;
	uint64_t size_bytes;
	struct timespec mtime, ctime;
};
/* That of NODE, a regular file that was imported and is not another name of one. */
struct fsorigin fstree_origin(const struct fsnode *node);

/* One of the names in DIRECTORY, or NULL when there are none. */
struct fsnode *fstree_first_child(const struct fsnode *directory);

/* How many names and how many bytes of file data (holes not counted) the tree holds so far. */
struct fstotals {
	uint64_t nodes;
	uint64_t data_bytes;
};
struct fstotals fstree_totals(const struct fstree *tree);

#endif
