/* Signatures are those of RFC 8032; keys that cannot sign are refused by name. */
#include "host-tools/sign.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h> /* needs those before it */

#include "scratch.h"

/* RFC 8032, section 7.1, test 2, as `openssl pkey` writes its keys. */
static const char private_pem[] =
	"-----BEGIN PRIVATE KEY-----\n"
	"MC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n"
	"-----END PRIVATE KEY-----\n";
static const char public_pem[] = "-----BEGIN PUBLIC KEY-----\n"
				 "MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n"
				 "-----END PUBLIC KEY-----\n";
static const uint8_t message[] = {0x72};
static const uint8_t expected[SIGNATURE_BYTES] = {
	0x92, 0xa0, 0x09, 0xa9, 0xf0, 0xd4, 0xca, 0xb8, 0x72, 0x0e, 0x82, 0x0b, 0x5f,
	0x64, 0x25, 0x40, 0xa2, 0xb2, 0x7b, 0x54, 0x16, 0x50, 0x3f, 0x8f, 0xb3, 0x76,
	0x22, 0x23, 0xeb, 0xdb, 0x69, 0xda, 0x08, 0x5a, 0xc1, 0xe4, 0x3e, 0x15, 0x99,
	0x6e, 0x45, 0x8f, 0x36, 0x13, 0xd0, 0xf1, 0x1d, 0x8c, 0x38, 0x7b, 0x2e, 0xae,
	0xb4, 0x30, 0x2a, 0xee, 0xb0, 0x0d, 0x29, 0x16, 0x12, 0xbb, 0x0c, 0x00};

static struct error error;

static void signature_is_that_of_the_standard(void **state)
{
	uint8_t signature[SIGNATURE_BYTES];

	(void)state;
	scratch_write_text("key.pem", private_pem);
	struct signer *signer = signer_open("key.pem", &error);
	assert_non_null(signer);
	/* It stays open, and signs again. */
	assert_int_equal(remove("key.pem"), 0);
	for (int i = 0; i < 2; i++) {
		memset(signature, 0, sizeof(signature));
		assert_int_equal(signer_sign(signer, message, sizeof(message), signature, &error),
				 0);
		assert_memory_equal(signature, expected, sizeof(expected));
	}
	signer_close(signer);
}

static void only_the_very_bytes_and_signature_pass(void **state)
{
	uint8_t other[SIGNATURE_BYTES + 1] = {0};

	(void)state;
	scratch_write_text("key.pub", public_pem);
	struct public_key *key = public_key_read("key.pub", &error);
	assert_non_null(key);
	assert_int_equal(signature_check(key, message, 1, expected, SIGNATURE_BYTES, &error), 0);
	assert_int_equal(signature_check(key, "s", 1, expected, SIGNATURE_BYTES, &error), 1);
	assert_int_equal(signature_check(key, "rr", 2, expected, SIGNATURE_BYTES, &error), 1);
	assert_int_equal(signature_check(key, "", 0, expected, SIGNATURE_BYTES, &error), 1);
	memcpy(other, expected, SIGNATURE_BYTES);
	assert_int_equal(signature_check(key, message, 1, other, SIGNATURE_BYTES + 1, &error), 1);
	assert_int_equal(signature_check(key, message, 1, other, SIGNATURE_BYTES - 1, &error), 1);
	assert_int_equal(signature_check(key, message, 1, other, 0, &error), 1);
	for (size_t i = 0; i < SIGNATURE_BYTES; i++) {
		other[i] ^= 1;
		assert_int_equal(signature_check(key, message, 1, other, SIGNATURE_BYTES, &error),
				 1);
		other[i] ^= 1;
	}
	public_key_free(key);
}

static void assert_no_key(const char *path, const char *why)
{
	assert_null(signer_open(path, &error));
	assert_non_null(strstr(error.text, path));
	assert_non_null(strstr(error.text, why));
}

static void what_is_no_key_is_refused(void **state)
{
	char truncated[100];

	(void)state;
	assert_no_key("missing", "No such file");
	assert_no_key(".", "not a regular file");
	scratch_write_text("empty", "");
	assert_no_key("empty", "not a private key");
	scratch_write_text("key.pub", public_pem);
	assert_no_key("key.pub", "not a private key");
	snprintf(truncated, sizeof(truncated), "%.90s", private_pem);
	scratch_write_text("truncated", truncated);
	assert_no_key("truncated", "not a private key");
	scratch_write_text("key.pem", private_pem);
	assert_null(public_key_read("key.pem", &error));
	assert_non_null(strstr(error.text, "key.pem: not a public key"));
	FILE *large = fopen("large", "w");
	assert_non_null(large);
	assert_int_equal(fseek(large, 1L << 30, SEEK_SET), 0);
	fputc('\n', large);
	fclose(large);
	assert_no_key("large", "larger than");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(signature_is_that_of_the_standard),
		IN_SCRATCH(only_the_very_bytes_and_signature_pass),
		IN_SCRATCH(what_is_no_key_is_refused),
	};

	return cmocka_run_group_tests_name("sign", tests, NULL, NULL);
}
