#include "host-tools/vmm/vm.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host-tools/signals.h"
#include "host-tools/vmm/vm_work.h"

/* How long the guest may take, after the job's own limit and grace, to end it. */
#define HOST_DEADLINE_SLACK_MS 30000
/* How long it may then take to sync and unmount its disk. */
#define END_DEADLINE_MS	       600000
/* How long QEMU may take to quit. */
#define QUIT_WAIT_MS	       10000
/* How long a clone may take until its first word. */
#define RESTORE_TIMEOUT_MS     10000
/* A pipe that polls writable takes this much without blocking (pipe(7), PIPE_BUF). */
#define SAFE_WRITE_BYTES       4096

uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t vm_elapsed_ms(const struct vm *vm)
{
	return now_ms() - vm->start_ms;
}

/* --- ending the VM --- */

void vm_end(struct vm *vm, enum kill_reason reason)
{
	if (vm->kill_reason != KILL_NONE)
		return;
	vm->kill_reason = reason;
	vm->quit_ms = now_ms();
	if (reason == KILL_QUIT)
		qmp_command(&vm->qmp, "quit");
	else
		kill(vm->qemu.pid, SIGKILL);
}

/* --- templates and clones --- */

/* Puts WORD and the time now into LINE; the length of both. */
static int stamp(char *line, size_t size, const char *word)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return snprintf(line, size, "%s %lld %ld", word, (long long)now.tv_sec, now.tv_nsec);
}

/* The time, and random bytes of the VM's own (jobdisk/control.h). */
static void send_hello(struct vm *vm)
{
	bool resumes = vm->options->qemu.start == QEMU_RESUME;
	unsigned char seed[CONTROL_SEED_BYTES];
	char line[CONTROL_LINE_BYTES];

	if (vm->said_hello || getrandom(seed, sizeof(seed), 0) != sizeof(seed))
		return;
	vm->said_hello = true;
	int length = stamp(line, sizeof(line), resumes ? CONTROL_RESUMED : CONTROL_HELLO);
	line[length++] = ' ';
	for (size_t i = 0; i < sizeof(seed); i++)
		length += snprintf(line + length, sizeof(line) - (size_t)length, "%02x", seed[i]);
	line[length++] = '\n';
	/* The first bytes into an empty socket; a guest that does not get them gives up and says
	 * so. */
	if (write(vm->qemu.control_fd, line, (size_t)length) != length)
		return;
}

/* Its answer is one line; a guest that asks without reading does not get more of them. */
static void send_time(struct vm *vm)
{
	char line[CONTROL_LINE_BYTES];
	int length = stamp(line, sizeof(line), CONTROL_TIME);

	line[length++] = '\n';
	if (write(vm->qemu.control_fd, line, (size_t)length) != length)
		return;
}

static struct timespec modified_at(int fd)
{
	struct stat status = {.st_size = 0};

	fstat(fd, &status);
	return status.st_mtim;
}

static uint64_t size_of(int fd)
{
	struct stat status = {.st_size = 0};

	fstat(fd, &status);
	return (uint64_t)status.st_size;
}

static bool is_restoring(const struct vm *vm)
{
	return !vm->is_parking &&
	       (vm->options->qemu.start == QEMU_RESTORE ||
		vm->options->qemu.start == QEMU_RESUME) &&
	       vm->outcome->times.first_word == RECORD_UNSET;
}

/* By the time that a clone is restored, enough has passed to know how fast the counter runs. */
static void check_tsc(struct vm *vm)
{
	uint64_t wanted_khz = vm->options->qemu.tsc_khz;
	uint64_t khz = wanted_khz ? tsc_khz_since(&vm->tsc_mark) : 0;
	uint64_t difference = khz > wanted_khz ? khz - wanted_khz : wanted_khz - khz;

	if (difference <= wanted_khz / TSC_TOLERANCE)
		return;
	snprintf(vm->migration.problem, sizeof(vm->migration.problem),
		 "its clock runs at %" PRIu64 " kHz, and this processor's at %" PRIu64, wanted_khz,
		 khz);
}

/* The guest runs, and waits for its hello. */
static void on_restored(struct vm *vm)
{
	vm->outcome->times.restored = vm_elapsed_ms(vm);
	vm->disk_time = modified_at(vm->options->qemu.job_disk_fd);
	check_tsc(vm);
	if (vm->migration.problem[0])
		vm_end(vm, KILL_RESTORE);
	else if (!vm->has_run_before || vm->is_ready)
		send_hello(vm);
}

/* A guest that does not get the word gives up. */
static void tell_again(const struct vm *vm)
{
	static const char again[] = CONTROL_AGAIN "\n";

	if (write(vm->qemu.control_fd, again, sizeof(again) - 1) < 0)
		return;
}

/*
 * A VM that has run its job waits for the next. After a rehearsal there is time: it makes itself
 * ready, and then stands still.
 */
static void on_parking(struct vm *vm)
{
	vm->is_parked = vm->is_ready || !vm->options->is_rehearsal;
	/* QEMU may have more to say before the guest is ready. */
	if (vm->unmounted && !vm->told_again)
		tell_again(vm);
	vm->told_again = true;
}

