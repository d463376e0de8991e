#include "host-tools/lazy/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host-tools/confine.h"
#include "host-tools/find_image.h"
#include "host-tools/find_program.h"
#include "host-tools/pack.h"

#define PLUGIN "nbdkit/jobvm-serve.so"

/* What the child has under these numbers: socket activation (sd_listen_fds(3)) says which. */
#define CHILD_LISTEN_FD 3
#define CHILD_READY_FD	4
#define CHILD_STATE_FD	5
#define CHILD_TRACE_FD	6

/* Connections at a time: each is a thread at least, also of a client that says nothing. */
#define CONNECTIONS_MAX "limit=1000"

/* --- the command line --- */

/* In full, for the server may not start where we are. */
static int add_inputs(struct strings *arguments, const struct serve_options *options,
		      struct error *error)
{
	char directory[PATH_MAX] = "";

	if (!getcwd(directory, sizeof(directory)))
		return error_errno(error, "find the working directory");
	for (size_t i = 0; i < options->inputs->count; i++) {
		const char *path = options->inputs->items[i];
		const char *below = options->directory;

		if (*path == '/')
			strings_format(arguments, "input=%s", path);
		else if (below && *below == '/')
			strings_format(arguments, "input=%s/%s", below, path);
		else if (below && strcmp(below, ".") != 0)
			strings_format(arguments, "input=%s/%s/%s", directory, below, path);
		else
			strings_format(arguments, "input=%s/%s", directory, path);
	}
	return 0;
}

static int build_arguments(struct strings *arguments, const struct serve_options *options,
			   bool is_private, struct error *error)
{
	char program[PATH_MAX], plugin[PATH_MAX];

	if (find_program("nbdkit", "JOBVM_NBDKIT", "nbdkit", program, sizeof(program), error))
		return -1;
	if (find_part(PLUGIN, plugin, sizeof(plugin)))
		return error_set(error, PLUGIN " is not beside jobvm, or not installed");
	strings_format(arguments, "%s", program);
	strings_format(arguments, "--foreground");
	if (!options->counted)
		strings_format(arguments, "--readonly");
	/* Our own clients come and go as their jobs do, which is nothing to tell of. */
	strings_format(arguments, "--log=%s", is_private ? "null" : "stderr");
	if (options->tls_certificates) {
		strings_format(arguments, "--tls=require");
		strings_format(arguments, "--tls-verify-peer");
		strings_format(arguments, "--tls-certificates=%s", options->tls_certificates);
	} else {
		strings_format(arguments, "--tls=off");
	}
	strings_format(arguments, "--filter=limit");
	strings_format(arguments, "%s", plugin);
	strings_format(arguments, CONNECTIONS_MAX);
	strings_format(arguments, "ready-fd=%d", CHILD_READY_FD);
	if (options->counted) {
		strings_format(arguments, "state-fd=%d", CHILD_STATE_FD);
		strings_format(arguments, "trace-fd=%d", CHILD_TRACE_FD);
	}
	strings_format(arguments, "uid=%u", options->uid);
	strings_format(arguments, "gid=%u", options->gid);
	return add_inputs(arguments, options, error);
}

/* --- the child --- */

struct child {
	char **arguments;
	int fds[4]; /* that it gets, under the numbers above, in their order */
	size_t fd_count;
	bool is_private; /* its socket is here already: it needs no network */
};

/* Gives the descriptors their numbers, from where they are in nobody's way. */
static int inherit(const struct child *child)
{
	int fds[4];
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	for (size_t i = 0; i < child->fd_count; i++) {
		fds[i] = fcntl(child->fds[i], F_DUPFD_CLOEXEC, CHILD_TRACE_FD + 1);
		if (fds[i] < 0)
			return -1;
	}
	if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 ||
	    dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		return -1;
	for (size_t i = 0; i < child->fd_count; i++)
		if (dup2(fds[i], CHILD_LISTEN_FD + (int)i) < 0)
			return -1;
	return (int)syscall(SYS_close_range, CHILD_LISTEN_FD + child->fd_count, ~0U, 0);
}

