#include "host-tools/suspend/state_format.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>
#include <string.h>

#define ANY	     (UINT64_MAX - 1)
#define KEY(k, t, m) .name = (k), .type = (t), .offset = offsetof(struct state_facts, m)
#define REQUIRED     .required = true

static const struct record_key keys[] = {
	{KEY("version", RECORD_UINT, version), REQUIRED, .min = 1, .max = STATE_VERSION},
	{KEY("job_id", RECORD_STRING, job_id), REQUIRED},
	{KEY("manifest_sha256", RECORD_STRING, manifest_sha256), REQUIRED},
	{KEY("qemu_sha256", RECORD_STRING, qemu_sha256), REQUIRED},
	{KEY("machine_sha256", RECORD_STRING, machine_sha256), REQUIRED},
	{KEY("kernel_sha256", RECORD_STRING, kernel_sha256), REQUIRED},
	{KEY("initrd_sha256", RECORD_STRING, initrd_sha256)},
	{KEY("root_sha256", RECORD_STRING, root_sha256), REQUIRED},
	{KEY("processor", RECORD_STRING, processor), REQUIRED},
	{KEY("accel", RECORD_STRING, accel), REQUIRED},
	{KEY("memory_bytes", RECORD_UINT, memory_bytes), REQUIRED, .min = 1, .max = 1ULL << 44},
	{KEY("cpus", RECORD_UINT, cpus), REQUIRED, .min = 1, .max = 64},
	{KEY("tsc_khz", RECORD_UINT, tsc_khz), REQUIRED, .max = ANY},
	{KEY("template_key", RECORD_STRING, template_key)},
	{KEY("template_memory_sha256", RECORD_STRING, template_memory_sha256)},
	{KEY("disk_suffix", RECORD_STRING, disk_suffix)},
	{KEY("disk_sha256", RECORD_STRING, disk_sha256), REQUIRED},
	{KEY("inputs_identity", RECORD_STRING, inputs_identity)},
	{KEY("ran_ms", RECORD_UINT, ran_ms), REQUIRED, .max = 1ULL << 48},
	{KEY("job_started_ms", RECORD_UINT, job_started_ms), REQUIRED, .max = 1ULL << 48},
	{KEY("stdout_bytes", RECORD_UINT, stdout_bytes), REQUIRED, .max = ANY},
	{KEY("stderr_bytes", RECORD_UINT, stderr_bytes), REQUIRED, .max = ANY},
	{KEY("suspensions", RECORD_UINT, suspensions), REQUIRED, .min = 1, .max = ANY},
	{KEY("pages_changed", RECORD_UINT, pages_changed), REQUIRED, .max = ANY},
	{KEY("raw_bytes", RECORD_UINT, raw_bytes), REQUIRED, .max = ANY},
	{KEY("suspended_at", RECORD_UINT, suspended_at), REQUIRED, .max = 1ULL << 48},
};

const struct record_schema state_schema = {
	.keys = keys,
	.key_count = sizeof(keys) / sizeof(keys[0]),
};

struct state_head state_head_make(uint64_t index_offset, uint64_t frame_count, uint64_t facts_bytes)
{
	struct state_head head = {.index_offset = index_offset,
				  .frame_count = frame_count,
				  .facts_bytes = facts_bytes};

	snprintf(head.magic, sizeof(head.magic), STATE_MAGIC " %d", STATE_VERSION);
	return head;
}

static int add_all(EVP_MAC_CTX *context, const struct state_head *head,
		   const struct state_frame *frames, const char *facts)
{
	return EVP_MAC_update(context, (const uint8_t *)head, sizeof(*head)) &&
	       EVP_MAC_update(context, (const uint8_t *)frames,
			      head->frame_count * sizeof(*frames)) &&
	       EVP_MAC_update(context, (const uint8_t *)facts, head->facts_bytes);
}

int state_mac(const uint8_t key[STATE_KEY_BYTES], const struct state_head *head,
	      const struct state_frame *frames, const char *facts, uint8_t mac[STATE_MAC_BYTES],
	      struct error *error)
{
	char digest[] = "SHA256";
	const OSSL_PARAM parameters[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC *algorithm = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *context = algorithm ? EVP_MAC_CTX_new(algorithm) : NULL;
	size_t length;

	bool done = context && EVP_MAC_init(context, key, STATE_KEY_BYTES, parameters) &&
		    add_all(context, head, frames, facts) &&
		    EVP_MAC_final(context, mac, &length, STATE_MAC_BYTES) &&
		    length == STATE_MAC_BYTES;
	EVP_MAC_CTX_free(context);
	EVP_MAC_free(algorithm);
	return done ? 0 : error_set(error, "libcrypto has no HMAC-SHA256");
}
