#include "host-tools/vmm/preload/readonly.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FD_DIRECTORY "/proc/self/fd/"

/* The C library's own names for open(2) in a checked build. */
int __open_2(const char *path, int flags);   /* NOLINT(bugprone-reserved-identifier) */
int __open64_2(const char *path, int flags); /* NOLINT(bugprone-reserved-identifier) */

static int is_readonly(const char *path)
{
	const char *number = getenv(READONLY_VARIABLE);
	size_t length = strlen(FD_DIRECTORY);

	return number && strncmp(path, FD_DIRECTORY, length) == 0 &&
	       strcmp(path + length, number) == 0;
}

static int open_file(const char *path, int flags, mode_t mode)
{
	if (is_readonly(path))
		return fcntl(atoi(path + strlen(FD_DIRECTORY)), F_DUPFD_CLOEXEC, 3);
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* There is a mode only where a file may be made. */
#define READ_MODE(mode, flags)                                                                     \
	do {                                                                                       \
		va_list values;                                                                    \
		va_start(values, flags);                                                           \
		if ((flags)&O_CREAT || ((flags)&O_TMPFILE) == O_TMPFILE)                           \
			(mode) = va_arg(values, mode_t);                                           \
		va_end(values);                                                                    \
	} while (0)

int open(const char *path, int flags, ...)
{
	mode_t mode = 0;

	READ_MODE(mode, flags);
	return open_file(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	mode_t mode = 0;

	READ_MODE(mode, flags);
	return open_file(path, flags, mode);
}

int __open_2(const char *path, int flags) /* NOLINT(bugprone-reserved-identifier) */
{
	return open_file(path, flags, 0);
}

int __open64_2(const char *path, int flags) /* NOLINT(bugprone-reserved-identifier) */
{
	return open_file(path, flags, 0);
}

static int number_in(const char *variable)
{
	const char *number = getenv(variable);

	return number ? atoi(number) : -1;
}

static int is_memory(int fd)
{
	struct stat status, memory;

	return fd >= 0 && fstat(fd, &status) == 0 &&
	       fstat(number_in(READONLY_VARIABLE), &memory) == 0 &&
	       status.st_dev == memory.st_dev && status.st_ino == memory.st_ino;
}

static void *map_file(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	if ((flags & MAP_TYPE) == MAP_SHARED && is_memory(fd)) {
		flags = (flags & ~MAP_TYPE) | MAP_PRIVATE;
		fd = number_in(MAPPED_VARIABLE);
	}
	/* The library's own mmap would be this one. */
	return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	return map_file(address, length, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset)
{
	return map_file(address, length, protection, flags, fd, offset);
}