/* Never returns. */
static void run_child(const struct child *child, pid_t parent)
{
	char pid[16];
	sigset_t none;

	snprintf(pid, sizeof(pid), "%d", getpid());
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "1", 1);
	unsetenv("LISTEN_FDNAMES");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (child->is_private)
		confine_network();
	/* Own session: a terminal's Ctrl-C is for jobvm, which then ends the server. */
	if (setsid() < 0 || inherit(child) || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)) {
		dprintf(child->fds[CHILD_READY_FD - CHILD_LISTEN_FD],
			"error cannot start the server: %s\n", strerror(errno));
		_exit(126);
	}
	/* The death signal is not sent for a parent that died before it was asked for. */
	if (getppid() == parent)
		execv(child->arguments[0], child->arguments);
	dprintf(CHILD_READY_FD, "error cannot execute %s: %s\n", child->arguments[0],
		strerror(errno));
	_exit(126);
}

static int spawn(const struct child *child, struct serve *serve, struct error *error)
{
	pid_t parent = getpid();

	serve->pid = fork();
	if (serve->pid == 0)
		run_child(child, parent);
	if (serve->pid < 0)
		return error_errno(error, "start the server");
	serve->pid_fd = (int)syscall(SYS_pidfd_open, serve->pid, 0);
	if (serve->pid_fd < 0) {
		error_errno(error, "watch the server's process");
		kill(serve->pid, SIGKILL);
		waitpid(serve->pid, NULL, 0);
		return -1;
	}
	return 0;
}

/* --- waiting for it --- */

/* Reads the child's line, without its end. -1 with ERROR set. */
static int read_line(int ready_fd, int cancel_fd, char *line, size_t size, struct error *error)
{
	struct pollfd polled[] = {{.fd = ready_fd, .events = POLLIN},
				  {.fd = cancel_fd, .events = POLLIN}};
	size_t length = 0;

	while (length + 1 < size) {
		if (poll(polled, 2, -1) < 0 && errno != EINTR)
			return error_errno(error, "wait for the server");
		if (polled[1].revents)
			return error_set(error, "cancelled");

		ssize_t got = read(ready_fd, line + length, size - 1 - length);

		if (got < 0 && errno != EINTR)
			return error_errno(error, "read what the server says");
		if (got == 0)
			break;
		if (got > 0)
			length += (size_t)got;
	}
	line[length] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return 0;
}

/* How the server ended. */
static int fail_ended(int status, struct error *error)
{
	if (WIFSIGNALED(status))
		return error_set(error, "the server was ended by signal %d", WTERMSIG(status));
	return error_set(error, "the server ended with exit code %d", WEXITSTATUS(status));
}

static int wait_ready(int ready_fd, int cancel_fd, struct serve *serve, struct error *error)
{
	char line[ERROR_TEXT_BYTES + 16];
	int status;

	if (read_line(ready_fd, cancel_fd, line, sizeof(line), error) == 0) {
		if (sscanf(line, "ready %" SCNu64 " %" SCNu64 " %64[0-9a-f]", &serve->file_count,
			   &serve->image_bytes, serve->identity) == 3)
			return 0;
		if (strncmp(line, "error ", strlen("error ")) == 0)
			error_set(error, "%s", line + strlen("error "));
		else if (waitpid(serve->pid, &status, 0) == serve->pid)
			return fail_ended(status, error);
		else
			error_set(error, "the server does not start");
	}
	kill(serve->pid, SIGKILL);
	waitpid(serve->pid, NULL, 0);
	return -1;
}

static int start(int listen_fd, int cancel_fd, const struct serve_options *options, bool is_private,
		 struct serve *serve, struct error *error)
{
	struct strings arguments = {.items = NULL};
	int ready[2];

