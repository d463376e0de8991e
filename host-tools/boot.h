/* boot: what a VM is booted with: a guest image that was checked, and the accelerator. */
#ifndef HOST_TOOLS_BOOT_H
#define HOST_TOOLS_BOOT_H

#include "host-tools/job.h"
#include "imagebuilder/image.h"

struct boot {
	struct image image;
	enum job_accel accel; /* ACCEL_KVM or ACCEL_TCG */
};

/*
 * Loads the image IMAGE_PATH (NULL: the default one), checks its parts, and chooses JOB's
 * accelerator; warns where this host cannot confine QEMU in full. -1 with ERROR set and nothing to
 * free.
 */
int boot_prepare(const struct job *job, const char *image_path, struct boot *boot,
		 struct error *error);
void boot_free(struct boot *boot);

#endif
