#include "host-tools/jsontext.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host-tools/utf8.h"

#define KEY_BYTES 64

json_t *jsontext_new(const char *bytes)
{
	char *valid = malloc(3 * strlen(bytes) + 1);
	size_t length = 0;

	if (!valid)
		return json_null();
	while (*bytes) {
		size_t size = utf8_length(bytes);
		memcpy(valid + length, size ? bytes : "\xef\xbf\xbd", size ? size : 3);
		length += size ? size : 3;
		bytes += size ? size : 1;
	}
	json_t *string = json_stringn(valid, length);
	free(valid);
	return string;
}

static void hex_key(const char *key, char hex[KEY_BYTES])
{
	snprintf(hex, KEY_BYTES, "%s_hex", key);
}

void jsontext_set(json_t *object, const char *key, const char *bytes)
{
	char key_hex[KEY_BYTES];

	json_object_set_new(object, key, jsontext_new(bytes));
	if (utf8_is_valid(bytes))
		return;
	char *hex = malloc(2 * strlen(bytes) + 1);
	if (!hex)
		return;
	for (size_t i = 0; bytes[i]; i++)
		snprintf(hex + 2 * i, 3, "%02x", (unsigned char)bytes[i]);
	hex_key(key, key_hex);
	json_object_set_new(object, key_hex, json_string(hex));
	free(hex);
}

static char *from_hex(const char *hex)
{
	static const char digits[] = "0123456789abcdef";
	size_t length = strlen(hex);

	if (length % 2 || strspn(hex, digits) != length)
		return NULL;
	char *bytes = malloc(length / 2 + 1);
	for (size_t i = 0; bytes && i < length / 2; i++) {
		bytes[i] = (char)((strchr(digits, hex[2 * i]) - digits) << 4 |
				  (strchr(digits, hex[2 * i + 1]) - digits));
		if (!bytes[i]) {
			free(bytes);
			return NULL;
		}
	}
	if (bytes)
		bytes[length / 2] = '\0';
	return bytes;
}

char *jsontext_get(const json_t *object, const char *key)
{
	char key_hex[KEY_BYTES];

	hex_key(key, key_hex);
	const json_t *hex = json_object_get(object, key_hex);
	if (hex)
		return json_is_string(hex) ? from_hex(json_string_value(hex)) : NULL;
	const char *text = json_string_value(json_object_get(object, key));
	return text ? strdup(text) : NULL;
}
