#include "host-tools/merge_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "fsimage/copy.h"

struct merge_tree merge_tree_at(int directory_fd, const char *directory)
{
	return (struct merge_tree){
		.sink = {.directory_fd = directory_fd, .directory = directory, .one_mount = true},
		.parent_fd = -1,
	};
}

void merge_tree_forget(struct merge_tree *tree)
{
	if (tree->parent_fd >= 0)
		close(tree->parent_fd);
	tree->parent_fd = -1;
}

void merge_tree_close(struct merge_tree *tree)
{
	merge_tree_forget(tree);
}

int merge_tree_parent(struct merge_tree *tree, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	int length = slash ? (int)(slash - path) : 0;
	struct stat status;

	*name = slash ? slash + 1 : path;
	if (tree->parent_fd >= 0 && strncmp(tree->parent, path, (size_t)length) == 0 &&
	    !tree->parent[length])
		return tree->parent_fd;
	merge_tree_forget(tree);
	snprintf(tree->parent, sizeof(tree->parent), "%.*s", length, path);
	tree->parent_fd = sink_look(&tree->sink, tree->parent);
	if (tree->parent_fd >= 0 && (fstat(tree->parent_fd, &status) || !S_ISDIR(status.st_mode))) {
		merge_tree_forget(tree);
		errno = ENOTDIR;
	}
	return tree->parent_fd;
}

int merge_tree_look(struct merge_tree *tree, const char *path, struct stat *status,
		    bool *has_parent, struct error *error)
{
	const char *name;
	int parent_fd = merge_tree_parent(tree, path, &name);

	*has_parent = parent_fd >= 0;
	if (parent_fd >= 0 &&
	    fstatat(parent_fd, *name ? name : ".", status, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	if (errno == ENOENT || (!*has_parent && (errno == ENOTDIR || errno == ELOOP)))
		return 1;
	if (errno == EXDEV)
		return error_set(error, "%s/%s: another file system is mounted on the way",
				 tree->sink.directory, path);
	return error_errno(error, "look at %s/%s", tree->sink.directory, path);
}

bool merge_tree_points_to(struct merge_tree *tree, const char *path, const char *target)
{
	char found[PATH_MAX + 1];
	const char *name;
	int parent_fd = merge_tree_parent(tree, path, &name);
	ssize_t length = parent_fd < 0 ? -1 : readlinkat(parent_fd, name, found, sizeof(found));

	return length >= 0 && (size_t)length == strlen(target) &&
	       memcmp(found, target, (size_t)length) == 0;
}

/* --- bytes --- */

#define PIECE_BYTES (1 << 16)

static bool same_bytes(int a_fd, int b_fd)
{
	static char a[PIECE_BYTES], b[PIECE_BYTES];
	int64_t length;

	for (uint64_t done = 0;; done += (uint64_t)length) {
		length = read_at(a_fd, a, PIECE_BYTES, done);
		if (length < 0 || read_at(b_fd, b, PIECE_BYTES, done) != length ||
		    memcmp(a, b, (size_t)length) != 0)
			return false;
		if (length == 0)
			return true;
	}
}

static int open_file(const struct merge_tree *tree, const char *path)
{
	int fd = sink_open(&tree->sink, path);
	struct stat status;

	if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

bool merge_tree_same_bytes(struct merge_tree *a, struct merge_tree *b, const char *path)
{
	int a_fd = open_file(a, path);
	int b_fd = a_fd < 0 ? -1 : open_file(b, path);
	bool same = b_fd >= 0 && same_bytes(a_fd, b_fd);

	if (a_fd >= 0)
		close(a_fd);
	if (b_fd >= 0)
		close(b_fd);
	return same;
}

/* --- what an O_PATH descriptor names --- */

static void name_fd(int fd, char path[64])
{
	snprintf(path, 64, "/proc/self/fd/%d", fd);
}

int merge_tree_chmod(int fd, mode_t mode)
{
	char path[64];

	name_fd(fd, path);
	return chmod(path, mode);
}

int merge_tree_set_time(int fd, const struct timespec *mtime)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, *mtime};
	char path[64];

	name_fd(fd, path);
	return utimensat(AT_FDCWD, path, times, 0);
}

/* --- directories of our own --- */

/* It may have been somebody's else before: not through a link. */
static void make_accessible(int parent_fd, const char *name)
{
	int fd = openat(parent_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return;
	merge_tree_chmod(fd, 0700);
	close(fd);
}

static int open_own(int parent_fd, const char *name)
{
	return openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int merge_tree_make_own(int parent_fd, const char *prefix, char name[NAME_MAX + 1])
{
	uint32_t number;

	do {
		if (getrandom(&number, sizeof(number), 0) != sizeof(number))
			return -1;
		snprintf(name, NAME_MAX + 1, "%s%08" PRIx32, prefix, number);
	} while (mkdirat(parent_fd, name, 0700) && errno == EEXIST);
	return open_own(parent_fd, name);
}

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/*
 * Takes away what lies in the directory behind FD, which is closed. What cannot be unlinked is a
 * directory, and goes up to TOP_FD under a new name; in TOP_FD itself directories stay. Returns how
 * many such there were, or -1 with errno.
 */
static int empty_once(int fd, int top_fd, unsigned *next)
{
	DIR *entries = fdopendir(fd);
	int directories = 0;
	struct dirent *entry;
	char name[32];

	if (!entries)
		return -1;
	while (directories >= 0 && (entry = readdir(entries))) {
		if (is_dot(entry->d_name) || unlinkat(fd, entry->d_name, 0) == 0)
			continue;
		directories++;
		if (top_fd < 0)
			continue;
		make_accessible(fd, entry->d_name);
		do
			snprintf(name, sizeof(name), "%u", (*next)++);
		while (faccessat(top_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
		if (renameat(fd, entry->d_name, top_fd, name))
			directories = -1;
	}
	int saved_errno = errno;
	closedir(entries);
	errno = saved_errno;
	return directories;
}

static int remove_child(int top_fd, const char *name, unsigned *next)
{
	make_accessible(top_fd, name);
	int fd = open_own(top_fd, name);
	if (fd < 0 || empty_once(fd, top_fd, next) < 0)
		return -1;
	return unlinkat(top_fd, name, AT_REMOVEDIR);
}

/* Empties each directory in TOP_FD once; what lay in it is a directory of TOP_FD afterwards. */
static int flatten_once(int top_fd, unsigned *next)
{
	int fd = openat(top_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int failed = entries ? 0 : -1;

	while (!failed && (entry = readdir(entries)))
		if (!is_dot(entry->d_name))
			failed = remove_child(top_fd, entry->d_name, next);
	int saved_errno = errno;
	if (entries)
		closedir(entries);
	errno = saved_errno;
	return failed;
}

int merge_tree_remove_own(int parent_fd, const char *name)
{
	unsigned next = 0;
	int left = -1;
	int fd = open_own(parent_fd, name);

	if (fd < 0)
		return -1;
	for (;;) {
		int listed = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		left = listed < 0 ? -1 : empty_once(listed, -1, &next);
		if (left <= 0 || flatten_once(fd, &next))
			break;
	}
	int saved_errno = errno;
	close(fd);
	errno = saved_errno;
	return left ? -1 : unlinkat(parent_fd, name, AT_REMOVEDIR);
}
