#include "host-tools/merge_plan.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host-tools/confined.h"
#include "host-tools/overlay.h"
#include "host-tools/values.h"
#include "jobdisk/layout.h"

/* What the child tells: a path, before, after. */
enum {
	FRAME_WORKSPACE = CONFINED_FRAMES,
	FRAME_PATH,
};

/* --- in the child --- */

struct planner {
	const struct disk *disk;
	struct overlay overlay;
	FILE *answers;
	struct frame frame;
	struct merge_plan *plan; /* the parent's */
};

static int put_state(struct planner *p, struct fsimage *image, const struct fsstat *stat,
		     struct error *error)
{
	char target[PATH_MAX + 1] = "";

	if (stat && S_ISLNK(stat->mode) &&
	    fsimage_readlink(image, stat->inode, target, sizeof(target), error))
		return -1;
	frame_put_number(&p->frame, stat ? stat->mode : 0);
	frame_put_number(&p->frame, stat ? stat->size_bytes : 0);
	frame_put_number(&p->frame, stat ? (uint64_t)stat->mtime.tv_sec : 0);
	frame_put_number(&p->frame, stat ? (uint64_t)stat->mtime.tv_nsec : 0);
	frame_put_text(&p->frame, target);
	return 0;
}

static bool is_special(const struct fsstat *stat)
{
	return !S_ISREG(stat->mode) && !S_ISDIR(stat->mode) && !S_ISLNK(stat->mode);
}

/* Of what was before only metadata is asked for: the input disk's image has no more. */
static int send_entry(struct planner *p, uint32_t type, const struct overlay_entry *entry,
		      struct error *error)
{
	bool is_there = overlay_exists(entry) && !is_special(overlay_stat(entry));
	struct fsimage *lower = entry->lower_on_inputs ? p->overlay.inputs : p->overlay.disk;
	struct fsimage *now = entry->in_upper ? p->overlay.disk : lower;

	if (!is_there && !entry->in_lower)
		return 0;
	frame_begin(&p->frame, type);
	frame_put_text(&p->frame, entry->path);
	if (put_state(p, lower, entry->in_lower ? &entry->lower : NULL, error) ||
	    put_state(p, now, is_there ? overlay_stat(entry) : NULL, error))
		return -1;
	return confined_send(p->answers, &p->frame, error);
}

/* Directories through which the job went are told too: for their times. */
static int plan_entry(void *context, const struct overlay_entry *entry, struct error *error)
{
	struct planner *p = context;
	enum change_kind kind;

	int changed = changes_classify(&p->overlay, entry, &kind, error);
	if (changed < 0)
		return -1;
	if (!changed && (entry->whiteout || !S_ISDIR(entry->upper.mode)))
		return 0;
	return send_entry(p, FRAME_PATH, entry, error);
}

static int open_images(struct planner *p, struct error *error)
{
	p->overlay = (struct overlay){
		.disk = fsimage_open(p->disk->fd, p->disk->name, JOBDISK_LABEL, error)};
	if (!p->overlay.disk)
		return -1;
	if (p->disk->has_inputs)
		p->overlay.inputs =
			fsimage_open(p->disk->inputs_fd, "the input disk", INPUTDISK_LABEL, error);
	return !p->disk->has_inputs || p->overlay.inputs ? 0 : -1;
}

static int plan_in_child(void *context, FILE *answers, struct error *error)
{
	struct planner *p = context;
	struct overlay_entry workspace;

	p->answers = answers;
	if (open_images(p, error))
		return -1;
	int found = overlay_lookup(&p->overlay, "", &workspace, error);
	if (found)
		return found < 0 ? -1 : error_set(error, "the job disk has no workspace");
	if (send_entry(p, FRAME_WORKSPACE, &workspace, error))
		return -1;
	return overlay_walk(&p->overlay, "", true, plan_entry, p, error);
}

/* --- in the parent --- */

static int take_state(struct frame *frame, struct merge_state *state)
{
	state->mode = (mode_t)frame_get_number(frame);
	state->size_bytes = frame_get_number(frame);
	state->mtime.tv_sec = (time_t)frame_get_number(frame);
	state->mtime.tv_nsec = (long)frame_get_number(frame);
	const char *target = frame_get_text(frame);
	if (state->mtime.tv_nsec < 0 || state->mtime.tv_nsec >= 1000000000)
		return -1;
	if (S_ISLNK(state->mode))
		state->target = memory_or_exit(strdup(target));
	return 0;
}

static void free_item(struct merge_item *item)
{
	free(item->path);
	free(item->base.target);
	free(item->now.target);
}

