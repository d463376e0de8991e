#include "host-tools/confined.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FRAME_ERROR 1
#define FRAME_READY 2

/* Beyond what the child has from its parent. */
#define MEMORY_BYTES (240ULL << 20)

/* A disk of a job that behaved takes a fraction of this, however slow the host. */
#define CPU_SECONDS	    10
#define CPU_SECONDS_PER_GIB 2
/* Who makes files too takes a few system calls for each of as many as are read at the most. */
#define CPU_SECONDS_TO_MAKE 30

/* What the parent takes from it: a million files with their paths are a quarter of that. */
#define ANSWERS_BYTES_MAX (1ULL << 30)

static bool landlock_is_optional;

void confined_allow_without_landlock(void)
{
	landlock_is_optional = true;
}

/* --- the child --- */

static int compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* The disk may be open for writing, for a VM; the child only reads it. */
static int make_read_only(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int readable = open(path, O_RDONLY | O_CLOEXEC);
	if (readable < 0 || dup3(readable, fd, O_CLOEXEC) < 0)
		return -1;
	return close(readable);
}

/* Standard input, output and error become /dev/null; all else but what is needed is closed. */
static int keep_fds(const struct confined *confined, int answers_fd)
{
	size_t count = 0;
	int *kept = calloc(confined->file_count + confined->read_count + 3, sizeof(*kept));
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	unsigned next = 3;

	if (!kept || null_fd < 0)
		return -1;
	for (int fd = 0; fd < 3; fd++)
		if (dup2(null_fd, fd) < 0)
			return -1;
	kept[count++] = answers_fd;
	kept[count++] = confined->disk_fd;
	if (confined->directory_fd >= 0)
		kept[count++] = confined->directory_fd;
	for (size_t i = 0; i < confined->file_count; i++)
		kept[count++] = confined->file_fds[i];
	for (size_t i = 0; i < confined->read_count; i++)
		kept[count++] = confined->read_fds[i];
	qsort(kept, count, sizeof(*kept), compare_fds);
	for (size_t i = 0; i < count; i++) {
		unsigned fd = (unsigned)kept[i];
		if (fd > next && syscall(SYS_close_range, next, fd - 1, 0))
			return -1;
		if (fd >= next)
			next = fd + 1;
	}
	free(kept);
	return (int)syscall(SYS_close_range, next, ~0U, 0);
}

/* Not above what jobvm itself was given: that takes a privilege. */
static int limit_to(int resource, uint64_t soft, uint64_t hard)
{
	struct rlimit now;

	if (getrlimit((__rlimit_resource_t)resource, &now))
		return -1;
	now.rlim_max = hard < now.rlim_max ? hard : now.rlim_max;
	now.rlim_cur = soft < now.rlim_max ? soft : now.rlim_max;
	return setrlimit((__rlimit_resource_t)resource, &now);
}

/* The soft limit's signal tells what happened; that of the hard one is the same as any other kill.
 */
static int limit_cpu(uint64_t seconds)
{
	struct rlimit now;

	if (getrlimit(RLIMIT_CPU, &now))
		return -1;
	if (now.rlim_max > 1 && seconds > now.rlim_max - 1)
		seconds = now.rlim_max - 1;
	return limit_to(RLIMIT_CPU, seconds, seconds + 1);
}

static int limit(int resource, uint64_t value)
{
	return limit_to(resource, value, value);
}

/* What the process has, and MEMORY_BYTES. */
static int limit_memory(void)
{
	unsigned long long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (!file || fscanf(file, "%llu", &pages) != 1)
		return -1;
	fclose(file);
#ifdef __SANITIZE_ADDRESS__
	return 0; /* its shadow is larger than any limit */
#endif
	return limit(RLIMIT_AS, pages * (uint64_t)sysconf(_SC_PAGESIZE) + MEMORY_BYTES);
}

static int limit_resources(const struct confined *confined)
{
	struct stat disk;

	if (fstat(confined->disk_fd, &disk))
		return -1;
	uint64_t per_gib =
		confined->cpu_seconds_per_gib ? confined->cpu_seconds_per_gib : CPU_SECONDS_PER_GIB;
	uint64_t seconds = CPU_SECONDS + per_gib * ((uint64_t)disk.st_size >> 30) +
			   (confined->directory_fd >= 0 ? CPU_SECONDS_TO_MAKE : 0);
	if (limit_cpu(seconds))
		return -1;
	if (limit_memory() || limit(RLIMIT_CORE, 0) || limit(RLIMIT_NPROC, 0))
		return -1;
	return confined->directory_fd < 0 && confined->file_count == 0 ? limit(RLIMIT_FSIZE, 0) : 0;
}

/*
 * Dies with its parent, which a change of user makes the kernel forget. No other process of the
 * same user can look into it.
 */
static int stay_with(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return -1;
	/* The signal is not sent for a parent that died before it was asked for. */
	return getppid() == parent ? 0 : -1;
}

