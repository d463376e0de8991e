#include "host-tools/vmm/qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host-tools/confine.h"
#include "host-tools/find_image.h"
#include "host-tools/find_program.h"
#include "host-tools/vmm/machine.h"
#include "host-tools/vmm/preload/readonly.h"
#include "host-tools/vmm/tsc.h"
#include "jobdisk/layout.h"

#define ARGUMENTS_MAX 96
#define MIB	      (1024 * 1024)

/* What QEMU is told; each string is owned. */
struct arguments {
	char *items[ARGUMENTS_MAX + 1];
	size_t count;
};

/* The descriptors that QEMU inherits, by their numbers here. */
struct inherited {
	int kernel_fd, initrd_fd, root_fd, job_disk_fd, input_fd, preload_fd;
	int memory_fd; /* the file that QEMU is told to have its memory in, */
	int mapped_fd; /* and the one that it gets a private copy of instead; or -1 */
	int qmp_fd, control_fd, stdout_fd, stderr_fd, console_fd, log_fd;
};

int qemu_find(char *path, size_t size, struct error *error)
{
	return find_program("qemu-system-x86_64", "JOBVM_QEMU", "qemu-system-x86", path, size,
			    error);
}

/* --- the command line --- */

static void add(struct arguments *arguments, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void add(struct arguments *arguments, const char *format, ...)
{
	va_list values;

	va_start(values, format);
	if (arguments->count == ARGUMENTS_MAX ||
	    vasprintf(&arguments->items[arguments->count++], format, values) < 0)
		abort();
	va_end(values);
}

uint64_t qemu_memory_bytes(uint64_t wanted_bytes)
{
	return (wanted_bytes + MIB - 1) / MIB * MIB;
}

static bool is_incoming(const struct qemu_options *options)
{
	return options->start == QEMU_RESTORE || options->start == QEMU_RESUME;
}

/* A template's memory is a file that its QEMU writes and clones copy from, page by page. */
static void add_memory(struct arguments *a, const struct qemu_options *options,
		       const struct inherited *fds)
{
	uint64_t memory_bytes = qemu_memory_bytes(options->memory_bytes);

	add(a, "-m");
	add(a, "%" PRIu64 "M", memory_bytes / MIB);
	add(a, "-object");
	/* Only a template's is (preload/readonly.h). */
	add(a, "memory-backend-file,id=memory,size=%" PRIu64 ",mem-path=/proc/self/fd/%d,share=on",
	    memory_bytes, fds->memory_fd);
	if (is_incoming(options)) {
		add(a, "-incoming");
		add(a, "defer");
	}
}

/* The machine without everything that a batch job does not need. */
static void add_machine(struct arguments *a, const struct qemu_options *options,
			const struct machine *machine)
{
	bool tcg = options->accel == ACCEL_TCG;

	add(a, "-nodefaults");
	add(a, "-no-user-config");
	add(a, "-display");
	add(a, "none");
	add(a, "-no-reboot");
	add(a, "-sandbox");
	add(a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	add(a, "-machine");
	add(a, "%s,%s,dump-guest-core=off,memory-backend=memory", machine->name, machine->options);
	/* Virtio 1.0 on the bus that defaults to the draft before it. */
	add(a, "-global");
	add(a, "virtio-mmio.force-legacy=false");
	add(a, "-accel");
	add(a, tcg ? "tcg" : "kvm");
	add(a, "-cpu");
	/* Five-level page tables make every emulated page walk longer for nothing. */
	add(a, tcg ? "max,la57=off" : "host");
	add(a, "-smp");
	add(a, "%" PRIu64, options->cpus);
	add(a, "-rtc");
	add(a, "base=utc");
}

static void add_kernel(struct arguments *a, const struct qemu_options *options,
		       const struct machine *machine, const struct inherited *fds)
{
	bool tcg = options->accel == ACCEL_TCG;
	char tsc[48] = "";

	if (tcg && machine->tcg_needs_tsc)
		snprintf(tsc, sizeof(tsc), " tsc_early_khz=%" PRIu64,
			 options->tsc_khz ? options->tsc_khz : tsc_measure_khz());
	add(a, "-kernel");
	add(a, "/proc/self/fd/%d", fds->kernel_fd);
	if (fds->initrd_fd >= 0) {
		add(a, "-initrd");
		add(a, "/proc/self/fd/%d", fds->initrd_fd);
	}
	add(a, "-append");
	/*
	 * A panic resets at once, and -no-reboot makes that QEMU's end. Speculation does not
	 * happen on an emulated processor, so its mitigations only cost there.
	 */
	add(a, "console=ttyS0 quiet panic=-1 reboot=t random.trust_cpu=on%s%s%s%s%s%s",
	    machine->kernel_words, tsc, tcg ? " mitigations=off" : "",
	    tcg ? machine->tcg_words : "",
	    tcg && options->cpus == 1 ? machine->tcg_single_words : "",
	    options->recovery ? " " GUEST_RECOVERY_WORD : "");
}

static void add_disk_device(struct arguments *a, const struct machine *machine, const char *id,
			    const char *serial)
{
	add(a, "-device");
	/* Without a write cache, as the guest sees it, it spares flushes that we do not do. */
	add(a, "virtio-blk-%s,drive=%s,serial=%s,write-cache=off,werror=report,rerror=report",
	    machine->bus, id, serial);
}

/*
 * cache.no-flush: the host syncs the disk once, after QEMU's end; until then the data is safe in
 * the page cache, also if QEMU dies. Always raw: a guest can write any header onto its disk.
 */
static void add_disk(struct arguments *a, const struct machine *machine, const char *id,
		     const char *serial, int fd, bool writable)
{
	add(a, "-add-fd");
	add(a, "fd=%d,set=%d", fd, fd);
	add(a, "-blockdev");
	add(a,
	    "driver=raw,node-name=%s,read-only=%s,cache.no-flush=on,file.driver=file,"
	    "file.filename=/dev/fdset/%d,file.locking=off,file.cache.no-flush=on",
	    id, writable ? "off" : "on", fd);
	add_disk_device(a, machine, id, serial);
}

/* A template's is an empty file; the guest cannot tell the one from the other. */
static void add_input_disk(struct arguments *a, const struct qemu_options *options,
			   const struct machine *machine, const struct inherited *fds)
{
	if (options->start == QEMU_SAVE) {
		add_disk(a, machine, QEMU_INPUT_NODE, INPUTDISK_SERIAL, fds->input_fd, true);
		return;
	}
	add(a, "-blockdev");
	add(a, "driver=nbd,node-name=" QEMU_INPUT_NODE ",server.type=fd,server.str=%d",
	    fds->input_fd);
	add_disk_device(a, machine, QEMU_INPUT_NODE, INPUTDISK_SERIAL);
}

static void add_port(struct arguments *a, const char *name, int fd)
{
	add(a, "-chardev");
	add(a, "socket,id=%s,fd=%d", name, fd);
	add(a, "-device");
	add(a, "virtserialport,chardev=%s,name=%s", name, name);
}

static void build_arguments(struct arguments *a, const char *program,
			    const struct qemu_options *options, const struct inherited *fds)
{
	const struct machine *machine = machine_find(options->image->machine);

	add(a, "%s", program);
	add_machine(a, options, machine);
	add_memory(a, options, fds);
	add_kernel(a, options, machine, fds);
	add_disk(a, machine, "root", ROOTDISK_SERIAL, fds->root_fd, false);
	if (fds->job_disk_fd >= 0)
		add_disk(a, machine, QEMU_JOB_NODE, JOBDISK_SERIAL, fds->job_disk_fd, true);
	if (options->has_input_disk)
		add_input_disk(a, options, machine, fds);
	add(a, "-device");
	add(a, "virtio-serial-%s,max_ports=4", machine->bus);
	add_port(a, PORT_CONTROL, fds->control_fd);
	add_port(a, PORT_STDOUT, fds->stdout_fd);
	add_port(a, PORT_STDERR, fds->stderr_fd);
	add(a, "-chardev");
	add(a, "socket,id=console,fd=%d", fds->console_fd);
	add(a, "-serial");
	add(a, "chardev:console");
	add(a, "-chardev");
	add(a, "socket,id=qmp,fd=%d", fds->qmp_fd);
	add(a, "-mon");
	add(a, "chardev=qmp,mode=control");
}

static void free_arguments(struct arguments *arguments)
{
	for (size_t i = 0; i < arguments->count; i++)
		free(arguments->items[i]);
}

char *qemu_describe(const struct qemu_options *options)
{
	/* What a template and its clone do not share is left out: descriptors and sharing. */
	const struct inherited fds = {.initrd_fd = options->image->initrd ? 0 : -1};
	struct qemu_options same = *options;
	struct arguments arguments = {.count = 0};
	char *text = NULL;
	size_t length;

	same.start = QEMU_SAVE;
	same.tsc_khz = 1;
	build_arguments(&arguments, "qemu", &same, &fds);
	FILE *stream = open_memstream(&text, &length);
	for (size_t i = 0; stream && i < arguments.count; i++)
		fprintf(stream, "%s\n", arguments.items[i]);
	free_arguments(&arguments);
	if (!stream || fclose(stream))
		abort();
	return text;
}

/* --- the child's side --- */

static int inherit(const struct inherited *fds)
{
	const int kept[] = {fds->kernel_fd, fds->initrd_fd,  fds->root_fd,   fds->job_disk_fd,
			    fds->input_fd,  fds->memory_fd,  fds->mapped_fd, fds->preload_fd,
			    fds->qmp_fd,    fds->control_fd, fds->stdout_fd, fds->stderr_fd,
			    fds->console_fd};
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(fds->log_fd, 1) < 0 ||
	    dup2(fds->log_fd, 2) < 0)
		return -1;
	if (syscall(SYS_close_range, 3, ~0U, 1U << 2 /* CLOSE_RANGE_CLOEXEC */))
		return -1;
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (kept[i] >= 0 && fcntl(kept[i], F_SETFD, 0))
			return -1;
	return 0;
}

static gid_t kvm_group(const struct qemu_options *options)
{
	struct stat status;

	if (options->accel != ACCEL_KVM || stat("/dev/kvm", &status))
		return 0;
	return status.st_gid;
}

/*
 * No core dump of the guest's memory, and no file that grows beyond the job disk's size, or the
 * template's.
 */
static int limit_resources(const struct qemu_options *options, const struct inherited *fds)
{
	struct rlimit none = {0, 0};
	struct stat disk = {0};

	if (fds->job_disk_fd >= 0 && fstat(fds->job_disk_fd, &disk))
		return -1;
	rlim_t most = (rlim_t)disk.st_size;
	if (options->start == QEMU_SAVE)
		most = options->state_max_bytes;
	if (options->disk_max_bytes > 0)
		most = options->disk_max_bytes;
	struct rlimit file = {most, most};
	return setrlimit(RLIMIT_CORE, &none) || setrlimit(RLIMIT_FSIZE, &file) ? -1 : 0;
}

static int confine(const struct qemu_options *options, const struct inherited *fds, char *program)
{
	const struct confine_rule rules[] = {
		{.path = "/usr", .access = CONFINE_READ},
		{.path = "/lib", .access = CONFINE_READ},
		{.path = "/lib64", .access = CONFINE_READ},
		{.path = "/etc/ld.so.cache", .access = CONFINE_READ},
		{.path = "/dev/null", .access = CONFINE_READ_WRITE},
		{.path = dirname(program), .access = CONFINE_READ},
		{.fd = fds->kernel_fd, .access = CONFINE_READ},
		{.fd = fds->initrd_fd >= 0 ? fds->initrd_fd : fds->kernel_fd,
		 .access = CONFINE_READ},
		{.path = options->accel == ACCEL_KVM ? "/dev/kvm" : "/dev/null",
		 .access = CONFINE_READ_WRITE},
		{.fd = fds->preload_fd, .access = CONFINE_READ},
		{.fd = fds->memory_fd, .access = CONFINE_READ_WRITE},
	};
	/* Only a template's memory is opened by its name. */
	size_t count = sizeof(rules) / sizeof(rules[0]) - (options->start != QEMU_SAVE);

	confine_network();
	if (limit_resources(options, fds) || confine_user(kvm_group(options)))
		return -1;
	return confine_files(rules, count);
}

/* How a job's QEMU is made to have its memory for itself (preload/readonly.h). */
struct preload {
	char library[48], opened[48], mapped[48];
};

static void add_preload(struct preload *preload, const struct inherited *fds, char **environment)
{
	snprintf(preload->library, sizeof(preload->library), "LD_PRELOAD=/proc/self/fd/%d",
		 fds->preload_fd);
	snprintf(preload->opened, sizeof(preload->opened), READONLY_VARIABLE "=%d", fds->memory_fd);
	snprintf(preload->mapped, sizeof(preload->mapped), MAPPED_VARIABLE "=%d", fds->mapped_fd);
	environment[0] = preload->library;
	environment[1] = preload->opened;
	environment[2] = preload->mapped;
}

/* Never returns; what fails is said on the log. */
static void run_child(const struct qemu_options *options, const struct inherited *fds,
		      struct arguments *arguments, pid_t parent)
{
	char *environment[] = {(char *)(uintptr_t) "PATH=/usr/bin:/bin",
			       (char *)(uintptr_t) "LC_ALL=C",
			       NULL,
			       NULL,
			       NULL,
			       NULL};
	struct preload preload = {.library = ""};
	char program[PATH_MAX];

	snprintf(program, sizeof(program), "%s", arguments->items[0]);
	if (options->start != QEMU_SAVE)
		add_preload(&preload, fds, environment + 2);
	confine_signals();
	/* Own session: a terminal's Ctrl-C is for jobvm, which then ends QEMU in order. */
	if (setsid() < 0 || chdir("/") || inherit(fds) || confine(options, fds, program) ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)) {
		dprintf(fds->log_fd, "cannot confine QEMU: %s\n", strerror(errno));
		_exit(126);
	}
	/* The death signal is not sent for a parent that died before it was asked for. */
	if (getppid() == parent)
		execve(arguments->items[0], arguments->items, environment);
	dprintf(fds->log_fd, "cannot execute %s: %s\n", arguments->items[0], strerror(errno));
	_exit(126);
}

