/* supervise: PID 1 while the job runs, and the verdict at its end. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init/init.h"
#include "jobdisk/layout.h"

#define NAMESPACES (CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET)
#define PIPE_BYTES (256 * 1024)

/* What is known of the job while it runs. */
struct run {
	bool started, ended; /* the command was executed; its end was reported */
	int wait_status;
	struct job_event failure; /* kind is JOB_SETUP_FAILED or JOB_EXEC_FAILED if it failed */
	bool failed;
	uint64_t start_ms, end_ms;
	bool timed_out, over_output;
	const struct stream *over_stream;
	int alive_timer_fd, limit_timer_fd;
};

static struct run run;

/* --- starting --- */

static int prepare_stream(struct stream *stream, const char *name, int port_fd, int *write_end,
			  struct error *error)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return error_errno(error, "make the pipe for %s", name);
	/* A larger pipe spares switches; the kernel's default works too. */
	fcntl(ends[0], F_SETPIPE_SZ, PIPE_BYTES);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	*write_end = ends[1];
	stream->name = name;
	stream->pipe_fd = ends[0];
	stream->port_fd = port_fd;
	return 0;
}

/* To take them apart takes longer than many a job, and the VM ends anyway. */
static void keep_namespaces(void)
{
	static const char *const names[] = {"net", "ipc", "uts", "mnt"};
	char path[64];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)guest.namespace_pid, names[i]);
		/* Without the descriptor, which is never closed, it goes the slow way. */
		if (open(path, O_RDONLY | O_CLOEXEC) < 0)
			return;
	}
}

/* The template's clones are to have all of it. */
static int await_prepared(struct error *error)
{
	struct job_event event;

	if (read(guest.event_fd, &event, sizeof(event)) != sizeof(event))
		return error_set(error, "the job's namespaces ended without a word");
	if (event.kind == JOB_PREPARED)
		return 0;
	return error_set(error, "cannot %s: %s", event.step, strerror(event.value));
}

static int share_manifest(struct error *error)
{
	guest.shared = mmap(NULL, sizeof(*guest.shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (guest.shared == MAP_FAILED)
		return error_errno(error, "share the manifest");
	/* Each page now, and not in each clone. */
	memset(guest.shared, 0, sizeof(*guest.shared));
	guest.manifest = &guest.shared->manifest;
	return 0;
}

/*
 * The job's namespaces, and all in them that is the same for every job, are made before it is
 * known: of a template's clones each has them then. What PID 1 mounts later is seen in there.
 */
int prepare_job(struct error *error)
{
	struct job_fds fds;
	int events[2], commands[2];
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	if (share_manifest(error) ||
	    prepare_stream(&guest.out, "stdout", guest.stdout_port_fd, &fds.stdout_fd, error) ||
	    prepare_stream(&guest.err, "stderr", guest.stderr_port_fd, &fds.stderr_fd, error))
		return -1;
	if (mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL))
		return error_errno(error, "share the mounts");
	if (pipe2(events, O_CLOEXEC) || pipe2(commands, O_CLOEXEC))
		return error_errno(error, "make the pipes to the job");
	fds.event_fd = events[1];
	fds.command_fd = commands[0];
	guest.event_fd = events[0];
	guest.command_fd = commands[1];

	/* musl's clone() wants a stack; without CLONE_VM the system call works as fork does. */
	guest.namespace_pid = (pid_t)syscall(SYS_clone, NAMESPACES | SIGCHLD, 0, 0, 0, 0);
	if (guest.namespace_pid < 0)
		return error_errno(error, "make the job's namespaces");
	if (guest.namespace_pid == 0)
		namespace_main(&fds);
	close(fds.stdout_fd);
	close(fds.stderr_fd);
	close(fds.event_fd);
	close(fds.command_fd);
	keep_namespaces();
	return await_prepared(error);
}

static void send_command(unsigned char command)
{
	/* The pipe is never full; a namespace that is gone needs no command. */
	if (write(guest.command_fd, &command, 1) < 0)
		return;
}

static int connect_stream(struct stream *stream, const char *path, uint64_t max_bytes,
			  struct error *error)
{
	/* An output file belongs to the job, or its user could not open /dev/stdout again. */
	if (guest.manifest->user == USER_JOB && fchown(stream->pipe_fd, JOB_UID, JOB_GID))
		return error_errno(error, "give the job its pipe for %s", stream->name);
	stream->max_bytes = max_bytes;
	stream->file_fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	return stream->file_fd < 0 ? error_errno(error, "open %s", path) : 0;
}

int start_job(struct error *error)
{
	if (connect_stream(&guest.out, JOB_DIR "/" JOBDISK_STDOUT, guest.manifest->stdout_max_bytes,
			   error) ||
	    connect_stream(&guest.err, JOB_DIR "/" JOBDISK_STDERR, guest.manifest->stderr_max_bytes,
			   error))
		return -1;
	send_command(COMMAND_GO);
	return 0;
}

/* --- the job's output --- */

/* Keeps the head on the disk. A full disk ends the file early, and the record says so. */
static void store(struct stream *stream, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t written = write(stream->file_fd, bytes, length);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0) {
			stream->max_bytes = stream->stored_bytes;
			stream->truncated = true;
			return;
		}
		stream->stored_bytes += (uint64_t)written;
		bytes += written;
		length -= (size_t)written;
	}
}