static void follow_migration(struct vm *vm)
{
	const struct migration *migration = &vm->migration;

	if (vm->suspending.stage == SUSPENDING_SAVES) {
		suspending_on_saved(vm);
	} else if (migration->problem[0]) {
		vm_end(vm, KILL_RESTORE);
	} else if (vm->is_parking && migration->done) {
		on_parking(vm);
	} else if (migration->done && vm->options->qemu.start == QEMU_SAVE) {
		vm->outcome->saved = true;
		vm_end(vm, KILL_QUIT);
	} else if (migration->done && vm->outcome->times.restored == RECORD_UNSET) {
		on_restored(vm);
	}
}

/* A resumed VM knows its disks already; its memory is where it was before its state is. */
static void restore(struct vm *vm)
{
	const struct vm_suspend *suspend = &vm->options->suspend;
	struct migration_disks disks = {.job_bytes = 0};
	struct error error;

	if (vm->options->qemu.start == QEMU_RESTORE) {
		disks.job_bytes = size_of(vm->options->qemu.job_disk_fd);
		disks.input_bytes = vm->options->input_disk_bytes;
	} else if (suspend->restore(suspend->context, vm->qemu.pid, &error)) {
		snprintf(vm->migration.problem, sizeof(vm->migration.problem), "%s", error.text);
		vm_end(vm, KILL_RESTORE);
		return;
	}
	migration_restore(&vm->migration, &vm->qmp, vm->options->state_fd, &disks);
}

static void on_qmp_reply(void *context, const char *error)
{
	struct vm *vm = context;

	/* The first answer is to the greeting. */
	if (vm->outcome->times.vmm_ready == RECORD_UNSET) {
		vm->outcome->times.vmm_ready = vm_elapsed_ms(vm);
		vm->migrating = is_restoring(vm) || vm->is_parking;
		if (vm->is_parking)
			migration_load(&vm->migration, &vm->qmp, vm->options->state_fd);
		else if (vm->migrating)
			restore(vm);
	} else if (suspending_on_reply(vm, error)) {
		return;
	} else if (vm->migrating) {
		migration_on_reply(&vm->migration, error);
		follow_migration(vm);
	}
}

/* The guest waits for its hello, which is for when it has its disk. */
static void on_ready(struct vm *vm)
{
	if (vm->is_parking) {
		if (!vm->options->is_rehearsal || !vm->migration.done)
			return;
		vm->is_ready = true;
		migration_pause(&vm->migration, &vm->qmp);
	} else if (vm->has_run_before && vm->outcome->times.restored == RECORD_UNSET) {
		vm->is_ready = true;
	} else if (vm->options->qemu.start != QEMU_SAVE) {
		send_hello(vm);
	} else if (!vm->migrating) {
		vm->migrating = true;
		migration_save(&vm->migration, &vm->qmp, vm->options->state_fd);
	}
}

/* --- the job's output --- */

bool pump_has_pending(const struct pump *pump)
{
	return pump->pending_start < pump->pending_end;
}

static void pump_read(struct vm *vm, struct pump *pump)
{
	ssize_t got = read(pump->in_fd, pump->buffer, sizeof(pump->buffer));

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		pump->in_fd = -1;
		return;
	}
	vm->last_word_ms = now_ms();
	pump->total_bytes += (uint64_t)got;
	if (pump->total_bytes > pump->max_bytes) {
		pump->in_fd = -1;
		vm_end(vm, KILL_FLOOD);
		return;
	}
	pump->pending_start = 0;
	pump->pending_end = pump->out_fd >= 0 ? (size_t)got : 0;
}

/*
 * As with any command in a pipeline: when nobody reads any more, it ends. Any other reason, as a
 * full disk, is a failure.
 */
static void on_failed_output(struct vm *vm, struct pump *pump, int why)
{
	pump->out_fd = -1;
	pump->pending_start = pump->pending_end;
	if (why == EPIPE) {
		vm->outcome->output_closed = true;
		vm->outcome->cancel_signal = SIGPIPE;
		vm_end(vm, KILL_CANCEL);
	} else {
		vm->failed_output = pump;
		vm->output_errno = why;
		vm_end(vm, KILL_OUTPUT);
	}
}

static void pump_write(struct vm *vm, struct pump *pump)
{
	size_t length = pump->pending_end - pump->pending_start;

	if (!pump->out_is_file && length > SAFE_WRITE_BYTES)
		length = SAFE_WRITE_BYTES;
	ssize_t written = write(pump->out_fd, pump->buffer + pump->pending_start, length);
	if (written >= 0)
		pump->pending_start += (size_t)written;
	else if (errno != EAGAIN && errno != EINTR)
		on_failed_output(vm, pump, errno);
	/* Our own reader's pace is not the guest's silence. */
	vm->last_word_ms = now_ms();
}

static void serve_pump(struct vm *vm, struct pump *pump)
{
	if (pump_has_pending(pump))
		pump_write(vm, pump);
	else if (pump->in_fd >= 0)
		pump_read(vm, pump);
}

static struct pollfd pump_source(const struct pump *pump)
{
	if (pump_has_pending(pump))
		return (struct pollfd){.fd = pump->out_fd, .events = POLLOUT};
	return (struct pollfd){.fd = pump->in_fd, .events = POLLIN};
}

static bool has_all_output(const struct pump *pump)
{
	return !pump_has_pending(pump) && pump->total_bytes >= pump->expected_bytes;
}

/* --- what the guest says --- */

