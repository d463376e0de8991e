#include "host-tools/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jobdisk/record.h"

#define PERMISSION_BITS 0777

/* Opens PATH below the sink without ever following a link. */
static int open_beneath(const struct sink *sink, const char *path, uint64_t flags)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, sink->directory_fd, *path ? path : ".", &how, sizeof(how));
}

/* The directory that holds PATH's last name, made where it is missing; NAME points into PATH. */
static int open_parent(const struct sink *sink, const char *path, const char **name,
		       struct error *error)
{
	char prefix[PATH_MAX];
	const char *slash = strrchr(path, '/');

	*name = slash ? slash + 1 : path;
	snprintf(prefix, sizeof(prefix), "%.*s", slash ? (int)(slash - path) : 0, path);
	int fd = open_beneath(sink, prefix, O_PATH | O_DIRECTORY);
	if (fd < 0 && errno == ENOENT) {
		struct error ignored;
		if (sink_directory(sink, prefix, &ignored) == 0)
			fd = open_beneath(sink, prefix, O_PATH | O_DIRECTORY);
	}
	if (fd < 0)
		return error_errno(error, "open %s/%s", sink->directory, prefix);
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

/* A name beside NAME that nothing else has: our process id makes it so among live processes. */
static void name_beside(char *beside, size_t size, const char *name)
{
	snprintf(beside, size, ".%.200s.jobvm-%d", name, (int)getpid());
}

/* Takes the place of what a file or link of that name was, but never of a FIFO or a device. */
static int publish(int parent_fd, const char *beside, const char *name)
{
	struct stat old;

	bool is_special = fstatat(parent_fd, name, &old, AT_SYMLINK_NOFOLLOW) == 0 &&
			  !S_ISREG(old.st_mode) && !S_ISLNK(old.st_mode);
	errno = EEXIST;
	if (!is_special && renameat(parent_fd, beside, parent_fd, name) == 0)
		return 0;
	int saved_errno = errno;
	unlinkat(parent_fd, beside, 0);
	errno = saved_errno;
	return -1;
}

static int set_file_metadata(int fd, const struct fsstat *stat)
{
	struct timespec times[2] = {stat->mtime, stat->mtime};

	if (fchmod(fd, stat->mode & PERMISSION_BITS))
		return -1;
	return futimens(fd, times);
}

static int write_file(struct sink *sink, const char *path, int fd, const struct fsstat *stat,
		      struct error *error)
{
	char shown[PATH_MAX];

	snprintf(shown, sizeof(shown), "%s/%s", sink->directory, path);
	if (fsimage_copy(sink->image, stat->inode, stat->size_bytes, fd, shown, error))
		return -1;
	if (set_file_metadata(fd, stat) || fsync(fd))
		return error_errno(error, "write %s", shown);
	return 0;
}

static int take_bytes(struct sink *sink, const char *path, uint64_t size, struct error *error)
{
	if (sink->bytes_left == RECORD_UNSET)
		return 0;
	if (size > sink->bytes_left)
		return error_set(error,
				 "output '%s' (%" PRIu64
				 " bytes) is more than max_transfer_output_mb leaves",
				 path, size);
	sink->bytes_left -= size;
	return 0;
}

int sink_file(struct sink *sink, const char *path, const struct fsstat *stat, struct error *error)
{
	char beside[NAME_MAX + 1];
	const char *name;

	if (take_bytes(sink, path, stat->size_bytes, error))
		return -1;
	int parent_fd = open_parent(sink, path, &name, error);
	if (parent_fd < 0)
		return -1;
	name_beside(beside, sizeof(beside), name);
	int fd =
		openat(parent_fd, beside, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int failed = fd < 0 ? error_errno(error, "make %s/%s", sink->directory, path)
			    : write_file(sink, path, fd, stat, error);
	if (fd >= 0)
		close(fd);
	if (failed && fd >= 0)
		unlinkat(parent_fd, beside, 0);
	else if (!failed && publish(parent_fd, beside, name))
		failed = error_errno(error, "name %s/%s", sink->directory, path);
	close(parent_fd);
	return failed ? -1 : 0;
}

int sink_symlink(struct sink *sink, const char *path, const struct fsstat *stat,
		 struct error *error)
{
	char target[PATH_MAX + 1], beside[NAME_MAX + 1];
	struct timespec times[2] = {stat->mtime, stat->mtime};
	const char *name;

	if (fsimage_readlink(sink->image, stat->inode, target, sizeof(target), error))
		return -1;
	int parent_fd = open_parent(sink, path, &name, error);
	if (parent_fd < 0)
		return -1;
	name_beside(beside, sizeof(beside), name);
	int failed = symlinkat(target, parent_fd, beside) ||
		     utimensat(parent_fd, beside, times, AT_SYMLINK_NOFOLLOW) ||
		     publish(parent_fd, beside, name);
	if (failed)
		error_errno(error, "make symlink %s/%s", sink->directory, path);
	close(parent_fd);
	return failed ? -1 : 0;
}

int sink_directory_done(struct sink *sink, const char *path, const struct fsstat *stat,
			struct error *error)
{
	int fd = open_beneath(sink, path, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return error_errno(error, "open %s/%s", sink->directory, path);
	int failed = set_file_metadata(fd, stat);
	if (failed)
		error_errno(error, "set the mode and time of %s/%s", sink->directory, path);
	close(fd);
	return failed;
}

int sink_bytes(struct sink *sink, const char *path, const char *bytes, size_t length,
	       struct error *error)
{
	char beside[NAME_MAX + 1];
	const char *name;

	int parent_fd = open_parent(sink, path, &name, error);
	if (parent_fd < 0)
		return -1;
	name_beside(beside, sizeof(beside), name);
	int fd = openat(parent_fd, beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			0666);
	int failed = fd < 0;
	while (!failed && length > 0) {
		ssize_t written = write(fd, bytes, length);
		failed = written < 0 && errno != EINTR;
		if (written > 0) {
			bytes += written;
			length -= (size_t)written;
		}
	}
	failed = failed || fsync(fd);
	int saved_errno = errno;
	if (fd >= 0)
		close(fd);
	if (failed && fd >= 0)
		unlinkat(parent_fd, beside, 0);
	errno = saved_errno;
	if (failed || publish(parent_fd, beside, name))
		failed = error_errno(error, "write %s/%s", sink->directory, path);
	close(parent_fd);
	return failed ? -1 : 0;
}
