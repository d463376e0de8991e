#include "jobdisk/crc32c.h"

#define POLYNOMIAL_REFLECTED 0x82f63b78U

/* Bit by bit: a record has at most 64 KiB, and a table would be larger than this function. */
uint32_t crc32c(const void *bytes, size_t length)
{
	const uint8_t *byte = bytes;
	uint32_t crc = ~0U;

	for (size_t i = 0; i < length; i++) {
		crc ^= byte[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ ((crc & 1) ? POLYNOMIAL_REFLECTED : 0);
	}
	return ~crc;
}
