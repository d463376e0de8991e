/*
 * readonly: a library that is loaded into the QEMU of a clone. QEMU 7.2 opens the file of its
 * memory for reading and writing also where it maps a private copy, for which reading is enough.
 * With the library it can be given a descriptor that only reads, and nothing of its process ever
 * has a way to write a template.
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

#endif
