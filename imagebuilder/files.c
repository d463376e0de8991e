#include "imagebuilder/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

int files_open(const char *path, uint64_t *size_bytes, struct error *error)
{
	/* Without O_NONBLOCK a FIFO would block here. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat stat;

	if (fd < 0)
		return error_errno(error, "open %s", path);
	if (fstat(fd, &stat) || !S_ISREG(stat.st_mode)) {
		close(fd);
		return error_set(error, "%s: not a regular file", path);
	}
	*size_bytes = (uint64_t)stat.st_size;
	return fd;
}

/* How much is there to read: of what is no file, as much as may be. */
static size_t expected_bytes(int fd, size_t max_bytes)
{
	struct stat stat;

	if (fstat(fd, &stat) || !S_ISREG(stat.st_mode) || (uint64_t)stat.st_size > max_bytes)
		return max_bytes;
	return (size_t)stat.st_size;
}

char *files_read(int fd, const char *name, size_t max_bytes, size_t *size, struct error *error)
{
	/* One byte more shows that there is more. */
	size_t room = expected_bytes(fd, max_bytes) + 1;
	char *bytes = malloc(room);
	ssize_t length = 1;

	*size = 0;
	if (!bytes) {
		error_set(error, "%s: out of memory", name);
		return NULL;
	}
	while (*size < room && length != 0) {
		length = read(fd, bytes + *size, room - *size);
		if (length > 0)
			*size += (size_t)length;
		else if (length < 0 && errno != EINTR)
			break;
	}
	if (length == 0) {
		bytes[*size] = '\0';
		return bytes;
	}
	if (length < 0)
		error_errno(error, "read %s", name);
	else if (*size > max_bytes)
		error_set(error, "%s: larger than %zu bytes", name, max_bytes);
	else
		error_set(error, "%s: changed while it was read", name);
	free(bytes);
	return NULL;
}

int files_write(int fd, const char *name, const void *bytes, size_t size, struct error *error)
{
	const char *rest = bytes;

	while (size > 0) {
		ssize_t written = write(fd, rest, size);
		if (written < 0)
			return error_errno(error, "write %s", name);
		rest += written;
		size -= (size_t)written;
	}
	return 0;
}

int files_copy(int input_fd, const char *input_name, int output_fd, const char *output_name,
	       uint64_t size_bytes, struct error *error)
{
	while (size_bytes > 0) {
		ssize_t copied = sendfile(output_fd, input_fd, NULL, size_bytes);
		if (copied < 0)
			return error_errno(error, "copy %s to %s", input_name, output_name);
		if (copied == 0)
			return error_set(error, "%s: shrank while it was copied", input_name);
		size_bytes -= (uint64_t)copied;
	}
	return 0;
}

static int by_name(const FTSENT **left, const FTSENT **right)
{
	return strcmp((*left)->fts_name, (*right)->fts_name);
}

FTS *files_walk(const char *directory, struct error *error)
{
	char *roots[] = {strdup(directory), NULL};
	FTS *walk = NULL;

	if (roots[0])
		walk = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
	if (!walk)
		error_errno(error, "read directory %s", directory);
	free(roots[0]);
	return walk;
}

FTSENT *files_walk_next(FTS *walk, int *result, struct error *error)
{
	FTSENT *entry;

	*result = -1;
	do {
		errno = 0;
		entry = fts_read(walk);
	} while (entry && entry->fts_info == FTS_DP);
	if (!entry) {
		*result = errno ? error_errno(error, "walk a directory") : 0;
		return NULL;
	}
	switch (entry->fts_info) {
	case FTS_DNR:
	case FTS_NS:
	case FTS_ERR:
		errno = entry->fts_errno;
		error_errno(error, "read %s", entry->fts_path);
		return NULL;
	case FTS_DC:
		error_set(error, "%s: contains itself", entry->fts_path);
		return NULL;
	}
	return entry;
}