/*
 * The memory that this VM has for itself, and its share of what it has in common with others
 * (proc(5), smaps_rollup). RECORD_UNSET where the kernel does not tell.
 */
static uint64_t proportional_set_bytes(pid_t pid)
{
	char path[64], line[128];
	uint64_t kib, bytes = RECORD_UNSET;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return bytes;
	while (bytes == RECORD_UNSET && fgets(line, sizeof(line), file))
		if (sscanf(line, "Pss: %" SCNu64, &kib) == 1)
			bytes = kib * 1024;
	fclose(file);
	return bytes;
}

static void on_ended(struct vm *vm, const char *counts)
{
	uint64_t out_bytes = 0, err_bytes = 0;

	if (vm->outcome->times.job_ended != RECORD_UNSET)
		return;
	vm->outcome->times.job_ended = vm_elapsed_ms(vm);
	/* While the guest commits its results, looking costs no time. */
	vm->outcome->private_bytes = proportional_set_bytes(vm->qemu.pid);
	if (sscanf(counts, "%" SCNu64 " %" SCNu64, &out_bytes, &err_bytes) == 2) {
		vm->out.expected_bytes = out_bytes;
		vm->err.expected_bytes = err_bytes;
	}
}

/* Of a job, which there is none of while a template is made. */
static bool is_of_job(const char *word)
{
	return strcmp(word, CONTROL_STARTED) == 0 || strcmp(word, CONTROL_ENDED) == 0 ||
	       strcmp(word, CONTROL_UNMOUNTED) == 0 || strcmp(word, CONTROL_OFF) == 0;
}

static void enter_stage(struct vm *vm, const char *stage)
{
	if (strcmp(stage, CONTROL_MOUNTING) == 0)
		vm->has_mounted = true;
	if (vm->options->on_stage)
		vm->options->on_stage(vm->options->on_stage_context, stage);
}

static void on_word(struct vm *vm, const char *word, const char *argument)
{
	struct vm_times *times = &vm->outcome->times;

	if (vm->options->qemu.start == QEMU_SAVE && is_of_job(word)) {
		snprintf(vm->migration.problem, sizeof(vm->migration.problem), "%s",
			 vm->outcome->fatal[0] ? vm->outcome->fatal
					       : "the guest does not wait for its job disk");
		vm_end(vm, KILL_RESTORE);
	} else if (strcmp(word, CONTROL_STAGE) == 0) {
		enter_stage(vm, argument);
	} else if (strcmp(word, CONTROL_READY) == 0 && !vm->options->qemu.recovery) {
		/* A PID 1 that asks in a recovery does not know of recoveries: it would run a job.
		 */
		on_ready(vm);
	} else if (strcmp(word, CONTROL_CLOCK) == 0) {
		send_time(vm);
	} else if (strcmp(word, CONTROL_STARTED) == 0 && times->job_started == RECORD_UNSET) {
		times->job_started = vm_elapsed_ms(vm);
	} else if (strcmp(word, CONTROL_ENDED) == 0) {
		on_ended(vm, argument);
	} else if (strcmp(word, CONTROL_FATAL) == 0) {
		snprintf(vm->outcome->fatal, sizeof(vm->outcome->fatal), "%s", argument);
	} else if (strcmp(word, CONTROL_UNMOUNTED) == 0 && !vm->unmounted) {
		vm->unmounted = true;
		times->unmounted = vm_elapsed_ms(vm);
	} else if (strcmp(word, CONTROL_OFF) == 0) {
		/* A microvm has no power switch. */
		vm->powered_off = true;
		vm_end(vm, KILL_QUIT);
	}
	/* Words nobody knows are a newer guest's, or noise: not a reason to end a job. */
}

/* Some hosts let no user make a namespace (namespaces(7)); by the guest's first word it is there.
 */
static bool has_own_network(pid_t pid)
{
	char path[64], ours[64] = "", theirs[64] = "";

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	return readlink("/proc/self/ns/net", ours, sizeof(ours) - 1) > 0 &&
	       readlink(path, theirs, sizeof(theirs) - 1) > 0 && strcmp(ours, theirs) != 0;
}

static void on_first_word(struct vm *vm)
{
	vm->outcome->times.first_word = vm_elapsed_ms(vm);
	vm->outcome->own_network = has_own_network(vm->qemu.pid);
}

static void on_line(struct vm *vm)
{
	char *argument = strchr(vm->line, ' ');

	vm->last_word_ms = now_ms();
	/* What a guest says while it makes itself ready again is not of this job. */
	if (vm->outcome->times.first_word == RECORD_UNSET &&
	    (!vm->has_run_before || vm->said_hello))
		on_first_word(vm);
	if (argument)
		*argument++ = '\0';
	on_word(vm, vm->line, argument ? argument : "");
	if (vm->options->stop_at_first_word)
		vm_end(vm, KILL_QUIT);
}

static void on_control_byte(struct vm *vm, char byte)
{
	if (byte != '\n') {
		if (vm->line_length < sizeof(vm->line) - 1)
			vm->line[vm->line_length++] = byte;
		else
			vm->line_too_long = true;
		return;
	}
	vm->line[vm->line_length] = '\0';
	if (!vm->line_too_long)
		on_line(vm);
	vm->line_length = 0;
	vm->line_too_long = false;
}

