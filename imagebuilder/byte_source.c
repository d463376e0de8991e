#include "imagebuilder/byte_source.h"

#include <errno.h>
#include <unistd.h>

static ssize_t read_some(const struct byte_source *source, char *bytes, size_t size)
{
	ssize_t got;

	do {
		got = source->offset == BYTE_SOURCE_STREAM
			      ? read(source->fd, bytes, size)
			      : pread(source->fd, bytes, size, (off_t)source->offset);
	} while (got < 0 && errno == EINTR);
	return got;
}

ssize_t byte_source_read(struct byte_source *source)
{
	size_t size = 0;
	ssize_t got = 1;

	/* A pipe gives as much as it has. */
	while (got > 0 && size < sizeof(source->buffer) && source->rest > 0) {
		size_t room = sizeof(source->buffer) - size;

		got = read_some(source, source->buffer + size,
				room < source->rest ? room : source->rest);
		if (got < 0)
			return -1;
		size += (size_t)got;
		source->rest -= (uint64_t)got;
		source->done += (uint64_t)got;
		if (source->offset != BYTE_SOURCE_STREAM)
			source->offset += (uint64_t)got;
	}
	if (source->digest)
		digest_add(source->digest, source->buffer, size);
	return (ssize_t)size;
}

int byte_source_drain(struct byte_source *source, struct error *error)
{
	ssize_t got;

	while ((got = byte_source_read(source)) > 0)
		;
	return got < 0 ? error_errno(error, "read %s", source->name) : 0;
}
