#include "fsimage/host.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fsimage/copy.h"
#include "fsimage/writer.h"

/* Zeros are looked for in so many bytes at a time, a multiple of the block size. */
#define SCAN_BYTES (16 * FSIMAGE_BLOCK_BYTES)

static bool is_base(const struct host_directory *directory)
{
	return !directory->parent;
}

void host_leave(struct host_cursor *cursor)
{
	if (cursor->directory && !is_base(cursor->directory))
		close(cursor->fd);
	*cursor = HOST_CURSOR_NOWHERE;
}

static int enter_child(struct host_cursor *cursor, const struct host_directory *child,
		       struct error *error)
{
	int fd = openat(cursor->fd, child->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return error_errno(error, "cannot enter the directory %s",
				   host_path(child->parent, child->name).text);
	host_leave(cursor);
	cursor->directory = child;
	cursor->fd = fd;
	return 0;
}

int host_enter(struct host_cursor *cursor, struct host_directory *directory, struct error *error)
{
	struct host_directory *known = directory;

	while (known != cursor->directory && !is_base(known)) {
		known->parent->descent = known;
		known = known->parent;
	}
	if (known != cursor->directory) {
		host_leave(cursor);
		cursor->directory = known;
		cursor->fd = known->base_fd;
	}
	while (cursor->directory != directory) {
		if (enter_child(cursor, cursor->directory->descent, error) < 0)
			return -1;
	}
	return cursor->fd;
}

bool host_path_prepend(struct host_path *path, const char *name)
{
	size_t length = strlen(name), used = strlen(path->text);
	bool fits = used + length + sizeof(".../") < sizeof(path->text);

	if (!fits) {
		name = "...";
		length = strlen(name);
	}
	memmove(path->text + length + (fits && used), path->text, used + 1);
	memcpy(path->text, name, length);
	if (fits && used)
		path->text[length] = '/';
	return fits;
}

struct host_path host_path(const struct host_directory *directory, const char *name)
{
	struct host_path path = {""};

	while (name && *name && host_path_prepend(&path, name)) {
		name = directory ? directory->name : NULL;
		directory = directory ? directory->parent : NULL;
	}
	return path;
}

int host_open_file(int directory_fd, const char *name)
{
	/* O_NONBLOCK: a FIFO may have taken the file's place. */
	return openat(directory_fd, name,
		      O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool host_file_is(const struct host_file *file, const struct stat *stat)
{
	return S_ISREG(stat->st_mode) && stat->st_dev == file->device &&
	       stat->st_ino == file->inode && (uint64_t)stat->st_size == file->size_bytes &&
	       same_time(stat->st_mtim, file->mtime) && same_time(stat->st_ctim, file->ctime);
}

/* What the host's file system calls data, widened to whole blocks; else as host_next_segment. */
static int next_allocated(int fd, const struct host_file *file, uint64_t offset,
			  struct host_segment *segment)
{
	*segment = (struct host_segment){offset, file->size_bytes};
	if (offset >= file->size_bytes)
		return 0;
	if (!file->sparse)
		return 1;

	off_t data = lseek(fd, offset, SEEK_DATA);

	if (data < 0 && errno == ENXIO)
		return 0;
	if (data < 0 && errno == EINVAL)
		return 1; /* a file system that cannot tell: all is data */
	if (data < 0)
		return -1;

	off_t hole = lseek(fd, data, SEEK_HOLE);

	if (hole < 0)
		return errno == ENXIO ? 0 : -1; /* it has just become shorter */
	segment->start = data / FSIMAGE_BLOCK_BYTES * FSIMAGE_BLOCK_BYTES;
	segment->end = (hole + FSIMAGE_BLOCK_BYTES - 1) / FSIMAGE_BLOCK_BYTES * FSIMAGE_BLOCK_BYTES;
	if (segment->end > file->size_bytes)
		segment->end = file->size_bytes;
	return 1;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* The first block from START on that IS_ZERO or is not, as asked, or END; -1 with errno. */
static int64_t find_block(int fd, bool zero, uint64_t start, uint64_t end)
{
	uint8_t bytes[SCAN_BYTES];

	for (uint64_t offset = start; offset < end; offset += SCAN_BYTES) {
		size_t wanted = end - offset < SCAN_BYTES ? end - offset : SCAN_BYTES;
		int64_t size = read_at(fd, bytes, wanted, offset);

		if (size < 0)
			return -1;
		for (size_t at = 0; at < (size_t)size; at += FSIMAGE_BLOCK_BYTES) {
			size_t left = (size_t)size - at;

			if (is_zero(bytes + at,
				    left < FSIMAGE_BLOCK_BYTES ? left : FSIMAGE_BLOCK_BYTES) ==
			    zero)
				return (int64_t)(offset + at);
		}
	}
	return (int64_t)end; /* also of a file that has just become shorter */
}

/* Looks for zeros from the beginning of SEGMENT on: 1, 0 when it has nothing else, or -1. */
static int cut_at_zeros(int fd, const struct host_file *file, struct host_segment *segment)
{
	int64_t start = find_block(fd, false, segment->start, segment->end), end;

	if (start < 0 || (uint64_t)start >= segment->end)
		return start < 0 ? -1 : 0;
	/* Not before the next zeros, whatever the host keeps apart. */
	end = find_block(fd, true, (uint64_t)start, file->size_bytes);
	*segment = (struct host_segment){(uint64_t)start, (uint64_t)end};
	return end < 0 ? -1 : 1;
}

int host_next_segment(int fd, const struct host_file *file, uint64_t offset,
		      struct host_segment *segment)
{
	int found = next_allocated(fd, file, offset, segment);

	if (!file->find_zeros)
		return found;
	while (found > 0) {
		found = cut_at_zeros(fd, file, segment);
		if (found)
			return found;
		found = next_allocated(fd, file, segment->end, segment);
	}
	return found;
}
