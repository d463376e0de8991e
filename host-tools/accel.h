/*
 * accel: chooses between KVM and TCG. An openable /dev/kvm proves nothing (a nested KVM may
 * create VMs and never run a stock kernel): only the processor's flags and a real boot do.
 */
#ifndef HOST_TOOLS_ACCEL_H
#define HOST_TOOLS_ACCEL_H

#include <stddef.h>

#include "host-tools/job.h"
#include "imagebuilder/image.h"

/* Whether KVM runs IMAGE's kernel here. If not, WHY (of SIZE bytes) says what is missing. */
bool accel_kvm_works(const struct image *image, char *why, size_t size);

/* Turns WANTED into ACCEL_KVM or ACCEL_TCG. -1 with ERROR set when KVM is asked for and is not
 * there, or when hardware isolation is required and only TCG would be. */
int accel_choose(enum job_accel wanted, bool require_hardware, const struct image *image,
		 struct error *error);

/* "kvm" or "tcg"; "hardware" or "emulated" (QEMU: TCG is no security boundary). */
const char *accel_name(enum job_accel accel);
const char *accel_isolation(enum job_accel accel);

#endif