/* --- our side --- */

static int open_file(const char *path, int *fd, struct error *error)
{
	*fd = -1;
	if (!path)
		return 0;
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*fd < 0)
		return error_errno(error, "open %s", path);
	return 0;
}

static int open_image(const struct image *image, struct inherited *fds, struct error *error)
{
	if (open_file(image->kernel, &fds->kernel_fd, error) ||
	    open_file(image->initrd, &fds->initrd_fd, error) ||
	    open_file(image->root, &fds->root_fd, error))
		return -1;
	return 0;
}

static bool is_clone(const struct qemu_options *options)
{
	return options->start == QEMU_RESTORE ||
	       (options->start == QEMU_RESUME && options->is_cloned);
}

int qemu_open_mapped(const struct qemu_options *options, struct error *error)
{
	int fd = is_clone(options) ? fcntl(options->memory_fd, F_DUPFD_CLOEXEC, 3)
				   : open("/dev/zero", O_RDWR | O_CLOEXEC);

	return fd < 0 ? error_errno(error, "open the VM's memory") : fd;
}

/* A file of the right size, which stays empty: what it would hold, QEMU has for itself. */
static int make_memory(const struct qemu_options *options, struct error *error)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)qemu_memory_bytes(options->memory_bytes)))
		return error_errno(error, "make the VM's memory");
	return fd;
}

