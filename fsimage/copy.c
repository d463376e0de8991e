#include "fsimage/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_BUFFER_BYTES (1 << 20)

int64_t read_at(int fd, void *bytes, size_t length, uint64_t offset)
{
	size_t done = 0;

	while (done < length) {
		ssize_t got = pread(fd, (uint8_t *)bytes + done, length - done, offset + done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			break;
		done += got;
	}
	return done;
}

int write_at(int fd, const void *bytes, size_t length, uint64_t offset)
{
	size_t done = 0;

	while (done < length) {
		ssize_t put =
			pwrite(fd, (const uint8_t *)bytes + done, length - done, offset + done);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -1;
		done += put;
	}
	return 0;
}

static int64_t copy_by_buffer(int from_fd, uint64_t from_offset, int to_fd, uint64_t to_offset,
			      uint64_t length)
{
	size_t buffer_bytes = length < COPY_BUFFER_BYTES ? length : COPY_BUFFER_BYTES;
	uint8_t *buffer = malloc(buffer_bytes);
	uint64_t done = 0;
	int64_t got = buffer ? 1 : -1;

	while (got > 0 && done < length) {
		uint64_t left = length - done;

		got = read_at(from_fd, buffer, left < buffer_bytes ? left : buffer_bytes,
			      from_offset + done);
		if (got > 0 && write_at(to_fd, buffer, got, to_offset + done) < 0)
			got = -1;
		if (got > 0)
			done += got;
	}
	free(buffer);
	return got < 0 ? -1 : (int64_t)done;
}

int64_t copy_at(int from_fd, uint64_t from_offset, int to_fd, uint64_t to_offset, uint64_t length)
{
	uint64_t done = 0;

	while (done < length) {
		off_t from = from_offset + done;
		off_t to = to_offset + done;
		ssize_t copied = copy_file_range(from_fd, &from, to_fd, &to, length - done, 0);

		if (copied < 0 && errno == EINTR)
			continue;
		if (copied < 0 && (is_full(errno) || errno == EIO))
			return -1;
		/*
		 * Some file systems and kernels refuse or return 0 for what a plain read can get:
		 * reading tells whether this is the input's end or a real error.
		 */
		if (copied <= 0)
			break;
		done += copied;
	}
	if (done == length)
		return done;

	int64_t rest =
		copy_by_buffer(from_fd, from_offset + done, to_fd, to_offset + done, length - done);
	return rest < 0 ? -1 : (int64_t)done + rest;
}

int copy_whole(int from_fd, int to_fd)
{
	struct stat stat;
	off_t data, end = 0;

	if (fstat(from_fd, &stat) || ftruncate(to_fd, stat.st_size))
		return -1;
	while ((data = lseek(from_fd, end, SEEK_DATA)) >= 0) {
		end = lseek(from_fd, data, SEEK_HOLE);
		if (end < 0 || copy_at(from_fd, data, to_fd, data, end - data) < 0)
			return -1;
	}
	/* No more data, or a file that was cut off meanwhile. */
	return errno == ENXIO ? 0 : -1;
}

bool is_full(long code)
{
	return code == ENOSPC || code == EDQUOT;
}
