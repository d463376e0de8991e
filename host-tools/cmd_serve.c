/* jobvm serve: serves a tree as an input disk, to jobs on other machines or on this one. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "host-tools/exitcodes.h"
#include "host-tools/lazy/listen.h"
#include "host-tools/lazy/serve.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "jobdisk/layout.h"

struct serving {
	struct strings inputs;
	struct listening listening;
	struct serve_options options;
	int signal_fd;
};

/* Without a name for it: a socket that only this user can reach. */
static void default_address(char *address, size_t size)
{
	const char *directory = getenv("XDG_RUNTIME_DIR");

	snprintf(address, size, "unix:%s/jobvm-serve-%d.sock",
		 directory && *directory == '/' ? directory : "/tmp", getpid());
}

static int check_certificates(const char *directory, struct error *error)
{
	static const char *const names[] = {"ca-cert.pem", "server-cert.pem", "server-key.pem"};
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		if (access(path, R_OK))
			return error_errno(error, "read %s", path);
	}
	return 0;
}

/* What was ignored when we started stays so. */
static int watch_signals(struct error *error)
{
	static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	struct sigaction action;
	sigset_t watched;

	sigemptyset(&watched);
	for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
		if (sigaction(ending[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
			sigaddset(&watched, ending[i]);
	sigprocmask(SIG_BLOCK, &watched, NULL);

	int fd = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);

	return fd < 0 ? error_errno(error, "watch for signals") : fd;
}

static bool was_signalled(int signal_fd)
{
	struct pollfd polled = {.fd = signal_fd, .events = POLLIN};

	return poll(&polled, 1, 0) > 0;
}

/* Until a signal, or the server's end. */
static void wait_for_end(const struct serving *serving, const struct serve *serve)
{
	struct pollfd polled[] = {{.fd = serving->signal_fd, .events = POLLIN},
				  {.fd = serve->pid_fd, .events = POLLIN}};

	while (poll(polled, 2, -1) < 0 && errno == EINTR)
		;
}

static int serve_once(const struct serving *serving, bool *aborted, struct error *error)
{
	struct serve serve;

	progress_phase("reading the tree");
	if (serve_start_on(serving->listening.fd, serving->signal_fd, &serving->options, &serve,
			   error))
		return -1;
	progress_clear();
	message_note("serving %s: %" PRIu64 " files with data, identity %s", serving->listening.uri,
		     serve.file_count, serve.identity);
	wait_for_end(serving, &serve);
	int failed = serve_end(&serve, error);
	*aborted = serve.aborted;
	return failed;
}

/*
 * nbdkit 1.32 can be brought to abort, by an assertion of its own, by clients that go before their
 * answers come. Those who wait at the socket meanwhile, and those who connect again, are served by
 * the next.
 */
static int serve_until_end(const struct serving *serving, struct error *error)
{
	bool aborted = true;
	int failed = 0;

	while (aborted) {
		aborted = false;
		failed = serve_once(serving, &aborted, error);
		if (aborted)
			message_warning("%s, and is started again", error->text);
	}
	return failed;
}

/* A signal is how it is meant to end, whenever it comes. */
static int run(struct serving *serving, const char *address, struct error *error)
{
	const char *certificates = serving->options.tls_certificates;

	if (certificates && check_certificates(certificates, error))
		return -1;
	serving->signal_fd = watch_signals(error);
	if (serving->signal_fd < 0 ||
	    listen_on(address, certificates != NULL, &serving->listening, error))
		return -1;
	int failed = serve_until_end(serving, error);
	listen_end(&serving->listening);
	return failed && !was_signalled(serving->signal_fd) ? -1 : 0;
}

static void add_directories(struct serving *serving, const struct arguments *arguments)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < arguments->positional.count; i++) {
		snprintf(path, sizeof(path), "%s/", arguments->positional.items[i]);
		strings_add(&serving->inputs, path);
	}
	if (!serving->inputs.count || arguments->command)
		message_usage("serve", "name a directory to serve");
}

static void set_owner(struct serve_options *options, const char *user)
{
	bool root = user && strcmp(user, "root") == 0;

	if (user && !root && strcmp(user, "job") != 0)
		message_usage("serve", "option '--user': '%s' is none of job, root", user);
	options->uid = root ? 0 : JOB_UID;
	options->gid = root ? 0 : JOB_GID;
}

static int run_serve(int argc, char **argv)
{
	struct serving serving = {.signal_fd = -1};
	struct arguments arguments;
	char address[PATH_MAX];
	const char *wanted = NULL, *user = NULL;
	struct error error;
	const struct option options[] = {
		{'i', "input", OPTION_LIST, &serving.inputs},
		{0, "listen", OPTION_VALUE, &wanted},
		{0, "tls-certificates", OPTION_VALUE, &serving.options.tls_certificates},
		{0, "user", OPTION_VALUE, &user},
		{.name = NULL},
	};

	options_parse(&command_serve, argc, argv, options, false, &arguments);
	add_directories(&serving, &arguments);
	set_owner(&serving.options, user);
	default_address(address, sizeof(address));
	serving.options.inputs = &serving.inputs;
	int failed = run(&serving, wanted ? wanted : address, &error);
	progress_clear();
	if (failed)
		message_error("%s", error.text);
	strings_clear(&serving.inputs);
	arguments_free(&arguments);
	return failed ? EXIT_JOBVM_FAILED : EXIT_SUCCESS;
}

const struct command command_serve = {
	.name = "serve",
	.summary = "serve a tree to jobs that fetch what they read",
	.usage =
		"Usage: jobvm serve [OPTION]... DIR...\n"
		"Serve the contents of directories as a read-only disk, for 'jobvm run --fetch'.\n\n"
		"  -i PATH              serve this too, by the rule of a job's inputs: a directory\n"
		"                       itself, or, with a slash at the end, its contents\n"
		"  --listen unix:PATH   the socket to make, for this user only; without --listen\n"
		"                       one in $XDG_RUNTIME_DIR or /tmp\n"
		"  --listen HOST:PORT   a TCP port; needs --tls-certificates, unless it can only be\n"
		"                       reached from this machine\n"
		"  --tls-certificates DIR  ca-cert.pem, server-cert.pem and server-key.pem in it;\n"
		"                       clients must have a certificate of that CA\n"
		"  --user job|root      whose the files are on the disk (job)\n"
		"  --quiet              no warnings, notes or progress\n\n"
		"Files that change after the start are errors when they are read; serve again then.\n"
		"Ends at SIGINT or SIGTERM, with exit code 0.\n",
	.run = run_serve,
};
