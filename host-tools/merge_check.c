#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fsimage/format.h"
#include "host-tools/merge_work.h"

#define PERMISSIONS 0777

/* --- comparing --- */

static bool same_type(mode_t a, mode_t b)
{
	return (a & S_IFMT) == (b & S_IFMT);
}

/* A merge that was cut off leaves directories with more rights for their owner. */
static bool same_directory_mode(mode_t there, mode_t wanted)
{
	return (there & 07777) == (wanted & 07777) || (there & 07777) == ((wanted | 0700) & 07777);
}

/* As the job disk can keep it. */
static bool has_time(struct timespec there, const struct timespec *stored)
{
	struct timespec kept = parse_time(format_time(there));

	return merge_same_time(&kept, stored);
}

/* Whether what is there is what was packed: by its metadata. */
static bool is_as_packed(struct merge_work *w, const struct merge_item *item,
			 const struct stat *there)
{
	const struct merge_state *base = &item->base;

	if (!same_type(there->st_mode, base->mode))
		return false;
	if (S_ISDIR(base->mode))
		return same_directory_mode(there->st_mode, base->mode);
	if (S_ISLNK(base->mode))
		return merge_tree_points_to(&w->tree, item->path, base->target);
	if (!S_ISREG(base->mode))
		return true;
	return there->st_mode == base->mode && (uint64_t)there->st_size == base->size_bytes &&
	       has_time(there->st_mtim, &base->mtime);
}

/* Whether what is there has the type and the content that the job left, and a mode that is
 * nobody's change but the job's. */
static bool has_content(struct merge_work *w, const struct merge_item *item,
			const struct stat *there)
{
	const struct merge_state *now = &item->now;
	mode_t mode = there->st_mode & 07777;

	if (!same_type(there->st_mode, now->mode))
		return false;
	if (S_ISDIR(now->mode))
		return same_directory_mode(mode, now->mode & PERMISSIONS);
	if (S_ISLNK(now->mode))
		return merge_tree_points_to(&w->tree, item->path, now->target);
	if (mode != (now->mode & PERMISSIONS) && there->st_mode != item->base.mode)
		return false;
	return (uint64_t)there->st_size == now->size_bytes &&
	       merge_tree_same_bytes(&w->tree, &w->staged, item->path);
}

/* Whether mode and time are the job's too, given the content. Directories get theirs at the end. */
static bool has_metadata(const struct merge_item *item, const struct stat *there)
{
	const struct merge_state *now = &item->now;

	if (S_ISDIR(now->mode))
		return true;
	if (!has_time(there->st_mtim, &now->mtime))
		return false;
	return S_ISLNK(now->mode) || (there->st_mode & 07777) == (now->mode & PERMISSIONS);
}

/* --- judging: NULL, or what conflicts --- */

static const char *judge_missing(const struct merge_work *w, struct merge_item *item,
				 bool has_parent)
{
	const struct merge_item *parent = merge_plan_parent(&w->plan, item->path);

	if (!item->now.mode)
		return NULL;
	item->step = MERGE_APPLY;
	/* Where the job changed the directory too, that one is judged by itself. */
	if (!has_parent && parent && merge_item_is_context(parent))
		return "its directory is no longer there, and the job changed something in it";
	return item->base.mode && has_parent ? "was deleted since, and the job changed it" : NULL;
}

static const char *judge_there(struct merge_work *w, struct merge_item *item,
			       const struct stat *there)
{
	bool as_packed = item->base.mode && is_as_packed(w, item, there);

	item->step = MERGE_APPLY;
	if (!item->now.mode)
		return as_packed ? NULL : "was changed since, and the job deleted it";
	/* The bytes are compared only where they decide something. */
	bool like_now = (!as_packed || has_metadata(item, there)) && has_content(w, item, there);
	if (like_now && has_metadata(item, there))
		item->step = MERGE_NOTHING;
	if (like_now || as_packed)
		return NULL;
	return item->base.mode ? "was changed since, and the job changed it"
			       : "was made since, and the job made it too";
}

