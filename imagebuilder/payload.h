/*
 * payload: the ELF vmlinux inside a bzImage. QEMU boots it directly, which saves the guest the
 * decompression.
 */
#ifndef IMAGEBUILDER_PAYLOAD_H
#define IMAGEBUILDER_PAYLOAD_H

#include "jobdisk/error.h"

/*
 * Writes the vmlinux inside the bzImage behind KERNEL_FD to the empty file behind OUTPUT_FD; both
 * are named in errors. 1: done; 0: the kernel cannot be booted that way (it has no PVH entry, or
 * its header tells no payload), and the output is empty again; -1 on error, which a payload that
 * is damaged or packed in an unknown way is too.
 */
int payload_extract(int kernel_fd, const char *kernel_name, int output_fd, const char *output_name,
		    struct error *error);

#endif
