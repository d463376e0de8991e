/* timeouts: how long the host waits for a guest, as options of `run` and `start`. */
#ifndef HOST_TOOLS_TIMEOUTS_H
#define HOST_TOOLS_TIMEOUTS_H

#include "host-tools/options.h"

struct timeouts {
	const char *boot, *heartbeat; /* as given; NULL: the default */
	uint64_t boot_ms, heartbeat_ms;
};

struct timeouts timeouts_default(void);

/* Turns what was given into milliseconds; a bad value ends the program as a usage error. */
void timeouts_check(const struct command *command, struct timeouts *timeouts);

#endif
