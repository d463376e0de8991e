#include "host-tools/suspend/disk_digest.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fsimage/copy.h"
#include "host-tools/suspend/workers.h"

#define PIECE_BYTES (1ULL << 20)

struct piece {
	bool has_data;
	uint8_t sha256[DIGEST_BYTES];
};

struct digesting {
	int fd;
	const char *name;
	uint64_t size_bytes;
	struct piece *pieces;
};

static bool is_zero(const unsigned char *bytes, size_t size)
{
	return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* Whether there is nothing but a hole. */
static bool is_hole(const struct digesting *d, uint64_t offset, uint64_t end)
{
	off_t data = lseek(d->fd, (off_t)offset, SEEK_DATA);

	return data < 0 ? errno == ENXIO : (uint64_t)data >= end;
}

static int digest_piece(void *context, uint64_t item, void *scratch, struct error *error)
{
	const struct digesting *d = context;
	struct piece *piece = &d->pieces[item];
	uint64_t offset = item * PIECE_BYTES;
	uint64_t length = d->size_bytes - offset;

	if (length > PIECE_BYTES)
		length = PIECE_BYTES;
	if (is_hole(d, offset, offset + length))
		return 0;
	if (read_at(d->fd, scratch, length, offset) != (int64_t)length)
		return error_errno(error, "read %s", d->name);
	piece->has_data = !is_zero(scratch, length);
	if (!piece->has_data)
		return 0;
	struct digest *digest = digest_new(error);
	if (!digest)
		return -1;
	digest_add(digest, scratch, length);
	return digest_finish(digest, piece->sha256, error);
}

static int combine(const struct digesting *d, uint64_t count, char hex[DIGEST_HEX_BYTES],
		   struct error *error)
{
	struct digest *digest = digest_new(error);

	if (!digest)
		return -1;
	digest_add(digest, &d->size_bytes, sizeof(d->size_bytes));
	for (uint64_t i = 0; i < count; i++) {
		if (!d->pieces[i].has_data)
			continue;
		digest_add(digest, &i, sizeof(i));
		digest_add(digest, d->pieces[i].sha256, DIGEST_BYTES);
	}
	return digest_finish_hex(digest, hex, error);
}

int disk_digest_hex(int fd, const char *name, char hex[DIGEST_HEX_BYTES], struct error *error)
{
	struct stat status;

	if (fstat(fd, &status))
		return error_errno(error, "look at %s", name);
	uint64_t count = ((uint64_t)status.st_size + PIECE_BYTES - 1) / PIECE_BYTES;
	struct digesting digesting = {
		.fd = fd, .name = name, .size_bytes = (uint64_t)status.st_size};
	digesting.pieces = calloc(count + 1, sizeof(struct piece));
	if (!digesting.pieces)
		return error_set(error, "out of memory");
	int failed = workers_run(count, digest_piece, &digesting, PIECE_BYTES, error) ||
		     combine(&digesting, count, hex, error);
	free(digesting.pieces);
	return failed ? -1 : 0;
}
