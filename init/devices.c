/* devices: modules, and the wait for disks and ports, woken by the kernel's uevents. */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "init/init.h"
#include "jobdisk/layout.h"

/* A device that has not come by then will not come: all are there when the VM starts. */
#define DEVICE_WAIT_MS 30000

static int insert_module(const char *name, struct error *error)
{
	char path[256];

	snprintf(path, sizeof(path), INITRD_MODULES "/%s", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(error, "open %s", path);
	int result = (int)syscall(SYS_finit_module, fd, "", 0);
	close(fd);
	if (result && errno != EEXIST)
		return error_errno(error, "load %s", path);
	return 0;
}

/* Loads what the initrd names, in its order; an image whose kernel has it all built in names none.
 */
int load_modules(struct error *error)
{
	char order[4096];
	char *rest = order;

	if (read_file(INITRD_MODULE_ORDER, order, sizeof(order)) < 0)
		return errno == ENOENT ? 0 : error_errno(error, "read " INITRD_MODULE_ORDER);
	for (char *name = strsep(&rest, "\n"); name; name = strsep(&rest, "\n"))
		if (*name && insert_module(name, error))
			return -1;
	return 0;
}

static int open_uevents(struct error *error)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};

	if (guest.uevent_fd >= 0)
		return 0;
	guest.uevent_fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
				 NETLINK_KOBJECT_UEVENT);
	if (guest.uevent_fd < 0 ||
	    bind(guest.uevent_fd, (struct sockaddr *)&address, sizeof(address)))
		return error_errno(error, "listen to the kernel's device events");
	return 0;
}

/* Whether a device NAME in CLASS_DIR has VALUE in its file ATTRIBUTE. */
static bool attribute_is(const char *class_dir, const char *name, const char *attribute,
			 const char *value)
{
	char path[512], text[128];

	snprintf(path, sizeof(path), "%s/%s/%s", class_dir, name, attribute);
	if (read_file(path, text, sizeof(text)) < 0)
		return false;
	text[strcspn(text, "\n")] = '\0';
	return strcmp(text, value) == 0;
}

/* As getdents64(2) has it: the C library's own readdir takes memory from a heap. */
struct entry {
	uint64_t inode;
	int64_t offset;
	unsigned short bytes;
	unsigned char type;
	char name[];
};

static const struct entry *next_entry(const struct entry *entry)
{
	return (const struct entry *)(const void *)((const char *)entry + entry->bytes);
}

static bool look_for_device(const char *class_dir, const char *attribute, const char *value,
			    char *path, size_t size)
{
	static _Alignas(struct entry) char buffer[4096];
	const struct entry *first = (const struct entry *)(const void *)buffer;
	int fd = open(class_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool found = false;
	long length = 0;

	if (fd < 0)
		return false;
	while (!found && (length = syscall(SYS_getdents64, fd, buffer, sizeof(buffer))) > 0) {
		for (const struct entry *e = first; (const char *)e < buffer + length && !found;
		     e = next_entry(e)) {
			found = e->name[0] != '.' &&
				attribute_is(class_dir, e->name, attribute, value);
			if (found)
				snprintf(path, size, "/dev/%s", e->name);
		}
	}
	close(fd);
	return found;
}

/* Waits for the next uevents and throws them away: the caller looks for itself. */
static int wait_uevent(uint64_t deadline_ms)
{
	struct pollfd event = {.fd = guest.uevent_fd, .events = POLLIN};
	uint64_t now = monotonic_ms();
	char message[2048];

	if (now >= deadline_ms || poll(&event, 1, (int)(deadline_ms - now)) <= 0)
		return -1;
	while (recv(guest.uevent_fd, message, sizeof(message), 0) > 0)
		;
	return 0;
}

static int find_device(const char *class_dir, const char *attribute, const char *value, char *path,
		       size_t size, struct error *error)
{
	uint64_t deadline_ms = monotonic_ms() + DEVICE_WAIT_MS;

	/* Listen before looking, or a device that comes in between is missed. */
	if (open_uevents(error))
		return -1;
	while (!look_for_device(class_dir, attribute, value, path, size))
		if (wait_uevent(deadline_ms))
			return error_set(error, "no device in %s has the %s '%s'", class_dir,
					 attribute, value);
	return 0;
}

int find_disk(const char *serial, char *path, size_t size, struct error *error)
{
	return find_device("/sys/block", "serial", serial, path, size, error);
}

int wait_disk_size(const char *device, struct error *error)
{
	uint64_t deadline_ms = monotonic_ms() + DEVICE_WAIT_MS;
	char path[96];

	snprintf(path, sizeof(path), "/sys/block%s/size", strrchr(device, '/'));
	while (read_number(path, NULL) <= 1)
		if (wait_uevent(deadline_ms))
			return error_set(error, "the size of the disk %s did not come", device);
	return 0;
}

static int open_port(const char *name, int *fd, struct error *error)
{
	char path[512];

	if (find_device("/sys/class/virtio-ports", "name", name, path, sizeof(path), error))
		return -1;
	*fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return error_errno(error, "open port %s (%s)", name, path);
	return 0;
}

int open_ports(struct error *error)
{
	if (open_port(PORT_CONTROL, &guest.control_fd, error) ||
	    open_port(PORT_STDOUT, &guest.stdout_port_fd, error) ||
	    open_port(PORT_STDERR, &guest.stderr_port_fd, error))
		return -1;
	return 0;
}

/*
 * The template point: here a VM is saved, and its clones go on from here. Their disks take the
 * place of ones that had a single sector, which the host tells the kernel before it says hello, and
 * the kernel us by a uevent.
 */
int wait_job_disk(struct error *error)
{
	if (find_disk(JOBDISK_SERIAL, guest.job_device, sizeof(guest.job_device), error))
		return -1;
	guest.ready_ms = monotonic_ms();
	control_send(CONTROL_READY, "");
	if (control_receive(guest.hello, sizeof(guest.hello), error))
		return -1;
	return wait_disk_size(guest.job_device, error);
}
