/* qemu: one confined QEMU process: its command line, its descriptors, its start. */
#ifndef HOST_TOOLS_VMM_QEMU_H
#define HOST_TOOLS_VMM_QEMU_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "host-tools/job.h"
#include "imagebuilder/image.h"

struct qemu_options {
	const struct image *image;
	enum job_accel accel; /* ACCEL_KVM or ACCEL_TCG */
	uint64_t memory_bytes;
	uint64_t cpus;
	int job_disk_fd; /* read-write; -1: the VM gets no job disk */
	bool recovery;	 /* PID 1 is only to mount the job disk and unmount it */
};

/* Our ends of what QEMU was given. All are close-on-exec and non-blocking. */
struct qemu {
	pid_t pid;
	int pid_fd;
	int qmp_fd, control_fd, stdout_fd, stderr_fd;
	int console_fd; /* the guest's serial console */
	int log_fd;	/* QEMU's own stdout and stderr */
};

/* The QEMU program: $JOBVM_QEMU or qemu-system-x86_64 in PATH. 0, or -1 with ERROR set. */
int qemu_find(char *path, size_t size, struct error *error);

/*
 * Starts QEMU, confined: own session and, when we are root, own user; no_new_privs, Landlock,
 * seccomp with all denials; no files but its own program's, the guest image's and the job disk.
 * It dies with the calling thread. 0, or -1 with ERROR set and nothing to free.
 */
int qemu_start(const struct qemu_options *options, struct qemu *qemu, struct error *error);

/* Closes our ends; the process must have been reaped. */
void qemu_close(struct qemu *qemu);

#endif
