#include "imagebuilder/digest.h"

#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES 65536
#define PAGE_BYTES 4096

struct digest {
	EVP_MD_CTX *context;
	bool failed;
};

struct digest *digest_new(struct error *error)
{
	struct digest *digest = calloc(1, sizeof(*digest));

	if (digest)
		digest->context = EVP_MD_CTX_new();
	if (!digest || !digest->context ||
	    !EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL)) {
		digest_free(digest);
		error_set(error, "cannot start a SHA-256 digest");
		return NULL;
	}
	return digest;
}

void digest_free(struct digest *digest)
{
	if (!digest)
		return;
	EVP_MD_CTX_free(digest->context);
	free(digest);
}

void digest_add(struct digest *digest, const void *bytes, size_t size)
{
	if (!EVP_DigestUpdate(digest->context, bytes, size))
		digest->failed = true;
}

int digest_finish(struct digest *digest, uint8_t value[DIGEST_BYTES], struct error *error)
{
	bool done = !digest->failed && EVP_DigestFinal_ex(digest->context, value, NULL);

	digest_free(digest);
	return done ? 0 : error_set(error, "cannot compute a SHA-256 digest");
}

int digest_finish_hex(struct digest *digest, char hex[DIGEST_HEX_BYTES], struct error *error)
{
	uint8_t value[DIGEST_BYTES];

	if (digest_finish(digest, value, error))
		return -1;
	digest_hex(value, hex);
	return 0;
}

int digest_file(int fd, const char *name, uint8_t value[DIGEST_BYTES], struct error *error)
{
	struct digest *digest = digest_new(error);
	char buffer[READ_BYTES];
	off_t offset = 0;
	ssize_t length;

	if (!digest)
		return -1;
	while ((length = pread(fd, buffer, sizeof(buffer), offset)) > 0) {
		digest_add(digest, buffer, (size_t)length);
		offset += length;
	}
	if (length < 0) {
		digest_free(digest);
		return error_errno(error, "read %s", name);
	}
	return digest_finish(digest, value, error);
}

int digest_file_hex(int fd, const char *name, char hex[DIGEST_HEX_BYTES], struct error *error)
{
	uint8_t value[DIGEST_BYTES];

	if (digest_file(fd, name, value, error))
		return -1;
	digest_hex(value, hex);
	return 0;
}

int digest_bytes(const void *bytes, size_t size, char hex[DIGEST_HEX_BYTES], struct error *error)
{
	struct digest *digest = digest_new(error);

	if (!digest)
		return -1;
	digest_add(digest, bytes, size);
	return digest_finish_hex(digest, hex, error);
}

/* Adds the pages of the SIZE bytes at OFFSET, but for those of zeros. */
static void add_pages(struct digest *digest, const char *bytes, size_t size, uint64_t offset)
{
	static const char zeros[PAGE_BYTES];

	for (size_t done = 0; done < size; done += PAGE_BYTES) {
		size_t length = size - done < PAGE_BYTES ? size - done : PAGE_BYTES;
		uint64_t place = offset + done;
		if (memcmp(bytes + done, zeros, length) == 0)
			continue;
		digest_add(digest, &place, sizeof(place));
		digest_add(digest, bytes + done, length);
	}
}

/* Adds what is between START and END, which are multiples of a page or the file's end. */
static int add_range(struct digest *digest, int fd, off_t start, off_t end)
{
	char buffer[READ_BYTES];

	while (start < end) {
		size_t wanted = end - start < READ_BYTES ? (size_t)(end - start) : READ_BYTES;
		ssize_t length = pread(fd, buffer, wanted, start);
		if (length <= 0 || (size_t)length != wanted)
			return -1;
		add_pages(digest, buffer, wanted, (uint64_t)start);
		start += length;
	}
	return 0;
}

int digest_sparse_file_hex(int fd, const char *name, char hex[DIGEST_HEX_BYTES],
			   struct error *error)
{
	off_t size = lseek(fd, 0, SEEK_END), end = 0;
	struct digest *digest = digest_new(error);
	int failed = size < 0;

	if (!digest)
		return -1;
	digest_add(digest, &size, sizeof(size));
	while (!failed && end < size) {
		off_t start = lseek(fd, end, SEEK_DATA);
		/* ENXIO: nothing but a hole until the end. */
		if (start < 0)
			break;
		end = lseek(fd, start, SEEK_HOLE);
		/* File systems may say where data is by units of their own. */
		start -= start % PAGE_BYTES;
		end += (PAGE_BYTES - end % PAGE_BYTES) % PAGE_BYTES;
		failed = end <= start || add_range(digest, fd, start, end < size ? end : size);
	}
	if (failed) {
		digest_free(digest);
		return error_errno(error, "read %s", name);
	}
	return digest_finish_hex(digest, hex, error);
}

void digest_hex(const uint8_t value[DIGEST_BYTES], char hex[DIGEST_HEX_BYTES])
{
	for (size_t i = 0; i < DIGEST_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", value[i]);
}
