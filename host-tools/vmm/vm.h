/*
 * vm: one VM from its start to its end: QEMU's process, what the guest says, its output, its
 * deadlines. What the guest says here is only shown and timed; verdicts come from the job disk
 * and from what the host itself observed.
 */
#ifndef HOST_TOOLS_VMM_VM_H
#define HOST_TOOLS_VMM_VM_H

#include <stdbool.h>
#include <stdint.h>

#include "host-tools/vmm/log.h"
#include "host-tools/vmm/qemu.h"
#include "jobdisk/status.h"

/* A VM at the moment at which it stands still, or goes on. */
struct vm_moment {
	pid_t pid; /* QEMU's, which is there until it is told to go on or to end */
	const struct qemu_options *qemu;
	int device_fd;			     /* QEMU's state, all but the guest's memory */
	uint64_t ran_ms, job_started_ms;     /* of the VM's own time, from its start */
	uint64_t stdout_bytes, stderr_bytes; /* that were passed on */
};

/*
 * How a VM is suspended and resumed; zeroed: SIGTERM cancels it like the other signals. With it,
 * SIGTERM is ignored when vm_run returns.
 */
struct vm_suspend {
	/* Saves the VM; afterwards it GOES_ON, or ends. 0, or -1 with ERROR set. */
	int (*save)(void *context, const struct vm_moment *moment, bool goes_on,
		    struct error *error);
	/* The VM is not suspended, for this reason, and goes on. */
	void (*on_failure)(void *context, const char *reason);
	/* For QEMU_RESUME: puts the guest's memory into QEMU, before the state. */
	int (*restore)(void *context, pid_t pid, struct error *error);
	void *context;
	uint64_t every_ms;	/* it is saved without being asked to; 0: never */
	struct vm_moment since; /* for QEMU_RESUME: where it goes on */
};

struct vm_options {
	struct qemu_options qemu;
	struct vm_suspend suspend;
	const struct manifest *manifest; /* its time limits; NULL: none */
	int stdout_fd, stderr_fd;	 /* where the job's output goes live; -1: nowhere */
	uint64_t boot_timeout_ms;	 /* until the guest's first word */
	uint64_t heartbeat_timeout_ms;	 /* between its words */
	bool stop_at_first_word;	 /* for a probe: whether it boots at all */
	bool from_parked;		 /* the VM is the parked one (vm_park) */
	bool parks;			 /* the VM was parked, and is to be again after its job */
	bool is_rehearsal;		 /* the job is the host's own, and counts as none */
	/* A template's or a suspended VM's, where qemu.start says that it is saved or restored. */
	int state_fd;
	uint64_t input_disk_bytes; /* of the input disk, where there is one */
	/* Called at each stage that the guest enters; may be NULL. */
	void (*on_stage)(void *context, const char *stage);
	void *on_stage_context;
};

/*
 * Host times in milliseconds since QEMU was started, of the VM's own time where it was suspended;
 * RECORD_UNSET: did not happen.
 */
struct vm_times {
	uint64_t vmm_ready; /* QEMU answered */
	uint64_t restored;  /* a clone runs */
	uint64_t first_word, job_started, job_ended, unmounted, vm_ended;
};

struct vm_outcome {
	/*
	 * PID 1 said that the job disk is unmounted: the record there tells the rest. Else
	 * `status` is the host's verdict and `message` says why in a sentence.
	 */
	bool clean;
	enum job_status status;
	char message[512];
	char fatal[512];    /* what PID 1 said that it gave up with; or "" */
	int cancel_signal;  /* for STATUS_CANCELLED */
	bool output_closed; /* cancelled because nobody reads our stdout any more */
	uint64_t stdout_bytes, stderr_bytes; /* that came through live */
	bool own_network;		     /* QEMU was in a network namespace of its own */
	uint64_t disk_errors;		     /* failed writes of the job disk on the host */
	bool saved;			     /* the template's state is complete */
	/* For STATUS_SUSPENDED: it is saved; else its job had not begun, and its disk is fresh. */
	bool suspended;
	/*
	 * The clone did not come up, for the reason in `message`, and has not written to the job
	 * disk: the job can still be booted.
	 */
	bool not_restored;
	/* QEMU was ended by somebody else while it was restored or saved: no fault of the template.
	 */
	bool killed_from_outside;
	uint64_t private_bytes; /* QEMU's proportional set size at the job's end; RECORD_UNSET */
	struct vm_times times;
	struct log console; /* the guest's console, then QEMU's own words */
	struct log qemu_log;
};

/*
 * Runs a VM to its end, whatever that is; OUTCOME is large: not for the stack. SIGINT, SIGQUIT,
 * SIGHUP and SIGTERM, where that does not suspend it, cancel it, but for those that are ignored.
 * Returns 0, or -1 with ERROR set when QEMU could not even be started.
 */
int vm_run(const struct vm_options *options, struct vm_outcome *outcome, struct error *error);

/* A larger job disk is not for a parked VM: QEMU's limit must be known before it starts. */
#define VM_PARKED_DISK_BYTES (16ULL << 30)

/*
 * Restores a clone as for vm_run, but without a job: it stands still, parked, until a vm_run with
 * `from_parked` gives it one, or vm_unpark. The job disk in OPTIONS is ignored. There is one
 * parked VM at a time. OUTCOME is for vm_park's own use, and large.
 * Returns 0, or -1 with ERROR set and no VM.
 */
int vm_park(const struct vm_options *options, struct vm_outcome *outcome, struct error *error);
/* How many jobs the parked VM has run; -1: there is none. */
int vm_parked_jobs(void);
/* Whether it has run a rehearsal. */
bool vm_parked_rehearsed(void);
/* Ends the parked VM, where there is one. */
void vm_unpark(void);

/* Monotonic milliseconds. */
uint64_t now_ms(void);

#endif