static void serve_control(struct vm *vm)
{
	char bytes[4096];
	ssize_t got = read(vm->qemu.control_fd, bytes, sizeof(bytes));

	if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
		close(vm->qemu.control_fd);
		vm->qemu.control_fd = -1;
	}
	for (ssize_t i = 0; i < got; i++)
		on_control_byte(vm, bytes[i]);
}

static void serve_log(int *fd, struct log *log)
{
	char bytes[4096];
	ssize_t got = read(*fd, bytes, sizeof(bytes));

	if (got > 0)
		log_append(log, bytes, (size_t)got);
	if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
		close(*fd);
		*fd = -1;
	}
}

/*
 * The guest may go on for ever with a file system that it cannot write, and its results cannot be
 * whole any more. Of the input disk it is only told: the job sees an error of that file.
 */
static void on_disk_error(struct vm *vm, const json_t *data)
{
	const char *node = json_string_value(json_object_get(data, "node-name"));
	const char *operation = json_string_value(json_object_get(data, "operation"));
	const char *reason = json_string_value(json_object_get(data, "reason"));

	if (node && strcmp(node, QEMU_INPUT_NODE) == 0)
		return;
	if (vm->outcome->disk_errors++ == 0)
		snprintf(vm->outcome->message, sizeof(vm->outcome->message),
			 "the host could not %s the VM's disk: %s", operation ? operation : "use",
			 reason ? reason : "I/O error");
	vm_end(vm, KILL_DISK);
}

static void on_qmp_event(void *context, const char *name, const json_t *data)
{
	struct vm *vm = context;
	const char *reason = json_string_value(json_object_get(data, "reason"));

	if (strcmp(name, "SHUTDOWN") == 0 && reason) {
		vm->reset = strcmp(reason, "guest-reset") == 0;
		vm->powered_off = strcmp(reason, "guest-shutdown") == 0;
	} else if (strcmp(name, "BLOCK_IO_ERROR") == 0) {
		on_disk_error(vm, data);
	} else if (vm->migrating) {
		migration_on_event(&vm->migration, name, data);
		follow_migration(vm);
	}
}

static const struct qmp_handlers qmp_handlers = {.on_event = on_qmp_event,
						 .on_reply = on_qmp_reply};

static void serve_qmp(struct vm *vm)
{
	if (qmp_read(&vm->qmp, &qmp_handlers, vm))
		return;
	close(vm->qemu.qmp_fd);
	vm->qemu.qmp_fd = -1;
}

static void serve_signal(struct vm *vm)
{
	struct signalfd_siginfo info;

	if (read(vm->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGTERM && vm->options->suspend.save) {
		/* A job that is over is not suspended: what it has left is on its way. */
		if (suspending_is_possible(vm))
			suspending_ask(vm);
		return;
	}
	vm->outcome->cancel_signal = (int)info.ssi_signo;
	/* After the VM's end the signal can only be for output that nobody takes. */
	if (vm->qemu_ended) {
		vm->out.pending_start = vm->out.pending_end;
		vm->err.pending_start = vm->err.pending_end;
	}
	vm_end(vm, KILL_CANCEL);
}

static void serve_process(struct vm *vm)
{
	/* Whatever it may have started holds our sockets open; as long as it is not reaped, the
	 * number is its own. */
	kill(-vm->qemu.pid, SIGKILL);
	if (waitpid(vm->qemu.pid, &vm->qemu_status, WNOHANG) != vm->qemu.pid)
		return;
	vm->qemu_ended = true;
	vm->outcome->times.vm_ended = vm_elapsed_ms(vm);
}

/* --- deadlines --- */

/* Less of waiting for a processor than that is nobody's excuse. */
#define STARVED_MS_MIN 100

/*
 * How long the one of QEMU's threads that waited longest has waited for a processor so far
 * (proc(5), /proc/PID/task/TID/schedstat): that tells a guest that is dead from one that is not
 * given any time.
 */
static uint64_t run_queue_wait_ms(pid_t pid)
{
	char path[64];
	uint64_t ran_ns, waited_ns, most_ns = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *threads = opendir(path);
	for (struct dirent *thread; threads && (thread = readdir(threads));) {
		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/schedstat", (int)pid,
			 thread->d_name);
		FILE *file = fopen(path, "re");
		if (!file)
			continue;
		if (fscanf(file, "%" SCNu64 " %" SCNu64, &ran_ns, &waited_ns) == 2 &&
		    waited_ns > most_ns)
			most_ns = waited_ns;
		fclose(file);
	}
	if (threads)
		closedir(threads);
	return most_ns / 1000000;
}

/*
 * Takes from the silence what QEMU waited for the host meanwhile: whether that gives the guest more
 * time. On a host that is never idle a dead guest ends too, when it has had its time.
 */
static bool was_starved(struct vm *vm)
{
	uint64_t before_ms = vm->waited_ms, waited_ms = run_queue_wait_ms(vm->qemu.pid);
	uint64_t silence_ms = now_ms() - vm->last_word_ms;
	uint64_t excused_ms = waited_ms > before_ms ? waited_ms - before_ms : 0;

	if (excused_ms > silence_ms)
		excused_ms = silence_ms;
	vm->waited_ms = waited_ms;
	vm->last_word_ms += excused_ms;
	return excused_ms >= STARVED_MS_MIN;
}

