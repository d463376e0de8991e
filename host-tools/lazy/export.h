/*
 * export: a tree of the host as a disk to be served. Its metadata is written once into a file
 * without a name; its data is read from the tree's files when it is asked for, and is an error
 * where they are not any more what they were.
 *
 * Blocks are those of the map (map.h). All functions but export_make and export_free may be
 * called by several threads at once. None prints.
 */
#ifndef HOST_TOOLS_LAZY_EXPORT_H
#define HOST_TOOLS_LAZY_EXPORT_H

#include <stdbool.h>

#include "host-tools/lazy/map.h"
#include "host-tools/values.h"
#include "imagebuilder/digest.h"

struct export_options {
	const struct strings *inputs; /* absolute paths, by the slash rule of a job's inputs */
	uid_t uid;		      /* the owner of all files on the disk */
	gid_t gid;
	/*
	 * Told once for each file whose data cannot be had any more: why, with its name. By the
	 * thread that wanted it. Not NULL.
	 */
	void (*lost)(void *context, const struct error *why);
	void *context;
};

struct export;

/*
 * Reads the tree (no data of its files) and makes the disk and its map, in $TMPDIR or /var/tmp.
 * Returns when a change of a file from now on has a time of its own. The strings of OPTIONS are
 * copied. NULL with ERROR set.
 */
struct export *export_make(const struct export_options *options, struct error *error);
void export_free(struct export *export); /* NULL is allowed */

const struct map *export_map(const struct export *export);
/* The identity as text. */
const char *export_identity(const struct export *export);
uint64_t export_map_bytes(const struct export *export);

/*
 * Reads SIZE bytes at OFFSET, which must be within the disk, or the map. 0, or -1 with ERROR set;
 * BYTES may then hold anything.
 */
int export_read_disk(struct export *export, void *bytes, uint64_t size, uint64_t offset,
		     struct error *error);
int export_read_map(const struct export *export, void *bytes, uint64_t size, uint64_t offset,
		    struct error *error);

/* Whether there is data or metadata at OFFSET of the disk, and in *END up to where that holds. */
bool export_has_data(const struct export *export, uint64_t offset, uint64_t *end);

/* What a process that only serves still has to reach: restricts this one to it. -1 with errno. */
int export_confine(const struct export *export);

#endif
