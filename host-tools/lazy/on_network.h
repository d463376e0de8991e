/* on_network: whether a file lies on this machine's own disks. */
#ifndef HOST_TOOLS_LAZY_ON_NETWORK_H
#define HOST_TOOLS_LAZY_ON_NETWORK_H

#include <stdbool.h>

/*
 * Whether the file system that has PATH is one whose data comes over a network, or from a program
 * (FUSE), which may have it from one. One that is unknown is taken for a local one, and what cannot
 * be asked too.
 */
bool is_on_network(const char *path);

#endif
