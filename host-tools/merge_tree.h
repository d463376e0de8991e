/*
 * merge_tree: the directory that a merge goes into, path by path. Others may change it at the same
 * time; no path is followed through a symlink or into what is mounted below.
 */
#ifndef HOST_TOOLS_MERGE_TREE_H
#define HOST_TOOLS_MERGE_TREE_H

#include <sys/stat.h>

#include "host-tools/merge_plan.h"
#include "host-tools/sink.h"

struct merge_tree {
	struct sink sink; /* at the directory, with one_mount */
	int parent_fd;	  /* of the path that was asked for last; -1: none */
	char parent[PATH_MAX];
};

struct merge_tree merge_tree_at(int directory_fd, const char *directory);
void merge_tree_close(struct merge_tree *tree);

/*
 * The directory that holds PATH, by an O_PATH descriptor that lasts until the next path is asked
 * for, and PATH's last name. -1 with errno: ENOENT, ENOTDIR or ELOOP where it is no directory of
 * the tree.
 */
int merge_tree_parent(struct merge_tree *tree, const char *path, const char **name);
/* To be called when a directory was replaced. */
void merge_tree_forget(struct merge_tree *tree);

/*
 * What lies at PATH: 0; 1 when nothing does, with *HAS_PARENT false where there is no directory
 * that could hold it; -1 with ERROR set.
 */
int merge_tree_look(struct merge_tree *tree, const char *path, struct stat *status,
		    bool *has_parent, struct error *error);

/* Whether the symlink at PATH has TARGET. */
bool merge_tree_points_to(struct merge_tree *tree, const char *path, const char *target);

/* Whether the files at PATH of both trees can be read and have the same bytes. */
bool merge_tree_same_bytes(struct merge_tree *a, struct merge_tree *b, const char *path);

/* chmod(2) and utimensat(2) for an O_PATH descriptor: 0, or -1 with errno. */
int merge_tree_chmod(int fd, mode_t mode);
int merge_tree_set_time(int fd, const struct timespec *mtime);

/*
 * A new directory of our own in PARENT_FD, with a name that starts with PREFIX, into NAME. Its
 * descriptor, which is not O_PATH; or -1 with errno.
 */
int merge_tree_make_own(int parent_fd, const char *prefix, char name[NAME_MAX + 1]);
/*
 * Removes NAME, a directory of our own, and all that it holds. What it holds is moved up into it
 * step by step, so that no depth is too much. 0, or -1 with errno.
 */
int merge_tree_remove_own(int parent_fd, const char *name);

#endif
