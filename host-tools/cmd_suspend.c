/* jobvm suspend: lets the jobvm that runs a job disk suspend its job, from another terminal. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "host-tools/exitcodes.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "host-tools/suspension.h"

/* Who has FILE's inode locked for a start (disk_open_file); 0: nobody (proc(5), /proc/locks). */
static pid_t find_locker(const struct stat *file)
{
	unsigned device_major, device_minor;
	uint64_t inode;
	char line[256];
	int pid, found = 0;
	FILE *locks = fopen("/proc/locks", "re");

	while (locks && !found && fgets(line, sizeof(line), locks))
		if (sscanf(line, "%*d: FLOCK ADVISORY WRITE %d %x:%x:%" SCNu64, &pid, &device_major,
			   &device_minor, &inode) == 4 &&
		    inode == file->st_ino && device_major == major(file->st_dev) &&
		    device_minor == minor(file->st_dev))
			found = pid;
	if (locks)
		fclose(locks);
	return found;
}

/* Whether it still is the one that held the lock: its number could have gone to another process. */
static int open_locker(const char *path, struct error *error)
{
	struct stat status;

	if (stat(path, &status))
		return error_errno(error, "open job disk %s", path);
	pid_t pid = find_locker(&status);
	if (pid <= 0)
		return error_set(error, "%s: no jobvm of this host runs this job disk", path);
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd >= 0 && find_locker(&status) == pid)
		return fd;
	if (fd >= 0)
		close(fd);
	return error_set(error, "%s: its jobvm has just ended", path);
}

static int suspend(const char *path, struct error *error)
{
	int fd = open_locker(path, error);

	if (fd < 0)
		return -1;
	struct pollfd ended = {.fd = fd, .events = POLLIN};
	int failed = 0;
	if (syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0))
		failed = error_errno(error, "%s: signal its jobvm", path);
	while (!failed && poll(&ended, 1, -1) < 0)
		if (errno != EINTR)
			failed = error_errno(error, "%s: wait for its jobvm", path);
	close(fd);
	if (!failed && !suspension_exists(path))
		failed = error_set(error,
				   "%s: is not suspended: its job had not begun, or its end "
				   "came first",
				   path);
	return failed;
}

static int run_suspend(int argc, char **argv)
{
	const struct option options[] = {{.name = NULL}};
	struct arguments arguments;
	struct error error;
	int exit_code = EXIT_SUCCESS;

	options_parse(&command_suspend, argc, argv, options, false, &arguments);
	if (arguments.command || arguments.positional.count != 1)
		message_usage("suspend", "exactly one job disk is needed");
	if (suspend(arguments.positional.items[0], &error)) {
		message_error("%s", error.text);
		exit_code = EXIT_JOBVM_FAILED;
	}
	arguments_free(&arguments);
	return exit_code;
}

const struct command command_suspend = {
	.name = "suspend",
	.summary = "suspend the job that another jobvm runs from a job disk",
	.usage =
		"Usage: jobvm suspend JOB.img\n"
		"Suspend the job of a 'jobvm start JOB.img' that runs on this host, and wait until that\n"
		"is done. 'jobvm start JOB.img' goes on with it.\n\n"
		"  --quiet              no warnings or notes\n\n"
		"Exit code: 0 when the job is suspended, 125 when not.\n",
	.run = run_suspend,
};