static int drop_rights(const struct confined *confined, pid_t parent)
{
	const struct confine_rule rule = {.fd = confined->directory_fd, .access = CONFINE_CREATE};
	bool creates = confined->directory_fd >= 0;

	if (creates ? confine_capabilities() : confine_user(0))
		return -1;
	if (stay_with(parent) || confine_files(&rule, creates ? 1 : 0))
		return -1;
	return confine_calls(creates || confined->file_count > 0);
}

static void reset_signals(void)
{
	/*
	 * A terminal's and a group's signals are for the parent, which may ignore them, and takes
	 * its child along where it does not. Whether anybody listens is seen where answers are
	 * sent.
	 */
	static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE};
	sigset_t none;

	for (int signal_number = 1; signal_number < SIGRTMIN; signal_number++)
		signal(signal_number, SIG_DFL);
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void run_child(const struct confined *confined, confined_task *task, void *context,
		      int answers_fd, pid_t parent)
{
	static char buffer[1 << 16];
	FILE *answers = fdopen(answers_fd, "w");
	struct error error;

	reset_signals();
	if (!answers)
		_exit(EXIT_FAILURE);
	setvbuf(answers, buffer, _IOFBF, sizeof(buffer));
	int failed = make_read_only(confined->disk_fd);
	for (size_t i = 0; !failed && i < confined->read_count; i++)
		failed = make_read_only(confined->read_fds[i]);
	failed = failed || keep_fds(confined, answers_fd) || limit_resources(confined) ||
		 drop_rights(confined, parent);
	if (failed)
		error_errno(&error, "cannot confine the reader of %s", confined->name);
	else
		failed = task(context, answers, &error);
	if (failed)
		confined_send_text(answers, FRAME_ERROR, error.text, &error);
	_exit(fflush(answers) || failed ? EXIT_FAILURE : EXIT_SUCCESS);
}

int confined_send(FILE *answers, const struct frame *frame, struct error *error)
{
	return frame_send(frame, answers) ? error_errno(error, "send what was read") : 0;
}

/* In memory that is zero anyhow: a frame that is initialised would lie in the program's file. */
int confined_send_type(FILE *answers, uint32_t type, struct error *error)
{
	static struct frame frame;

	frame_begin(&frame, type);
	return confined_send(answers, &frame, error);
}

int confined_send_text(FILE *answers, uint32_t type, const char *text, struct error *error)
{
	static struct frame frame;

	frame_begin(&frame, type);
	frame_put_text(&frame, text);
	return confined_send(answers, &frame, error);
}

int confined_ready(FILE *answers, struct error *error)
{
	if (confined_send_type(answers, FRAME_READY, error))
		return -1;
	return fflush(answers) ? error_errno(error, "send what was read") : 0;
}

/* --- the parent --- */

int confined_check(const char *name, struct error *error)
{
	if (confine_landlock_abi() > 0 || landlock_is_optional)
		return 0;
	return error_set(error,
			 "this kernel has no Landlock, which keeps the reader of %s from other "
			 "files; --without-landlock reads it all the same",
			 name);
}

/* 0 at the end of what it says, 1 when it is ready, -1 with ERROR set. */
static int listen_to(const struct confined *confined, FILE *answers, confined_answer *answer,
		     void *context, struct error *error)
{
	static struct frame frame;
	uint64_t bytes_left = ANSWERS_BYTES_MAX;
	int received;

	while ((received = frame_receive(&frame, answers)) > 0) {
		if (frame.length > bytes_left)
			return error_set(error, "%s: its reader tells more than can be kept",
					 confined->name);
		bytes_left -= frame.length;
		if (frame.type == FRAME_ERROR)
			return error_set(error, "%s", frame_get_text(&frame));
		if (frame.type == FRAME_READY)
			return 1;
		if (answer(context, &frame, error))
			return -1;
	}
	if (received && feof(answers))
		return error_set(error, "%s: its reader was ended while it answered",
				 confined->name);
	return received ? error_set(error, "%s: its reader makes no sense", confined->name) : 0;
}

static int fail_by(const struct confined *confined, int wait_status, struct error *error)
{
	int signal_number = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;

	if (signal_number == SIGXCPU)
		return error_set(error, "%s: reading it takes more processor time than allowed",
				 confined->name);
	if (signal_number == SIGSYS)
		return error_set(error,
				 "%s: its reader was ended: it made a system call that it has no "
				 "use for",
				 confined->name);
	if (signal_number)
		return error_set(error, "%s: its reader was ended by signal %d (%s)",
				 confined->name, signal_number, strsignal(signal_number));
	return error_set(error, "%s: its reader failed without a word", confined->name);
}

