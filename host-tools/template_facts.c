/* template.json: what a template is, with a digest of itself. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "host-tools/template.h"

#define JSON_STYLE (JSON_INDENT(2) | JSON_SORT_KEYS)

static json_t *pack_facts(const struct template_facts *facts)
{
	return json_pack("{s:i, s:s, s:I, s:{s:I, s:s}, s:{s:I, s:s}}", "format_version",
			 TEMPLATE_FORMAT_VERSION, "key", facts->key, "tsc_khz",
			 (json_int_t)facts->tsc_khz, "memory", "size_bytes",
			 (json_int_t)facts->memory_bytes, "sha256", facts->memory_sha256, "state",
			 "size_bytes", (json_int_t)facts->state_bytes, "sha256",
			 facts->state_sha256);
}

char *template_facts_text(const struct template_facts *facts)
{
	json_t *root = pack_facts(facts);
	char *text = root ? json_dumps(root, JSON_STYLE) : NULL;
	char hex[DIGEST_HEX_BYTES];
	char *whole = NULL;
	struct error error;

	if (text && digest_bytes(text, strlen(text), hex, &error) == 0 &&
	    json_object_set_new(root, "digest", json_string(hex)) == 0)
		whole = json_dumps(root, JSON_STYLE);
	free(text);
	json_decref(root);
	return whole;
}

static int copy_digest(const char *from, char to[DIGEST_HEX_BYTES])
{
	if (strlen(from) != DIGEST_HEX_BYTES - 1)
		return -1;
	memcpy(to, from, DIGEST_HEX_BYTES);
	return 0;
}

static int unpack(json_t *root, struct template_facts *facts)
{
	const char *key, *memory, *state, *digest;
	json_int_t memory_bytes, state_bytes, tsc_khz;
	int version;

	if (json_unpack(root, "{s:i, s:s, s:s, s:I, s:{s:I, s:s}, s:{s:I, s:s}}", "format_version",
			&version, "digest", &digest, "key", &key, "tsc_khz", &tsc_khz, "memory",
			"size_bytes", &memory_bytes, "sha256", &memory, "state", "size_bytes",
			&state_bytes, "sha256", &state) ||
	    version != TEMPLATE_FORMAT_VERSION || memory_bytes < 0 || state_bytes < 0 ||
	    tsc_khz < 0 || copy_digest(key, facts->key) ||
	    copy_digest(memory, facts->memory_sha256) || copy_digest(state, facts->state_sha256))
		return -1;
	facts->memory_bytes = (uint64_t)memory_bytes;
	facts->state_bytes = (uint64_t)state_bytes;
	facts->tsc_khz = (uint64_t)tsc_khz;
	return 0;
}

int template_facts_parse(const char *text, const char *name, struct template_facts *facts,
			 struct error *error)
{
	json_t *root = json_loads(text, 0, NULL);
	int failed = !root || unpack(root, facts);
	char *again = failed ? NULL : template_facts_text(facts);

	/* The same bytes again: then the digest is right, and no bit is another. */
	failed = !again || strcmp(again, text) != 0;
	free(again);
	json_decref(root);
	return failed ? error_set(error, "%s: is damaged, or of another version", name) : 0;
}
