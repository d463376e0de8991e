/*
 * namespace: the job's surroundings, built from inside its own namespaces.
 *
 * What does not depend on the job is built in JAIL_DIR before there is one, and moves into the
 * job's root when that is mounted.
 *
 * Two processes: the namespaces' init, which keeps PID 1's privileges, sets up the mounts, reaps
 * and reports; and below it the command. The first exists because a process number 1 ignores
 * signals that it does not handle, which no job expects of itself, and because its end makes the
 * kernel kill whatever the job left behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init/init.h"
#include "jobdisk/layout.h"

#define MASK_FLAGS   (MS_NOSUID | MS_NODEV | MS_NOEXEC)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct manifest *manifest;
static const struct job_fds *fds;
static int cgroup_procs_fd, stdin_fd;
static bool privileged; /* what is in JAIL_DIR: at first as for a job that is not */

/* --- telling PID 1 --- */

static void report(enum job_event_kind kind, int value, const char *step)
{
	struct job_event event = {.kind = kind, .value = value};

	snprintf(event.step, sizeof(event.step), "%s", step);
	/* Smaller than PIPE_BUF, so whole or not at all; without PID 1 there is nobody to tell. */
	if (write(fds->event_fd, &event, sizeof(event)) != sizeof(event))
		_exit(1);
}

/* --- /proc, /dev, /sys --- */

/* Writable by root without any capability, or telling of the devices below the job. */
static const char *const proc_read_only[] = {"sys", "sysrq-trigger", "irq", "bus", "fs"};
static const char *const proc_hidden[] = {"kcore", "keys",    "partitions", "diskstats",
					  "kmsg",  "modules", "timer_list", "sched_debug"};
static const char *const sys_shown[] = {"devices/system", "kernel/mm"};

