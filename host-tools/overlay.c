#include "host-tools/overlay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host-tools/values.h"
#include "jobdisk/layout.h"

/* Deeper than any path that a job can name at once. */
#define DEPTH_MAX (OVERLAY_PATH_MAX / 2)

struct listing {
	struct item {
		char *name;
		struct fsstat stat;
		bool on_inputs; /* these three: as of an entry's lower layer */
		bool has_below;
		struct fsstat below;
	} * items;
	size_t count, capacity;
};

/* A bit for each inode of a directory that was listed. */
struct entered {
	unsigned char *bits;
	size_t size;
};

struct walk {
	const struct overlay *overlay;
	bool upper_only;
	overlay_visit *visit;
	void *context;
	struct error *error;
	char path[OVERLAY_PATH_MAX];
	struct entered entered_disk, entered_inputs;
};

/* --- one layer's directory --- */

static int append_item(void *context, const char *name, const struct fsstat *stat,
		       struct error *error)
{
	struct listing *listing = context;

	struct item *items =
		list_room(listing->items, listing->count, &listing->capacity, sizeof(*items));
	if (!items)
		return error_set(error, "no memory for a directory's entries");
	listing->items = items;
	items[listing->count].name = strdup(name);
	if (!items[listing->count].name)
		return error_set(error, "no memory for a directory's entries");
	items[listing->count].on_inputs = items[listing->count].has_below = false;
	items[listing->count++].stat = *stat;
	return 0;
}

static void free_listing(struct listing *listing)
{
	for (size_t i = 0; i < listing->count; i++)
		free(listing->items[i].name);
	free(listing->items);
}

/* A directory with two parents would make the walk exponentially long. */
static int enter_once(struct entered *entered, uint32_t inode, struct error *error)
{
	size_t byte = inode / 8;

	if (byte >= entered->size) {
		size_t size = byte + 4096;
		unsigned char *bits = realloc(entered->bits, size);
		if (!bits)
			return error_set(error, "no memory for the list of directories");
		memset(bits + entered->size, 0, size - entered->size);
		entered->bits = bits;
		entered->size = size;
	}
	if (entered->bits[byte] & (1U << inode % 8))
		return error_set(error, "directory inode %u has two names", inode);
	entered->bits[byte] |= (unsigned char)(1U << inode % 8);
	return 0;
}

static int list_on_disk(struct walk *w, uint32_t inode, struct listing *listing)
{
	if (enter_once(&w->entered_disk, inode, w->error))
		return -1;
	return fsimage_list(w->overlay->disk, inode, append_item, listing, w->error);
}

static int list_on_inputs(struct walk *w, uint32_t inode, struct listing *listing)
{
	if (enter_once(&w->entered_inputs, inode, w->error) ||
	    fsimage_list(w->overlay->inputs, inode, append_item, listing, w->error))
		return -1;
	for (size_t i = 0; i < listing->count; i++)
		listing->items[i].on_inputs = true;
	return 0;
}

/* --- entries --- */

static bool is_whiteout(const struct fsstat *stat)
{
	return S_ISCHR(stat->mode) && stat->device_major == 0 && stat->device_minor == 0;
}

static int is_opaque(struct fsimage *image, const struct fsstat *stat, struct error *error)
{
	char value[4];

	if (!S_ISDIR(stat->mode))
		return 0;
	int length = fsimage_getxattr(image, stat->inode, "trusted.overlay.opaque", value,
				      sizeof(value), error);
	return length < 0 ? -1 : length == 1 && value[0] == 'y';
}

static int set_upper(struct fsimage *image, struct overlay_entry *entry, const struct fsstat *stat,
		     struct error *error)
{
	int opaque = is_opaque(image, stat, error);

	entry->in_upper = true;
	entry->upper = *stat;
	entry->whiteout = is_whiteout(stat);
	entry->opaque = opaque > 0;
	return opaque < 0 ? -1 : 0;
}

bool overlay_exists(const struct overlay_entry *entry)
{
	return entry->in_upper ? !entry->whiteout : entry->in_lower;
}

const struct fsstat *overlay_stat(const struct overlay_entry *entry)
{
	return entry->in_upper ? &entry->upper : &entry->lower;
}

