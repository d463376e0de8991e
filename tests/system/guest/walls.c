/*
 * Tries what no job may be able to do, and says of each attempt whether the wall held. Exits
 * with the number of walls that did not. In a privileged job some must give way: that shows
 * that an attempt can succeed at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/perf_event.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static bool can_open(const char *path, int flags)
{
	int fd = open(path, flags | O_NONBLOCK);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* In any of the places where a job may write. */
static bool can_use_node(mode_t type, unsigned major_id, unsigned minor_id)
{
	static const char *const places[] = {"/tmp/node", "/job/node", "/dev/node",
					     "/dev/shm/node"};
	bool opened = false;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		unlink(places[i]);
		if (mknod(places[i], type | 0666, makedev(major_id, minor_id)) == 0)
			opened = opened || can_open(places[i], O_RDONLY);
		unlink(places[i]);
	}
	return opened;
}

static bool makes_block_device(void)
{
	for (unsigned major_id = 240; major_id < 260; major_id++)
		for (unsigned minor_id = 0; minor_id < 64; minor_id += 16)
			if (can_use_node(S_IFBLK, major_id, minor_id))
				return true;
	return false;
}

static bool opens_block_device(void)
{
	static const char *const paths[] = {"/dev/vda", "/dev/vdb", "/dev/root", "/dev/block"};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (can_open(paths[i], O_RDONLY))
			return true;
	return false;
}

static bool makes_memory_device(void)
{
	return can_use_node(S_IFCHR, 1, 1) || can_use_node(S_IFCHR, 1, 4);
}

static bool makes_port(void)
{
	for (unsigned major_id = 230; major_id < 255; major_id++)
		for (unsigned minor_id = 0; minor_id < 5; minor_id++)
			if (can_use_node(S_IFCHR, major_id, minor_id))
				return true;
	return can_open("/dev/vport0p1", O_RDWR);
}

static bool reaches_first_process(void)
{
	return can_open("/proc/1/root/etc", O_RDONLY) || can_open("/proc/1/fd/0", O_RDONLY) ||
	       can_open("/proc/1/mem", O_RDONLY) || ptrace(PTRACE_ATTACH, 1, 0, 0) == 0;
}

/* The guest's PID 1 has children whose names are in its own namespace: kernel threads. */
static bool sees_guest_processes(void)
{
	char name[64] = "";
	int fd = open("/proc/2/comm", O_RDONLY);

	if (fd < 0)
		return false;
	ssize_t length = read(fd, name, sizeof(name) - 1);
	close(fd);
	return length > 0 && strncmp(name, "kthreadd", 8) == 0;
}

static bool enters_other_namespace(void)
{
	static const char *const names[] = {"mnt", "pid", "net"};
	bool entered = false;
	char path[64];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "/proc/1/ns/%s", names[i]);
		int fd = open(path, O_RDONLY);
		entered = entered || (fd >= 0 && setns(fd, 0) == 0);
	}
	return entered;
}

/* By handle: inode 2 is the job disk's root, where the result record is. */
static bool opens_by_handle(void)
{
	struct {
		unsigned bytes;
		int type;
		unsigned inode, generation;
	} handle = {.bytes = 8, .type = 1, .inode = 2};
	int mount_fd = open("/job", O_RDONLY);

	return syscall(SYS_open_by_handle_at, mount_fd, &handle, O_RDONLY) >= 0;
}

static bool has_network_interface(void)
{
	struct if_nameindex *interfaces = if_nameindex();
	bool other = false;

	for (struct if_nameindex *one = interfaces; one && one->if_index; one++)
		other = other || strcmp(one->if_name, "lo") != 0;
	return other;
}

static bool has_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	return ioctl(fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP);
}

static bool raises_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};

	return ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFFLAGS, &request) == 0;
}

static bool sends_packets(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0) >= 0 || socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) >= 0;
}

/* EPERM comes before the kernel looks at the module; the tuned kernel knows no modules. */
static bool loads_module(void)
{
	return syscall(SYS_init_module, "", 0, "") == 0 || (errno != EPERM && errno != ENOSYS);
}

