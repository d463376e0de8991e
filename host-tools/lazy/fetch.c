#include "host-tools/lazy/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host-tools/confine.h"
#include "host-tools/find_image.h"
#include "host-tools/find_program.h"
#include "host-tools/lazy/fetch_state.h"
#include "host-tools/lazy/serve.h"
#include "host-tools/lazy/trace.h"
#include "host-tools/values.h"
#include "imagebuilder/digest.h"
#include "imagebuilder/files.h"

#define PLUGIN "nbdkit/jobvm-fetch.so"

/* Reading the map, and connecting, are allowed that much beyond the timeout of each answer. */
#define START_GRACE_MS 20000
/* What was fetched and not yet written to the cache is, at the end, within that time. */
#define FINISH_MS      5000
/* What the process says on its stderr, of which errors quote the end. */
#define LOG_BYTES_MAX  4096

/* What the child gets, and what it is told of it. */
struct launch {
	const struct fetch_options *options;
	char program[PATH_MAX], plugin[PATH_MAX], cache[PATH_MAX], certificates[PATH_MAX];
	bool has_cache; /* there is such a directory */
	bool is_direct; /* what it serves is on this machine: nothing is kept */
	bool is_local;	/* by a Unix socket: it needs no network */
	int disk_fd, state_fd, trace_fd, status_fd, spare_fd, prefetch_fd, metadata_fd, log_fd;
	struct strings arguments;
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* --- what it is told --- */

static void add_fd(struct strings *arguments, const char *key, int fd)
{
	if (fd >= 0)
		strings_format(arguments, "%s=%d", key, fd);
}

/* A server of ours, behind a descriptor, is the same whatever its number is. */
static int add_origin(struct launch *launch, struct error *error)
{
	char hex[DIGEST_HEX_BYTES];
	const char *from = launch->options->from;

	if (launch->options->extra_fd >= 0)
		return 0;
	if (digest_bytes(from, strlen(from), hex, error))
		return -1;
	strings_format(&launch->arguments, "origin=%.32s", hex);
	return 0;
}

static int build_arguments(struct launch *launch, struct error *error)
{
	const struct fetch_options *options = launch->options;
	struct strings *arguments = &launch->arguments;

	strings_format(arguments, "%s", launch->program);
	strings_format(arguments, "--single");
	strings_format(arguments, "--foreground");
	strings_format(arguments, "--log=stderr");
	strings_format(arguments, "%s", launch->plugin);
	strings_format(arguments, "uri=%s", options->from);
	strings_format(arguments, "policy=%s", manifest_fetch_words[options->policy]);
	strings_format(arguments, "timeout-ms=%" PRIu64, options->timeout_ms);
	strings_format(arguments, "cache-max-bytes=%" PRIu64, options->cache_max_bytes);
	if (launch->cache[0])
		strings_format(arguments, "cache=%s", launch->cache);
	if (launch->certificates[0])
		strings_format(arguments, "tls-certificates=%s", launch->certificates);
	if (options->identity)
		strings_format(arguments, "identity=%s", options->identity);
	add_fd(arguments, "state-fd", launch->state_fd);
	add_fd(arguments, "trace-fd", launch->trace_fd);
	add_fd(arguments, "status-fd", launch->status_fd);
	add_fd(arguments, "spare-fd", launch->spare_fd);
	add_fd(arguments, "prefetch-fd", launch->prefetch_fd);
	add_fd(arguments, "metadata-fd", launch->metadata_fd);
	return add_origin(launch, error);
}

/* --- the child --- */

static int inherit(const struct launch *launch)
{
	const int kept[] = {launch->state_fd,	      launch->trace_fd,	   launch->status_fd,
			    launch->spare_fd,	      launch->prefetch_fd, launch->metadata_fd,
			    launch->options->extra_fd};

	if (dup2(launch->disk_fd, STDIN_FILENO) < 0 || dup2(launch->disk_fd, STDOUT_FILENO) < 0 ||
	    dup2(launch->log_fd, STDERR_FILENO) < 0 ||
	    syscall(SYS_close_range, 3, ~0U, 1U << 2 /* CLOSE_RANGE_CLOEXEC */))
		return -1;
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (kept[i] >= 0 && fcntl(kept[i], F_SETFD, 0))
			return -1;
	return 0;
}

/* The directory of the Unix socket is not among them: connecting takes no right of Landlock's. */
static int confine(struct launch *launch)
{
	char plugin[PATH_MAX], program[PATH_MAX];
	const struct rlimit none = {0, 0};

	memcpy(plugin, launch->plugin, sizeof(plugin));
	memcpy(program, launch->program, sizeof(program));

	const struct confine_rule rules[] = {
		{.path = "/usr", .access = CONFINE_READ},
		{.path = "/lib", .access = CONFINE_READ},
		{.path = "/lib64", .access = CONFINE_READ},
		{.path = "/etc", .access = CONFINE_READ},
		/* What /etc/resolv.conf may be a link to. */
		{.path = "/run/systemd/resolve", .access = CONFINE_READ},
		{.path = "/dev/null", .access = CONFINE_READ_WRITE},
		{.path = "/dev/urandom", .access = CONFINE_READ},
		{.path = dirname(plugin), .access = CONFINE_READ},
		{.path = dirname(program), .access = CONFINE_READ},
		{.path = launch->certificates[0] ? launch->certificates : "/usr",
		 .access = CONFINE_READ},
		{.path = launch->has_cache ? launch->cache : "/usr",
		 .access = launch->has_cache ? CONFINE_CREATE : CONFINE_READ},
		/* Last: not for a server on this machine. */
		{.access = CONFINE_CONNECT},
	};
	size_t count = sizeof(rules) / sizeof(rules[0]);

	if (launch->is_local)
		confine_network();
	if (setrlimit(RLIMIT_CORE, &none))
		return -1;
	return confine_files(rules, launch->is_local ? count - 1 : count);
}

/* Never returns; what fails is said on the log. */
static void run_child(struct launch *launch, pid_t parent)
{
	char *environment[] = {(char *)(uintptr_t) "PATH=/usr/bin:/bin",
			       (char *)(uintptr_t) "LC_ALL=C", NULL};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	/* Own session: a terminal's Ctrl-C is for jobvm, which then ends its VM in order. */
	if (setsid() < 0 || inherit(launch) || confine(launch) ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)) {
		dprintf(launch->log_fd, "cannot confine nbdkit: %s\n", strerror(errno));
		_exit(126);
	}
	/* The death signal is not sent for a parent that died before it was asked for. */
	if (getppid() == parent)
		execve(launch->program, launch->arguments.items, environment);
	dprintf(launch->log_fd, "cannot execute %s: %s\n", launch->program, strerror(errno));
	_exit(126);
}

