/*
 * sign: detached Ed25519 signatures, as `openssl pkeyutl -rawin` makes and takes them. All of the
 * cryptography is libcrypto's.
 *
 * jobvm forks children that meet what a job left behind. So its own memory never holds a private
 * key: each use of one is in a child that ends with it.
 */
#ifndef HOST_TOOLS_SIGN_H
#define HOST_TOOLS_SIGN_H

#include <stddef.h>
#include <stdint.h>

#include "jobdisk/error.h"

#define SIGNATURE_BYTES 64

struct signer;
struct public_key;

/*
 * Opens the private key in the file PATH (PEM, `openssl genpkey -algorithm ed25519`), and sees that
 * it is one. It stays open, so that what becomes of PATH later does not matter. NULL with ERROR set
 * when it cannot be read, is of another type, or is encrypted: nobody is ever asked for a
 * passphrase. To be closed with signer_close.
 */
struct signer *signer_open(const char *path, struct error *error);
void signer_close(struct signer *signer); /* NULL is allowed */

/* Signs SIZE bytes. 0, or -1 with ERROR set. */
int signer_sign(const struct signer *signer, const void *bytes, size_t size,
		uint8_t signature[SIGNATURE_BYTES], struct error *error);

/* Reads a public key (`openssl pkey -pubout`), to be freed. NULL with ERROR set. */
struct public_key *public_key_read(const char *path, struct error *error);
void public_key_free(struct public_key *key); /* NULL is allowed */

/* Whether SIGNATURE is KEY's for these bytes: 0; 1 when it is not; -1 with ERROR set. */
int signature_check(const struct public_key *key, const void *bytes, size_t size,
		    const void *signature, size_t signature_size, struct error *error);

#endif
