#include "host-tools/recovery.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fsimage/copy.h"
#include "host-tools/message.h"
#include "host-tools/vmm/machine.h"
#include "host-tools/vmm/vm.h"

/* Beyond the machine's base: the journal's blocks and what they are written to. */
#define RECOVERY_MEMORY_BYTES (64ULL << 20)

static struct vm_outcome outcome;

int recovery_cancel_signal(void)
{
	return outcome.cancel_signal;
}

bool recovery_is_for(enum job_status status)
{
	return status != STATUS_INVALID_RESULT;
}

static void show_stage(void *context, const char *stage)
{
	(void)context;
	progress_show("%s", stage);
}

/* A guest that the journal took over may say `alive` for ever: the VM as a whole has a limit. */
static int run_vm(const struct boot *boot, const struct timeouts *timeouts, int copy_fd,
		  struct error *error)
{
	const struct manifest limits = {
		.time_limit_ms = RECORD_UNSET,
		.job_time_limit_ms = timeouts->boot_ms + timeouts->heartbeat_ms,
	};
	const struct vm_options options = {
		.qemu = {.image = &boot->image,
			 .accel = boot->accel,
			 .memory_bytes = machine_find(boot->image.machine)->memory_base_bytes +
					 RECOVERY_MEMORY_BYTES,
			 .cpus = 1,
			 .job_disk_fd = copy_fd,
			 .recovery = true},
		.manifest = &limits,
		.stdout_fd = -1,
		.stderr_fd = -1,
		.boot_timeout_ms = timeouts->boot_ms,
		.heartbeat_timeout_ms = timeouts->heartbeat_ms,
		.on_stage = show_stage,
	};

	if (vm_run(&options, &outcome, error))
		return -1;
	if (!outcome.clean && outcome.status == STATUS_TIMEOUT)
		return error_set(error, "it took longer than %.1f s",
				 (double)limits.job_time_limit_ms / 1000);
	if (!outcome.clean)
		return error_set(error, "%s", outcome.message);
	return 0;
}

int recovery_make(const struct boot *boot, const struct timeouts *timeouts, int disk_fd,
		  const char *disk_name, const struct packed *copy, struct error *error)
{
	memset(&outcome, 0, sizeof(outcome));
	progress_phase("recovering");
	progress_show("copying");
	if (copy_whole(disk_fd, copy->fd))
		return error_errno(error, "%s: copy it for its recovery", disk_name);
	int failed = run_vm(boot, timeouts, copy->fd, error);
	progress_clear();
	return failed ? error_prefix(error, "%s cannot be recovered", disk_name) : 0;
}

int recovery_replace(const struct boot *boot, const struct timeouts *timeouts, int disk_fd,
		     const char *disk_name, struct error *error)
{
	struct packed copy;

	if (pack_open(NULL, &copy, error))
		return -1;
	int failed = recovery_make(boot, timeouts, disk_fd, disk_name, &copy, error);
	if (!failed && dup3(copy.fd, disk_fd, O_CLOEXEC) < 0)
		failed = error_errno(error, "use the recovered copy of %s", disk_name);
	close(copy.fd);
	return failed;
}

int recovery_read(struct disk *disk, int disk_fd, int inputs_fd, const char *disk_name,
		  struct error *error)
{
	disk_close(disk);
	int unread = disk_read(disk, disk_fd, inputs_fd, disk_name, DISK_PARTIAL, error);

	if (unread == 0 && disk->problem[0])
		return error_set(error, "%s: %s", disk_name, disk->problem);
	/* That it was unmounted was only the guest's word. */
	if (unread > 0)
		error_set(error, "%s cannot be recovered: the guest left it as it was", disk_name);
	return unread ? -1 : 0;
}