/* --- preparing --- */

/* A cache that cannot be made is no error: then nothing is kept. */
static void find_cache_directory(struct launch *launch)
{
	const char *given = launch->options->cache_directory;
	char directory[PATH_MAX];

	launch->cache[0] = '\0';
	if (given) {
		if (!realpath(given, launch->cache) &&
		    (cache_make_directory(given) || !realpath(given, launch->cache)))
			snprintf(launch->cache, sizeof(launch->cache), "%s", given);
	} else {
		find_cache(directory, sizeof(directory));
		if (directory[0])
			snprintf(launch->cache, sizeof(launch->cache), "%.*s/fetch", PATH_MAX - 8,
				 directory);
	}
	launch->has_cache = launch->cache[0] && cache_make_directory(launch->cache) == 0;
	if (launch->has_cache)
		cache_tidy(launch->cache);
}

/* libnbd's own place for a user's certificates, which the child cannot find without $HOME. */
static int find_certificates(struct launch *launch, struct error *error)
{
	const char *given = launch->options->tls_certificates, *home = getenv("HOME");
	bool is_tls = strncasecmp(launch->options->from, "nbds", 4) == 0;

	launch->certificates[0] = '\0';
	if (given && !is_tls)
		return error_set(error, "%s: certificates are for nbds:// only",
				 launch->options->from);
	if (given && !realpath(given, launch->certificates))
		return error_errno(error, "%s", given);
	if (is_tls && !given && home && *home == '/') {
		snprintf(launch->certificates, sizeof(launch->certificates), "%.4000s/.pki/libnbd",
			 home);
		if (access(launch->certificates, F_OK))
			launch->certificates[0] = '\0';
	}
	return 0;
}

