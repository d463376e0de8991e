/*
 * remote: the server of a disk, over one connection that is made again when it is lost. Reads are
 * queued by any thread and sent, several at a time, by a thread of its own.
 */
#ifndef HOST_TOOLS_LAZY_ENGINE_REMOTE_H
#define HOST_TOOLS_LAZY_ENGINE_REMOTE_H

#include <stdbool.h>
#include <stdint.h>

#include "host-tools/lazy/fetch_state.h"
#include "jobdisk/error.h"

struct remote_options {
	const char *uri;	      /* libnbd's, without an export's name */
	const char *tls_certificates; /* or NULL */
	const char *identity;	      /* that the export must have; or NULL */
	/* A connection attempt or a silence of the server that lasts longer is the end of it. */
	uint64_t timeout_ms;
	struct fetch_state *state; /* counts reconnects and notes problems */
};

struct remote;

/* Connects to the disk, once. NULL with ERROR set, which names the URI. All strings must last. */
struct remote *remote_open(const struct remote_options *options, struct error *error);
/* Completes what is queued or sent with ENOTCONN, ends the thread and frees. NULL is allowed. */
void remote_close(struct remote *remote);

const char *remote_identity(const struct remote *remote);
uint64_t remote_image_bytes(const struct remote *remote);
/* What a single read can have at the most. */
uint32_t remote_read_bytes_max(const struct remote *remote);

/*
 * Reads the whole map over a connection of its own: SIZE bytes, to be freed. NULL with ERROR set.
 * The bytes are as they came.
 */
void *remote_read_map(const struct remote *remote, uint64_t *size, struct error *error);

/* A read of the disk, in the caller's memory until it is done. */
struct remote_read {
	uint64_t offset;
	uint32_t bytes;
	void *buffer;
	bool is_urgent; /* before all that is not */
	/*
	 * Called once from remote's thread, without locks: PROBLEM is 0, EIO (the server says so),
	 * ENOTCONN (the connection was lost; asking again waits for the next one), or ESTALE (it is
	 * now another disk).
	 */
	void (*done)(struct remote_read *read, int problem);

	/* remote's own */
	struct remote *remote;
	struct remote_read *next, *previous;
	uint64_t sent_ms; /* 0: still queued */
};

/* Starts the thread. 0, or -1 with ERROR set. */
int remote_run(struct remote *remote, struct error *error);
void remote_submit(struct remote *remote, struct remote_read *read);
/* Takes READ back if it was not sent yet; then it is never done. Else it will be, as it would. */
bool remote_cancel(struct remote *remote, struct remote_read *read);
bool remote_is_connected(const struct remote *remote);

/* Milliseconds of a clock that nobody sets. */
uint64_t monotonic_ms(void);

#endif
