/* launch: starts a job's VM, as a clone of a template where that can be, else by booting it. */
#ifndef HOST_TOOLS_LAUNCH_H
#define HOST_TOOLS_LAUNCH_H

#include <limits.h>

#include "host-tools/job.h"
#include "host-tools/lazy/input_disk.h"
#include "host-tools/suspension.h"
#include "host-tools/vmm/vm.h"

/* How a VM came to be. */
struct launch {
	bool cloned, resumed;
	bool was_parked;	 /* the clone was ready before there was a job (launch_park) */
	bool was_rehearsed;	 /* it has run a job of the host's own */
	int jobs_before;	 /* that it ran */
	char template[PATH_MAX]; /* the directory of the clone's template; or "" */
	bool template_made;	 /* for it, just now */
	uint64_t template_ms;	 /* finding, checking or making the template took */
	char why[512];		 /* it was booted; "" for a clone */
};

/*
 * What WANTED or, where that is START_AUTO, $JOBVM_START asks for. Returns an enum job_start, or -1
 * with ERROR set.
 */
int launch_choose(enum job_start wanted, struct error *error);

/*
 * Has a clone ready for a job whose VM is as OPTIONS say; launch_vm takes it for one that fits, and
 * ends it before it starts another VM. 0, or -1 with ERROR set.
 */
int launch_park(const struct vm_options *options, enum job_start start, struct vm_outcome *outcome,
		struct error *error);
/* Ends it, where there is one. */
void launch_unpark(void);

/*
 * Runs a VM as vm_run does, with INPUTS as its input disk where that is open. A template that
 * cannot be used, or whose clone does not come up, is no error: the VM is booted then, and LAUNCH
 * says why. A job that SUSPENSION (NULL: none) says was suspended goes on, or it is an error.
 * Shows progress.
 */
int launch_vm(const struct vm_options *options, struct input_disk *inputs,
	      struct suspension *suspension, enum job_start start, struct vm_outcome *outcome,
	      struct launch *launch, struct error *error);

#endif