static int find_parts(struct launch *launch, struct error *error)
{
	if (find_program("nbdkit", "JOBVM_NBDKIT", "nbdkit", launch->program,
			 sizeof(launch->program), error))
		return -1;
	if (find_part(PLUGIN, launch->plugin, sizeof(launch->plugin)))
		return error_set(error, PLUGIN " is not beside jobvm, or not installed");
	return find_certificates(launch, error);
}

/* Where nothing can be kept in the cache. Without it, too, the disk is served. */
static int open_spare(void)
{
	const char *directory = getenv("TMPDIR");

	return open(directory && *directory ? directory : "/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC,
		    0600);
}

static int open_files(struct launch *launch, struct error *error)
{
	const char *trace = launch->options->prefetch_path;

	launch->spare_fd = open_spare();
	launch->log_fd = memfd_create("log", MFD_CLOEXEC);
	if (launch->log_fd < 0)
		return error_errno(error, "make a file in memory");
	if (trace) {
		launch->prefetch_fd = open(trace, O_RDONLY | O_CLOEXEC);
		if (launch->prefetch_fd < 0)
			return error_errno(error, "open %s", trace);
	}
	return 0;
}

static int prepare(struct launch *launch, struct error *error)
{
	static const char unix_scheme[] = "nbd+unix:", tls_unix_scheme[] = "nbds+unix:";
	const char *from = launch->options->from;

	launch->is_local = strncasecmp(from, unix_scheme, sizeof(unix_scheme) - 1) == 0 ||
			   strncasecmp(from, tls_unix_scheme, sizeof(tls_unix_scheme) - 1) == 0;
	if (find_parts(launch, error) || open_files(launch, error))
		return -1;
	if (!launch->is_direct)
		find_cache_directory(launch);
	return build_arguments(launch, error);
}

/* --- starting --- */

static int make_shared(struct fetch *fetch, struct error *error)
{
	fetch->state_fd = memfd_create("state", MFD_CLOEXEC);
	fetch->trace_fd = memfd_create("trace", MFD_CLOEXEC);
	if (fetch->state_fd < 0 || fetch->trace_fd < 0 ||
	    ftruncate(fetch->state_fd, sizeof(*fetch->state)))
		return error_errno(error, "make a file in memory");
	fetch->state = mmap(NULL, sizeof(*fetch->state), PROT_READ | PROT_WRITE, MAP_SHARED,
			    fetch->state_fd, 0);
	if (fetch->state == MAP_FAILED) {
		fetch->state = NULL;
		return error_errno(error, "map memory to share");
	}
	return 0;
}

static int spawn(struct launch *launch, pid_t *pid, int *pid_fd, struct error *error)
{
	pid_t parent = getpid();

	*pid = fork();
	if (*pid == 0)
		run_child(launch, parent);
	if (*pid < 0)
		return error_errno(error, "start nbdkit");
	*pid_fd = (int)syscall(SYS_pidfd_open, *pid, 0);
	if (*pid_fd >= 0)
		return 0;
	error_errno(error, "watch nbdkit");
	kill(*pid, SIGKILL);
	waitpid(*pid, NULL, 0);
	*pid = -1;
	return -1;
}