/* The memory of its own that a template's QEMU has it in, or the one that others copy. */
static int open_memory(const struct qemu_options *options, struct inherited *fds,
		       struct error *error)
{
	char path[PATH_MAX];

	if (options->start == QEMU_SAVE || is_clone(options))
		fds->memory_fd = fcntl(options->memory_fd, F_DUPFD_CLOEXEC, 3);
	else
		fds->memory_fd = make_memory(options, error);
	if (fds->memory_fd < 0)
		return -1;
	if (find_part(READONLY_LIBRARY, path, sizeof(path)))
		return error_set(error, READONLY_LIBRARY " is not beside jobvm, or not installed");
	if (open_file(path, &fds->preload_fd, error))
		return -1;
	if (options->start != QEMU_SAVE)
		fds->mapped_fd = qemu_open_mapped(options, error);
	return options->start != QEMU_SAVE && fds->mapped_fd < 0 ? -1 : 0;
}

static int make_socket(int *ours, int *theirs, struct error *error)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return error_errno(error, "make a socket pair");
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	*ours = ends[0];
	*theirs = ends[1];
	return 0;
}

static int make_sockets(struct qemu *qemu, struct inherited *fds, struct error *error)
{
	if (make_socket(&qemu->qmp_fd, &fds->qmp_fd, error) ||
	    make_socket(&qemu->control_fd, &fds->control_fd, error) ||
	    make_socket(&qemu->stdout_fd, &fds->stdout_fd, error) ||
	    make_socket(&qemu->stderr_fd, &fds->stderr_fd, error) ||
	    make_socket(&qemu->console_fd, &fds->console_fd, error) ||
	    make_socket(&qemu->log_fd, &fds->log_fd, error))
		return -1;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void close_inherited(const struct inherited *fds)
{
	const int ends[] = {fds->kernel_fd,  fds->initrd_fd,  fds->root_fd,   fds->preload_fd,
			    fds->qmp_fd,     fds->control_fd, fds->stdout_fd, fds->stderr_fd,
			    fds->console_fd, fds->log_fd,     fds->memory_fd, fds->mapped_fd};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		close_fd(ends[i]);
}

void qemu_close(struct qemu *qemu)
{
	const int ends[] = {qemu->pid_fd,    qemu->qmp_fd,     qemu->control_fd, qemu->stdout_fd,
			    qemu->stderr_fd, qemu->console_fd, qemu->log_fd};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		close_fd(ends[i]);
}

static int spawn(const struct qemu_options *options, struct qemu *qemu, const struct inherited *fds,
		 struct error *error)
{
	struct arguments arguments = {.count = 0};
	char program[PATH_MAX];
	pid_t parent = getpid();

	if (qemu_find(program, sizeof(program), error))
		return -1;
	build_arguments(&arguments, program, options, fds);
	qemu->pid = fork();
	if (qemu->pid == 0)
		run_child(options, fds, &arguments, parent);
	free_arguments(&arguments);
	if (qemu->pid < 0)
		return error_errno(error, "start QEMU");
	qemu->pid_fd = (int)syscall(SYS_pidfd_open, qemu->pid, 0);
	if (qemu->pid_fd < 0) {
		kill(qemu->pid, SIGKILL);
		return error_errno(error, "watch QEMU's process");
	}
	return 0;
}

int qemu_start(const struct qemu_options *options, struct qemu *qemu, struct error *error)
{
	struct inherited fds;

	memset(&fds, -1, sizeof(fds));
	memset(qemu, -1, sizeof(*qemu));
	fds.job_disk_fd = options->job_disk_fd;
	if (options->has_input_disk)
		fds.input_fd = options->input_fd;
	int failed = open_image(options->image, &fds, error) || open_memory(options, &fds, error) ||
		     make_sockets(qemu, &fds, error) || spawn(options, qemu, &fds, error);
	close_inherited(&fds);
	if (failed)
		qemu_close(qemu);
	return failed ? -1 : 0;
}