static void note_overflow(struct stream *stream)
{
	stream->truncated = true;
	if (guest.manifest->output_overflow != OVERFLOW_KILL || run.over_output)
		return;
	run.over_output = true;
	run.over_stream = stream;
	send_command(SIGKILL);
}

/* Takes from the pipe what is there; what is beyond the cap is counted and dropped. */
static void read_stream(struct stream *stream)
{
	ssize_t got = read(stream->pipe_fd, stream->buffer, sizeof(stream->buffer));

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		close(stream->pipe_fd);
		stream->pipe_fd = -1;
		return;
	}
	stream->total_bytes += (uint64_t)got;
	uint64_t room = stream->max_bytes - stream->stored_bytes;
	size_t kept = (uint64_t)got < room ? (size_t)got : (size_t)room;
	if (kept < (size_t)got)
		note_overflow(stream);
	stream->pending_start = 0;
	stream->pending_end = kept;
	store(stream, stream->buffer, kept);
}

static void write_port(struct stream *stream)
{
	ssize_t sent = write(stream->port_fd, stream->buffer + stream->pending_start,
			     stream->pending_end - stream->pending_start);

	if (sent > 0) {
		stream->pending_start += (size_t)sent;
		stream->sent_bytes += (uint64_t)sent;
	} else if (errno != EAGAIN && errno != EINTR) {
		/* The host does not listen any more; the disk has it all. */
		stream->pending_start = stream->pending_end;
	}
}

static bool has_pending(const struct stream *stream)
{
	return stream->pending_start < stream->pending_end;
}

/* While the host has not taken the last piece the pipe waits, and with it the job. */
static struct pollfd stream_source(const struct stream *stream)
{
	if (has_pending(stream))
		return (struct pollfd){.fd = stream->port_fd, .events = POLLOUT};
	return (struct pollfd){.fd = stream->pipe_fd, .events = POLLIN};
}

static void serve_stream(struct stream *stream)
{
	if (!has_pending(stream))
		read_stream(stream);
	if (has_pending(stream))
		write_port(stream);
}

/* --- events --- */

static void arm_timer(int fd, uint64_t first_ms, uint64_t interval_ms)
{
	struct itimerspec times = {
		.it_value = {(time_t)(first_ms / 1000), (long)(first_ms % 1000) * 1000000},
		.it_interval = {(time_t)(interval_ms / 1000), (long)(interval_ms % 1000) * 1000000},
	};

	/* A zero would disarm it: no grace means now. */
	if (first_ms == 0)
		times.it_value.tv_nsec = 1;
	timerfd_settime(fd, 0, &times, NULL);
}

static void disarm_timer(int fd)
{
	struct itimerspec never = {.it_value = {0}};

	timerfd_settime(fd, 0, &never, NULL);
}

static void clear_timer(int fd)
{
	uint64_t expirations;

	if (read(fd, &expirations, sizeof(expirations)) < 0)
		return;
}

static void on_alive_timer(void)
{
	clear_timer(run.alive_timer_fd);
	cgroup_sample_processes(&guest.result);
	control_send(CONTROL_ALIVE, "");
}

/* First the job's own signal, then, after the grace, the one that it cannot refuse. */
static void on_limit_timer(void)
{
	clear_timer(run.limit_timer_fd);
	if (run.timed_out) {
		send_command(SIGKILL);
		return;
	}
	run.timed_out = true;
	send_command((unsigned char)guest.manifest->kill_signal);
	arm_timer(run.limit_timer_fd, guest.manifest->kill_grace_ms, 0);
}

static void on_started(void)
{
	if (run.started) {
		guest.result.checkpoints++;
		return;
	}
	run.started = true;
	run.start_ms = monotonic_ms();
	cgroup_sample_processes(&guest.result);
	control_send(CONTROL_STARTED, "");
	if (guest.manifest->time_limit_ms != RECORD_UNSET)
		arm_timer(run.limit_timer_fd, guest.manifest->time_limit_ms, 0);
}

static void on_job_event(void)
{
	struct job_event event;
	ssize_t got = read(guest.event_fd, &event, sizeof(event));

	if (got != sizeof(event)) {
		/* The namespace's init is gone. */
		close(guest.event_fd);
		guest.event_fd = -1;
		return;
	}
	if (event.kind == JOB_STARTED) {
		on_started();
	} else if (event.kind == JOB_EXITED) {
		/* From here on only the host's reader is waited for, which is not the job's time.
		 */
		run.ended = true;
		run.end_ms = monotonic_ms();
		disarm_timer(run.limit_timer_fd);
		run.wait_status = event.value;
		cgroup_sample_processes(&guest.result);
	} else {
		run.failed = true;
		run.failure = event;
	}
}

