/*
 * memory: the guest's memory in a running QEMU, as its parent sees it (proc(5), /proc/PID/mem and
 * /proc/PID/pagemap).
 *
 * QEMU maps it privately from a file (vmm/preload/readonly.h). A page that it has written is its
 * own; any other is still the file's. A QEMU that was taken over can show whatever it likes here:
 * it is bytes, which go to a QEMU like it.
 */
#ifndef HOST_TOOLS_SUSPEND_MEMORY_H
#define HOST_TOOLS_SUSPEND_MEMORY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "jobdisk/error.h"

#define MEMORY_PAGE_BYTES  4096
#define MEMORY_RANGE_PAGES 1024 /* that are read at once, at most */

struct vm_memory {
	int mem_fd, pagemap_fd;
	uint64_t address, size_bytes;
	int base_fd;		   /* what it was mapped from, the caller's; -1: zeros */
	const unsigned char *base; /* the same */
};

/*
 * Finds the SIZE_BYTES that process PID maps of the file MAPPED_FD is open on. BASE_FD: that file,
 * where it has the memory's first content; -1: the memory began as zeros. 0, or -1 with ERROR set
 * and nothing to close.
 */
int vm_memory_open(struct vm_memory *memory, pid_t pid, int mapped_fd, int base_fd,
		   uint64_t size_bytes, struct error *error);
void vm_memory_close(struct vm_memory *memory);

enum memory_page {
	MEMORY_SAME, /* as in the base */
	MEMORY_ZERO, /* all zeros, and not so in the base */
	MEMORY_DATA,
};

/*
 * Reads COUNT pages, at most MEMORY_RANGE_PAGES, from page FIRST on: what each is into KINDS, and
 * the content of those that are data into PAGES, one after the other. WHOLE: as if the base were
 * zeros. *CHANGED_PAGES grows by how many pages QEMU had for itself. Returns how many pages are
 * data, or -1 with errno.
 */
long vm_memory_read(const struct vm_memory *memory, uint64_t first, size_t count, bool whole,
		    enum memory_page *kinds, unsigned char *pages, uint64_t *changed_pages);

/* Writes SIZE_BYTES at OFFSET of the memory. 0, or -1 with errno. */
int vm_memory_write(const struct vm_memory *memory, uint64_t offset, const void *bytes,
		    size_t size_bytes);

#endif
