/*
 * kernel: what a kernel file says about itself.
 */
#ifndef IMAGEBUILDER_KERNEL_H
#define IMAGEBUILDER_KERNEL_H

#include <stdbool.h>

#include "jobdisk/error.h"

#define KERNEL_RELEASE_BYTES 65 /* as in struct utsname */

struct kernel_info {
	bool compressed; /* a bzImage, not an ELF vmlinux */
	char release[KERNEL_RELEASE_BYTES];
};

/*
 * Inspects the kernel behind KERNEL_FD, named NAME in errors. Only x86_64 kernels are accepted:
 * a bzImage or an ELF vmlinux.
 */
int kernel_inspect(int kernel_fd, const char *name, struct kernel_info *info, struct error *error);

#endif
