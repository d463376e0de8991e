#include "host-tools/sign.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "imagebuilder/files.h"

/* A key has some hundred bytes. */
#define KEY_BYTES_MAX 65536

struct signer {
	int fd;
	char *path; /* in errors */
};

struct public_key {
	EVP_PKEY *pkey;
};

/* --- keys --- */

/* libcrypto would ask on the terminal. */
static int note_encrypted(char *passphrase, int size, int for_writing, void *context)
{
	(void)passphrase;
	(void)size;
	(void)for_writing;
	*(bool *)context = true;
	return -1;
}

typedef EVP_PKEY *read_pem(BIO *bio, EVP_PKEY **pkey, pem_password_cb *callback, void *context);

static EVP_PKEY *parse_key(const char *path, const char *text, size_t size, bool is_private,
			   struct error *error)
{
	read_pem *read_key = is_private ? PEM_read_bio_PrivateKey : PEM_read_bio_PUBKEY;
	bool encrypted = false;
	BIO *bio = BIO_new_mem_buf(text, (int)size);
	EVP_PKEY *pkey = bio ? read_key(bio, NULL, note_encrypted, &encrypted) : NULL;

	BIO_free(bio);
	/* What libcrypto has to say of it is for its developers. */
	ERR_clear_error();
	if (pkey && EVP_PKEY_is_a(pkey, "ED25519"))
		return pkey;
	if (pkey)
		error_set(error, "key %s: not an Ed25519 key", path);
	else if (encrypted)
		error_set(error, "key %s: encrypted; one without a passphrase is needed", path);
	else
		error_set(error, "key %s: not a %s key in PEM", path,
			  is_private ? "private" : "public");
	EVP_PKEY_free(pkey);
	return NULL;
}

static EVP_PKEY *read_key(int fd, const char *path, bool is_private, struct error *error)
{
	size_t size;
	char *text = NULL;

	if (lseek(fd, 0, SEEK_SET) < 0)
		error_errno(error, "read key %s", path);
	else
		text = files_read(fd, path, KEY_BYTES_MAX, &size, error);
	if (!text)
		return NULL;
	EVP_PKEY *pkey = parse_key(path, text, size, is_private, error);
	free(text);
	return pkey;
}

/* --- signing, in a child --- */

struct answer {
	int failed;
	struct error error;
	uint8_t signature[SIGNATURE_BYTES];
};

/* Ed25519 has its own digest inside. */
static int sign(EVP_PKEY *pkey, const void *bytes, size_t size, struct answer *answer)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	size_t length = SIGNATURE_BYTES;
	bool done = context &&
		    EVP_DigestSignInit_ex(context, NULL, NULL, NULL, NULL, pkey, NULL) == 1 &&
		    EVP_DigestSign(context, answer->signature, &length, bytes, size) == 1 &&
		    length == SIGNATURE_BYTES;

	EVP_MD_CTX_free(context);
	return done ? 0 : error_set(&answer->error, "cannot make an Ed25519 signature");
}

static void sign_in_child(const struct signer *signer, const void *bytes, size_t size,
			  int answer_fd)
{
	struct answer answer = {.failed = -1};

	/* No core file, and no debugger of the same user. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	EVP_PKEY *pkey = read_key(signer->fd, signer->path, true, &answer.error);
	if (pkey)
		answer.failed = sign(pkey, bytes, size, &answer);
	/* Less than a pipe's buffer: it goes at once. */
	_exit(write(answer_fd, &answer, sizeof(answer)) != sizeof(answer));
}

static int take_answer(int fd, struct answer *answer, struct error *error)
{
	ssize_t length;

	do {
		length = read(fd, answer, sizeof(*answer));
	} while (length < 0 && errno == EINTR);
	if (length != sizeof(*answer))
		return error_set(error, "sign: the process that does it failed without a word");
	if (answer->failed)
		*error = answer->error;
	return answer->failed ? -1 : 0;
}

int signer_sign(const struct signer *signer, const void *bytes, size_t size,
		uint8_t signature[SIGNATURE_BYTES], struct error *error)
{
	struct answer answer;
	int pipe_fds[2];

	if (pipe2(pipe_fds, O_CLOEXEC))
		return error_errno(error, "make a pipe");
	pid_t child = fork();
	if (child == 0)
		sign_in_child(signer, bytes, size, pipe_fds[1]);
	int result = child < 0 ? error_errno(error, "start a process that signs") : 0;
	close(pipe_fds[1]);
	if (!result)
		result = take_answer(pipe_fds[0], &answer, error);
	close(pipe_fds[0]);
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	if (!result)
		memcpy(signature, answer.signature, SIGNATURE_BYTES);
	return result;
}

struct signer *signer_open(const char *path, struct error *error)
{
	uint8_t signature[SIGNATURE_BYTES];
	struct signer *signer = malloc(sizeof(*signer));
	uint64_t size_bytes;

	if (!signer) {
		error_set(error, "key %s: out of memory", path);
		return NULL;
	}
	signer->path = strdup(path);
	signer->fd = signer->path ? files_open(path, &size_bytes, error)
				  : error_set(error, "key %s: out of memory", path);
	/* A key that signs is one. */
	if (signer->fd >= 0 && signer_sign(signer, "", 0, signature, error) == 0)
		return signer;
	signer_close(signer);
	return NULL;
}

void signer_close(struct signer *signer)
{
	if (!signer)
		return;
	if (signer->fd >= 0)
		close(signer->fd);
	free(signer->path);
	free(signer);
}

/* --- checking --- */

struct public_key *public_key_read(const char *path, struct error *error)
{
	struct public_key *key = NULL;
	uint64_t size_bytes;
	int fd = files_open(path, &size_bytes, error);

	if (fd < 0)
		return NULL;
	EVP_PKEY *pkey = read_key(fd, path, false, error);
	close(fd);
	if (!pkey)
		return NULL;
	key = malloc(sizeof(*key));
	if (!key) {
		EVP_PKEY_free(pkey);
		error_set(error, "key %s: out of memory", path);
		return NULL;
	}
	key->pkey = pkey;
	return key;
}

void public_key_free(struct public_key *key)
{
	if (!key)
		return;
	EVP_PKEY_free(key->pkey);
	free(key);
}

int signature_check(const struct public_key *key, const void *bytes, size_t size,
		    const void *signature, size_t signature_size, struct error *error)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int result = -1;

	if (context &&
	    EVP_DigestVerifyInit_ex(context, NULL, NULL, NULL, NULL, key->pkey, NULL) == 1)
		result = EVP_DigestVerify(context, signature, signature_size, bytes, size) != 1;
	else
		error_set(error, "cannot check an Ed25519 signature");
	EVP_MD_CTX_free(context);
	ERR_clear_error();
	return result;
}