static bool upper_is_directory(const struct overlay_entry *entry)
{
	return entry->in_upper && !entry->whiteout && S_ISDIR(entry->upper.mode);
}

static bool lower_is_directory(const struct overlay_entry *entry)
{
	return entry->in_lower && S_ISDIR(entry->lower.mode);
}

/* Puts the entries BELOW under those of LISTING, which hide them but for directories' contents. */
static int add_below(struct listing *listing, const struct listing *below, struct error *error)
{
	struct listing both = {.count = 0};
	int failed = 0;

	for (size_t l = 0, b = 0; !failed && (l < listing->count || b < below->count);) {
		int order = l == listing->count ? 1
			    : b == below->count
				    ? -1
				    : strcmp(listing->items[l].name, below->items[b].name);
		const struct item *item = order <= 0 ? &listing->items[l] : &below->items[b];
		const struct item *hidden = order == 0 ? &below->items[b] : NULL;

		failed = append_item(&both, item->name, &item->stat, error);
		if (!failed) {
			struct item *added = &both.items[both.count - 1];
			added->on_inputs = order > 0;
			added->has_below =
				hidden && S_ISDIR(item->stat.mode) && S_ISDIR(hidden->stat.mode);
			if (added->has_below)
				added->below = hidden->stat;
		}
		l += order <= 0;
		b += order >= 0;
	}
	free_listing(listing);
	*listing = both;
	return failed;
}

static int list_lower(struct walk *w, const struct overlay_entry *directory,
		      struct listing *listing)
{
	struct listing below = {.count = 0};
	int failed;

	if (!lower_is_directory(directory))
		return 0;
	if (directory->lower_on_inputs)
		return list_on_inputs(w, directory->lower.inode, listing);
	failed = list_on_disk(w, directory->lower.inode, listing);
	if (!failed && directory->has_below)
		failed = list_on_inputs(w, directory->below.inode, &below) ||
			 add_below(listing, &below, w->error);
	free_listing(&below);
	return failed ? -1 : 0;
}

/* Whether what the lower directory holds still shows through. */
static bool lower_shows(const struct overlay_entry *entry)
{
	return lower_is_directory(entry) && !entry->opaque &&
	       (!entry->in_upper || upper_is_directory(entry));
}

/* --- the walk --- */

static int walk_directory(struct walk *w, const struct overlay_entry *directory, size_t path_length,
			  int depth);

static int walk_entry(struct walk *w, struct overlay_entry *entry, size_t path_length, int depth)
{
	entry->path = w->path;
	int result = w->visit(w->context, entry, w->error);
	if (result)
		return result;
	if (!upper_is_directory(entry) && !lower_is_directory(entry))
		return 0;
	return walk_directory(w, entry, path_length, depth + 1);
}

static int append_name(struct walk *w, size_t path_length, const char *name)
{
	int added = snprintf(w->path + path_length, sizeof(w->path) - path_length, "%s%s",
			     path_length ? "/" : "", name);

	if (added < 0 || path_length + (size_t)added >= sizeof(w->path))
		return error_set(w->error, "a path below '%.64s...' is too long", w->path);
	return added;
}

/*
 * Below a directory that is opaque, deleted or replaced by a file the lower layer is gone: what
 * only it has counts as deleted, and what both have was made anew.
 */
static void hide_lower(struct overlay_entry *entry)
{
	if (!entry->in_upper)
		entry->in_upper = entry->whiteout = true;
	entry->opaque = true;
}

static void set_lower(struct overlay_entry *entry, const struct item *item)
{
	entry->lower = item->stat;
	entry->lower_on_inputs = item->on_inputs;
	entry->has_below = item->has_below;
	entry->below = item->below;
}

static int merge(struct walk *w, const struct overlay_entry *directory, const struct listing *upper,
		 const struct listing *lower, size_t path_length, int depth)
{
	for (size_t u = 0, l = 0; u < upper->count || l < lower->count;) {
		int order = u == upper->count ? 1
			    : l == lower->count
				    ? -1
				    : strcmp(upper->items[u].name, lower->items[l].name);
		struct overlay_entry entry = {.in_lower = order >= 0};
		const char *name = order <= 0 ? upper->items[u].name : lower->items[l].name;

		if (order >= 0)
			set_lower(&entry, &lower->items[l++]);
		if (order <= 0 &&
		    set_upper(w->overlay->disk, &entry, &upper->items[u++].stat, w->error))
			return -1;
		if (!lower_shows(directory))
			hide_lower(&entry);
		if (!entry.in_upper && w->upper_only)
			continue;
		int added = append_name(w, path_length, name);
		if (added < 0)
			return -1;
		int result = walk_entry(w, &entry, path_length + (size_t)added, depth);
		w->path[path_length] = '\0';
		if (result)
			return result;
	}
	return 0;
}

