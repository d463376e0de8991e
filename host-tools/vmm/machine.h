/* machine: what QEMU's machine types need, one row each. */
#ifndef HOST_TOOLS_VMM_MACHINE_H
#define HOST_TOOLS_VMM_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

struct machine {
	const char *name;    /* as image.json has it */
	const char *options; /* of -machine, after the name */
	const char *bus;     /* the end of its virtio devices' names: virtio-blk-BUS */
	/* Words of the kernel's command line: always; on TCG; on TCG with one processor. */
	const char *kernel_words, *tcg_words, *tcg_single_words;
	/*
	 * On TCG, the kernel is told how fast the time-stamp counter is: the only other clock here
	 * is one of ticks, which a busy host loses, so that measuring fails and time runs late.
	 */
	bool tcg_needs_tsc;
	/*
	 * What a VM has beyond the job's limit, before a share in proportion: the kernel's own
	 * memory and PID 1. Measured with the kernel that such images have.
	 */
	uint64_t memory_base_bytes;
};

/* The row of an image that was loaded; there is one for each name that image_load accepts. */
const struct machine *machine_find(const char *name);

#endif