static uint64_t silence_deadline_ms(const struct vm *vm)
{
	uint64_t limit_ms = vm->options->heartbeat_timeout_ms;

	if (vm->outcome->times.first_word == RECORD_UNSET)
		limit_ms = vm->options->boot_timeout_ms;
	if (is_restoring(vm) && limit_ms > RESTORE_TIMEOUT_MS)
		limit_ms = RESTORE_TIMEOUT_MS;
	return vm->last_word_ms + limit_ms;
}

/*
 * When the guest should have ended the job, and then itself. That the job has started or ended
 * is the guest's word; each can be said once, and before its own deadline, so lies gain it a
 * bounded time. A template is saved by then.
 */
static uint64_t host_deadline_ms(const struct vm *vm)
{
	const struct manifest *manifest = vm->options->manifest;
	const struct vm_times *times = &vm->outcome->times;
	uint64_t from_ms = vm->start_ms + vm->reader_ms;

	if (vm->options->qemu.start == QEMU_SAVE)
		return vm->start_ms + vm->options->boot_timeout_ms;
	if (times->job_ended != RECORD_UNSET)
		return from_ms + times->job_ended + END_DEADLINE_MS;
	if (!manifest || manifest->time_limit_ms == RECORD_UNSET)
		return UINT64_MAX;
	return from_ms +
	       (times->job_started != RECORD_UNSET ? times->job_started
						   : vm->options->boot_timeout_ms) +
	       manifest->time_limit_ms + manifest->kill_grace_ms + HOST_DEADLINE_SLACK_MS;
}

static uint64_t job_deadline_ms(const struct vm *vm)
{
	const struct manifest *manifest = vm->options->manifest;

	if (!manifest || manifest->job_time_limit_ms == RECORD_UNSET)
		return UINT64_MAX;
	return vm->start_ms + manifest->job_time_limit_ms + manifest->kill_grace_ms;
}

static uint64_t next_deadline_ms(const struct vm *vm)
{
	if (vm->qemu_ended)
		return UINT64_MAX;
	if (vm->kill_reason != KILL_NONE)
		return vm->quit_ms + QUIT_WAIT_MS;
	if (suspending_holds(vm))
		return suspending_deadline_ms(vm);
	uint64_t next = silence_deadline_ms(vm);
	if (suspending_deadline_ms(vm) < next)
		next = suspending_deadline_ms(vm);
	if (host_deadline_ms(vm) < next)
		next = host_deadline_ms(vm);
	if (job_deadline_ms(vm) < next)
		next = job_deadline_ms(vm);
	return next;
}

static void check_deadlines(struct vm *vm)
{
	uint64_t now = now_ms();

	if (vm->qemu_ended || now < next_deadline_ms(vm))
		return;
	if (vm->kill_reason != KILL_NONE)
		kill(vm->qemu.pid, SIGKILL);
	else if (suspending_holds(vm) || now >= suspending_deadline_ms(vm))
		return;
	else if (now >= job_deadline_ms(vm))
		vm_end(vm, KILL_JOB_LIMIT);
	else if (now >= host_deadline_ms(vm))
		vm_end(vm, KILL_DEADLINE);
	else if (!was_starved(vm))
		vm_end(vm, vm->outcome->times.first_word == RECORD_UNSET ? KILL_BOOT : KILL_SILENT);
}

/* --- parking --- */

/* The file in a parked VM's job disk's place, of a single sector (wait_job_disk in init/). */
#define PARKED_DISK_BYTES 512

/* The numbers of QEMU's sets of descriptors below this are those of its command line. */
#define FIRST_FILE_NUMBER 1000

/* What stays of a VM from one run to the next; in no use while one runs. */
static struct {
	bool is_there;
	unsigned jobs; /* that it has run */
	bool rehearsed;
	bool is_ready; /* it has said so, after those */
	struct qemu qemu;
	struct qmp qmp;
	struct tsc_mark tsc_mark;
	uint64_t file_number; /* of the last file in the job disk's place; 0: that of its start */
	int disk_fd;	      /* the file of a parked VM; -1: none */
} parked = {.disk_fd = -1};

int vm_parked_jobs(void)
{
	return parked.is_there ? (int)parked.jobs : -1;
}

bool vm_parked_rehearsed(void)
{
	return parked.is_there && parked.rehearsed;
}

static int open_parked_disk(struct error *error)
{
	if (parked.disk_fd >= 0)
		return 0;
	parked.disk_fd = memfd_create("no job", MFD_CLOEXEC);
	if (parked.disk_fd < 0 || ftruncate(parked.disk_fd, PARKED_DISK_BYTES))
		return error_errno(error, "make a parked VM's disk");
	return 0;
}

/* DISK_FD takes the place of the job disk that VM has. */
static void attach(struct vm *vm, int disk_fd)
{
	const struct migration_disks disks = {
		.job_bytes = size_of(disk_fd),
		.file_number = parked.file_number ? parked.file_number + 1 : FIRST_FILE_NUMBER,
		.file_before = parked.file_number,
		.file_fd = disk_fd,
	};

	parked.file_number = disks.file_number;
	vm->migrating = true;
	migration_attach(&vm->migration, &vm->qmp, &disks);
}

