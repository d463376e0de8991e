/* client: gives a job to the node of a spool, and takes what comes back. */
#ifndef HOST_TOOLS_NODE_CLIENT_H
#define HOST_TOOLS_NODE_CLIENT_H

#include "host-tools/pack.h"
#include "host-tools/report.h"

/* One job at a node. */
struct client {
	char spool[PATH_MAX / 4]; /* absolute */
	char place[PATH_MAX / 2]; /* what came back; "": nothing has */
	char disk_path[PATH_MAX]; /* the job disk in it */
	int disk_fd;		  /* the same, open; or -1 */
	int cancel_signal;	  /* to us, that ended the job or its waiting; or 0 */
};

/*
 * Finds the spool PATH, which a node must have made, and names the directory in which a job disk
 * for it is to be packed (pack_job). Notes on stderr when no node works there now. -1 with ERROR
 * set.
 */
int client_open(struct client *client, const char *path, char pack_path[PATH_MAX],
		struct error *error);

/*
 * Gives PACKED to the node and waits for its job's end. A signal that ends programs cancels the
 * job, and then its end is waited for; a second one ends the waiting. REPORT and DISK (zeroed) are
 * filled as stored_open does. 0, or -1 with ERROR set when no VM ran for the job. In either case
 * the caller frees both, and calls client_close.
 */
int client_run(struct client *client, const struct packed *packed, struct report *report,
	       struct disk *disk, struct error *error);

/* Writes what the job wrote to FDS, its stdout and its stderr; -1: not that. -1 with ERROR set. */
int client_pass_on(const struct report *report, const int fds[2], struct error *error);

/* Removes what came back, unless it is KEPT. */
void client_close(struct client *client, bool is_kept);

#endif
