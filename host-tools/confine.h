/*
 * confine: narrows what a process of ours may do, before it meets anything hostile.
 */
#ifndef HOST_TOOLS_CONFINE_H
#define HOST_TOOLS_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "jobdisk/error.h"

enum confine_access {
	CONFINE_READ, /* and execute */
	CONFINE_READ_WRITE,
	CONFINE_CREATE,	 /* make, read, write and replace files, directories and symlinks below */
	CONFINE_CONNECT, /* no file: TCP connections to others */
};

/*
 * One thing that stays reachable: a path, or a file by its descriptor (path NULL), or, with
 * CONFINE_CONNECT, the network.
 */
struct confine_rule {
	const char *path;
	int fd;
	enum confine_access access;
};

/* The Landlock ABI of this kernel, or 0 when it has none (landlock(7)). */
int confine_landlock_abi(void);

/* Whether this kernel filters system calls (seccomp(2)). */
bool confine_has_seccomp(void);

/*
 * Restricts the calling process and its children with Landlock to RULES and to no other TCP,
 * abstract sockets or signals outside (as far as the ABI goes), and sets no_new_privs. Paths that
 * do not exist are skipped. On a kernel without Landlock only no_new_privs is set. 0, or -1 with
 * errno.
 */
int confine_files(const struct confine_rule *rules, size_t rule_count);

/*
 * Blocks the signals that ask a process to end, also for what it executes. A batch system sends
 * them to all processes of a job; what they mean is for jobvm to say, which ends the others itself.
 */
void confine_signals(void);

/*
 * Puts the process into a network namespace of its own, without an interface: Landlock does not
 * cover UDP. Without root that takes a user namespace, which some hosts do not allow; then
 * nothing happens.
 */
void confine_network(void);

/*
 * For root: becomes a user that owns nothing and runs nothing else, with GID as its one group
 * (for /dev/kvm) where that is not 0. For everybody else: does nothing. 0, or -1 with errno.
 */
int confine_user(gid_t gid);

/*
 * For root: keeps its user, and of its capabilities (capabilities(7)) only those that let it make
 * files in directories of others. For everybody else: does nothing. 0, or -1 with errno.
 */
int confine_capabilities(void);

/*
 * Ends the process at any system call but those that computing on open descriptors takes; with
 * WRITES also those that make files below a directory and fill them, none of them set-user-ID,
 * set-group-ID or sticky. None that executes, starts a process, signals, traces, waits, connects or
 * mounts. 0, or -1 with errno.
 */
int confine_calls(bool writes);

#endif
