/*
 * readonly: a library that is loaded into the QEMU of a job.
 *
 * QEMU 7.2 leaves memory out of a saved state only where it believes the memory shared, and opens
 * the file of shared memory for reading and writing. With the library it is given a descriptor that
 * only reads, and what it maps is a private copy: nothing of its process ever has a way to write a
 * template, and the state that a job's VM is suspended to does not hold its memory, which jobvm
 * saves itself (suspend/memory.h).
 */
#ifndef HOST_TOOLS_VMM_PRELOAD_READONLY_H
#define HOST_TOOLS_VMM_PRELOAD_READONLY_H

/* Its file, beside jobvm or among its installed parts. */
#define READONLY_LIBRARY  "libjobvm-readonly.so"
/*
 * The environment variable that holds the number N of an open descriptor: opening
 * /proc/self/fd/N gives a duplicate of it, however it was asked for.
 */
#define READONLY_VARIABLE "JOBVM_READONLY_FD"
/*
 * And the number of the one whose file is mapped, privately, where N's would be mapped shared: N
 * itself, or /dev/zero, whose private mappings are memory like any other (mem(4)).
 */
#define MAPPED_VARIABLE	  "JOBVM_MAPPED_FD"

#endif
