#include "host-tools/utf8.h"

#include <stdint.h>

struct range {
	uint32_t first, last;
};

/* C0 and C1 controls; zero-width and direction marks; line separators; the byte order mark. */
static const struct range unprintable[] = {
	{0x00, 0x1f},	  {0x7f, 0x9f},	    {0x61c, 0x61c},   {0x200b, 0x200f},
	{0x2028, 0x202e}, {0x2060, 0x2069}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb},
};

/* Decodes one character; its length goes to *LENGTH, 0 where the bytes are not UTF-8. */
static uint32_t decode(const char *text, size_t *length)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *byte = (const unsigned char *)text;
	size_t size = byte[0] < 0x80   ? 1
		      : byte[0] < 0xc2 ? 0
		      : byte[0] < 0xe0 ? 2
		      : byte[0] < 0xf0 ? 3
		      : byte[0] < 0xf5 ? 4
				       : 0;
	uint32_t code = size == 1 ? byte[0] : byte[0] & (0x7fU >> size);

	*length = 0;
	for (size_t i = 1; i < size; i++) {
		if ((byte[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (byte[i] & 0x3f);
	}
	if (size > 1 &&
	    (code < smallest[size] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)))
		return 0;
	*length = size;
	return code;
}

size_t utf8_length(const char *text)
{
	size_t length;

	decode(text, &length);
	return length;
}

size_t utf8_printable_length(const char *text)
{
	size_t length;
	uint32_t code = decode(text, &length);

	for (size_t i = 0; i < sizeof(unprintable) / sizeof(unprintable[0]); i++)
		if (code >= unprintable[i].first && code <= unprintable[i].last)
			return 0;
	return length;
}

bool utf8_is_valid(const char *text)
{
	while (*text) {
		size_t length = utf8_length(text);
		if (length == 0)
			return false;
		text += length;
	}
	return true;
}
