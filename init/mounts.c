/* mounts: PID 1's own view of the file systems, from the first tmpfs to the job disk's end. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init/init.h"
#include "jobdisk/layout.h"

#define UNMOUNT_TRIES	 200
#define UNMOUNT_PAUSE_MS 10

#define SCRATCH JOB_DIR "/" JOBDISK_SCRATCH "/"

struct mount {
	const char *source, *target, *type;
	unsigned long flags;
	const char *options;
};

#define QUIET_FLAGS (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static const struct mount api_mounts[] = {
	{"proc", "/proc", "proc", QUIET_FLAGS, ""},
	{"sysfs", "/sys", "sysfs", QUIET_FLAGS, ""},
	{"devtmpfs", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, ""},
	{"cgroup2", CGROUP_DIR, "cgroup2", QUIET_FLAGS, ""},
};

#define PACKED_INPUTS JOB_DIR "/" JOBDISK_INPUT
#define WORKSPACE_LAYERS                                                                           \
	",upperdir=" JOB_DIR "/" JOBDISK_OUTPUT ",workdir=" JOB_DIR "/" JOBDISK_WORKDIR            \
	",redirect_dir=nofollow,metacopy=off,index=off"

/* The overlays take volatile and absolute paths in PID 1's namespace only. */
static const struct mount overlays[] = {
	{"root", ROOT_DIR, "overlay", MS_NODEV | MS_NOATIME,
	 "lowerdir=" IMAGE_DIR ",upperdir=" SCRATCH SCRATCH_ROOT
	 ",workdir=" SCRATCH SCRATCH_ROOT_WORK ",redirect_dir=nofollow,metacopy=off,volatile"},
	{"job", ROOT_DIR WORKSPACE, "overlay", MS_NODEV | MS_NOSUID | MS_NOATIME,
	 "lowerdir=" PACKED_INPUTS WORKSPACE_LAYERS},
	{"job", ROOT_DIR WORKSPACE, "overlay", MS_NODEV | MS_NOSUID | MS_NOATIME,
	 "lowerdir=" PACKED_INPUTS ":" INPUT_DIR WORKSPACE_LAYERS},
};
enum { OVERLAY_ROOT, OVERLAY_WORKSPACE, OVERLAY_WORKSPACE_ON_INPUT_DISK };

static int make_directory(const char *path, mode_t mode, struct error *error)
{
	if (mkdir(path, mode) && errno != EEXIST)
		return error_errno(error, "make directory %s", path);
	return 0;
}

static int do_mount(const struct mount *mount_, struct error *error)
{
	if (make_directory(mount_->target, 0755, error))
		return -1;
	if (mount(mount_->source, mount_->target, mount_->type, mount_->flags, mount_->options))
		return error_errno(error, "mount %s on %s", mount_->type, mount_->target);
	return 0;
}

/*
 * PID 1 moves onto a tmpfs: an initramfs cannot be left by pivot_root, and the job's namespace
 * must leave PID 1's files for good (pivot_root(2), rootfs); a root disk cannot be written.
 */
static int leave_first_root(struct error *error)
{
	static const struct mount base = {"base", GUEST_INIT_DIR, "tmpfs", MS_NOSUID | MS_NODEV,
					  "mode=0755,size=1m"};

	if (do_mount(&base, error))
		return -1;
	if (chdir(GUEST_INIT_DIR) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") ||
	    chdir("/"))
		return error_errno(error, "enter " GUEST_INIT_DIR);
	return 0;
}

int mount_api(struct error *error)
{
	if (leave_first_root(error))
		return -1;
	for (size_t i = 0; i < sizeof(api_mounts) / sizeof(api_mounts[0]); i++)
		if (do_mount(&api_mounts[i], error))
			return -1;
	return 0;
}

static int mount_disk(const char *device, const char *target, unsigned long flags,
		      struct error *error)
{
	struct mount disk = {device, target, "ext4", flags | MS_NODEV | MS_NOATIME, ""};

	return do_mount(&disk, error);
}

int mount_root(struct error *error)
{
	char device[64];

	if (find_disk(ROOTDISK_SERIAL, device, sizeof(device), error))
		return -1;
	return mount_disk(device, IMAGE_DIR, MS_RDONLY, error);
}