static const struct {
	const char *name;
	unsigned major, minor;
} device_nodes[] = {
	{"null", 1, 3},	  {"zero", 1, 5},    {"full", 1, 7},
	{"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
};

static const struct {
	const char *target, *name;
} device_links[] = {
	{"pts/ptmx", "ptmx"},	       {"/proc/self/fd", "fd"},	      {"/proc/self/fd/0", "stdin"},
	{"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
};

/* These return 0 or -1 with errno: the caller's step names the object. */

static int bind_read_only(const char *source, const char *target)
{
	if (mount(source, target, NULL, MS_BIND | MS_REC, NULL))
		return -1;
	return mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MASK_FLAGS, NULL);
}

static int set_up_proc(void)
{
	char path[64];

	if (mount("proc", JAIL_DIR "/proc", "proc", MASK_FLAGS, NULL))
		return -1;
	if (privileged)
		return 0;
	for (size_t i = 0; i < COUNT(proc_read_only); i++) {
		snprintf(path, sizeof(path), JAIL_DIR "/proc/%s", proc_read_only[i]);
		if (bind_read_only(path, path) && errno != ENOENT)
			return -1;
	}
	for (size_t i = 0; i < COUNT(proc_hidden); i++) {
		snprintf(path, sizeof(path), JAIL_DIR "/proc/%s", proc_hidden[i]);
		if (bind_read_only("/dev/null", path) && errno != ENOENT)
			return -1;
	}
	return 0;
}

static int make_device_nodes(void)
{
	char path[64];

	for (size_t i = 0; i < COUNT(device_nodes); i++) {
		snprintf(path, sizeof(path), JAIL_DIR "/dev/%s", device_nodes[i].name);
		/* chmod: the umask would keep the job's user from writing to /dev/null. */
		if (mknod(path, S_IFCHR, makedev(device_nodes[i].major, device_nodes[i].minor)) ||
		    chmod(path, 0666))
			return -1;
	}
	for (size_t i = 0; i < COUNT(device_links); i++) {
		snprintf(path, sizeof(path), JAIL_DIR "/dev/%s", device_links[i].name);
		if (symlink(device_links[i].target, path))
			return -1;
	}
	return 0;
}

static int mount_below_dev(const char *target, const char *type, const char *options)
{
	if (mkdir(target, 0755) && errno != EEXIST)
		return -1;
	return mount(type, target, type, MASK_FLAGS & ~(unsigned long)MS_NODEV, options);
}

static int set_up_dev(void)
{
	if (privileged) {
		if (mount("devtmpfs", JAIL_DIR "/dev", "devtmpfs", MS_NOSUID, NULL))
			return -1;
	} else if (mount("dev", JAIL_DIR "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC,
			 "mode=0755,size=64k,nr_inodes=64") ||
		   make_device_nodes()) {
		return -1;
	}
	if (mount_below_dev(JAIL_DIR "/dev/pts", "devpts",
			    "newinstance,ptmxmode=0666,mode=0620,gid=5"))
		return -1;
	if (mkdir(JAIL_DIR "/dev/shm", 0755) ||
	    mount("shm", JAIL_DIR "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=100%"))
		return -1;
	return mount_below_dev(JAIL_DIR "/dev/mqueue", "mqueue", NULL);
}

/* Makes every directory of PATH below JAIL_DIR "/sys". */
static int make_sys_directories(const char *below)
{
	char path[64];
	int start = snprintf(path, sizeof(path), JAIL_DIR "/sys/%s/", below);

	for (char *slash = path + strlen(JAIL_DIR "/sys/"); slash < path + start; slash++) {
		if (*slash != '/')
			continue;
		*slash = '\0';
		if (mkdir(path, 0755) && errno != EEXIST)
			return -1;
		*slash = '/';
	}
	return 0;
}

/* The whole of sysfs names the disks; the job gets what programs look for, and its cgroup later. */
static int set_up_sys(void)
{
	char source[64], target[64];

	if (privileged)
		return mount("sysfs", JAIL_DIR "/sys", "sysfs", MASK_FLAGS, NULL);
	if (mount("sys", JAIL_DIR "/sys", "tmpfs", MASK_FLAGS, "mode=0755,size=64k") ||
	    make_sys_directories("fs/cgroup"))
		return -1;
	for (size_t i = 0; i < COUNT(sys_shown); i++) {
		snprintf(source, sizeof(source), "/sys/%s", sys_shown[i]);
		snprintf(target, sizeof(target), JAIL_DIR "/sys/%s", sys_shown[i]);
		if (make_sys_directories(sys_shown[i]) || bind_read_only(source, target))
			return -1;
	}
	return mount(NULL, JAIL_DIR "/sys", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MASK_FLAGS,
		     NULL);
}

/*
 * Every VM is a machine of its own, also where many come from one image (machine-id(5)). An image
 * without the file has a program for it no more than before.
 */
static int set_up_machine_id(void)
{
	static const char file[] = "/machine-id", target[] = ROOT_DIR "/etc/machine-id";
	unsigned char bytes[16];
	char text[2 * sizeof(bytes) + 2];
	struct stat status;

	/* Not through a link of the image's. */
	if (lstat(target, &status) || !S_ISREG(status.st_mode))
		return 0;
	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return -1;
	/* As a random UUID (RFC 4122), as systemd makes it. */
	bytes[6] = (bytes[6] & 0x0f) | 0x40;
	bytes[8] = (bytes[8] & 0x3f) | 0x80;
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	text[2 * sizeof(bytes)] = '\n';
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0444);
	if (fd < 0)
		return -1;
	ssize_t written = write(fd, text, sizeof(text) - 1);
	close(fd);
	return written == sizeof(text) - 1 ? bind_read_only(file, target) : -1;
}

/* --- the namespaces --- */

/* PID 1's mounts of the job's disk and root are still to come in; none of ours get out. */
static int make_mounts_slaves(void)
{
	return mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL);
}

static const char *const jail_parts[] = {"proc", "dev", "sys"};

static int make_jail(void)
{
	char path[64];

	/* They are there already where PID 1 has had another job. */
	if (mkdir(JAIL_DIR, 0755) && errno != EEXIST)
		return -1;
	for (size_t i = 0; i < COUNT(jail_parts); i++) {
		snprintf(path, sizeof(path), JAIL_DIR "/%s", jail_parts[i]);
		if (mkdir(path, 0755) && errno != EEXIST)
			return -1;
	}
	return 0;
}

static int name_host(void)
{
	return sethostname("jobvm", strlen("jobvm"));
}

static int open_cgroup(void)
{
	cgroup_procs_fd = open(JOB_CGROUP "/cgroup.procs", O_WRONLY | O_CLOEXEC);
	return cgroup_procs_fd < 0 ? -1 : 0;
}

