#include "imagebuilder/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "imagebuilder/files.h"

#define FILE_NAME "spool"

struct spool spool_start(int directory_fd, const char *name)
{
	return (struct spool){.directory_fd = directory_fd, .fd = -1, .name = name};
}

/* File systems without O_TMPFILE (NFS) need a name for a moment. */
static int open_unlinked(int directory_fd)
{
	int fd = openat(directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd;
	fd = openat(directory_fd, FILE_NAME, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		unlinkat(directory_fd, FILE_NAME, 0);
	return fd;
}

int spool_fd(struct spool *spool, struct error *error)
{
	if (spool->fd < 0)
		spool->fd = open_unlinked(spool->directory_fd);
	if (spool->fd < 0)
		return error_errno(error, "make a file for the archive's data beside %s",
				   spool->name);
	return spool->fd;
}

int spool_append(struct spool *spool, const void *bytes, size_t size, struct error *error)
{
	int fd = spool_fd(spool, error);

	if (fd < 0 || files_write(fd, spool->name, bytes, size, error))
		return -1;
	spool->end_bytes += size;
	return 0;
}