/* The last of what it said, as one line. */
static int ended_early(const struct launch *launch, struct error *error)
{
	char text[LOG_BYTES_MAX + 1] = "";
	off_t size = lseek(launch->log_fd, 0, SEEK_END);
	ssize_t got = pread(launch->log_fd, text, LOG_BYTES_MAX,
			    size > LOG_BYTES_MAX ? size - LOG_BYTES_MAX : 0);

	text[got > 0 ? got : 0] = '\0';
	while (got > 0 && text[got - 1] == '\n')
		text[--got] = '\0';

	const char *line = strrchr(text, '\n');

	return error_set(error, "%s: nbdkit ended early: %s", launch->options->from,
			 line ? line + 1 : text);
}

/* Waits for the child's word. Its state is not believed to be text that ends. */
static int await_ready(const struct launch *launch, int status_fd, struct fetch_state *state,
		       int wait_ms, struct error *error)
{
	struct pollfd polled = {.fd = status_fd, .events = POLLIN};
	char status = 0;
	int ready;

	do
		ready = poll(&polled, 1, wait_ms);
	while (ready < 0 && errno == EINTR);
	if (ready == 0)
		return error_set(error, "%s: no answer in time", launch->options->from);
	if (read(status_fd, &status, 1) != 1)
		return ended_early(launch, error);
	if (status == FETCH_STATUS_READY)
		return 0;
	memcpy(error->text, state->error.text, sizeof(error->text));
	error->text[sizeof(error->text) - 1] = '\0';
	return -1;
}

static void end_process(pid_t *pid, int *pid_fd, int wait_ms, int *status)
{
	struct pollfd polled = {.fd = *pid_fd, .events = POLLIN};

	*status = 0;
	if (*pid <= 0)
		return;
	if (poll(&polled, 1, wait_ms) <= 0)
		kill(*pid, SIGKILL);
	waitpid(*pid, status, 0);
	*pid = -1;
	close_fd(pid_fd);
}

/* Starts a child that has DISK_FD; returns when it is ready. Its descriptors are closed here. */
static int start_child(struct launch *launch, struct fetch_state *state, pid_t *pid, int *pid_fd,
		       int wait_ms, struct error *error)
{
	int status_fds[2], ignored;

	if (pipe2(status_fds, O_CLOEXEC))
		return error_errno(error, "make a pipe");
	launch->status_fd = status_fds[1];
	int failed = prepare(launch, error) || spawn(launch, pid, pid_fd, error);
	close(status_fds[1]);
	close_fd(&launch->disk_fd);
	if (!failed) {
		failed = await_ready(launch, status_fds[0], state, wait_ms, error);
		if (failed)
			end_process(pid, pid_fd, 0, &ignored);
	}
	close(status_fds[0]);
	close_fd(&launch->spare_fd);
	close_fd(&launch->prefetch_fd);
	close_fd(&launch->log_fd);
	strings_clear(&launch->arguments);
	return failed ? -1 : 0;
}

static struct launch launch_for(const struct fetch *fetch)
{
	return (struct launch){
		.options = &fetch->options,
		.is_direct = fetch->is_direct,
		.state_fd = fetch->state_fd,
		.trace_fd = -1,
		.disk_fd = -1,
		.status_fd = -1,
		.spare_fd = -1,
		.prefetch_fd = -1,
		.metadata_fd = -1,
		.log_fd = -1,
	};
}

static int wait_ms_for(const struct fetch_options *options)
{
	uint64_t wait_ms = 2 * options->timeout_ms + START_GRACE_MS;

	return wait_ms > INT_MAX ? INT_MAX : (int)wait_ms;
}

static int make_disk(struct fetch *fetch, int *disk_fd, struct error *error)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return error_errno(error, "make a socket pair");
	fetch->qemu_fd = ends[0];
	*disk_fd = ends[1];
	return 0;
}

static bool is_identity(const char *text)
{
	return strlen(text) == FETCH_IDENTITY_BYTES - 1 &&
	       strspn(text, "0123456789abcdef") == FETCH_IDENTITY_BYTES - 1;
}

