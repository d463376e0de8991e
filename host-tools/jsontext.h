/*
 * jsontext: names and other bytes of any origin in JSON, which can only hold UTF-8. A byte that is
 * not part of it becomes U+FFFD; where that happens, KEY_hex beside KEY has all bytes as lower-case
 * hexadecimal digits.
 */
#ifndef HOST_TOOLS_JSONTEXT_H
#define HOST_TOOLS_JSONTEXT_H

#include <jansson.h>

/* A string; null where there is no memory. */
json_t *jsontext_new(const char *bytes);

/* Sets KEY of OBJECT, and KEY_hex where that says more. */
void jsontext_set(json_t *object, const char *key, const char *bytes);

/* The bytes that jsontext_set was given, to be freed; NULL when they are not there. */
char *jsontext_get(const json_t *object, const char *key);

#endif
