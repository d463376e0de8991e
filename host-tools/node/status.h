/* status: what a node says of itself, in SPOOL/status.json (docs/formats.md). */
#ifndef HOST_TOOLS_NODE_STATUS_H
#define HOST_TOOLS_NODE_STATUS_H

#include <jansson.h>

#include "host-tools/node/slots.h"

struct node_status {
	bool changed; /* since it was written */
	bool drains, ended;
	uint64_t done, refused, failed, suspended; /* jobs, since the node's start */
	size_t slots, waiting, held;
};

/* Writes it, atomically. 0, or -1 with ERROR set. */
int node_status_write(const struct spool *spool, const struct node_status *status,
		      const struct slots *slots, struct error *error);

/*
 * Reads what the node of the spool PATH wrote last; *RUNS is whether there is one. To be freed with
 * json_decref; NULL with ERROR set.
 */
json_t *node_status_read(const char *path, bool *runs, struct error *error);

#endif
