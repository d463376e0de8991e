/*
 * To be preloaded (ld.so(8)): the call that $FAIL_CALL names fails with EIO on files that were made
 * under a name with $FAIL_NAME in it; syncfs on any.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define FDS_MAX 1024

static bool is_wanted[FDS_MAX]; /* by descriptor */

static bool names_wanted(const char *name)
{
	const char *wanted = getenv("FAIL_NAME");

	return wanted && strstr(name, wanted);
}

static bool fails(const char *call, int fd)
{
	const char *wanted = getenv("FAIL_CALL");

	if (!wanted || strcmp(wanted, call) != 0 || fd < 0 || fd >= FDS_MAX || !is_wanted[fd])
		return false;
	errno = EIO;
	return true;
}

int openat(int directory_fd, const char *path, int flags, ...)
{
	int (*next)(int, const char *, int, ...) = dlsym(RTLD_NEXT, "openat");
	va_list more;

	va_start(more, flags);
	int fd = next(directory_fd, path, flags, va_arg(more, mode_t));
	va_end(more);
	if (fd >= 0 && fd < FDS_MAX)
		is_wanted[fd] = (flags & O_CREAT) && names_wanted(path);
	return fd;
}

int openat64(int directory_fd, const char *path, int flags, ...) __attribute__((alias("openat")));

int close(int fd)
{
	int (*next)(int) = dlsym(RTLD_NEXT, "close");
	bool failed = fails("close", fd);

	if (fd >= 0 && fd < FDS_MAX)
		is_wanted[fd] = false;
	int result = next(fd);
	if (failed)
		errno = EIO;
	return failed ? -1 : result;
}

int fsync(int fd)
{
	int (*next)(int) = dlsym(RTLD_NEXT, "fsync");

	return fails("fsync", fd) ? -1 : next(fd);
}

int syncfs(int fd)
{
	const char *wanted = getenv("FAIL_CALL");
	int (*next)(int) = dlsym(RTLD_NEXT, "syncfs");

	if (!wanted || strcmp(wanted, "syncfs") != 0)
		return next(fd);
	errno = EIO;
	return -1;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
	ssize_t (*next)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");

	return fails("write", fd) ? -1 : next(fd, bytes, size);
}

ssize_t copy_file_range(int in_fd, off_t *in, int out_fd, off_t *out, size_t size, unsigned flags)
{
	ssize_t (*next)(int, off_t *, int, off_t *, size_t, unsigned) =
		dlsym(RTLD_NEXT, "copy_file_range");

	return fails("write", out_fd) ? -1 : next(in_fd, in, out_fd, out, size, flags);
}

ssize_t copy_file_range64(int in_fd, off_t *in, int out_fd, off_t *out, size_t size, unsigned flags)
	__attribute__((alias("copy_file_range")));

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
	ssize_t (*next)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");

	return fails("write", fd) ? -1 : next(fd, bytes, size, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t offset)
	__attribute__((alias("pwrite")));

int renameat(int old_fd, const char *old, int new_fd, const char *new)
{
	int (*next)(int, const char *, int, const char *) = dlsym(RTLD_NEXT, "renameat");
	const char *wanted = getenv("FAIL_CALL");

	if (!wanted || strcmp(wanted, "rename") != 0 || !names_wanted(new))
		return next(old_fd, old, new_fd, new);
	errno = EIO;
	return -1;
}
