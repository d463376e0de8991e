#include "host-tools/accel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-tools/vmm/vm.h"

#define PROBE_MEMORY_BYTES (256ULL << 20)
#define PROBE_TIMEOUT_MS   20000

const char *accel_name(enum job_accel accel)
{
	return accel == ACCEL_KVM ? "kvm" : "tcg";
}

const char *accel_isolation(enum job_accel accel)
{
	return accel == ACCEL_KVM ? "hardware" : "emulated";
}

static bool processor_has_virtualisation(void)
{
	char line[8192];
	bool found = false;
	FILE *cpuinfo = fopen("/proc/cpuinfo", "re");

	if (!cpuinfo)
		return false;
	while (!found && fgets(line, sizeof(line), cpuinfo))
		found = strncmp(line, "flags", 5) == 0 &&
			(strstr(line, " vmx ") || strstr(line, " svm "));
	fclose(cpuinfo);
	return found;
}

static bool probe_boot(const struct image *image)
{
	static struct vm_outcome outcome;
	struct error error;
	const struct vm_options options = {
		.qemu = {.image = image,
			 .accel = ACCEL_KVM,
			 .memory_bytes = PROBE_MEMORY_BYTES,
			 .cpus = 1,
			 .job_disk_fd = -1},
		.stdout_fd = -1,
		.stderr_fd = -1,
		.boot_timeout_ms = PROBE_TIMEOUT_MS,
		.heartbeat_timeout_ms = PROBE_TIMEOUT_MS,
		.stop_at_first_word = true,
	};

	return vm_run(&options, &outcome, &error) == 0 && outcome.times.first_word != RECORD_UNSET;
}

/* The answer is kept until the host boots again, for the probe costs a boot. */
static int open_answer(int flags)
{
	char boot_id[64] = "", path[256];
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (file) {
		if (fscanf(file, "%63s", boot_id) != 1)
			boot_id[0] = '\0';
		fclose(file);
	}
	if (geteuid() == 0)
		runtime = "/run";
	if (!runtime || !boot_id[0])
		return -1;
	snprintf(path, sizeof(path), "%s/jobvm-kvm-%s", runtime, boot_id);
	return open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static bool probe_with_memory(const struct image *image)
{
	char answer = '?';
	int fd = open_answer(O_RDONLY);

	if (fd >= 0) {
		if (read(fd, &answer, 1) != 1)
			answer = '?';
		close(fd);
	}
	if (answer == 'y' || answer == 'n')
		return answer == 'y';
	bool works = probe_boot(image);
	fd = open_answer(O_WRONLY | O_CREAT | O_TRUNC);
	/* Without a place to remember it, the next run asks again. */
	if (fd >= 0) {
		dprintf(fd, "%c\n", works ? 'y' : 'n');
		close(fd);
	}
	return works;
}

bool accel_kvm_works(const struct image *image, char *why, size_t size)
{
	if (access("/dev/kvm", R_OK | W_OK)) {
		snprintf(why, size, "/dev/kvm: %s%s", strerror(errno),
			 errno == EACCES ? " (is this user in the group 'kvm'?)" : "");
		return false;
	}
	if (!processor_has_virtualisation()) {
		snprintf(why, size, "the processor shows neither 'vmx' nor 'svm'");
		return false;
	}
	if (!probe_with_memory(image)) {
		snprintf(why, size, "/dev/kvm opens, but does not boot the guest kernel");
		return false;
	}
	return true;
}

int accel_choose(enum job_accel wanted, bool require_hardware, const struct image *image,
		 struct error *error)
{
	char why[256];

	if (wanted == ACCEL_TCG && require_hardware)
		return error_set(error, "hardware isolation is required, and TCG is emulation");
	if (wanted == ACCEL_TCG)
		return ACCEL_TCG;
	if (accel_kvm_works(image, why, sizeof(why)))
		return ACCEL_KVM;
	if (wanted == ACCEL_KVM || require_hardware)
		return error_set(error, "KVM does not work here: %s", why);
	return ACCEL_TCG;
}
