#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

#include "init/init.h"

struct guest guest;

struct stage {
	const char *name;
	int (*run)(struct error *error);
};

static const struct stage stages[] = {
	{"load_modules", load_modules}, /* while an initramfs is still the root */
	{"mount_api", mount_api},	  {"open_ports", open_ports},
	{"mount_root", mount_root},	  {"wait_job_disk", wait_job_disk},
	{"make_unique", make_unique},	  {"mount_job_disk", mount_job_disk},
	{"read_manifest", read_manifest}, {"lay_out_workspace", lay_out_workspace},
	{"apply_limits", apply_limits},	  {"start_job", start_job},
	{"supervise", supervise},
};

/* Run whatever happened before. */
static const struct stage last_stages[] = {
	{"sync", sync_job_disk},
	{"commit_result", commit_result},
	{"unmount", unmount_all},
	{"power_off", power_off},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void note_timing(const char *stage)
{
	struct record_list *timings = &guest.result.stage_timings;
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	snprintf(guest.timings[timings->count], sizeof(guest.timings[0]), "%s %lld.%06ld", stage,
		 (long long)now.tv_sec, now.tv_nsec / 1000);
	guest.timing_items[timings->count] = guest.timings[timings->count];
	timings->items = guest.timing_items;
	timings->count++;
}

static int run_stage(const struct stage *stage, struct error *error)
{
	guest.stage = stage->name;
	note_timing(stage->name);
	control_send(CONTROL_STAGE, stage->name);
	return stage->run(error);
}

/* Makes a fatal error the result, and tells host and console at once. */
static void give_up(const struct error *error)
{
	guest.fatal = *error;
	guest.result.status = STATUS_FAILED_TO_START;
	guest.result.stage = guest.stage;
	guest.result.message = guest.fatal.text;

	char line[CONTROL_LINE_BYTES];
	snprintf(line, sizeof(line), "%s %s", guest.stage, error->text);
	control_send(CONTROL_FATAL, line);
	dprintf(STDERR_FILENO, "jobvm init: %s: %s\n", guest.stage, error->text);
}

int main(void)
{
	struct error error;

	guest.control_fd = guest.stdout_port_fd = guest.stderr_port_fd = guest.uevent_fd = -1;
	guest.out.file_fd = guest.err.file_fd = -1;
	guest.result = result_defaults();
	for (size_t i = 0; i < COUNT(stages); i++) {
		if (run_stage(&stages[i], &error)) {
			give_up(&error);
			break;
		}
	}
	for (size_t i = 0; i < COUNT(last_stages); i++)
		if (run_stage(&last_stages[i], &error))
			give_up(&error);
	/* Only reached when power_off failed; a restart ends the VM too (-no-reboot). */
	reboot(RB_AUTOBOOT);
	return 1;
}