/* Whether the VM is as it was before its job, as far as PID 1 can make it so. */
static bool can_park(const struct vm *vm)
{
	return vm->options->parks && vm->kill_reason == KILL_NONE && !vm->qemu_ended &&
	       !suspending_holds(vm) && vm->outcome->disk_errors == 0 && !vm->outcome->fatal[0] &&
	       !vm->options->manifest->privileged;
}

/* The job is over, and the guest waits to be told what is next. */
static void park_again(struct vm *vm)
{
	vm->outcome->times.vm_ended = vm_elapsed_ms(vm);
	vm->is_parking = true;
	vm->is_ready = false;
	attach(vm, parked.disk_fd);
}

static void leave_parked(const struct vm *vm)
{
	parked.is_there = true;
	parked.qemu = vm->qemu;
	parked.qmp = vm->qmp;
	parked.is_ready = vm->is_ready;
}

void vm_unpark(void)
{
	if (!parked.is_there)
		return;
	parked.is_there = false;
	kill(parked.qemu.pid, SIGKILL);
	while (waitpid(parked.qemu.pid, NULL, 0) < 0 && errno == EINTR)
		;
	qemu_close(&parked.qemu);
}

/* As qemu_start, with the QEMU that is there. */
static void take_parked(struct vm *vm)
{
	vm->qemu = parked.qemu;
	vm->qmp = parked.qmp;
	vm->tsc_mark = parked.tsc_mark;
	vm->outcome->times.vmm_ready = 0;
	vm->has_run_before = parked.jobs > 0 || parked.rehearsed;
	vm->is_ready = parked.is_ready;
	if (vm->options->is_rehearsal)
		parked.rehearsed = true;
	else
		parked.jobs++;
	parked.is_there = false;
	attach(vm, vm->options->qemu.job_disk_fd);
}

/* --- the loop --- */

static void wait_for_events(struct vm *vm)
{
	struct pollfd sources[] = {
		{.fd = vm->signal_fd, .events = POLLIN},
		{.fd = vm->qemu_ended ? -1 : vm->qemu.pid_fd, .events = POLLIN},
		{.fd = vm->qemu.qmp_fd, .events = POLLIN},
		{.fd = vm->qemu.control_fd, .events = POLLIN},
		{.fd = vm->qemu.console_fd, .events = POLLIN},
		{.fd = vm->qemu.log_fd, .events = POLLIN},
		pump_source(&vm->out),
		pump_source(&vm->err),
	};
	uint64_t now = now_ms(), deadline = next_deadline_ms(vm);
	int timeout = -1;

	if (deadline != UINT64_MAX)
		timeout = deadline <= now	   ? 0
			  : deadline - now > 60000 ? 60000
						   : (int)(deadline - now);
	int ready = poll(sources, sizeof(sources) / sizeof(sources[0]), timeout);
	if (pump_has_pending(&vm->out) || pump_has_pending(&vm->err))
		vm->reader_ms += now_ms() - now;
	if (ready < 0)
		return;
	if (sources[0].revents)
		serve_signal(vm);
	if (sources[1].revents)
		serve_process(vm);
	if (sources[2].revents)
		serve_qmp(vm);
	if (sources[3].revents)
		serve_control(vm);
	if (sources[4].revents)
		serve_log(&vm->qemu.console_fd, &vm->outcome->console);
	if (sources[5].revents)
		serve_log(&vm->qemu.log_fd, &vm->outcome->qemu_log);
	if (sources[6].revents)
		serve_pump(vm, &vm->out);
	if (sources[7].revents)
		serve_pump(vm, &vm->err);
}

/* After QEMU's end, everything that it sent has been read and passed on. */
static bool is_over(const struct vm *vm)
{
	return vm->qemu_ended && vm->qemu.qmp_fd < 0 && vm->qemu.control_fd < 0 &&
	       vm->qemu.console_fd < 0 && vm->qemu.log_fd < 0 && vm->out.in_fd < 0 &&
	       vm->err.in_fd < 0 && !pump_has_pending(&vm->out) && !pump_has_pending(&vm->err);
}

static void run_loop(struct vm *vm)
{
	while (!is_over(vm) && !vm->is_parked) {
		wait_for_events(vm);
		check_deadlines(vm);
		suspending_go_on(vm);
		if (vm->is_parking || !vm->unmounted || !has_all_output(&vm->out) ||
		    !has_all_output(&vm->err))
			continue;
		if (can_park(vm))
			park_again(vm);
		else
			vm_end(vm, KILL_QUIT);
	}
}

/* --- the verdict, where the guest gave none --- */

static void say(struct vm *vm, enum job_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void say(struct vm *vm, enum job_status status, const char *format, ...)
{
	va_list values;

	vm->outcome->status = status;
	va_start(values, format);
	vsnprintf(vm->outcome->message, sizeof(vm->outcome->message), format, values);
	va_end(values);
}

static void judge_qemu_end(struct vm *vm)
{
	char line[256] = "it said nothing";
	int status = vm->qemu_status;

	log_find_last(&vm->outcome->qemu_log, "", line, sizeof(line));
	if (WIFSIGNALED(status))
		say(vm, STATUS_VMM_FAILED, "QEMU was killed by signal %d (%s)", WTERMSIG(status),
		    strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) != 0)
		say(vm, STATUS_VMM_FAILED, "QEMU failed with exit code %d: %s", WEXITSTATUS(status),
		    line);
	else
		say(vm, STATUS_VMM_FAILED, "QEMU ended before the guest: %s", line);
}

