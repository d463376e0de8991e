#include "host-tools/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jobdisk/record.h"

#define PERMISSION_BITS 0777

/* In each name for the time being. */
#define BESIDE_MARK ".jobvm-"

/*
 * The directory of the first LENGTH bytes of PATH, which is below DIRECTORY_FD, with MAKE made
 * where it is missing. Each step is opened by itself and no link is followed: openat2 does that in
 * one call, but takes the mode of a new file where the confined child's filter of system calls
 * cannot see it (confine.h). Returns its descriptor, or -1 with errno.
 */
static int walk(int directory_fd, const char *path, size_t length, bool make)
{
	char name[NAME_MAX + 1];
	int fd = directory_fd;

	while (fd >= 0 && length > 0) {
		size_t size = strcspn(path, "/");
		size = size < length ? size : length;
		bool too_long = size > NAME_MAX;
		snprintf(name, sizeof(name), "%.*s", (int)size, path);
		size += size < length;
		path += size;
		length -= size;
		if (!*name || strcmp(name, ".") == 0)
			continue;
		bool is_bad = too_long || strcmp(name, "..") == 0;
		if (!is_bad && make)
			mkdirat(fd, name, 0777);
		int next = is_bad ? -1
				  : openat(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		int saved_errno = is_bad ? (too_long ? ENAMETOOLONG : EXDEV) : errno;
		if (fd != directory_fd)
			close(fd);
		fd = next;
		errno = saved_errno;
	}
	return fd == directory_fd ? openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC) : fd;
}

/* The directory that holds PATH's last name, made where it is missing; NAME points into PATH. */
static int open_parent(const struct sink *sink, const char *path, const char **name,
		       struct error *error)
{
	const char *slash = strrchr(path, '/');
	size_t length = slash ? (size_t)(slash - path) : 0;

	*name = slash ? slash + 1 : path;
	int fd = walk(sink->directory_fd, path, length, false);
	if (fd < 0 && errno == ENOENT)
		fd = walk(sink->directory_fd, path, length, true);
	if (fd < 0)
		return error_errno(error, "open %s/%.*s", sink->directory, (int)length, path);
	return fd;
}

int sink_directory(const struct sink *sink, const char *path, struct error *error)
{
	const char *name;
	struct stat status;

	int parent_fd = open_parent(sink, path, &name, error);
	if (parent_fd < 0)
		return -1;
	int result = mkdirat(parent_fd, name, 0777);
	if (result && errno == EEXIST &&
	    fstatat(parent_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode))
		result = 0;
	if (result)
		error_errno(error, "make directory %s/%s", sink->directory, path);
	close(parent_fd);
	return result;
}

/* --- files --- */

/* A name beside NAME that nothing else has: our process id makes it so among live processes. */
static void name_beside(char *beside, size_t size, const char *name)
{
	snprintf(beside, size, ".%.200s" BESIDE_MARK "%d", name, (int)getpid());
}

/* The path, as sink_open takes it, of what is BESIDE the last name of PATH. */
static void path_beside(const char *path, const char *beside, char *result)
{
	const char *slash = strrchr(path, '/');

	snprintf(result, PATH_MAX, "%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, beside);
}

static void note_unfinished(const struct sink *sink, const char *path, const char *beside)
{
	if (sink->unfinished)
		path_beside(path, beside, sink->unfinished);
}

static void note_finished(const struct sink *sink)
{
	if (sink->unfinished)
		sink->unfinished[0] = '\0';
}

void sink_remove_unfinished(const struct sink *sink)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%.*s", PATH_MAX - 1, sink->unfinished);
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	if (name[0] != '.' || !strstr(name, BESIDE_MARK))
		return;
	int parent_fd = walk(sink->directory_fd, path, slash ? (size_t)(slash - path) : 0, false);
	if (parent_fd < 0)
		return;
	unlinkat(parent_fd, name, 0);
	close(parent_fd);
}

