/*
 * vm_work: a VM while it runs, for the files of vm.c and suspending.c alone.
 */
#ifndef HOST_TOOLS_VMM_VM_WORK_H
#define HOST_TOOLS_VMM_VM_WORK_H

#include <time.h>

#include "host-tools/vmm/migration.h"
#include "host-tools/vmm/qmp.h"
#include "host-tools/vmm/tsc.h"
#include "host-tools/vmm/vm.h"
#include "jobdisk/control.h"

/* One output stream of the job, from QEMU's port to our own file. */
struct pump {
	int in_fd, out_fd; /* in_fd is -1 after its end; out_fd is -1 for nowhere */
	bool out_is_file;
	uint64_t total_bytes, max_bytes;
	uint64_t expected_bytes; /* as PID 1 said at the end */
	size_t pending_start, pending_end;
	char buffer[32768];
};

enum kill_reason {
	KILL_NONE,
	KILL_QUIT,	/* by QMP, after the disk was unmounted, or a probe's end */
	KILL_BOOT,	/* no word in time */
	KILL_SILENT,	/* no heartbeat */
	KILL_DEADLINE,	/* the guest did not keep the job's limit */
	KILL_JOB_LIMIT, /* allowed_job_duration */
	KILL_DISK,	/* the host could not serve a disk */
	KILL_FLOOD,	/* more output than PID 1 lets through */
	KILL_OUTPUT,	/* stdout or stderr of our own could not be written */
	KILL_RESTORE,	/* the clone did not come up */
	KILL_CANCEL,
	KILL_SUSPEND, /* its state is saved, or the job has not begun */
};

/* How far the VM is on its way to be suspended (suspending.c). */
enum suspending_stage {
	SUSPENDING_NOT,
	SUSPENDING_WAITS,   /* for the job to begin: between mount and start nothing can be kept */
	SUSPENDING_LOOKS,   /* the VM was told to stop, to see whether it has mounted its disk */
	SUSPENDING_SAVES,   /* QEMU stops it and saves its state */
	SUSPENDING_DRAINS,  /* it stands still; what it has said is passed on */
	SUSPENDING_GOES_ON, /* it was told to */
};

struct suspending {
	enum suspending_stage stage;
	bool ends;	   /* the VM ends when it is saved, and does not go on */
	bool stopped;	   /* LOOKS: QEMU has */
	int device_fd;	   /* QEMU's state; -1: none */
	uint64_t began_ms; /* standing still */
	uint64_t due_ms;   /* the next time without being asked to; UINT64_MAX: never */
};

struct vm {
	const struct vm_options *options;
	struct vm_outcome *outcome;
	struct qemu qemu;
	struct qmp qmp;
	struct migration migration; /* begun when migrating */
	bool migrating;
	struct suspending suspending;
	struct tsc_mark tsc_mark;
	struct timespec disk_time; /* the job disk's, just before a clone is told to begin */
	struct pump out, err;
	int signal_fd;
	uint64_t start_ms, last_word_ms, quit_ms;
	uint64_t reader_ms; /* spent waiting for our own reader, which is not the guest's time */
	uint64_t waited_ms; /* of QEMU, for a processor, when that was last looked at */
	enum kill_reason kill_reason;
	const struct pump *failed_output;
	int output_errno;
	bool qemu_ended, said_hello, has_mounted, unmounted, reset, powered_off;
	bool is_parking;     /* to end without its QEMU, which stays */
	bool is_parked;	     /* it has come so far */
	bool has_run_before; /* a job: the guest says when it is ready for the next */
	bool is_ready;	     /* it did */
	bool told_again;     /* the guest, that there may be another job */
	int qemu_status;
	char line[CONTROL_LINE_BYTES];
	size_t line_length;
	bool line_too_long;
};

/* Milliseconds of the VM's own time since its start: without what it stood still for. */
uint64_t vm_elapsed_ms(const struct vm *vm);

/* Ends it for REASON, unless it is ending already. */
void vm_end(struct vm *vm, enum kill_reason reason);

bool pump_has_pending(const struct pump *pump);

/* --- suspending.c --- */

/* At the VM's start. */
void suspending_init(struct vm *vm);

/* SIGTERM: whether it is for this VM to be suspended. */
bool suspending_is_possible(const struct vm *vm);
void suspending_ask(struct vm *vm);

/* After each round of the loop: the next step, where its time has come. */
void suspending_go_on(struct vm *vm);

/* Whether the VM stands still, and says nothing for that. */
bool suspending_holds(const struct vm *vm);

/* When suspending_go_on has something to do without any event. */
uint64_t suspending_deadline_ms(const struct vm *vm);

/* QEMU's answers: whether this one was to what was asked here. */
bool suspending_on_reply(struct vm *vm, const char *error);

/* The migration has an end, of either kind. */
void suspending_on_saved(struct vm *vm);

#endif
