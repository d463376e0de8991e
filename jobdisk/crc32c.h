/* crc32c: the Castagnoli checksum (RFC 3720, appendix B.4) that seals a result record. */
#ifndef JOBDISK_CRC32C_H
#define JOBDISK_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The CRC-32C of BYTES; crc32c("123456789", 9) is 0xe3069283. */
uint32_t crc32c(const void *bytes, size_t length);

#endif
