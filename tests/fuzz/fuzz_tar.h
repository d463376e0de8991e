/* fuzz_tar: keeps archives that were changed readable beyond their first header. */
#ifndef TESTS_FUZZ_FUZZ_TAR_H
#define TESTS_FUZZ_FUZZ_TAR_H

#include "tests/fuzz/fuzz.h"

#define TAR_BLOCK_BYTES	    512
#define TAR_SIZE_OFFSET	    124
#define TAR_SIZE_BYTES	    12
#define TAR_CHECKSUM_OFFSET 148
#define TAR_CHECKSUM_BYTES  8

/* Puts the right checksum into each header of a tar that is not compressed. */
static inline void fuzz_tar_mend(uint8_t *bytes, size_t size)
{
	char digits[TAR_SIZE_BYTES + 1] = "";
	size_t at = 0;

	while (size - at >= TAR_BLOCK_BYTES && bytes[at]) {
		uint8_t *header = bytes + at;
		unsigned sum = 0;

		memset(header + TAR_CHECKSUM_OFFSET, ' ', TAR_CHECKSUM_BYTES);
		for (size_t i = 0; i < TAR_BLOCK_BYTES; i++)
			sum += header[i];
		snprintf((char *)header + TAR_CHECKSUM_OFFSET, TAR_CHECKSUM_BYTES - 1, "%06o", sum);
		memcpy(digits, header + TAR_SIZE_OFFSET, TAR_SIZE_BYTES);
		uint64_t data_bytes = strtoul(digits, NULL, 8);
		at += TAR_BLOCK_BYTES;
		if (data_bytes > size - at)
			return;
		at += (data_bytes + TAR_BLOCK_BYTES - 1) / TAR_BLOCK_BYTES * TAR_BLOCK_BYTES;
		if (at > size)
			return;
	}
}

#endif
