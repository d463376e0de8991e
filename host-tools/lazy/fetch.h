/*
 * fetch: the execute side of a lazy input disk. A process of its own, nbdkit with our plugin
 * jobvm-fetch.so, connects to the server of the input tree, keeps what it fetched in this user's
 * cache, and serves the disk to QEMU over a socket pair.
 *
 * Of a tree on this machine's own disks nothing is fetched, for it is here: QEMU reads from the
 * server of ours that has it, and what is kept and counted here is the same but for the cache
 * (fetch_direct).
 *
 * That process meets a server which may be anybody. It runs in a session of its own, without this
 * process's environment and descriptors, confined by Landlock to the cache, and dies with us.
 */
#ifndef HOST_TOOLS_LAZY_FETCH_H
#define HOST_TOOLS_LAZY_FETCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "jobdisk/error.h"
#include "jobdisk/manifest.h"

#define FETCH_IDENTITY_BYTES	    65 /* 64 hexadecimal digits and a NUL */
/* What a cache may take of a disk unasked; and what an NFS client would call a major timeout. */
#define FETCH_CACHE_DEFAULT_BYTES   (10ULL << 30)
#define FETCH_TIMEOUT_DEFAULT_MS    60000
#define FETCH_METADATA_MAX_BYTES    (4ULL << 30)
#define FETCH_SUMMARY_PROBLEM_BYTES 512

struct fetch_options {
	const char *from;	     /* libnbd's URI: nbd://, nbds://, nbd+unix:// */
	enum manifest_fetch policy;  /* FETCH_BLOCK or FETCH_FILE */
	const char *cache_directory; /* NULL: jobvm/fetch in this user's cache */
	uint64_t cache_max_bytes;    /* of all exports together; 0: FETCH_CACHE_DEFAULT_BYTES */
	/* ca-cert.pem and, for a server that asks, client-cert.pem and client-key.pem; or NULL */
	const char *tls_certificates;
	/* The guest sees a slow disk that long, then EIO; 0: FETCH_TIMEOUT_DEFAULT_MS */
	uint64_t timeout_ms;
	const char *prefetch_path; /* a trace: its files are fetched ahead; or NULL */
	const char *identity;	   /* that the export must have, in hexadecimal; or NULL */
	/* Inherited by the process under its number, for FROM's sake; else -1, never 0 to 2. */
	int extra_fd;
};

struct serve;

/* A fetching process. All of it is fetch_start's; fetch_finish ends it. */
struct fetch {
	char identity[FETCH_IDENTITY_BYTES];
	uint64_t image_bytes; /* the disk's size */
	/*
	 * The disk as an NBD connection for QEMU (server.type=fd). Whoever hands it on closes it
	 * here and sets it to -1: the process ends when the last copy is closed.
	 */
	int qemu_fd;
	pid_t pid;
	int pid_fd;
	struct fetch_options options; /* its strings must last until fetch_finish */
	struct fetch_state *state;    /* shared with the process */
	int state_fd, trace_fd;
	bool is_direct; /* fetch_direct's: there is no process */
};

/* What came of it, as the process counted until its end, however that came. */
struct fetch_summary {
	uint64_t bytes_touched;	   /* distinct 4096-byte blocks with data that the guest read */
	uint64_t bytes_fetched;	   /* that came from the server */
	uint64_t bytes_from_cache; /* that the guest was given from the cache */
	uint64_t bytes_cached;	   /* that were written to the cache */
	uint64_t files_touched;	   /* of which the guest read data; its readahead counts */
	uint64_t errors;	   /* reads of the guest that failed */
	uint64_t reconnects;	   /* connections that were made after the first */
	uint64_t stalled_ms;	 /* in which at least one read of the guest waited for the server */
	uint64_t cache_damaged;	 /* blocks of the cache that were wrong, and fetched again */
	uint64_t cache_problems; /* reads and writes of the cache that failed */
	/* The first thing that was wrong, for people; "": nothing was. Of hostile origin. */
	char problem[FETCH_SUMMARY_PROBLEM_BYTES];
};

/*
 * Starts the process and waits until it has connected and knows the export, at the most the
 * options' timeout. 0 with FETCH filled, or -1 with ERROR set (it names the URI) and nothing left.
 */
int fetch_start(const struct fetch_options *options, struct fetch *fetch, struct error *error);

/*
 * The same without a process, for a server of ours that QEMU reads from. fetch_direct makes what
 * they share: state_fd and trace_fd are the server's. fetch_connect, when it has started, makes the
 * connection for QEMU; another call makes another. OPTIONS' FROM must be the server by then, for
 * fetch_metadata. 0, or -1 with ERROR set and fetch_finish to be called.
 */
int fetch_direct(const struct fetch_options *options, struct fetch *fetch, struct error *error);
int fetch_connect(struct fetch *fetch, const struct serve *serve, struct error *error);

/*
 * Ends the process: closes our end, gives it a moment to write down what it has, and kills it if
 * need be. Fills SUMMARY (may be NULL), frees all of FETCH but for what fetch_trace needs, which
 * fetch_free does. 0, or -1 with ERROR set when it had ended in another way than by itself; SUMMARY
 * is filled then too. A second call only fills SUMMARY again.
 */
int fetch_finish(struct fetch *fetch, struct fetch_summary *summary, struct error *error);
/* After that, and after a fetch_start that failed or was not called on zeroed memory: frees. */
void fetch_free(struct fetch *fetch);

/* What it has counted so far, at any time before fetch_free. */
void fetch_summarize(const struct fetch *fetch, struct fetch_summary *summary);

/*
 * Writes the paths of the files that were touched, in the order of their first touch, to PATH: a
 * trace (docs/formats.md), fit for prefetch_path. At any time before fetch_free. 0, or -1 with
 * ERROR set and PATH as it was.
 */
int fetch_trace(const struct fetch *fetch, const char *path, struct error *error);

/*
 * Returns a descriptor, the caller's, of an unlinked sparse file of image_bytes with the disk's
 * metadata, and holes where files' data is: fit for fsimage_open. What is not in the cache comes
 * from the server, in a process of its own, so it can be called from fetch_start to fetch_free. -1
 * with ERROR set.
 */
int fetch_metadata(struct fetch *fetch, struct error *error);

#endif
