#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

#include "init/init.h"
#include "jobdisk/layout.h"

struct guest guest;

/* Why this time a stage is left out. */
#define RECOVERY 1U /* the job disk is only to be mounted and unmounted */
#define AGAIN	 2U /* this VM has had another job */
static unsigned kind_of_run;

struct stage {
	const char *name;
	int (*run)(struct error *error);
	unsigned not_in; /* RECOVERY, AGAIN */
};

static const struct stage stages[] = {
	{"load_modules", load_modules, AGAIN}, /* while an initramfs is still the root */
	{"mount_api", mount_api, AGAIN},
	{"open_ports", open_ports, 0},
	{"mount_root", mount_root, RECOVERY | AGAIN},
	{"prepare_limits", prepare_limits, RECOVERY},
	{"prepare_job", prepare_job, RECOVERY},
	{"wait_job_disk", wait_job_disk, RECOVERY},
	{"make_unique", make_unique, RECOVERY},
	{CONTROL_MOUNTING, mount_job_disk, 0},
	{"read_manifest", read_manifest, RECOVERY},
	{"mount_input_disk", mount_input_disk, RECOVERY},
	{"lay_out_workspace", lay_out_workspace, RECOVERY},
	{"apply_limits", apply_limits, RECOVERY},
	{"start_job", start_job, RECOVERY},
	{"supervise", supervise, RECOVERY},
};

/* Run whatever happened before. */
static const struct stage last_stages[] = {
	{"sync", sync_job_disk, RECOVERY},
	{"commit_result", commit_result, RECOVERY},
	{"unmount", end_job_disk, 0},
	{"power_off", power_off, 0},
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
	if (stage->not_in & kind_of_run)
		return 0;
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

int main(int argc, char **argv)
{
	struct error error;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], GUEST_RECOVERY_WORD) == 0)
			kind_of_run |= RECOVERY;
		if (strcmp(argv[i], GUEST_AGAIN_WORD) == 0)
			kind_of_run |= AGAIN;
	}
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
