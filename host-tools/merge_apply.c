#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host-tools/merge_work.h"

/* What is new and not extracted gets this name in our own directory first. */
#define SPARE "spare"

#define PERMISSIONS 0777

static int fail_at(const struct merge_work *w, const char *verb, const char *path,
		   struct error *error)
{
	return error_errno(error, "%s %s/%s", verb, w->tree.sink.directory, path);
}

/* --- where an item goes --- */

/* Gives its owner the right to change the directory behind FD, until finish_directory. */
static void open_directory(struct merge_item *item, int fd)
{
	struct stat status;

	if (fstat(fd, &status) || (status.st_mode & 0300) == 0300 || status.st_uid != geteuid())
		return;
	mode_t mode = status.st_mode & 07777;
	if (!item->is_opened && merge_tree_chmod(fd, mode | 0700) == 0) {
		item->is_opened = true;
		item->mode_before = mode;
	}
}

/* Moves what is in the way into our own directory, to be removed with it. 0, or -1 with errno. */
static int move_away(struct merge_work *w, int parent_fd, const char *name)
{
	char away[32];

	snprintf(away, sizeof(away), "away.%u", w->moved_away++);
	return renameat(parent_fd, name, w->own_fd, away);
}

/* Without a name in the tree, so that it is there as it shall be or not at all. */
static int make_spare(struct merge_work *w, mode_t mode)
{
	if (mkdirat(w->own_fd, SPARE, 0700))
		return -1;
	return fchmodat(w->own_fd, SPARE, (mode & PERMISSIONS) | 0700, 0);
}

