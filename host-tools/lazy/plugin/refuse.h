/*
 * refuse: nbdkit's callbacks of a disk that shows itself as one that can be written, and refuses
 * every write: QEMU opens it for writing, for only then can it tell the kernel of a clone how large
 * it is. To be included behind nbdkit-plugin.h.
 */
#ifndef HOST_TOOLS_LAZY_PLUGIN_REFUSE_H
#define HOST_TOOLS_LAZY_PLUGIN_REFUSE_H

#include <errno.h>
#include <stdint.h>

static inline int refuse_write(void *handle, const void *bytes, uint32_t count, uint64_t offset,
			       uint32_t flags)
{
	(void)handle, (void)bytes, (void)count, (void)offset, (void)flags;
	nbdkit_set_error(EPERM);
	return -1;
}

static inline int refuse(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle, (void)count, (void)offset, (void)flags;
	nbdkit_set_error(EPERM);
	return -1;
}

/* There never is anything to write. */
static inline int refuse_nothing(void *handle, uint32_t flags)
{
	(void)handle, (void)flags;
	return 0;
}

#endif
