/* changes: what the job created, changed or deleted in its workspace. */
#ifndef HOST_TOOLS_CHANGES_H
#define HOST_TOOLS_CHANGES_H

#include "host-tools/overlay.h"

enum change_kind { CHANGE_CREATED, CHANGE_CHANGED, CHANGE_DELETED };

struct change {
	enum change_kind kind;
	char *path;	    /* below the workspace */
	struct fsstat stat; /* now; of the lower layer for what is deleted */
};

struct changes {
	struct change *items;
	size_t count, capacity;
};

/*
 * Lists the changes on a job disk in order of path. A file that was copied up but has the same
 * type, mode, times and bytes as its input is not a change; nor is a directory that only got
 * other entries. -1 with ERROR set and nothing to free.
 */
int changes_read(struct fsimage *image, struct changes *changes, struct error *error);
void changes_free(struct changes *changes);

/* "created", "changed", "deleted"; "file", "directory", "symlink", "fifo", ... */
const char *change_kind_name(enum change_kind kind);
const char *file_type_name(mode_t mode);

#endif