/* Gives FROM a name that nothing has. */
static int rename_new(int from_fd, const char *from, int parent_fd, const char *name)
{
	if (renameat2(from_fd, from, parent_fd, name, RENAME_NOREPLACE) == 0)
		return 0;
	/* Not every file system knows the flag. */
	if (errno != EINVAL || faccessat(parent_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return -1;
	return renameat(from_fd, from, parent_fd, name);
}

/* A directory that is on the way of PATH, forced: 0, or -1 with ERROR set. */
static int remake_directory(struct merge_work *w, const char *path, struct error *error)
{
	struct merge_item *item = merge_plan_find(&w->plan, path, strlen(path));
	struct stat status;
	const char *name;
	int parent_fd = merge_tree_parent(&w->tree, path, &name);

	if (parent_fd < 0 || !item)
		return fail_at(w, "open the directory of", path, error);
	bool is_there = fstatat(parent_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0;
	if (is_there && S_ISDIR(status.st_mode))
		return 0;
	if ((is_there && move_away(w, parent_fd, name)) || make_spare(w, item->now.mode) ||
	    rename_new(w->own_fd, SPARE, parent_fd, name))
		return fail_at(w, "make directory", path, error);
	item->is_opened = item->is_touched = true;
	item->mode_before = item->now.mode & PERMISSIONS;
	merge_tree_forget(&w->tree);
	return 0;
}

static int remake_parents(struct merge_work *w, const char *path, struct error *error)
{
	char prefix[PATH_MAX];

	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(prefix, sizeof(prefix), "%.*s", (int)(slash - path), path);
		if (remake_directory(w, prefix, error))
			return -1;
	}
	return 0;
}

/* Whether what lies there is what was judged. */
static bool is_as_judged(const struct merge_item *item, int parent_fd, const char *name)
{
	struct stat now;

	if (fstatat(parent_fd, name, &now, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT && !item->seen_mode;
	if ((now.st_mode & S_IFMT) != (item->seen_mode & S_IFMT) || now.st_ino != item->seen_inode)
		return false;
	/* What a directory holds is the merge's own doing too. */
	return S_ISDIR(now.st_mode) ||
	       (now.st_mode == item->seen_mode && (uint64_t)now.st_size == item->seen_bytes &&
		merge_same_time(&now.st_mtim, &item->seen_mtime));
}

/* The directory for the item, which may be written, by its descriptor; -1 with ERROR set. */
static int open_place(struct merge_work *w, struct merge_item *item, const char **name,
		      struct error *error)
{
	struct merge_item *parent = merge_plan_parent(&w->plan, item->path);
	int parent_fd = merge_tree_parent(&w->tree, item->path, name);

	if (parent_fd < 0 && w->merge->force) {
		if (remake_parents(w, item->path, error))
			return -1;
		parent_fd = merge_tree_parent(&w->tree, item->path, name);
	}
	if (parent_fd < 0)
		return fail_at(w, "open the directory of", item->path, error);
	if (!is_as_judged(item, parent_fd, *name))
		return error_set(error, "%s/%s: changed while it was merged",
				 w->tree.sink.directory, item->path);
	if (parent) {
		open_directory(parent, parent_fd);
		parent->is_touched = true;
	}
	return parent_fd;
}

/* --- one item --- */

static bool cannot_exchange(void)
{
	return errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP || errno == EXDEV;
}

/*
 * Puts FROM in the place of NAME where one of them is a directory: both names change at once. The
 * old one must be empty, if it is a directory. 0, or -1 with errno.
 */
static int exchange(int from_fd, const char *from, int parent_fd, const char *name,
		    bool old_is_directory)
{
	int flags = old_is_directory ? AT_REMOVEDIR : 0;

	if (renameat2(from_fd, from, parent_fd, name, RENAME_EXCHANGE)) {
		if (!cannot_exchange() || unlinkat(parent_fd, name, flags))
			return -1;
		return rename_new(from_fd, from, parent_fd, name);
	}
	if (unlinkat(from_fd, from, flags) == 0)
		return 0;
	/* Somebody put something into it. */
	int saved_errno = errno;
	if (renameat2(from_fd, from, parent_fd, name, RENAME_EXCHANGE))
		return -1;
	errno = saved_errno;
	return -1;
}

/* Whether what lies at the item's place is not what the job took away: it goes as a whole. */
static bool goes_whole(const struct merge_item *item)
{
	return S_ISDIR(item->seen_mode) && (item->is_conflict || item->has_new);
}

static int put(struct merge_work *w, const struct merge_item *item, int from_fd, const char *from,
	       int parent_fd, const char *name)
{
	bool over_directory = S_ISDIR(item->seen_mode);

	if (goes_whole(item) && move_away(w, parent_fd, name))
		return -1;
	if (!item->seen_mode || goes_whole(item))
		return rename_new(from_fd, from, parent_fd, name);
	if (over_directory || S_ISDIR(item->now.mode))
		return exchange(from_fd, from, parent_fd, name, over_directory);
	return renameat(from_fd, from, parent_fd, name);
}

/* The extracted file or symlink, with mode and time: by its directory and name. */
static int prepare_staged(struct merge_work *w, const struct merge_item *item, const char **name)
{
	const struct timespec times[2] = {item->now.mtime, item->now.mtime};
	int parent_fd = merge_tree_parent(&w->staged, item->path, name);
	struct stat status;

	if (parent_fd < 0 || fstatat(parent_fd, *name, &status, AT_SYMLINK_NOFOLLOW))
		return -1;
	if ((status.st_mode & S_IFMT) != (item->now.mode & S_IFMT)) {
		errno = ESTALE;
		return -1;
	}
	if (S_ISLNK(status.st_mode))
		return parent_fd;
	int fd = openat(parent_fd, *name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int failed = futimens(fd, times) || fchmod(fd, item->now.mode & PERMISSIONS);
	close(fd);
	return failed ? -1 : parent_fd;
}

static int remove_item(struct merge_work *w, struct merge_item *item, struct error *error)
{
	const char *name;
	int parent_fd = open_place(w, item, &name, error);

	if (parent_fd < 0)
		return -1;
	int failed = goes_whole(item) ? move_away(w, parent_fd, name)
				      : unlinkat(parent_fd, name,
						 S_ISDIR(item->seen_mode) ? AT_REMOVEDIR : 0);
	item->is_done = !failed;
	return failed ? fail_at(w, "remove", item->path, error) : 0;
}

static bool is_to_remove(const struct merge_item *item)
{
	return item->step == MERGE_APPLY && !item->now.mode && !item->is_done;
}

/* What the job deleted in the directory at INDEX, in whose place it put something else. */
static int clear_directory(struct merge_work *w, size_t index, struct error *error)
{
	const char *path = w->plan.items[index].path;
	size_t end = index + 1;

	while (end < w->plan.count && merge_path_is_below(w->plan.items[end].path, path))
		end++;
	while (--end > index)
		if (is_to_remove(&w->plan.items[end]) && remove_item(w, &w->plan.items[end], error))
			return -1;
	return 0;
}

static int put_directory(struct merge_work *w, struct merge_item *item, struct error *error)
{
	const char *name;
	int parent_fd;

	/* One that is there gets its mode at the end. */
	item->is_done = S_ISDIR(item->seen_mode);
	if (item->is_done)
		return 0;
	parent_fd = open_place(w, item, &name, error);
	if (parent_fd < 0)
		return -1;
	if (make_spare(w, item->now.mode) || put(w, item, w->own_fd, SPARE, parent_fd, name))
		return fail_at(w, "make directory", item->path, error);
	merge_tree_forget(&w->tree);
	item->is_done = true;
	return 0;
}

static int put_staged(struct merge_work *w, size_t index, struct error *error)
{
	struct merge_item *item = &w->plan.items[index];
	const char *name, *from;

	if (S_ISDIR(item->seen_mode) && clear_directory(w, index, error))
		return -1;
	int from_fd = prepare_staged(w, item, &from);
	if (from_fd < 0)
		return error_errno(error, "use what was extracted for %s", item->path);
	int parent_fd = open_place(w, item, &name, error);
	if (parent_fd < 0)
		return -1;
	if (put(w, item, from_fd, from, parent_fd, name))
		return fail_at(w, "write", item->path, error);
	merge_tree_forget(&w->tree);
	item->is_done = true;
	return 0;
}

/* --- directories at the end --- */

/* The mode that a directory shall have; what it has above permissions, it keeps if the job did. */
static mode_t final_mode(const struct merge_item *item, mode_t there)
{
	mode_t kept =
		S_ISDIR(item->base.mode) ? there & item->base.mode & item->now.mode & 07000 : 0;

	if (!merge_item_is_context(item))
		return (item->now.mode & PERMISSIONS) | kept;
	return item->is_opened ? item->mode_before : there & 07777;
}

/* Whether the job, or the merge, changed its time. */
static bool needs_time(const struct merge_item *item, const struct stat *there)
{
	return !merge_same_time(&there->st_mtim, &item->now.mtime) &&
	       (item->is_touched || !merge_item_is_context(item) ||
		!merge_same_time(&item->now.mtime, &item->base.mtime));
}

/* A directory of somebody else's keeps its time: only its owner may set one. */
static int finish_fd(const struct merge_item *item, int fd)
{
	struct stat status;

	if (fstat(fd, &status))
		return -1;
	mode_t mode = final_mode(item, status.st_mode);
	if (mode != (status.st_mode & 07777) && merge_tree_chmod(fd, mode))
		return -1;
	if (needs_time(item, &status) && merge_tree_set_time(fd, &item->now.mtime))
		return errno == EPERM && merge_item_is_context(item) ? 0 : -1;
	return 0;
}

static int finish_directory(struct merge_work *w, const struct merge_item *item,
			    struct error *error)
{
	struct stat status;
	int fd = sink_look(&w->tree.sink, item->path);

	/* One that the job only went through may be gone, and one in which nothing is to be done.
	 */
	if (fd < 0)
		return item->is_done || item->is_touched ? fail_at(w, "open", item->path, error)
							 : 0;
	int failed = fstat(fd, &status) == 0 && S_ISDIR(status.st_mode) ? finish_fd(item, fd) : 0;
	if (failed)
		fail_at(w, "set the mode and time of", item->path, error);
	close(fd);
	return failed;
}

/*
 * What the job made comes before what it deleted is gone: of a renamed file one name is always
 * there.
 */
int merge_apply(struct merge_work *w, struct error *error)
{
	struct merge_item *items = w->plan.items;

	for (size_t i = 1; i < w->plan.count; i++) {
		if (merge_go_on(error))
			return -1;
		if (items[i].step != MERGE_APPLY || !items[i].now.mode)
			continue;
		if (S_ISDIR(items[i].now.mode) ? put_directory(w, &items[i], error)
					       : put_staged(w, i, error))
			return -1;
	}
	for (size_t i = w->plan.count; i-- > 1;)
		if (merge_go_on(error) ||
		    (is_to_remove(&items[i]) && remove_item(w, &items[i], error)))
			return -1;
	merge_tree_forget(&w->tree);
	for (size_t i = w->plan.count; i-- > 1;)
		if (S_ISDIR(items[i].now.mode) && items[i].step != MERGE_SKIP &&
		    finish_directory(w, &items[i], error))
			return -1;
	return 0;
}

int merge_apply_to_top(struct merge_work *w, struct error *error)
{
	struct merge_item *top = &w->plan.items[0];

	top->is_done = top->step == MERGE_APPLY;
	return finish_directory(w, top, error);
}
