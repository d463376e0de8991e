/* disk: the records on the job disk: the manifest in, the result out. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "init/init.h"
#include "jobdisk/layout.h"

#define MANIFEST_PATH JOB_DIR "/" JOBDISK_MANIFEST

static int read_record(const char *path, struct record_buffer *buffer, struct error *error)
{
	size_t length = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return error_errno(error, "open %s", path);
	while (length < sizeof(buffer->text)) {
		ssize_t got = read(fd, buffer->text + length, sizeof(buffer->text) - length);
		if (got < 0)
			error_errno(error, "read %s", path);
		if (got <= 0) {
			close(fd);
			return got < 0 ? -1 : (int)length;
		}
		length += (size_t)got;
	}
	close(fd);
	return (int)length;
}

int read_manifest(struct error *error)
{
	int length = read_record(MANIFEST_PATH, &guest.shared->manifest_buffer, error);

	if (length < 0)
		return -1;
	if (record_parse(&manifest_schema, "/" JOBDISK_MANIFEST, &guest.shared->manifest_buffer,
			 (size_t)length, &guest.shared->manifest, error))
		return -1;
	if (guest.manifest->privileged && guest.manifest->user != USER_ROOT)
		return error_set(error, "/" JOBDISK_MANIFEST ": key 'privileged': needs user=root");
	guest.result.job_id = guest.manifest->job_id;
	guest.result.privileged = guest.manifest->privileged;
	return 0;
}

/* Overwrites what was allocated when the disk was made: this works on a full disk. */
static int write_record(int fd, const char *text, size_t length, struct error *error)
{
	for (size_t done = 0; done < length;) {
		ssize_t written = pwrite(fd, text + done, length - done, (off_t)done);
		if (written < 0 && errno != EINTR)
			return error_errno(error, "write /" JOBDISK_RESULT_NEW);
		if (written > 0)
			done += (size_t)written;
	}
	if (ftruncate(fd, (off_t)length) || fsync(fd))
		return error_errno(error, "sync /" JOBDISK_RESULT_NEW);
	return 0;
}

static int sync_all(void)
{
	sync();
	return 0;
}

/* What the job wrote may be gigabytes. What is committed and unmounted afterwards is little. */
int sync_job_disk(struct error *error)
{
	if (!guest.job_disk_mounted)
		return 0;
	errno = work_while_talking(sync_all);
	return errno ? error_errno(error, "sync the job disk") : 0;
}

int commit_result(struct error *error)
{
	static char text[RECORD_MAX_BYTES + 1];

	if (!guest.job_disk_mounted)
		return 0;
	long length = record_format(&result_schema, &guest.result, text, error);
	if (length < 0)
		return -1;
	int fd = open(JOB_DIR "/" JOBDISK_RESULT_NEW, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return error_errno(error, "open /" JOBDISK_RESULT_NEW);
	int failed = write_record(fd, text, (size_t)length, error);
	close(fd);
	if (failed)
		return -1;
	if (rename(JOB_DIR "/" JOBDISK_RESULT_NEW, JOB_DIR "/" JOBDISK_RESULT))
		return error_errno(error, "rename /" JOBDISK_RESULT_NEW);
	int directory_fd = open(JOB_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory_fd < 0)
		return error_errno(error, "open the job disk's root");
	failed = fsync(directory_fd) ? error_errno(error, "sync the job disk's root") : 0;
	close(directory_fd);
	return failed;
}

/*
 * The host ends the VM when it has taken all of the job's output, which may wait for a slow
 * reader. A host that hangs up, or stays away for an hour, is not waited for. Whether it has said
 * something.
 */
static bool wait_for_host(void)
{
	struct pollfd port = {.fd = guest.control_fd, .events = POLLIN};

	for (int seconds = 0; seconds < 3600; seconds++) {
		if (poll(&port, 1, CONTROL_ALIVE_MS) != 0)
			return port.revents == POLLIN;
		control_send(CONTROL_ALIVE, "");
	}
	return false;
}

/*
 * Nothing that PID 1 has in its memory is of any use for another job: it begins anew. Returns only
 * where that is not wanted, or cannot be: then the VM ends.
 */
static void begin_again(struct error *error)
{
	static char name[] = "init", word[] = GUEST_AGAIN_WORD;
	char *const arguments[] = {name, word, NULL};
	char line[CONTROL_LINE_BYTES];

	if (control_receive(line, sizeof(line), error) || strcmp(line, CONTROL_AGAIN) != 0)
		return;
	if (leave_job(error))
		return;
	execv("/proc/self/exe", arguments);
}

int power_off(struct error *error)
{
	if (!guest.job_disk_mounted) {
		control_send(CONTROL_UNMOUNTED, "");
		if (wait_for_host())
			begin_again(error);
	} else {
		control_send(CONTROL_OFF, "");
	}
	reboot(RB_POWER_OFF);
	return error_errno(error, "power off");
}