static int walk_directory(struct walk *w, const struct overlay_entry *directory, size_t path_length,
			  int depth)
{
	struct listing upper = {.count = 0}, lower = {.count = 0};

	if (depth > DEPTH_MAX)
		return error_set(w->error, "directories are nested deeper than %d", DEPTH_MAX);
	int result =
		upper_is_directory(directory) ? list_on_disk(w, directory->upper.inode, &upper) : 0;
	if (!result)
		result = list_lower(w, directory, &lower);
	if (!result)
		result = merge(w, directory, &upper, &lower, path_length, depth);
	free_listing(&upper);
	free_listing(&lower);
	return result;
}

int overlay_walk(const struct overlay *overlay, const char *path, bool upper_only,
		 overlay_visit *visit, void *context, struct error *error)
{
	struct walk w = {.overlay = overlay,
			 .upper_only = upper_only,
			 .visit = visit,
			 .context = context,
			 .error = error};
	struct overlay_entry start;

	int result = overlay_lookup(overlay, path, &start, error);
	if (result)
		return result < 0 ? -1 : error_set(error, "'%s' is not in the workspace", path);
	snprintf(w.path, sizeof(w.path), "%s", path);
	result = walk_directory(&w, &start, strlen(w.path), 0);
	free(w.entered_disk.bits);
	free(w.entered_inputs.bits);
	return result;
}

static int lookup_layer(struct fsimage *image, const char *layer, const char *path,
			struct fsstat *stat, struct error *error)
{
	char full[OVERLAY_PATH_MAX + 16];

	snprintf(full, sizeof(full), "%s%s%s", layer, *path ? "/" : "", path);
	return fsimage_lookup(image, full, stat, error);
}

/* Of a path whose ancestors are directories wherever they are: 0, or -1 with ERROR set. */
static int lookup_lower(const struct overlay *overlay, const char *path,
			struct overlay_entry *entry, struct error *error)
{
	int packed = lookup_layer(overlay->disk, JOBDISK_INPUT, path, &entry->lower, error);
	int served =
		overlay->inputs ? fsimage_lookup(overlay->inputs, path, &entry->below, error) : 1;

	if (packed < 0 || served < 0)
		return -1;
	entry->in_lower = packed == 0 || served == 0;
	entry->lower_on_inputs = packed != 0;
	if (packed != 0)
		entry->lower = entry->below;
	entry->has_below = packed == 0 && served == 0 && S_ISDIR(entry->lower.mode) &&
			   S_ISDIR(entry->below.mode);
	return 0;
}

/* Looks the whole of PATH up in both layers, after its ancestors have said which layer shows. */
int overlay_lookup(const struct overlay *overlay, const char *path, struct overlay_entry *entry,
		   struct error *error)
{
	char prefix[OVERLAY_PATH_MAX];
	bool lower_hidden = false;
	size_t length = strlen(path);

	if (length >= sizeof(prefix))
		return error_set(error, "the path '%.64s...' is too long", path);
	for (size_t end = 0; end <= length; end++) {
		struct fsstat stat;
		if (path[end] != '/' && path[end] != '\0' && end != 0)
			continue;
		snprintf(prefix, sizeof(prefix), "%.*s", (int)end, path);
		*entry = (struct overlay_entry){.path = path};
		int upper = lookup_layer(overlay->disk, JOBDISK_OUTPUT, prefix, &stat, error);
		if (upper < 0 || (upper == 0 && set_upper(overlay->disk, entry, &stat, error)))
			return -1;
		if (!lower_hidden && lookup_lower(overlay, prefix, entry, error))
			return -1;
		lower_hidden = lower_hidden || !lower_shows(entry);
	}
	return overlay_exists(entry) ? 0 : 1;
}