static int open_stdin(void)
{
	stdin_fd = open(manifest->has_stdin ? JOB_DIR "/" JOBDISK_STDIN : "/dev/null",
			O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return stdin_fd < 0 ? -1 : 0;
}

static int set_up_privileged(void)
{
	char path[64];

	if (!manifest->privileged)
		return 0;
	privileged = true;
	for (size_t i = 0; i < COUNT(jail_parts); i++) {
		snprintf(path, sizeof(path), JAIL_DIR "/%s", jail_parts[i]);
		if (umount2(path, MNT_DETACH))
			return -1;
	}
	return set_up_proc() || set_up_dev() || set_up_sys() ? -1 : 0;
}

static int fill_root(void)
{
	char source[64], target[64];

	for (size_t i = 0; i < COUNT(jail_parts); i++) {
		snprintf(source, sizeof(source), JAIL_DIR "/%s", jail_parts[i]);
		snprintf(target, sizeof(target), ROOT_DIR "/%s", jail_parts[i]);
		if (mount(source, target, NULL, MS_MOVE, NULL))
			return -1;
	}
	return 0;
}

/* Afterwards no path leads to PID 1's mounts: the old root is gone from this namespace. */
static int enter_root(void)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -1;
	if (chdir(ROOT_DIR) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH))
		return -1;
	return chdir("/");
}

/* No debugger, no /proc/1/fd: also not for a job that runs as root. */
static int hide_from_job(void)
{
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

struct step {
	const char *name;
	int (*run)(void);
};

/* Before there is a job. */
static const struct step first_steps[] = {
	{"make mounts slaves", make_mounts_slaves},
	{"name the host", name_host},
	{"open the job's cgroup", open_cgroup},
	{"make the jail's directories", make_jail},
	{"set up /proc", set_up_proc},
	{"set up /dev", set_up_dev},
	{"set up /sys", set_up_sys},
};

static const struct step last_steps[] = {
	{"open stdin", open_stdin},
	{"set up a privileged /proc, /dev and /sys", set_up_privileged},
	{"move /proc, /dev and /sys into the root", fill_root},
	{"set up the machine id", set_up_machine_id},
	{"enter the root", enter_root},
	{"hide from the job", hide_from_job},
};

/* --- the command's own process --- */

static int join_cgroup(void)
{
	if (write(cgroup_procs_fd, "0", 1) != 1 || unshare(CLONE_NEWCGROUP))
		return -1;
	/* EBUSY: an earlier start of the command, before its checkpoint, has mounted it. */
	if (mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MASK_FLAGS, NULL) && errno != EBUSY)
		return -1;
	return mount(NULL, "/sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MASK_FLAGS,
		     NULL);
}

static int limit(int resource, rlim_t soft, rlim_t hard)
{
	struct rlimit limits = {.rlim_cur = soft, .rlim_max = hard};

	return setrlimit(resource, &limits);
}

static int set_limits(void)
{
	if (limit(RLIMIT_CORE, manifest->core_max_bytes, manifest->core_max_bytes) ||
	    limit(RLIMIT_NOFILE, 1024, 524288) || limit(RLIMIT_NPROC, RLIM_INFINITY, RLIM_INFINITY))
		return -1;
	if (manifest->stack_max_bytes == RECORD_UNSET)
		return 0;
	return limit(RLIMIT_STACK, manifest->stack_max_bytes, manifest->stack_max_bytes);
}

static int connect_streams(void)
{
	const int streams[] = {stdin_fd, fds->stdout_fd, fds->stderr_fd};

	for (int i = 0; i < 3; i++)
		if (dup2(streams[i], i) < 0)
			return -1;
	return 0;
}

/*
 * What root keeps in a job that is not privileged: enough to install and to own files. Not
 * MKNOD, SYS_ADMIN, SYS_RAWIO, SYS_MODULE, SYS_PTRACE, SYS_BOOT; not SYS_RESOURCE, which could
 * take the disk space that is reserved for the result; not DAC_READ_SEARCH, which opens files
 * by handle past any namespace; not SYS_NICE, whose real-time classes could starve PID 1.
 */
static const int root_capabilities[] = {
	CAP_CHOWN,   CAP_DAC_OVERRIDE,	   CAP_FOWNER,	   CAP_FSETID,
	CAP_KILL,    CAP_SETGID,	   CAP_SETUID,	   CAP_SETPCAP,
	CAP_SETFCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_AUDIT_WRITE,
};