/* Whether NAME is there and may be replaced: 0 or 1; -1 with errno when it may not. */
static int check_old(int parent_fd, const char *name)
{
	struct stat old;

	if (fstatat(parent_fd, name, &old, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : -1;
	if (S_ISREG(old.st_mode) || S_ISLNK(old.st_mode))
		return 1;
	errno = EEXIST;
	return -1;
}

int sink_begin(const struct sink *sink, const char *path, mode_t mode, struct sink_file *file,
	       struct error *error)
{
	const char *name;

	snprintf(file->shown, sizeof(file->shown), "%s/%s", sink->directory, path);
	file->parent_fd = open_parent(sink, path, &name, error);
	if (file->parent_fd < 0)
		return -1;
	snprintf(file->name, sizeof(file->name), "%s", name);
	name_beside(file->beside, sizeof(file->beside), name);
	note_unfinished(sink, path, file->beside);
	file->fd = openat(file->parent_fd, file->beside,
			  O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (file->fd >= 0)
		return 0;
	error_errno(error, "make %s", file->shown);
	close(file->parent_fd);
	return -1;
}

void sink_abandon(struct sink_file *file)
{
	unlinkat(file->parent_fd, file->beside, 0);
	close(file->fd);
	close(file->parent_fd);
}

int sink_commit(struct sink_file *file, bool sync, struct error *error)
{
	int old = check_old(file->parent_fd, file->name);

	/* What is replaced is lost only for what is whole, also when the host loses power. */
	int failed = old < 0 || ((old > 0 || sync) && fsync(file->fd));
	/* Some file systems, as NFS, tell only here that they could not write. */
	failed = close(file->fd) || failed;
	if (!failed)
		failed = renameat(file->parent_fd, file->beside, file->parent_fd, file->name);
	if (failed) {
		error_errno(error, "write %s", file->shown);
		unlinkat(file->parent_fd, file->beside, 0);
	}
	close(file->parent_fd);
	return failed ? -1 : 0;
}

static int set_metadata(int fd, const struct fsstat *stat)
{
	struct timespec times[2] = {stat->mtime, stat->mtime};

	if (fchmod(fd, stat->mode & PERMISSION_BITS))
		return -1;
	return futimens(fd, times);
}

static int take_bytes(struct sink *sink, const char *path, uint64_t size, struct error *error)
{
	if (sink->bytes_left == RECORD_UNSET)
		return 0;
	sink->cap_reached = size > sink->bytes_left;
	if (sink->cap_reached)
		return error_set(error,
				 "output '%s' (%" PRIu64
				 " bytes) is more than max_transfer_output_mb leaves",
				 path, size);
	sink->bytes_left -= size;
	return 0;
}

/* Tells the name that the file has for the time being, as sink_open takes it. */
static int tell_start(const struct sink *sink, const char *path, const struct sink_file *file,
		      const struct fsstat *stat, struct error *error)
{
	char beside[PATH_MAX];

	if (!sink->started)
		return 0;
	path_beside(path, file->beside, beside);
	return sink->started(sink->context, beside, stat, error);
}

static int fill(struct sink *sink, const char *path, const struct sink_file *file,
		const struct fsstat *stat, struct error *error)
{
	if (tell_start(sink, path, file, stat, error) ||
	    fsimage_copy_told(sink->image, stat->inode, stat->size_bytes, file->fd, file->shown,
			      sink->copied, sink->context, error))
		return -1;
	if (sink->is_staging)
		return 0;
	return set_metadata(file->fd, stat) ? error_errno(error, "write %s", file->shown) : 0;
}

int sink_copy(struct sink *sink, const char *path, const struct fsstat *stat, struct error *error)
{
	struct sink_file file = {.fd = -1};

	if (take_bytes(sink, path, stat->size_bytes, error) ||
	    sink_begin(sink, path, 0600, &file, error))
		return -1;
	int failed = fill(sink, path, &file, stat, error);
	if (failed)
		sink_abandon(&file);
	else
		failed = sink_commit(&file, false, error);
	note_finished(sink);
	return failed;
}

int sink_symlink(const struct sink *sink, const char *path, const char *target, struct error *error)
{
	char beside[NAME_MAX + 1];
	const char *name;

	int parent_fd = open_parent(sink, path, &name, error);
	if (parent_fd < 0)
		return -1;
	name_beside(beside, sizeof(beside), name);
	note_unfinished(sink, path, beside);
	int failed = check_old(parent_fd, name) < 0 || symlinkat(target, parent_fd, beside);
	if (!failed && renameat(parent_fd, beside, parent_fd, name)) {
		int saved_errno = errno;
		unlinkat(parent_fd, beside, 0);
		errno = saved_errno;
		failed = 1;
	}
	note_finished(sink);
	if (failed)
		error_errno(error, "make symlink %s/%s", sink->directory, path);
	close(parent_fd);
	return failed ? -1 : 0;
}

int sink_symlink_done(const struct sink *sink, const char *path, const struct timespec *mtime,
		      struct error *error)
{
	struct timespec times[2] = {*mtime, *mtime};
	const char *name;

	int parent_fd = open_parent(sink, path, &name, error);
	if (parent_fd < 0)
		return -1;
	int failed = utimensat(parent_fd, name, times, AT_SYMLINK_NOFOLLOW);
	if (failed)
		error_errno(error, "set the time of %s/%s", sink->directory, path);
	close(parent_fd);
	return failed;
}

int sink_directory_done(struct sink *sink, const char *path, const struct fsstat *stat,
			struct error *error)
{
	int path_fd = walk(sink->directory_fd, path, strlen(path), false);
	int fd = path_fd < 0 ? -1 : openat(path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (path_fd >= 0)
		close(path_fd);
	if (fd < 0)
		return error_errno(error, "open %s/%s", sink->directory, path);
	int failed = set_metadata(fd, stat);
	if (failed)
		error_errno(error, "set the mode and time of %s/%s", sink->directory, path);
	close(fd);
	return failed;
}

int sink_bytes(struct sink *sink, const char *path, const char *bytes, size_t length,
	       struct error *error)
{
	struct sink_file file = {.fd = -1};

	if (sink_begin(sink, path, 0666, &file, error))
		return -1;
	while (length > 0) {
		ssize_t written = write(file.fd, bytes, length);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0) {
			error_errno(error, "write %s", file.shown);
			sink_abandon(&file);
			return -1;
		}
		bytes += written;
		length -= (size_t)written;
	}
	return sink_commit(&file, true, error);
}

static int open_beneath(const struct sink *sink, const char *path, uint64_t flags)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
			   (sink->one_mount ? RESOLVE_NO_XDEV : 0),
	};

	return (int)syscall(SYS_openat2, sink->directory_fd, *path ? path : ".", &how, sizeof(how));
}

int sink_open(const struct sink *sink, const char *path)
{
	return open_beneath(sink, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
}

int sink_look(const struct sink *sink, const char *path)
{
	return open_beneath(sink, path, O_PATH | O_NOFOLLOW);
}

int sink_sync(const struct sink *sink, struct error *error)
{
	/* The descriptor is from before the writing: it hears of errors that others have seen. */
	return syncfs(sink->directory_fd) ? error_errno(error, "sync %s", sink->directory) : 0;
}
