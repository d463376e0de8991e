#include "host-tools/changes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host-tools/values.h"

struct search {
	const struct overlay *overlay;
	changes_note *note;
	void *context;
};

const char *change_kind_name(enum change_kind kind)
{
	static const char *const names[] = {"created", "changed", "deleted"};

	return names[kind];
}

const char *file_type_name(mode_t mode)
{
	static const struct {
		mode_t type;
		const char *name;
	} types[] = {
		{S_IFREG, "file"},	   {S_IFDIR, "directory"},
		{S_IFLNK, "symlink"},	   {S_IFCHR, "character device"},
		{S_IFBLK, "block device"}, {S_IFIFO, "fifo"},
		{S_IFSOCK, "socket"},
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if ((mode & S_IFMT) == types[i].type)
			return types[i].name;
	return "unknown";
}

int changes_add(struct changes *changes, const struct change *change, struct error *error)
{
	if (changes->count == CHANGES_MAX)
		return error_set(error, "the job changed more than %d files", CHANGES_MAX);
	struct change *items =
		list_room(changes->items, changes->count, &changes->capacity, sizeof(*items));
	if (!items)
		return error_set(error, "no memory for the list of outputs");
	changes->items = items;
	struct change copy = *change;
	copy.path = strdup(change->path);
	if (!copy.path)
		return error_set(error, "no memory for the list of outputs");
	changes->items[changes->count++] = copy;
	return 0;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static int same_target(struct fsimage *disk, struct fsimage *lower_image,
		       const struct overlay_entry *entry, struct error *error)
{
	char upper[4097], lower[4097];

	if (fsimage_readlink(disk, entry->upper.inode, upper, sizeof(upper), error) ||
	    fsimage_readlink(lower_image, entry->lower.inode, lower, sizeof(lower), error))
		return -1;
	return strcmp(upper, lower) == 0;
}

/* overlayfs copies a file up as soon as it is opened for writing: 1 when nothing came of it. */
static int is_unchanged(const struct overlay *overlay, const struct overlay_entry *entry,
			struct error *error)
{
	const struct fsstat *upper = &entry->upper, *lower = &entry->lower;
	struct fsimage *lower_image = entry->lower_on_inputs ? overlay->inputs : overlay->disk;

	if (upper->mode != lower->mode || upper->uid != lower->uid || upper->gid != lower->gid)
		return 0;
	if (S_ISDIR(upper->mode))
		return 1;
	if (!same_time(&upper->mtime, &lower->mtime) || upper->size_bytes != lower->size_bytes)
		return 0;
	if (S_ISLNK(upper->mode))
		return same_target(overlay->disk, lower_image, entry, error);
	if (!S_ISREG(upper->mode) || entry->lower_on_inputs)
		return 1;
	return fsimage_same(overlay->disk, upper->inode, lower->inode, error);
}

int changes_classify(const struct overlay *overlay, const struct overlay_entry *entry,
		     enum change_kind *kind, struct error *error)
{
	/* A whiteout over nothing: the job made a file, as far as is known, and took it away again.
	 */
	if (!entry->in_lower && entry->whiteout && overlay->inputs)
		return 0;
	*kind = entry->whiteout	  ? CHANGE_DELETED
		: entry->in_lower ? CHANGE_CHANGED
				  : CHANGE_CREATED;
	if (*kind != CHANGE_CHANGED)
		return 1;
	int unchanged = is_unchanged(overlay, entry, error);
	return unchanged < 0 ? -1 : !unchanged;
}

static int note_entry(void *context, const struct overlay_entry *entry, struct error *error)
{
	struct search *search = context;
	struct change change = {.path = entry->path};

	int changed = changes_classify(search->overlay, entry, &change.kind, error);
	if (changed <= 0)
		return changed;
	change.stat = change.kind == CHANGE_DELETED ? entry->lower : entry->upper;
	return search->note(search->context, &change, error);
}

int changes_find(const struct overlay *overlay, changes_note *note_change, void *context,
		 struct error *error)
{
	struct search search = {.overlay = overlay, .note = note_change, .context = context};

	return overlay_walk(overlay, "", true, note_entry, &search, error);
}

void changes_free(struct changes *changes)
{
	for (size_t i = 0; i < changes->count; i++)
		free((void *)(uintptr_t)changes->items[i].path);
	free(changes->items);
}