static void judge_guest_end(struct vm *vm)
{
	char line[256] = "the console has no reason";
	bool booted = vm->outcome->times.first_word != RECORD_UNSET;

	if (vm->outcome->fatal[0]) {
		say(vm, STATUS_BOOT_FAILED, "the guest's init gave up in stage %s",
		    vm->outcome->fatal);
	} else if (vm->powered_off) {
		say(vm, STATUS_INCOMPLETE, "the guest powered off without unmounting the job disk");
	} else if (vm->reset) {
		log_find_last(&vm->outcome->console, "Kernel panic", line, sizeof(line));
		say(vm, booted ? STATUS_GUEST_PANIC : STATUS_BOOT_FAILED,
		    "the guest's kernel panicked: %s", line);
	} else {
		judge_qemu_end(vm);
	}
}

/* Whether everything that the guest sent is where it was to go. */
static bool passed_on(const struct pump *pump, bool is_wanted)
{
	return !is_wanted || pump->total_bytes >= pump->expected_bytes;
}

static bool passed_all_on(const struct vm *vm)
{
	return passed_on(&vm->out, vm->options->stdout_fd >= 0) &&
	       passed_on(&vm->err, vm->options->stderr_fd >= 0);
}

/* Output that is lost after the VM's end is lost all the same. */
static enum kill_reason reason_of(const struct vm *vm)
{
	if (vm->outcome->output_closed)
		return KILL_CANCEL;
	return vm->failed_output ? KILL_OUTPUT : vm->kill_reason;
}

/* Whether a clone has certainly not begun with its job: it said nothing, and wrote nothing. */
static bool did_nothing(const struct vm *vm)
{
	struct timespec now = modified_at(vm->options->qemu.job_disk_fd);

	if (!is_restoring(vm) || vm->kill_reason == KILL_CANCEL ||
	    vm->kill_reason == KILL_SUSPEND || vm->kill_reason == KILL_JOB_LIMIT)
		return false;
	return vm->disk_time.tv_sec == 0 ||
	       (now.tv_sec == vm->disk_time.tv_sec && now.tv_nsec == vm->disk_time.tv_nsec);
}

/* The host's memory ran out, or somebody's patience; QEMU's own failures have an exit code. */
static bool was_killed_from_outside(const struct vm *vm)
{
	int status = vm->qemu_status;

	if (vm->kill_reason != KILL_NONE || !vm->qemu_ended)
		return false;
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM;
	/* QEMU ends in order when it is told to (SIGTERM, SIGINT, SIGHUP). */
	return WEXITSTATUS(status) == 0;
}

/* A clone that did not come up, or a template that could not be saved, for reasons of their own. */
static bool judge_restore(struct vm *vm)
{
	if (vm->options->qemu.start != QEMU_BOOT)
		vm->outcome->killed_from_outside = was_killed_from_outside(vm);
	if (vm->kill_reason != KILL_RESTORE && !did_nothing(vm))
		return false;
	vm->outcome->not_restored = did_nothing(vm);
	if (vm->migration.problem[0])
		say(vm, STATUS_VMM_FAILED, "%s", vm->migration.problem);
	else if (vm->kill_reason == KILL_BOOT)
		say(vm, STATUS_BOOT_FAILED, "the clone said nothing");
	else
		return false;
	return true;
}

static void judge(struct vm *vm)
{
	struct vm_outcome *outcome = vm->outcome;

	/* Whatever keeps the VM from being parked comes after its job. */
	outcome->clean = vm->is_parking && vm->unmounted && passed_all_on(vm);
	if (outcome->clean || judge_restore(vm))
		return;
	switch (reason_of(vm)) {
	case KILL_OUTPUT:
		say(vm, STATUS_VMM_FAILED, "cannot write the job's %s: %s",
		    vm->failed_output == &vm->out ? "stdout" : "stderr",
		    strerror(vm->output_errno));
		return;
	case KILL_CANCEL:
		say(vm, STATUS_CANCELLED, "cancelled by signal %d (%s)", outcome->cancel_signal,
		    strsignal(outcome->cancel_signal));
		return;
	case KILL_SUSPEND:
		say(vm, STATUS_SUSPENDED, "%s",
		    outcome->suspended ? "suspended" : "ended before the job began");
		return;
	case KILL_BOOT:
		say(vm, STATUS_BOOT_FAILED, "the guest said nothing for %.1f s after its start",
		    (double)vm->options->boot_timeout_ms / 1000);
		return;
	case KILL_SILENT:
		say(vm, STATUS_UNRESPONSIVE, "the guest's init said nothing for %.1f s",
		    (double)vm->options->heartbeat_timeout_ms / 1000);
		return;
	case KILL_DEADLINE:
		say(vm, STATUS_UNRESPONSIVE, "%s",
		    vm->options->qemu.start == QEMU_SAVE
			    ? "the guest did not come to wait for its job disk"
			    : "the guest did not end the job at its time limit");
		return;
	case KILL_FLOOD:
		say(vm, STATUS_INVALID_RESULT,
		    "the guest sent more output than the job's limits let through");
		return;
	case KILL_JOB_LIMIT:
		say(vm, STATUS_TIMEOUT, "the VM took longer than allowed_job_duration");
		return;
	case KILL_DISK:
	case KILL_QUIT:
	case KILL_NONE:
	case KILL_RESTORE:
		break;
	}
	if (outcome->disk_errors > 0)
		outcome->status = STATUS_VMM_FAILED;
	else if (vm->unmounted && passed_all_on(vm) &&
		 !(vm->options->qemu.recovery && outcome->fatal[0]))
		outcome->clean = true;
	else if (vm->unmounted && !passed_all_on(vm))
		say(vm, STATUS_INCOMPLETE, "the VM ended before all of its output had come");
	else if (!vm->options->stop_at_first_word && !vm->outcome->saved)
		judge_guest_end(vm);
}