static int take_path(void *context, struct frame *frame, struct error *error)
{
	struct planner *p = context;
	struct merge_item item = {.path = NULL};
	bool is_workspace = frame->type == FRAME_WORKSPACE;

	if (frame->type != FRAME_PATH && !is_workspace)
		return error_set(error, "%s: its reader tells of nothing known", p->disk->name);
	if (p->plan->count > CHANGES_MAX)
		return error_set(error, "the job changed more than %d files", CHANGES_MAX);
	const char *path = is_workspace ? frame_get_text(frame) : frame_get_path(frame);
	item.path = memory_or_exit(strdup(path));
	if (take_state(frame, &item.base) == 0 && take_state(frame, &item.now) == 0 &&
	    frame_is_whole(frame) && merge_plan_add(p->plan, &item) == 0)
		return 0;
	free_item(&item);
	return error_set(error, "%s: its reader tells of no such change", p->disk->name);
}

int merge_plan_read(struct merge_plan *plan, const struct disk *disk, struct error *error)
{
	static struct planner planner;
	const struct confined confined = {
		.name = disk->name,
		.disk_fd = disk->fd,
		.directory_fd = -1,
		.read_fds = &disk->inputs_fd,
		.read_count = disk->has_inputs,
	};

	*plan = (struct merge_plan){.count = 0};
	planner.disk = disk;
	planner.plan = plan;
	if (confined_run(&confined, plan_in_child, take_path, &planner, error))
		return -1;
	return plan->count ? 0 : error_set(error, "%s: its reader told no workspace", disk->name);
}

void merge_plan_free(struct merge_plan *plan)
{
	for (size_t i = 0; i < plan->count; i++)
		free_item(&plan->items[i]);
	free(plan->items);
	*plan = (struct merge_plan){.count = 0};
}

/* --- the plan itself --- */

static bool can_be_made(mode_t mode)
{
	return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode);
}

/* Whether the item can come behind what the plan has. */
static bool is_next(const struct merge_plan *plan, const struct merge_item *item)
{
	const struct merge_state *base = &item->base, *now = &item->now;

	if ((!base->mode && !now->mode) || (now->mode && !can_be_made(now->mode)))
		return false;
	if (plan->count == 0)
		return !*item->path && S_ISDIR(base->mode) && S_ISDIR(now->mode);
	if (merge_path_compare(plan->items[plan->count - 1].path, item->path) >= 0)
		return false;
	const struct merge_item *parent = merge_plan_parent(plan, item->path);
	return parent && (!now->mode || S_ISDIR(parent->now.mode)) &&
	       (!base->mode || S_ISDIR(parent->base.mode));
}

int merge_plan_add(struct merge_plan *plan, const struct merge_item *item)
{
	if (!is_next(plan, item))
		return -1;
	plan->items = memory_or_exit(
		list_room(plan->items, plan->count, &plan->capacity, sizeof(*plan->items)));
	plan->items[plan->count++] = *item;
	return 0;
}

enum change_kind merge_item_kind(const struct merge_item *item)
{
	if (!item->base.mode)
		return CHANGE_CREATED;
	return item->now.mode ? CHANGE_CHANGED : CHANGE_DELETED;
}

bool merge_item_is_context(const struct merge_item *item)
{
	return S_ISDIR(item->now.mode) && item->base.mode == item->now.mode;
}

bool merge_same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static int compare_bytes(const char *a, size_t a_length, const char *b, size_t b_length)
{
	size_t i = 0;

	while (i < a_length && i < b_length && a[i] == b[i])
		i++;
	if (i == a_length || i == b_length)
		return (a_length > b_length) - (a_length < b_length);
	/* What lies in a directory comes before what has more of its name. */
	if (a[i] == '/' || b[i] == '/')
		return a[i] == '/' ? -1 : 1;
	return (unsigned char)a[i] < (unsigned char)b[i] ? -1 : 1;
}

int merge_path_compare(const char *a, const char *b)
{
	return compare_bytes(a, strlen(a), b, strlen(b));
}

struct merge_item *merge_plan_find(const struct merge_plan *plan, const char *path, size_t length)
{
	size_t first = 0, end = plan->count;

	while (first < end) {
		size_t middle = first + (end - first) / 2;
		const char *there = plan->items[middle].path;
		int order = compare_bytes(there, strlen(there), path, length);
		if (order == 0)
			return &plan->items[middle];
		if (order < 0)
			first = middle + 1;
		else
			end = middle;
	}
	return NULL;
}

struct merge_item *merge_plan_parent(const struct merge_plan *plan, const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!*path)
		return NULL;
	return merge_plan_find(plan, path, slash ? (size_t)(slash - path) : 0);
}

bool merge_path_is_below(const char *path, const char *directory)
{
	size_t length = strlen(directory);

	if (length == 0)
		return *path != '\0';
	return strncmp(path, directory, length) == 0 && path[length] == '/';
}