/* Until the namespace is gone, both pipes are at their end and the host has taken all. */
static bool is_over(void)
{
	return guest.event_fd < 0 && guest.out.pipe_fd < 0 && guest.err.pipe_fd < 0 &&
	       !has_pending(&guest.out) && !has_pending(&guest.err);
}

static int wait_for_events(struct error *error)
{
	struct pollfd sources[] = {
		{.fd = guest.event_fd, .events = POLLIN},
		{.fd = run.alive_timer_fd, .events = POLLIN},
		{.fd = run.limit_timer_fd, .events = POLLIN},
		stream_source(&guest.out),
		stream_source(&guest.err),
		{.fd = guest.control_fd, .events = POLLIN},
	};

	if (poll(sources, sizeof(sources) / sizeof(sources[0]), -1) < 0)
		return 0;
	/* First of all: the job sees another clock as soon as it can. */
	if (sources[5].revents & POLLIN && serve_control(error))
		return -1;
	if (sources[0].revents)
		on_job_event();
	if (sources[1].revents)
		on_alive_timer();
	if (sources[2].revents)
		on_limit_timer();
	if (sources[3].revents)
		serve_stream(&guest.out);
	if (sources[4].revents)
		serve_stream(&guest.err);
	return 0;
}

void close_job_files(void)
{
	close(guest.out.file_fd);
	close(guest.err.file_fd);
	guest.out.file_fd = guest.err.file_fd = -1;
}

/* --- the verdict --- */

static void note_limit(const char *key, uint64_t requested, uint64_t observed)
{
	guest.result.limit = key;
	guest.result.limit_requested = requested;
	guest.result.limit_observed = observed;
}

static void judge_failure(void)
{
	static char message[256];
	struct result *result = &guest.result;

	result->status = STATUS_FAILED_TO_START;
	result->message = message;
	if (!run.failed) {
		snprintf(message, sizeof(message), "the job's namespaces ended without a word");
		return;
	}
	if (run.failure.kind == JOB_SETUP_FAILED) {
		snprintf(message, sizeof(message), "cannot %s: %s", run.failure.step,
			 strerror(run.failure.value));
		return;
	}
	bool not_found = run.failure.value == ENOENT;
	result->exit_code = not_found ? 127 : 126;
	snprintf(message, sizeof(message), "cannot execute '%.128s': %s",
		 guest.manifest->arguments.items[0],
		 run.failure.value == ENOEXEC
			 ? "not a program for this guest, or its interpreter is not there"
			 : strerror(run.failure.value));
}

static void judge_limits(void)
{
	struct result *result = &guest.result;
	const struct manifest *manifest = guest.manifest;

	if (result->processes_peak != RECORD_UNSET &&
	    result->processes_peak >= manifest->processes_max)
		note_limit("processes_max", manifest->processes_max, result->processes_peak);
	if (run.timed_out) {
		result->status = STATUS_TIMEOUT;
		note_limit("time_limit_ms", manifest->time_limit_ms, run.end_ms - run.start_ms);
	} else if (run.over_output) {
		bool is_stdout = run.over_stream == &guest.out;
		result->status = STATUS_OUTPUT_LIMIT;
		note_limit(is_stdout ? "stdout_max_bytes" : "stderr_max_bytes",
			   is_stdout ? manifest->stdout_max_bytes : manifest->stderr_max_bytes,
			   run.over_stream->total_bytes);
	} else if (result->oom_killed && WIFSIGNALED(run.wait_status)) {
		result->status = STATUS_OUT_OF_MEMORY;
		note_limit("memory_limit_bytes", manifest->memory_limit_bytes, result->memory_peak);
	}
}

static void judge(void)
{
	struct result *result = &guest.result;

	result->stdout_bytes = guest.out.total_bytes;
	result->stderr_bytes = guest.err.total_bytes;
	result->stdout_truncated = guest.out.truncated;
	result->stderr_truncated = guest.err.truncated;
	cgroup_usage(result);
	if (!run.started || !run.ended) {
		judge_failure();
		return;
	}
	result->time_wall = (run.end_ms - run.start_ms) * 1000;
	if (WIFSIGNALED(run.wait_status)) {
		result->status = STATUS_SIGNALED;
		result->exit_signal = (uint64_t)WTERMSIG(run.wait_status);
	} else {
		result->status = STATUS_COMPLETED;
		result->exit_code = (uint64_t)WEXITSTATUS(run.wait_status);
	}
	judge_limits();
}

int supervise(struct error *error)
{
	run.alive_timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	run.limit_timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (run.alive_timer_fd < 0 || run.limit_timer_fd < 0)
		return error_errno(error, "make a timer");
	arm_timer(run.alive_timer_fd, CONTROL_ALIVE_MS, CONTROL_ALIVE_MS);
	while (!is_over())
		if (wait_for_events(error))
			return -1;
	/* Returns when the kernel has killed and reaped all that the job left behind. */
	waitpid(guest.namespace_pid, NULL, 0);
	judge();
	char counts[64];
	snprintf(counts, sizeof(counts), "%llu %llu", (unsigned long long)guest.out.sent_bytes,
		 (unsigned long long)guest.err.sent_bytes);
	control_send(CONTROL_ENDED, counts);
	return 0;
}
