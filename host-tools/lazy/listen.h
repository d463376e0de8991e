/* listen: sockets for a server that users name, by NBD's URIs. */
#ifndef HOST_TOOLS_LAZY_LISTEN_H
#define HOST_TOOLS_LAZY_LISTEN_H

#include <limits.h>
#include <stdbool.h>

#include "jobdisk/error.h"

struct listening {
	int fd;
	char socket[PATH_MAX];	/* its path, or "" */
	char uri[4 * PATH_MAX]; /* what clients call it */
};

/*
 * Listens on ADDRESS: "unix:PATH", a new socket that only this user can connect to, in the place
 * of one that nobody listens on any more; or "HOST:PORT" or "[HOST]:PORT", by TCP, an empty HOST
 * being all of this machine's addresses. Without TLS, only on an address that cannot be reached
 * from elsewhere. -1 with ERROR set.
 */
int listen_on(const char *address, bool tls, struct listening *listening, struct error *error);

/* Closes it, and removes its path. */
void listen_end(struct listening *listening);

#endif