static int wait_for(pid_t child)
{
	int status = 0;

	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

/* --- signals while the child works --- */

static const int cancel_signals[] = {SIGHUP, SIGINT, SIGTERM};

#define CANCEL_SIGNALS (sizeof(cancel_signals) / sizeof(cancel_signals[0]))

/* For the handler. */
static volatile sig_atomic_t cancelled_by;
static volatile pid_t cancelled_child;

static void cancel_child(int signal_number)
{
	cancelled_by = signal_number;
	kill(cancelled_child, SIGKILL);
}

/* A second one ends us. */
static void catch_signals(pid_t child, struct sigaction before[CANCEL_SIGNALS])
{
	const struct sigaction action = {.sa_handler = cancel_child,
					 .sa_flags = SA_RESTART | (int)SA_RESETHAND};

	cancelled_by = 0;
	cancelled_child = child;
	for (size_t i = 0; i < CANCEL_SIGNALS; i++)
		if (sigaction(cancel_signals[i], NULL, &before[i]) == 0 &&
		    before[i].sa_handler != SIG_IGN)
			sigaction(cancel_signals[i], &action, NULL);
}

/* Before the child is reaped: its number may be another's then. */
static int release_signals(const struct sigaction before[CANCEL_SIGNALS])
{
	for (size_t i = 0; i < CANCEL_SIGNALS; i++)
		sigaction(cancel_signals[i], &before[i], NULL);
	return cancelled_by;
}

/* As listen_to; a signal that came meanwhile is the reason why it failed. */
static int listen_cancellable(const struct confined_child *child, confined_answer *answer,
			      void *context, struct error *error)
{
	struct sigaction before[CANCEL_SIGNALS];
	int *cancel_signal = child->confined.cancel_signal;

	catch_signals(child->pid, before);
	int heard = listen_to(&child->confined, child->answers, answer, context, error);
	*cancel_signal = release_signals(before);
	if (*cancel_signal)
		heard = error_set(error, "cancelled by signal %d (%s)", *cancel_signal,
				  strsignal(*cancel_signal));
	return heard;
}

/*
 * Reaps the child. FAILED: what it sent, or what became of that, and ERROR is set. A child that was
 * ended before we did it says more by its end than by half a frame.
 */
static int end(struct confined_child *child, bool failed, struct error *error)
{
	if (failed)
		kill(child->pid, SIGKILL);
	int status = wait_for(child->pid);
	fclose(child->answers);
	child->answers = NULL;
	if (failed && (!WIFSIGNALED(status) || WTERMSIG(status) == SIGKILL))
		return -1;
	return status == 0 ? 0 : fail_by(&child->confined, status, error);
}

static int fork_child(struct confined_child *child, const struct confined *confined,
		      confined_task *task, void *context, struct error *error)
{
	int pipe_fds[2];
	pid_t parent = getpid();

	*child = (struct confined_child){.confined = *confined};
	if (confined_check(confined->name, error))
		return -1;
	if (pipe2(pipe_fds, O_CLOEXEC))
		return error_errno(error, "make a pipe");
	fflush(NULL);
	child->answers = fdopen(pipe_fds[0], "r");
	child->pid = child->answers ? fork() : -1;
	if (child->pid == 0)
		run_child(confined, task, context, pipe_fds[1], parent);
	if (child->pid > 0) {
		close(pipe_fds[1]);
		return 0;
	}
	error_errno(error, "start the reader of %s", confined->name);
	close(pipe_fds[1]);
	if (child->answers)
		fclose(child->answers);
	else
		close(pipe_fds[0]);
	return -1;
}

static int refuse_answer(void *context, struct frame *frame, struct error *error)
{
	const struct confined *confined = context;

	(void)frame;
	return error_set(error, "%s: its reader answers before it is ready", confined->name);
}

int confined_start(struct confined_child *child, const struct confined *confined,
		   confined_task *task, void *context, struct error *error)
{
	if (fork_child(child, confined, task, context, error))
		return -1;
	int heard =
		listen_to(&child->confined, child->answers, refuse_answer, &child->confined, error);
	if (heard > 0)
		return 0;
	return end(child, heard < 0, error)
		       ? -1
		       : error_set(error, "%s: its reader is never ready", confined->name);
}

int confined_finish(struct confined_child *child, confined_answer *answer, void *context,
		    struct error *error)
{
	int heard = child->confined.cancel_signal
			    ? listen_cancellable(child, answer, context, error)
			    : listen_to(&child->confined, child->answers, answer, context, error);

	if (heard > 0)
		heard = error_set(error, "%s: its reader is ready again", child->confined.name);
	return end(child, heard < 0, error);
}

void confined_cancel(struct confined_child *child)
{
	struct error ignored;

	end(child, true, &ignored);
}

int confined_run(const struct confined *confined, confined_task *task, confined_answer *answer,
		 void *context, struct error *error)
{
	struct confined_child child;

	if (fork_child(&child, confined, task, context, error))
		return -1;
	return confined_finish(&child, answer, context, error);
}
