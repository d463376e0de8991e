/*
 * suspending: a running VM is stopped, its state saved, and it ends or goes on. A step at a time,
 * since QEMU, the guest's output and our reader all have their own pace.
 */
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host-tools/vmm/vm_work.h"

static const struct vm_suspend *suspend_of(const struct vm *vm)
{
	return &vm->options->suspend;
}

/* The time until then is the VM's own. */
static uint64_t next_due_ms(const struct vm *vm)
{
	return suspend_of(vm)->every_ms ? now_ms() + suspend_of(vm)->every_ms : UINT64_MAX;
}

void suspending_init(struct vm *vm)
{
	vm->suspending = (struct suspending){.device_fd = -1, .due_ms = next_due_ms(vm)};
}

bool suspending_is_possible(const struct vm *vm)
{
	return !vm->qemu_ended && vm->kill_reason == KILL_NONE &&
	       vm->outcome->times.job_ended == RECORD_UNSET;
}

bool suspending_holds(const struct vm *vm)
{
	return vm->suspending.stage >= SUSPENDING_LOOKS;
}

uint64_t suspending_deadline_ms(const struct vm *vm)
{
	return vm->suspending.stage == SUSPENDING_NOT ? vm->suspending.due_ms : UINT64_MAX;
}

static void drop_state(struct suspending *suspending)
{
	if (suspending->device_fd >= 0)
		close(suspending->device_fd);
	suspending->device_fd = -1;
}

/* The VM goes on: the pause was not its time, and its silence no sign. */
static void go_on(struct vm *vm)
{
	struct suspending *suspending = &vm->suspending;
	bool waits = suspending->stage == SUSPENDING_LOOKS;

	drop_state(suspending);
	vm->start_ms += now_ms() - suspending->began_ms;
	vm->last_word_ms = now_ms();
	suspending->due_ms = next_due_ms(vm);
	suspending->stage = SUSPENDING_GOES_ON;
	suspending->ends = suspending->ends && waits;
	qmp_command(&vm->qmp, "cont");
}

static void give_up(struct vm *vm, const char *reason)
{
	suspend_of(vm)->on_failure(suspend_of(vm)->context, reason);
	go_on(vm);
}

static void save(struct vm *vm)
{
	struct suspending *suspending = &vm->suspending;

	suspending->stage = SUSPENDING_SAVES;
	suspending->began_ms = now_ms();
	/* QEMU may write no file larger than the job disk, which its state never is. */
	suspending->device_fd = memfd_create("state", MFD_CLOEXEC);
	vm->migrating = true;
	migration_save(&vm->migration, &vm->qmp, suspending->device_fd);
}

/* Before the job began nothing is worth to be kept; but a disk that was mounted is not fresh. */
static void end_before_job(struct vm *vm)
{
	const struct vm_times *times = &vm->outcome->times;
	bool runs = times->vmm_ready != RECORD_UNSET &&
		    (vm->options->qemu.start == QEMU_BOOT || times->restored != RECORD_UNSET);

	if (!runs) {
		vm_end(vm, KILL_SUSPEND);
	} else if (!vm->has_mounted) {
		vm->suspending.stage = SUSPENDING_LOOKS;
		vm->suspending.stopped = false;
		vm->suspending.began_ms = now_ms();
		qmp_command(&vm->qmp, "stop");
	}
}

static void begin(struct vm *vm)
{
	if (!suspending_is_possible(vm))
		vm->suspending.stage = SUSPENDING_NOT;
	else if (vm->outcome->times.job_started != RECORD_UNSET &&
		 (vm->options->qemu.start != QEMU_RESUME || vm->said_hello))
		save(vm);
	else if (vm->suspending.ends)
		end_before_job(vm);
}

void suspending_ask(struct vm *vm)
{
	vm->suspending.ends = true;
	if (vm->suspending.stage == SUSPENDING_NOT)
		vm->suspending.stage = SUSPENDING_WAITS;
}

static bool is_dry(int fd)
{
	struct pollfd source = {.fd = fd, .events = POLLIN};

	return fd < 0 || poll(&source, 1, 0) == 0;
}

static bool is_passed_on(const struct pump *pump)
{
	return !pump_has_pending(pump) && is_dry(pump->in_fd);
}

static void look(struct vm *vm)
{
	if (!vm->suspending.stopped || !is_dry(vm->qemu.control_fd))
		return;
	if (vm->has_mounted)
		go_on(vm);
	else
		vm_end(vm, KILL_SUSPEND);
}

/* What the VM has sent until it stood still is neither lost nor sent again. */
static void drain(struct vm *vm)
{
	const struct vm_suspend *suspend = suspend_of(vm);
	struct error error;

	if (!is_dry(vm->qemu.control_fd) || !is_passed_on(&vm->out) || !is_passed_on(&vm->err))
		return;
	if (!suspending_is_possible(vm)) {
		go_on(vm);
		return;
	}
	const struct vm_moment moment = {
		.pid = vm->qemu.pid,
		.qemu = &vm->options->qemu,
		.device_fd = vm->suspending.device_fd,
		.ran_ms = vm->suspending.began_ms - vm->start_ms,
		.job_started_ms = vm->outcome->times.job_started,
		.stdout_bytes = vm->out.total_bytes,
		.stderr_bytes = vm->err.total_bytes,
	};
	if (suspend->save(suspend->context, &moment, !vm->suspending.ends, &error)) {
		give_up(vm, error.text);
	} else if (vm->suspending.ends) {
		vm->outcome->suspended = true;
		vm_end(vm, KILL_SUSPEND);
	} else {
		go_on(vm);
	}
}

void suspending_go_on(struct vm *vm)
{
	struct suspending *suspending = &vm->suspending;

	if (vm->kill_reason != KILL_NONE || vm->qemu_ended)
		return;
	if (suspending->stage == SUSPENDING_NOT && now_ms() >= suspending->due_ms) {
		suspending->due_ms = next_due_ms(vm);
		suspending->stage = SUSPENDING_WAITS;
	}
	if (suspending->stage == SUSPENDING_WAITS)
		begin(vm);
	else if (suspending->stage == SUSPENDING_LOOKS)
		look(vm);
	else if (suspending->stage == SUSPENDING_DRAINS)
		drain(vm);
}

bool suspending_on_reply(struct vm *vm, const char *error)
{
	struct suspending *suspending = &vm->suspending;

	if (suspending->stage == SUSPENDING_LOOKS) {
		suspending->stopped = true;
	} else if (suspending->stage == SUSPENDING_GOES_ON) {
		if (error) {
			snprintf(vm->migration.problem, sizeof(vm->migration.problem),
				 "the VM does not go on: %s", error);
			vm_end(vm, KILL_RESTORE);
		}
		suspending->stage = suspending->ends ? SUSPENDING_WAITS : SUSPENDING_NOT;
	} else {
		return false;
	}
	return true;
}

void suspending_on_saved(struct vm *vm)
{
	char problem[sizeof(vm->migration.problem)];

	if (vm->migration.problem[0]) {
		snprintf(problem, sizeof(problem), "%s", vm->migration.problem);
		vm->migration.problem[0] = '\0';
		give_up(vm, problem);
	} else if (vm->migration.done) {
		vm->suspending.stage = SUSPENDING_DRAINS;
	}
}