static int take_facts(struct fetch *fetch, struct error *error)
{
	memcpy(fetch->identity, fetch->state->identity, sizeof(fetch->identity));
	fetch->identity[FETCH_IDENTITY_BYTES - 1] = '\0';
	fetch->image_bytes = fetch->state->image_bytes;
	if (!is_identity(fetch->identity))
		return error_set(error, "%s: no identity", fetch->options.from);
	return 0;
}

static int begin(const struct fetch_options *options, struct fetch *fetch, struct error *error)
{
	*fetch = (struct fetch){.options = *options,
				.qemu_fd = -1,
				.pid = -1,
				.pid_fd = -1,
				.state_fd = -1,
				.trace_fd = -1};
	if (!fetch->options.cache_max_bytes)
		fetch->options.cache_max_bytes = FETCH_CACHE_DEFAULT_BYTES;
	if (!fetch->options.timeout_ms)
		fetch->options.timeout_ms = FETCH_TIMEOUT_DEFAULT_MS;
	if (options->identity && !is_identity(options->identity))
		return error_set(error, "'%.100s' is no identity: 64 hexadecimal digits",
				 options->identity);
	return 0;
}

int fetch_start(const struct fetch_options *options, struct fetch *fetch, struct error *error)
{
	if (begin(options, fetch, error))
		return -1;

	struct launch launch = launch_for(fetch);
	int failed = make_shared(fetch, error) || make_disk(fetch, &launch.disk_fd, error);

	if (!failed) {
		launch.state_fd = fetch->state_fd;
		launch.trace_fd = fetch->trace_fd;
		failed = start_child(&launch, fetch->state, &fetch->pid, &fetch->pid_fd,
				     wait_ms_for(&fetch->options), error) ||
			 take_facts(fetch, error);
	}
	if (failed) {
		struct error ignored;

		fetch_finish(fetch, NULL, &ignored);
		fetch_free(fetch);
	}
	return failed ? -1 : 0;
}

/* --- without a process --- */

int fetch_direct(const struct fetch_options *options, struct fetch *fetch, struct error *error)
{
	if (begin(options, fetch, error))
		return -1;
	fetch->is_direct = true;
	return make_shared(fetch, error);
}

int fetch_connect(struct fetch *fetch, const struct serve *serve, struct error *error)
{
	const char *wanted = fetch->options.identity;
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (wanted && strcmp(wanted, serve->identity) != 0)
		return error_set(error, "the inputs: it serves the tree %s, not %.64s",
				 serve->identity, wanted);
	memcpy(fetch->identity, serve->identity, sizeof(fetch->identity));
	fetch->image_bytes = serve->image_bytes;
	close_fd(&fetch->qemu_fd);
	fetch->qemu_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", serve->socket_fd);
	if (fetch->qemu_fd < 0 ||
	    connect(fetch->qemu_fd, (const struct sockaddr *)&address, sizeof(address)))
		return error_errno(error, "connect to the server of the inputs");
	return 0;
}

/* --- afterwards --- */

void fetch_summarize(const struct fetch *fetch, struct fetch_summary *summary)
{
	struct fetch_state *state = fetch->state;

	*summary = (struct fetch_summary){
		.bytes_touched = state->bytes_touched,
		.bytes_fetched = state->bytes_fetched,
		.bytes_from_cache = state->bytes_from_cache,
		.bytes_cached = state->bytes_cached,
		.files_touched = state->files_touched,
		.errors = state->errors,
		.reconnects = state->reconnects,
		.stalled_ms = state->stalled_ms,
		.cache_damaged = state->cache.damaged,
		.cache_problems = state->cache.problems,
	};
	if (state->problem_state == 2) {
		memcpy(summary->problem, state->problem, sizeof(summary->problem));
		summary->problem[sizeof(summary->problem) - 1] = '\0';
	}
}

