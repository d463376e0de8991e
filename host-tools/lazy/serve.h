/*
 * serve: a server of a tree of files as a read-only disk, by NBD: nbdkit with our plugin
 * (plugin/serve.c) in a process of its own that dies with its parent.
 */
#ifndef HOST_TOOLS_LAZY_SERVE_H
#define HOST_TOOLS_LAZY_SERVE_H

#include <stdbool.h>
#include <sys/types.h>

#include "host-tools/values.h"
#include "imagebuilder/digest.h"

/* Where what is read is counted (struct fetch_state), and its files are listed. */
struct serve_counted {
	int state_fd, trace_fd;
};

/* What is served, and how. */
struct serve_options {
	const struct strings *inputs; /* paths, by the slash rule of a job's inputs */
	const char *directory;	      /* relative inputs start here; NULL: the working directory */
	uid_t uid;		      /* the owner of all files on the disk */
	gid_t gid;
	const char
		*tls_certificates; /* directory; all clients must use TLS and have one; or NULL */
	/* For serve_start: of the one client, a guest's QEMU, as by a process that fetches. NULL:
	 * not. */
	const struct serve_counted *counted;
};

struct serve {
	pid_t pid;
	int pid_fd;
	/*
	 * Of serve_start: an O_PATH descriptor of the listening Unix socket, which has no name any
	 * more. A child that inherits it connects to /proc/self/fd/N; so its URI is
	 * nbd+unix:///?socket=/proc/self/fd/N. Else -1.
	 */
	int socket_fd;
	char identity[DIGEST_HEX_BYTES];
	bool aborted;	     /* serve_end's */
	uint64_t file_count; /* with data */
	uint64_t image_bytes;
};

/*
 * Starts a server for processes of ours, and returns when the tree is read and it takes
 * connections. Files that change later are errors of the reads that meet them; the server says
 * each once on stderr. -1 with ERROR set and nothing to end.
 */
int serve_start(const struct serve_options *options, struct serve *serve, struct error *error);

/*
 * The same on the listening socket LISTEN_FD, which the caller keeps; and the server says on
 * stderr too what is wrong with its clients. What makes CANCEL_FD readable (-1: nothing) ends the
 * wait for it: that is an error too.
 */
int serve_start_on(int listen_fd, int cancel_fd, const struct serve_options *options,
		   struct serve *serve, struct error *error);

/* Whether it has ended by itself, which serve_end tells more of. */
bool serve_has_ended(const struct serve *serve);

/*
 * Ends the server and closes the descriptors. -1 with ERROR set where it had ended by itself;
 * SERVE->aborted tells whether by a failed assertion.
 */
int serve_end(struct serve *serve, struct error *error);

#endif