/* --- the start --- */

static int catch_signals(sigset_t *before, struct error *error)
{
	sigset_t caught;

	signals_block(&caught, before);
	/* A reader of our output that went away shows as EPIPE. */
	signal(SIGPIPE, SIG_IGN);
	int fd = signalfd(-1, &caught, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return error_errno(error, "watch for signals");
	return fd;
}

static int start_qemu(struct vm *vm, struct error *error)
{
	if (qemu_start(&vm->options->qemu, &vm->qemu, error))
		return -1;
	qmp_init(&vm->qmp, vm->qemu.qmp_fd);
	return 0;
}

static void init_pump(struct pump *pump, int in_fd, int out_fd, uint64_t max_bytes)
{
	struct stat status;

	pump->in_fd = in_fd;
	pump->out_fd = out_fd;
	pump->max_bytes = max_bytes;
	pump->out_is_file = out_fd >= 0 && fstat(out_fd, &status) == 0 && S_ISREG(status.st_mode);
}

static void init_outcome(struct vm_outcome *outcome)
{
	memset(outcome, 0, sizeof(*outcome));
	memset(&outcome->times, 0xff, sizeof(outcome->times));
	outcome->private_bytes = RECORD_UNSET;
	outcome->status = STATUS_INCOMPLETE;
}

static void finish(struct vm *vm)
{
	vm->outcome->stdout_bytes = vm->out.total_bytes;
	vm->outcome->stderr_bytes = vm->err.total_bytes;
	if (vm->is_parked)
		leave_parked(vm);
	else
		qemu_close(&vm->qemu);
	judge(vm);
}

/* The VM's own time, and what it has sent, are those of all its parts. */
static void go_on_from(struct vm *vm, const struct vm_moment *since)
{
	vm->start_ms -= since->ran_ms;
	vm->outcome->times.job_started = since->job_started_ms;
	vm->out.total_bytes = since->stdout_bytes;
	vm->err.total_bytes = since->stderr_bytes;
	vm->has_mounted = true;
}

/* Static for its size; a process runs one VM at a time. */
static struct vm vm;

static void begin(const struct vm_options *options, struct vm_outcome *outcome)
{
	vm = (struct vm){.options = options, .outcome = outcome, .signal_fd = -1};
	init_outcome(outcome);
	vm.start_ms = vm.last_word_ms = now_ms();
	vm.tsc_mark = tsc_mark();
}

int vm_park(const struct vm_options *job_options, struct vm_outcome *outcome, struct error *error)
{
	struct vm_options options = *job_options;

	vm_unpark();
	if (open_parked_disk(error))
		return -1;
	options.qemu.job_disk_fd = parked.disk_fd;
	options.qemu.disk_max_bytes = VM_PARKED_DISK_BYTES;
	begin(&options, outcome);
	vm.is_parking = true;
	suspending_init(&vm);
	parked.jobs = 0;
	parked.rehearsed = parked.is_ready = false;
	parked.file_number = 0;
	parked.tsc_mark = vm.tsc_mark;
	if (start_qemu(&vm, error))
		return -1;
	init_pump(&vm.out, vm.qemu.stdout_fd, -1, 0);
	init_pump(&vm.err, vm.qemu.stderr_fd, -1, 0);
	run_loop(&vm);
	finish(&vm);
	return vm.is_parked ? 0 : error_set(error, "the VM was not parked: %s", outcome->message);
}

int vm_run(const struct vm_options *options, struct vm_outcome *outcome, struct error *error)
{
	sigset_t signals_before;
	int result = -1;

	begin(options, outcome);
	vm.signal_fd = catch_signals(&signals_before, error);
	if (vm.signal_fd < 0)
		return -1;
	if (options->qemu.start == QEMU_RESUME)
		go_on_from(&vm, &options->suspend.since);
	suspending_init(&vm);
	if (options->from_parked)
		take_parked(&vm);
	if (options->from_parked || start_qemu(&vm, error) == 0) {
		const struct manifest *manifest = options->manifest;
		init_pump(&vm.out, vm.qemu.stdout_fd, options->stdout_fd,
			  manifest ? manifest->stdout_max_bytes : 0);
		init_pump(&vm.err, vm.qemu.stderr_fd, options->stderr_fd,
			  manifest ? manifest->stderr_max_bytes : 0);
		run_loop(&vm);
		finish(&vm);
		result = 0;
	}
	close(vm.signal_fd);
	/* One that came too late is not to end who collects the results. */
	if (options->suspend.save && result == 0 && !outcome->not_restored)
		signal(SIGTERM, SIG_IGN);
	sigprocmask(SIG_SETMASK, &signals_before, NULL);
	return result;
}
