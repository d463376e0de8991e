/* changes: what the job created, changed or deleted in its workspace. */
#ifndef HOST_TOOLS_CHANGES_H
#define HOST_TOOLS_CHANGES_H

#include "host-tools/overlay.h"

enum change_kind { CHANGE_CREATED, CHANGE_CHANGED, CHANGE_DELETED };

struct change {
	enum change_kind kind;
	const char *path;   /* below the workspace */
	struct fsstat stat; /* now; of the lower layer for what is deleted */
};

struct changes {
	struct change *items;
	size_t count, capacity;
	bool cut_off; /* there are more */
};

/* More than that are neither listed nor collected. */
#ifndef CHANGES_MAX
#define CHANGES_MAX 1000000
#endif

/*
 * Calls NOTE for each change on a job disk in order of path; what it returns, if not 0, ends the
 * search and is returned. A file that was copied up but has the same type, mode, times and bytes
 * as its input is not a change; nor is a directory that only got other entries. Of a file on the
 * input disk the bytes are not here: its type, mode, size and time decide. Without one that is
 * known, what is deleted where nothing was is noted with an empty STAT: it may have been there. 0,
 * or -1 with ERROR set.
 */
typedef int changes_note(void *context, const struct change *change, struct error *error);
int changes_find(const struct overlay *overlay, changes_note *note, void *context,
		 struct error *error);

/*
 * What the job did to one path, by the same rules: 1 with *KIND set, 0 when nothing, -1 with ERROR
 * set.
 */
int changes_classify(const struct overlay *overlay, const struct overlay_entry *entry,
		     enum change_kind *kind, struct error *error);

/* Adds a copy of CHANGE. 0, or -1 with ERROR set. */
int changes_add(struct changes *changes, const struct change *change, struct error *error);
void changes_free(struct changes *changes);

/* "created", "changed", "deleted"; "file", "directory", "symlink", "fifo", ... */
const char *change_kind_name(enum change_kind kind);
const char *file_type_name(mode_t mode);

#endif
