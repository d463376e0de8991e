/* utf8: tells text from bytes, for showing names that may be anything. */
#ifndef HOST_TOOLS_UTF8_H
#define HOST_TOOLS_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* The length in bytes of the character at TEXT if it is valid UTF-8 (RFC 3629); else 0. */
size_t utf8_length(const char *text);

/* The same, but 0 too for control characters and marks that change the writing direction. */
size_t utf8_printable_length(const char *text);

bool utf8_is_valid(const char *text);

#endif
