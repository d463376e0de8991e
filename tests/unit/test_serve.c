/* A server of our own: how it starts, who can reach it, and how it ends. Needs nbdkit's plugin. */
#include "tests/unit/fsimage_helpers.h"

#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "host-tools/lazy/serve.h"
#include "jobdisk/layout.h"

/* Lets the plugin of this build be found: 0, or -1 where there is none. */
static int find_plugin(void)
{
	char self[PATH_MAX] = "", plugins[PATH_MAX + 16], directory[PATH_MAX];

	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	snprintf(plugins, sizeof(plugins), "%s/nbdkit", dirname(dirname(self)));
	if (access(plugins, R_OK)) {
		print_message("# not tested: the plugin was not built\n");
		return -1;
	}
	assert_non_null(getcwd(directory, sizeof(directory)));
	setenv("XDG_DATA_HOME", directory, 1);
	assert_int_equal(run("mkdir -p jobvm tmp tree && echo 1 >tree/file"), 0);
	assert_int_equal(symlink(plugins, "jobvm/nbdkit"), 0);
	setenv("TMPDIR", strcat(directory, "/tmp"), 1);
	return 0;
}

#define NEEDS_PLUGIN()                                                                             \
	do {                                                                                       \
		(void)state;                                                                       \
		if (find_plugin())                                                                 \
			skip();                                                                    \
	} while (0)

static int start(const char *input, const char *directory, struct serve *serve)
{
	struct strings inputs = {.items = NULL};

	strings_add(&inputs, input);

	const struct serve_options options = {
		.inputs = &inputs, .directory = directory, .uid = JOB_UID, .gid = JOB_GID};
	int failed = serve_start(&options, serve, &test_error);

	strings_clear(&inputs);
	return failed;
}

/* 0 when a server greets at the socket, or errno. */
static int greet(int socket_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char greeting[18];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), code = 0;

	assert_true(fd >= 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", socket_fd);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		code = errno;
	else if (recv(fd, greeting, sizeof(greeting), MSG_WAITALL) != sizeof(greeting) ||
		 memcmp(greeting, "NBDMAGICIHAVEOPT", 16) != 0)
		code = EPROTO;
	close(fd);
	return code;
}

static void a_server_has_a_socket_without_a_name(void **state)
{
	struct serve serve;

	NEEDS_PLUGIN();
	assert_success(start("tree/", NULL, &serve));
	assert_int_equal(serve.file_count, 1);
	assert_int_equal(strspn(serve.identity, "0123456789abcdef"), 64);
	assert_int_equal(run("test -z \"$(ls -A tmp)\""), 0);
	assert_int_equal(greet(serve.socket_fd), 0);

	int copy = dup(serve.socket_fd);

	assert_success(serve_end(&serve, &test_error));
	assert_int_equal(greet(copy), ECONNREFUSED);
	close(copy);
	assert_int_equal(run("test -z \"$(ls -A tmp)\""), 0);
}

static void inputs_start_at_the_directory(void **state)
{
	struct serve serve;
	char here[PATH_MAX];

	NEEDS_PLUGIN();
	assert_non_null(getcwd(here, sizeof(here)));
	assert_success(start("file", "tree", &serve));
	assert_success(serve_end(&serve, &test_error));
	assert_success(start("file", strcat(here, "/tree"), &serve));
	assert_success(serve_end(&serve, &test_error));
	assert_success(start(strcat(here, "/file"), "nowhere", &serve));
	assert_success(serve_end(&serve, &test_error));
	assert_error(start("file", NULL, &serve), "/file': No such file or directory");
	assert_int_equal(run("test -z \"$(ls -A tmp)\""), 0);
}

static void what_keeps_it_from_starting_is_said(void **state)
{
	struct serve serve;

	NEEDS_PLUGIN();
	setenv("JOBVM_NBDKIT", "/bin/false", 1);
	assert_error(start("tree/", NULL, &serve), "the server ended with exit code 1");
	setenv("JOBVM_NBDKIT", "/nowhere", 1);
	assert_error(start("tree/", NULL, &serve), "$JOBVM_NBDKIT: cannot execute /nowhere");
	unsetenv("JOBVM_NBDKIT");
	assert_int_equal(unlink("jobvm/nbdkit"), 0);
	assert_error(start("tree/", NULL, &serve), "jobvm-serve.so is not beside jobvm");
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void a_server_that_died_is_an_error(void **state)
{
	struct serve serve;

	NEEDS_PLUGIN();
	assert_success(start("tree/", NULL, &serve));
	kill(serve.pid, SIGKILL);

	struct pollfd polled = {.fd = serve.pid_fd, .events = POLLIN};

	assert_int_equal(poll(&polled, 1, 60000), 1);
	assert_error(serve_end(&serve, &test_error), "the server was ended by signal 9");
}

static void a_server_dies_with_its_parent(void **state)
{
	struct serve serve;
	int pipe_fds[2];
	pid_t child, server = 0;

	NEEDS_PLUGIN();
	assert_int_equal(pipe(pipe_fds), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (start("tree/", NULL, &serve) ||
		    write(pipe_fds[1], &serve.pid, sizeof(serve.pid)) != sizeof(serve.pid))
			_exit(1);
		pause();
	}
	assert_int_equal(read(pipe_fds[0], &server, sizeof(server)), sizeof(server));

	struct pollfd polled = {.fd = (int)syscall(SYS_pidfd_open, server, 0), .events = POLLIN};

	assert_true(polled.fd >= 0);
	assert_int_equal(poll(&polled, 1, 0), 0);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(poll(&polled, 1, 60000), 1);
	close(polled.fd);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(a_server_has_a_socket_without_a_name),
		IN_SCRATCH(inputs_start_at_the_directory),
		IN_SCRATCH(what_keeps_it_from_starting_is_said),
		IN_SCRATCH(a_server_that_died_is_an_error),
		IN_SCRATCH(a_server_dies_with_its_parent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
