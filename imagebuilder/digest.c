#include "imagebuilder/digest.h"

#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_BYTES 65536

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

void digest_hex(const uint8_t value[DIGEST_BYTES], char hex[DIGEST_HEX_BYTES])
{
	for (size_t i = 0; i < DIGEST_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", value[i]);
}