int mount_job_disk(struct error *error)
{
	/* In a recovery nobody has waited for it. */
	if (!guest.job_device[0] &&
	    find_disk(JOBDISK_SERIAL, guest.job_device, sizeof(guest.job_device), error))
		return -1;
	if (mount_disk(guest.job_device, JOB_DIR, MS_NOSUID | MS_NOEXEC, error))
		return -1;
	guest.job_disk_mounted = true;
	return 0;
}

/* What it takes the host to fetch is not known. */
static int mount_inputs(void)
{
	struct error ignored;

	return mount_disk(guest.input_device, INPUT_DIR, MS_RDONLY | MS_NOSUID | MS_NOEXEC,
			  &ignored)
		       ? errno
		       : 0;
}

int mount_input_disk(struct error *error)
{
	if (guest.manifest->fetch == FETCH_EAGER)
		return 0;
	if (find_disk(INPUTDISK_SERIAL, guest.input_device, sizeof(guest.input_device), error) ||
	    wait_disk_size(guest.input_device, error))
		return -1;
	errno = work_while_talking(mount_inputs);
	return errno ? error_errno(error, "mount the input disk") : 0;
}

static int make_mount_points(struct error *error)
{
	static const struct {
		const char *path;
		mode_t mode;
	} points[] = {
		{ROOT_DIR "/proc", 0755},     {ROOT_DIR "/sys", 0755},	{ROOT_DIR "/dev", 0755},
		{ROOT_DIR "/run", 0755},      {ROOT_DIR "/tmp", 01777}, {ROOT_DIR "/var", 0755},
		{ROOT_DIR "/var/tmp", 01777},
	};
	struct stat status;

	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++)
		if (make_directory(points[i].path, points[i].mode, error))
			return -1;
	/*
	 * An image made by hand may have a /tmp that only root can use. A right one stays as it is:
	 * the overlay would copy it.
	 */
	if (stat(ROOT_DIR "/tmp", &status) ||
	    ((status.st_mode & 07777) != 01777 && chmod(ROOT_DIR "/tmp", 01777)))
		return error_errno(error, "change the mode of /tmp");
	return 0;
}

int lay_out_workspace(struct error *error)
{
	int workspace = guest.manifest->fetch == FETCH_EAGER ? OVERLAY_WORKSPACE
							     : OVERLAY_WORKSPACE_ON_INPUT_DISK;

	umask(0);
	if (make_directory(SCRATCH SCRATCH_ROOT, 0755, error) ||
	    make_directory(SCRATCH SCRATCH_ROOT_WORK, 0755, error) ||
	    do_mount(&overlays[OVERLAY_ROOT], error) || make_mount_points(error) ||
	    do_mount(&overlays[workspace], error))
		return -1;
	umask(022);
	return 0;
}

/*
 * A mount that somebody still has open stays, and then so does what it holds: the VM must not run
 * another job. The last process of the job has ended, but what it had is let go of a little later.
 */
static bool unmount(const char *target)
{
	for (int tries = 0; umount2(target, UMOUNT_NOFOLLOW); tries++)
		if (errno != EBUSY || poll(NULL, 0, UNMOUNT_PAUSE_MS) || tries == UNMOUNT_TRIES)
			return false;
	return true;
}

int leave_job(struct error *error)
{
	if (!unmount(ROOT_DIR WORKSPACE) || !unmount(ROOT_DIR) || !unmount(JOB_DIR) ||
	    rmdir(JOB_CGROUP))
		return error_errno(error, "leave the job");
	return write_file("/proc/sys/vm/drop_caches", "3", error);
}

/*
 * Read-only is a statement about the file system, not about one mount of it: the kernel writes the
 * journal out and marks the file system clean, as it does before it forgets it. Nothing is written
 * from there on, whatever still holds a mount, and the VM ends before anybody could miss more.
 */
int end_job_disk(struct error *error)
{
	close_job_files();
	if (!guest.job_disk_mounted)
		return 0;
	if (mount(NULL, JOB_DIR, NULL, MS_REMOUNT | MS_RDONLY, NULL))
		return error_errno(error, "make the job disk read-only");
	guest.job_disk_mounted = false;
	return 0;
}
