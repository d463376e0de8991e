/*
 * overlay: the workspace as the job left it, read from the two layers on the job disk: the
 * input tree below, and above it what the job created, changed or deleted (Linux,
 * Documentation/filesystems/overlayfs.rst: whiteouts, opaque directories). Below both can be the
 * input disk.
 */
#ifndef HOST_TOOLS_OVERLAY_H
#define HOST_TOOLS_OVERLAY_H

#include "fsimage/reader.h"

#define OVERLAY_PATH_MAX 4096

struct overlay {
	struct fsimage *disk;	/* the job disk: upper layer and packed inputs */
	struct fsimage *inputs; /* of the input disk, metadata at least; NULL: none that is known */
};

/* One path of the workspace, in either layer or both. */
struct overlay_entry {
	const char *path; /* below the workspace, "a/b" */
	bool in_upper, in_lower, whiteout;
	bool opaque; /* an upper directory that hides the lower one */
	struct fsstat upper, lower;
	bool lower_on_inputs; /* LOWER is the input disk's */
	bool has_below;	      /* LOWER is a packed directory; the input disk has one there too, */
	struct fsstat below;  /* and this is it */
};

/* Whether the entry exists for the job, and as what. */
bool overlay_exists(const struct overlay_entry *entry);
const struct fsstat *overlay_stat(const struct overlay_entry *entry);

/*
 * Calls VISIT for every path below PATH ("" is the workspace), parents before children, in
 * bytewise order of names. With UPPER_ONLY, paths that the job never touched are left out.
 * A visitor's non-zero return ends the walk and is returned. -1 with ERROR set when the image is
 * not sane: directories nested too deep, or reached twice.
 */
typedef int overlay_visit(void *context, const struct overlay_entry *entry, struct error *error);
int overlay_walk(const struct overlay *overlay, const char *path, bool upper_only,
		 overlay_visit *visit, void *context, struct error *error);

/* Looks PATH up in the merged view. 0 found, 1 not there, -1 error; ENTRY->path is PATH. */
int overlay_lookup(const struct overlay *overlay, const char *path, struct overlay_entry *entry,
		   struct error *error);

#endif