static void note_seen(struct merge_item *item, const struct stat *there)
{
	item->seen_mode = there->st_mode;
	item->seen_inode = there->st_ino;
	item->seen_bytes = (uint64_t)there->st_size;
	item->seen_mtime = there->st_mtim;
}

/* --- directories that go --- */

static void note_new(struct merge_work *w, size_t index, const char *name)
{
	struct merge_item *item = &w->plan.items[index];
	char *path;

	if (asprintf(&path, "%s/%s", item->path, name) < 0)
		path = NULL;
	path = memory_or_exit(path);
	const struct merge_item *known = merge_plan_find(&w->plan, path, strlen(path));
	if (!known || !known->base.mode) {
		item->has_new = true;
		merged_add_conflict(w->merged, path,
				    "was not among the inputs, and the job deleted its directory",
				    index);
	}
	free(path);
}

static int find_new(struct merge_work *w, size_t index, struct error *error)
{
	const char *path = w->plan.items[index].path;
	int path_fd = sink_look(&w->tree.sink, path);
	int fd = path_fd < 0 ? -1 : openat(path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!entries)
		error_errno(error, "list %s/%s", w->tree.sink.directory, path);
	if (path_fd >= 0)
		close(path_fd);
	if (!entries) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while ((entry = readdir(entries)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			note_new(w, index, entry->d_name);
	closedir(entries);
	return 0;
}

/* Whether the item's directory can be written, or made so by its owner. */
static int check_parent(struct merge_work *w, const struct merge_item *item, struct error *error)
{
	struct stat status;
	const char *name;
	int parent_fd = merge_tree_parent(&w->tree, item->path, &name);

	/* Not there: it is to be made first. */
	if (parent_fd < 0 || faccessat(parent_fd, ".", W_OK | X_OK, AT_EACCESS) == 0)
		return 0;
	if (errno == EACCES && fstat(parent_fd, &status) == 0 && status.st_uid == geteuid())
		return 0;
	return error_errno(error, "change %s/%s", w->tree.sink.directory, item->path);
}

static bool goes_as_directory(const struct merge_item *item, const struct stat *there)
{
	return S_ISDIR(item->base.mode) && !S_ISDIR(item->now.mode) && S_ISDIR(there->st_mode);
}

/* The next merge would take it for what this one left behind. */
static bool is_ours(const struct merge_item *item)
{
	return strncmp(item->path, MERGE_OWN_PREFIX, strlen(MERGE_OWN_PREFIX)) == 0;
}

static void skip_ours(struct merge_work *w, struct merge_item *item)
{
	char *skipped;

	item->step = MERGE_SKIP;
	if (strchr(item->path, '/') || merge_item_is_context(item))
		return;
	if (asprintf(&skipped, "%s (a name that merges use)", item->path) < 0)
		skipped = NULL;
	strings_take(&w->merged->skipped, memory_or_exit(skipped));
}

static int check_item(struct merge_work *w, size_t index, struct error *error)
{
	struct merge_item *item = &w->plan.items[index];
	const char *reason;
	struct stat there;
	bool has_parent;

	if (is_ours(item))
		skip_ours(w, item);
	if (is_ours(item) || merge_item_is_context(item))
		return 0;
	int found = merge_tree_look(&w->tree, item->path, &there, &has_parent, error);
	if (found < 0)
		return -1;
	if (found > 0) {
		reason = judge_missing(w, item, has_parent);
	} else {
		note_seen(item, &there);
		reason = judge_there(w, item, &there);
	}
	if (reason) {
		item->is_conflict = true;
		merged_add_conflict(w->merged, item->path, reason, index);
	}
	if (found == 0 && goes_as_directory(item, &there) && find_new(w, index, error))
		return -1;
	return item->step == MERGE_APPLY && !w->merge->dry_run ? check_parent(w, item, error) : 0;
}

int merge_check(struct merge_work *w, struct error *error)
{
	struct merge_item *top = &w->plan.items[0];

	/* The workspace itself does not get its mode from an input: there is nothing to compare. */
	top->step = merge_item_is_context(top) ? MERGE_NOTHING : MERGE_APPLY;
	for (size_t i = 1; i < w->plan.count; i++)
		if (merge_go_on(error) || check_item(w, i, error))
			return -1;
	return 0;
}
