#include "host-tools/vmm/preload/readonly.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
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