static uint64_t kept_capabilities(void)
{
	uint64_t kept = 0;

	if (manifest->user == USER_ROOT)
		for (size_t i = 0; i < COUNT(root_capabilities); i++)
			kept |= 1ULL << root_capabilities[i];
	return kept;
}

/* musl has no wrapper for capset(2). */
static int set_capabilities(uint64_t kept)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};

	data[0].effective = data[0].permitted = (uint32_t)kept;
	data[1].effective = data[1].permitted = (uint32_t)(kept >> 32);
	return (int)syscall(SYS_capset, &header, data);
}

static int drop_privileges(void)
{
	uint64_t kept = kept_capabilities();

	if (setgroups(0, NULL))
		return -1;
	if (manifest->privileged)
		return 0;
	for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
		if (!(kept >> capability & 1) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
			return -1;
	if (manifest->user == USER_ROOT)
		return set_capabilities(kept);
	if (setresgid(JOB_GID, JOB_GID, JOB_GID) || setresuid(JOB_UID, JOB_UID, JOB_UID))
		return -1;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int enter_workspace(void)
{
	if (setsid() < 0)
		return -1;
	return chdir(WORKSPACE);
}

/* A job's signals are as any program expects them: none blocked, none ignored. */
static int reset_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	for (int signal_number = 1; signal_number < NSIG; signal_number++)
		signal(signal_number, SIG_DFL);
	return sigprocmask(SIG_SETMASK, &none, NULL);
}

static const struct step command_steps[] = {
	{"join the job's cgroup", join_cgroup},
	{"set the limits", set_limits},
	{"connect stdin, stdout and stderr", connect_streams},
	{"enter the workspace", enter_workspace},
	{"drop privileges", drop_privileges},
	{"reset signals", reset_signals},
};

/* The command's environment, without a heap; the last of the same name wins. */
static void set_variable(const char *item)
{
	static char *variables[RECORD_MAX_LINES + 16];
	size_t name_length = strcspn(item, "=");
	char **slot = variables;

	if (!item[name_length])
		return;
	while (*slot && strncmp(*slot, item, name_length + 1) != 0)
		slot++;
	*slot = (char *)(uintptr_t)item;
	environ = variables;
}

static void set_environment(void)
{
	static char job_id[128];
	bool root = manifest->user == USER_ROOT;

	set_variable("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	set_variable(root ? "HOME=/root" : "HOME=" WORKSPACE);
	set_variable(root ? "USER=root" : "USER=" JOB_USER);
	set_variable(root ? "LOGNAME=root" : "LOGNAME=" JOB_USER);
	set_variable("SHELL=/bin/sh");
	set_variable("PWD=" WORKSPACE);
	snprintf(job_id, sizeof(job_id), "JOBVM_JOB_ID=%s", manifest->job_id);
	set_variable(job_id);
	for (size_t i = 0; i < manifest->environment.count; i++)
		set_variable(manifest->environment.items[i]);
}

/* A script's interpreter or a program's loader that is missing also makes exec say ENOENT. */
static int exec_errno(const char *command)
{
	if (errno == ENOENT && strchr(command, '/') && access(command, F_OK) == 0)
		return ENOEXEC;
	return errno;
}

/* Says on FAILURE_FD why the command could not start; a successful exec closes it silently. */
static void run_command(int failure_fd)
{
	struct job_event failure = {.kind = JOB_SETUP_FAILED};

	for (size_t i = 0; i < COUNT(command_steps) && failure.value == 0; i++) {
		if (command_steps[i].run() == 0)
			continue;
		failure.value = errno;
		snprintf(failure.step, sizeof(failure.step), "%s", command_steps[i].name);
	}
	if (failure.value == 0) {
		char **arguments = (char **)(uintptr_t)manifest->arguments.items;
		set_environment();
		syscall(SYS_close_range, 3, ~0U, 1U << 2 /* CLOSE_RANGE_CLOEXEC */);
		execvp(arguments[0], arguments);
		failure.kind = JOB_EXEC_FAILED;
		failure.value = exec_errno(arguments[0]);
	}
	if (write(failure_fd, &failure, sizeof(failure)) < 0)
		_exit(2);
	_exit(1);
}

/* --- the namespaces' init --- */

/* Starts the command; returns its process once exec has succeeded. Else it reports and exits. */
static pid_t start_command(void)
{
	struct job_event failure;
	int failure_pipe[2];

	if (pipe2(failure_pipe, O_CLOEXEC)) {
		report(JOB_SETUP_FAILED, errno, "make a pipe");
		_exit(1);
	}
	pid_t command = fork();
	if (command == 0)
		run_command(failure_pipe[1]);
	close(failure_pipe[1]);
	if (command < 0) {
		report(JOB_SETUP_FAILED, errno, "fork");
		_exit(1);
	}
	if (read(failure_pipe[0], &failure, sizeof(failure)) == sizeof(failure)) {
		report(failure.kind, failure.value, failure.step);
		_exit(1);
	}
	close(failure_pipe[0]);
	return command;
}

static bool is_checkpoint(int status)
{
	return WIFEXITED(status) && (uint64_t)WEXITSTATUS(status) == manifest->checkpoint_exit_code;
}

/* Reaps everything that has ended. Whether the command is among it; then *STATUS is its own. */
static bool reap(pid_t command, int *status)
{
	int ended_status;
	bool command_ended = false;

	for (pid_t ended = waitpid(-1, &ended_status, WNOHANG); ended > 0;
	     ended = waitpid(-1, &ended_status, WNOHANG)) {
		if (ended != command)
			continue;
		*status = ended_status;
		command_ended = true;
	}
	return command_ended;
}

/* SIGKILL goes to every process of the job; any other signal to the command's process group. */
static void pass_signal(pid_t command)
{
	unsigned char signal_number;

	if (read(fds->command_fd, &signal_number, 1) != 1)
		_exit(1);
	kill(signal_number == SIGKILL ? -1 : -command, signal_number);
}

static int wait_for_command(pid_t command, int signal_fd)
{
	struct signalfd_siginfo info;
	int status = 0;

	for (;;) {
		struct pollfd sources[] = {{.fd = signal_fd, .events = POLLIN},
					   {.fd = fds->command_fd, .events = POLLIN}};
		if (poll(sources, 2, -1) < 0)
			continue;
		if (sources[1].revents)
			pass_signal(command);
		if (sources[0].revents && read(signal_fd, &info, sizeof(info)) > 0 &&
		    reap(command, &status))
			return status;
	}
}

/* Only what the job needs stays open: not the ports, not the disks. */
static void close_other_fds(void)
{
	const int kept[] = {fds->stdout_fd, fds->stderr_fd, fds->event_fd, fds->command_fd};

	for (int fd = 3; fd < 64; fd++) {
		bool keep = false;
		for (size_t i = 0; i < COUNT(kept); i++)
			keep = keep || kept[i] == fd;
		if (!keep)
			close(fd);
	}
}

static void run_steps(const struct step *steps, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (steps[i].run()) {
			report(JOB_SETUP_FAILED, errno, steps[i].name);
			_exit(1);
		}
	}
}

/* A page that was not used before the fork costs each clone a fault. */
static void touch_shared(void)
{
	const volatile char *bytes = (const volatile char *)guest.shared;

	for (size_t i = 0; i < sizeof(*guest.shared); i += 4096)
		(void)bytes[i];
}

/* PID 1 has read the manifest and mounted the job's root, or else it is gone. */
static void wait_for_job(void)
{
	unsigned char command;

	if (read(fds->command_fd, &command, 1) != 1 || command != COMMAND_GO)
		_exit(1);
}

void namespace_main(const struct job_fds *job_fds)
{
	sigset_t child;

	manifest = guest.manifest;
	fds = job_fds;
	close_other_fds();
	touch_shared();
	run_steps(first_steps, COUNT(first_steps));
	report(JOB_PREPARED, 0, "");
	wait_for_job();
	run_steps(last_steps, COUNT(last_steps));
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	int signal_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);

	for (;;) {
		pid_t command = start_command();
		report(JOB_STARTED, 0, "");
		int status = wait_for_command(command, signal_fd);
		if (!is_checkpoint(status)) {
			report(JOB_EXITED, status, "");
			_exit(0);
		}
		/* The next run finds the workspace, and nobody of the last one. */
		kill(-1, SIGKILL);
		while (waitpid(-1, NULL, 0) > 0)
			;
	}
}