static bool loads_kernel(void)
{
	return syscall(SYS_kexec_load, 0, 0, NULL, 0) == 0;
}

static bool mounts(void)
{
	return mount("none", "/tmp", "tmpfs", 0, NULL) == 0;
}

static bool unmounts(void)
{
	return umount2("/proc/sys", MNT_DETACH) == 0;
}

static bool remounts(void)
{
	return mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL) == 0;
}

static bool makes_namespace(void)
{
	return unshare(CLONE_NEWUSER) == 0 || unshare(CLONE_NEWNS) == 0;
}

static bool sets_kernel_parameter(void)
{
	return can_open("/proc/sys/kernel/core_pattern", O_WRONLY);
}

static bool asks_for_sysrq(void)
{
	return can_open("/proc/sysrq-trigger", O_WRONLY);
}

static bool reads_kernel_memory(void)
{
	return can_open("/proc/kcore", O_RDONLY) || can_open("/proc/kmsg", O_RDONLY);
}

static bool reads_kernel_log(void)
{
	char text[16];

	return klogctl(3, text, sizeof(text)) >= 0;
}

static bool uses_io_ports(void)
{
	return iopl(3) == 0 || ioperm(0x64, 1, 1) == 0;
}

static bool changes_limits(void)
{
	return can_open("/sys/fs/cgroup/memory.max", O_WRONLY) ||
	       can_open("/sys/fs/cgroup/pids.max", O_WRONLY) ||
	       can_open("/sys/fs/cgroup/cgroup.procs", O_WRONLY);
}

static bool takes_real_time(void)
{
	struct sched_param parameter = {.sched_priority = 1};

	return syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &parameter) == 0 ||
	       setpriority(PRIO_PROCESS, 0, -1) == 0;
}

static bool loads_bpf(void)
{
	union bpf_attr attributes = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};

	return syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof(attributes)) >= 0;
}

static bool traces_kernel(void)
{
	struct perf_event_attr attributes = {.type = PERF_TYPE_SOFTWARE,
					     .size = sizeof(attributes)};

	return syscall(SYS_perf_event_open, &attributes, -1, 0, -1, 0) >= 0;
}

static bool sets_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return clock_settime(CLOCK_REALTIME, &now) == 0;
}

/* In a namespace's own process, or it would end this one. */
static bool reboots(void)
{
	return reboot(RB_DISABLE_CAD) == 0;
}

static const struct {
	const char *name;
	bool (*succeeds)(void);
} attempts[] = {
	{"open a block device", opens_block_device},
	{"make a block device", makes_block_device},
	{"make a memory device", makes_memory_device},
	{"reach a host port", makes_port},
	{"reach process 1", reaches_first_process},
	{"see the guest's processes", sees_guest_processes},
	{"enter another namespace", enters_other_namespace},
	{"open a file by handle", opens_by_handle},
	{"have a network interface", has_network_interface},
	{"have a loopback that is up", has_loopback},
	{"raise the loopback", raises_loopback},
	{"send packets", sends_packets},
	{"load a module", loads_module},
	{"load a kernel", loads_kernel},
	{"mount", mounts},
	{"unmount", unmounts},
	{"remount", remounts},
	{"make a namespace", makes_namespace},
	{"set a kernel parameter", sets_kernel_parameter},
	{"ask for SysRq", asks_for_sysrq},
	{"read kernel memory", reads_kernel_memory},
	{"read the kernel's log", reads_kernel_log},
	{"use I/O ports", uses_io_ports},
	{"change its limits", changes_limits},
	{"take real time", takes_real_time},
	{"load BPF", loads_bpf},
	{"trace the kernel", traces_kernel},
	{"set the clock", sets_clock},
	{"reboot", reboots},
};

int main(void)
{
	int breached = 0;

	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		pid_t child = fork();
		int status = 0;
		if (child == 0)
			_exit(attempts[i].succeeds() ? 1 : 0);
		waitpid(child, &status, 0);
		bool held = WIFEXITED(status) && WEXITSTATUS(status) == 0;
		printf("%s: %s\n", held ? "held" : "BREACHED", attempts[i].name);
		breached += !held;
	}
	return breached;
}