	*serve = (struct serve){.pid = -1, .pid_fd = -1, .socket_fd = -1};
	if (build_arguments(&arguments, options, is_private, error)) {
		strings_clear(&arguments);
		return -1;
	}
	int failed = pipe2(ready, O_CLOEXEC);
	if (failed) {
		error_errno(error, "make a pipe");
	} else {
		const struct serve_counted *counted = options->counted;
		const struct child child = {
			.arguments = arguments.items,
			.fds = {listen_fd, ready[1], counted ? counted->state_fd : -1,
				counted ? counted->trace_fd : -1},
			.fd_count = counted ? 4 : 2,
			.is_private = is_private,
		};

		failed = spawn(&child, serve, error);
		close(ready[1]);
		if (!failed)
			failed = wait_ready(ready[0], cancel_fd, serve, error);
		close(ready[0]);
	}
	if (failed && serve->pid_fd >= 0)
		close(serve->pid_fd);
	strings_clear(&arguments);
	return failed ? -1 : 0;
}

int serve_start_on(int listen_fd, int cancel_fd, const struct serve_options *options,
		   struct serve *serve, struct error *error)
{
	return start(listen_fd, cancel_fd, options, false, serve, error);
}

/* --- a socket without a name --- */

/* Binds in the directory, whose path may be too long for a socket's. */
static int bind_below(int listen_fd, int directory_fd, int *socket_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/socket",
		 directory_fd);
	if (bind(listen_fd, (const struct sockaddr *)&address, sizeof(address)))
		return -1;
	*socket_fd = openat(directory_fd, "socket", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	unlinkat(directory_fd, "socket", 0);
	return *socket_fd < 0 || listen(listen_fd, SOMAXCONN) ? -1 : 0;
}

/* A listening socket that only who has *SOCKET_FD can connect to; -1 with ERROR set. */
static int listen_unnamed(int *socket_fd, struct error *error)
{
	char directory[PATH_MAX];
	int listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), directory_fd = -1;

	*socket_fd = -1;
	snprintf(directory, sizeof(directory), "%s/jobvm-serve.XXXXXX", pack_scratch_directory());
	if (listen_fd >= 0 && mkdtemp(directory)) {
		directory_fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
		int failed = directory_fd < 0 || bind_below(listen_fd, directory_fd, socket_fd);
		int saved_errno = errno;

		if (directory_fd >= 0)
			close(directory_fd);
		rmdir(directory);
		if (!failed)
			return listen_fd;
		errno = saved_errno;
	}
	error_errno(error, "make a socket in %s", directory);
	if (listen_fd >= 0)
		close(listen_fd);
	if (*socket_fd >= 0)
		close(*socket_fd);
	return -1;
}

int serve_start(const struct serve_options *options, struct serve *serve, struct error *error)
{
	int socket_fd;
	int listen_fd = listen_unnamed(&socket_fd, error);

	if (listen_fd < 0)
		return -1;
	int failed = start(listen_fd, -1, options, true, serve, error);
	close(listen_fd);
	if (failed)
		close(socket_fd);
	else
		serve->socket_fd = socket_fd;
	return failed;
}

bool serve_has_ended(const struct serve *serve)
{
	struct pollfd polled = {.fd = serve->pid_fd, .events = POLLIN};

	return poll(&polled, 1, 0) > 0;
}

int serve_end(struct serve *serve, struct error *error)
{
	int status = 0;
	pid_t ended = waitpid(serve->pid, &status, WNOHANG);

	/* It writes nothing, so there is nothing to be completed. */
	if (ended == 0) {
		kill(serve->pid, SIGKILL);
		waitpid(serve->pid, &status, 0);
	}
	close(serve->pid_fd);
	if (serve->socket_fd >= 0)
		close(serve->socket_fd);
	if (ended == 0)
		return 0;
	serve->aborted = ended > 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
	return ended < 0 ? error_errno(error, "wait for the server") : fail_ended(status, error);
}
