/* qemu: one confined QEMU process: its command line, its descriptors, its start. */
#ifndef HOST_TOOLS_VMM_QEMU_H
#define HOST_TOOLS_VMM_QEMU_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "host-tools/job.h"
#include "imagebuilder/image.h"

/* QEMU's names for the disks that others than its command line speak of. */
#define QEMU_JOB_NODE	"job"
#define QEMU_INPUT_NODE "input"

enum qemu_start {
	QEMU_BOOT,
	QEMU_SAVE,    /* boots with its memory in a template's file */
	QEMU_RESTORE, /* waits for a state that goes with a template's memory */
	QEMU_RESUME,  /* waits for a suspended VM's memory and state */
};

struct qemu_options {
	const struct image *image;
	enum job_accel accel; /* ACCEL_KVM or ACCEL_TCG */
	uint64_t memory_bytes;
	uint64_t cpus;
	int job_disk_fd;	 /* read-write; -1: the VM gets no job disk */
	uint64_t disk_max_bytes; /* no file grows beyond it; 0: beyond the job disk's own size */
	/*
	 * A disk whose blocks come from an NBD server: a connected socket to it; to save, a
	 * placeholder like the job disk's; only where the VM has an input disk. Its export must
	 * not call itself read-only, or a clone could not be told its size; writes are refused
	 * there.
	 */
	bool has_input_disk;
	int input_fd;
	bool recovery; /* PID 1 is only to mount the job disk and unmount it */
	enum qemu_start start;
	/*
	 * To save, restore, or resume a clone: the template's memory,
	 * qemu_memory_bytes(memory_bytes) long. It must be open for reading and writing to save,
	 * and read-only else: then QEMU's memory is a private copy on write, and its process has no
	 * way to write the file.
	 */
	int memory_fd;
	bool is_cloned;		  /* to resume: its memory began as `memory_fd` */
	uint64_t state_max_bytes; /* to save: no file grows beyond it */
	/* That the guest is told where it needs it, or was when it was saved; 0: measured now. */
	uint64_t tsc_khz;
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
 * Whose private mapping is the memory of a VM that was not saved as a template: `memory_fd`, or
 * /dev/zero, opened for the caller, where it was booted. -1 with ERROR set.
 */
int qemu_open_mapped(const struct qemu_options *options, struct error *error);

/* As much memory as QEMU gives a VM that is to have at least so much: whole MiB. */
uint64_t qemu_memory_bytes(uint64_t wanted_bytes);

/*
 * QEMU's command line for a template or its clone, one argument a line, without what differs from
 * start to start: two VMs with the same text and the same files can take each other's state.
 * To be freed.
 */
char *qemu_describe(const struct qemu_options *options);

/*
 * Starts QEMU, confined: own session and, when we are root, own user; no_new_privs, Landlock,
 * seccomp with all denials; no files but its own program's, the guest image's and the job disk.
 * It dies with the calling thread. 0, or -1 with ERROR set and nothing to free.
 */
int qemu_start(const struct qemu_options *options, struct qemu *qemu, struct error *error);

/* Closes our ends; the process must have been reaped. */
void qemu_close(struct qemu *qemu);

#endif