int fetch_finish(struct fetch *fetch, struct fetch_summary *summary, struct error *error)
{
	int status = 0;

	close_fd(&fetch->qemu_fd);
	end_process(&fetch->pid, &fetch->pid_fd, FINISH_MS, &status);
	if (summary)
		fetch_summarize(fetch, summary);
	/* Where QEMU dies in the middle of a read, Debian 12's nbdkit aborts instead of ending. */
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGABRT)
		return error_set(error, "the process that fetched was ended by signal %d",
				 WTERMSIG(status));
	if (WEXITSTATUS(status))
		return error_set(error, "the process that fetched ended with exit code %d",
				 WEXITSTATUS(status));
	return 0;
}

void fetch_free(struct fetch *fetch)
{
	if (fetch->state)
		munmap(fetch->state, sizeof(*fetch->state));
	fetch->state = NULL;
	close_fd(&fetch->state_fd);
	close_fd(&fetch->trace_fd);
}

/* Only whole lines: the process may have been ended in the middle of one. */
static int read_trace(const struct fetch *fetch, char **text, size_t *size, struct error *error)
{
	int fd = fcntl(fetch->trace_fd, F_DUPFD_CLOEXEC, 0);
	struct stat status;

	*text = NULL;
	if (fd < 0 || fstat(fd, &status))
		error_errno(error, "read the trace");
	else if (status.st_size > TRACE_BYTES_MAX)
		error_set(error, "the trace has more than %d bytes", TRACE_BYTES_MAX);
	else
		*text = malloc((size_t)status.st_size + 1);
	ssize_t got = *text ? pread(fd, *text, (size_t)status.st_size, 0) : -1;
	if (fd >= 0)
		close(fd);
	if (got < 0) {
		free(*text);
		return -1;
	}
	while (got > 0 && (*text)[got - 1] != '\n')
		got--;
	*size = (size_t)got;
	return 0;
}

static int write_trace(const char *path, const char *text, size_t size, struct error *error)
{
	char name[PATH_MAX];

	if (snprintf(name, sizeof(name), "%s.XXXXXX", path) >= (int)sizeof(name))
		return error_set(error, "%s: the path is too long", path);
	int fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		return error_errno(error, "make %s", name);
	int failed = files_write(fd, name, text, size, error);
	if (!failed && (fchmod(fd, 0644) || fsync(fd) || rename(name, path)))
		failed = error_errno(error, "write %s", path);
	close(fd);
	if (failed)
		unlink(name);
	return failed;
}

int fetch_trace(const struct fetch *fetch, const char *path, struct error *error)
{
	char *text;
	size_t size;

	if (read_trace(fetch, &text, &size, error))
		return -1;
	int failed = write_trace(path, text, size, error);
	free(text);
	return failed;
}

int fetch_metadata(struct fetch *fetch, struct error *error)
{
	struct launch launch = launch_for(fetch);
	struct fetch_options options = fetch->options;
	int ends[2], pid_fd = -1, status;
	pid_t pid = -1;

	/* What is there must be the disk that the guest saw. */
	options.identity = fetch->identity;
	options.prefetch_path = NULL;
	options.policy = FETCH_BLOCK;
	launch.options = &options;
	launch.metadata_fd = open_spare();
	if (launch.metadata_fd < 0 || ftruncate(launch.metadata_fd, (off_t)fetch->image_bytes)) {
		close_fd(&launch.metadata_fd);
		return error_errno(error, "make a temporary file");
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) {
		close_fd(&launch.metadata_fd);
		return error_errno(error, "make a socket pair");
	}
	launch.disk_fd = ends[1];
	int failed = start_child(&launch, fetch->state, &pid, &pid_fd, -1, error);
	close(ends[0]);
	end_process(&pid, &pid_fd, FINISH_MS, &status);
	if (failed)
		close_fd(&launch.metadata_fd);
	return launch.metadata_fd;
}
