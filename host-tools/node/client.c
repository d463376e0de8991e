#include "host-tools/node/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host-tools/extract.h"
#include "host-tools/message.h"
#include "host-tools/node/spool.h"
#include "host-tools/sidefile.h"
#include "host-tools/signals.h"
#include "host-tools/stored.h"
#include "jobdisk/layout.h"

/*
 * How often a client looks for its results. Only who may list done/ could be told of them, and then
 * of everybody's. It looks less often for a job that takes long.
 */
#define LOOK_NS	     (10 * 1000 * 1000)
#define LOOK_LATE_NS (200 * 1000 * 1000)
#define LOOKS_SOON   500

int client_open(struct client *client, const char *path, char pack_path[PATH_MAX],
		struct error *error)
{
	char resolved[PATH_MAX];

	*client = (struct client){.disk_fd = -1};
	if (!realpath(path, resolved))
		return error_errno(error, "find the spool %s", path);
	if (strlen(resolved) >= sizeof(client->spool))
		return error_set(error, "%s: its path is too long", path);
	snprintf(client->spool, sizeof(client->spool), "%s", resolved);
	snprintf(pack_path, PATH_MAX, "%s/" SPOOL_NEW "/job", client->spool);
	if (!spool_has_node(client->spool))
		message_note("no node works in %s now; the job waits for one", client->spool);
	return 0;
}

/* --- waiting --- */

static void name_in(const struct client *client, const struct packed *packed, const char *suffix,
		    char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/" SPOOL_NEW "/%s%s", client->spool, packed->job_id, suffix);
}

/*
 * Withdraws a job that no node has taken, or asks for the end of one that it has. 1: it was
 * withdrawn; 0: its end is to come; -1 with ERROR set.
 */
static int cancel(const struct client *client, const struct packed *packed, struct error *error)
{
	char path[PATH_MAX];

	name_in(client, packed, SPOOL_RETURNED, path);
	if (unlink(path) == 0)
		return 1;
	if (errno != ENOENT)
		return error_errno(error, "withdraw %s", path);
	name_in(client, packed, SPOOL_CANCEL, path);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(error, "make %s", path);
	close(fd);
	return 0;
}

/* One that the node did not need any more. */
static void end_cancel(const struct client *client, const struct packed *packed)
{
	char path[PATH_MAX];

	name_in(client, packed, SPOOL_CANCEL, path);
	unlink(path);
}

/* Returns when the results are there. -1 with ERROR set: they will not be, or are not waited for.
 */
static int wait_for_results(struct client *client, const struct packed *packed,
			    const sigset_t *caught, struct error *error)
{
	for (unsigned looks = 0; access(client->place, F_OK); looks += looks < LOOKS_SOON) {
		const struct timespec pause = {.tv_nsec =
						       looks < LOOKS_SOON ? LOOK_NS : LOOK_LATE_NS};
		int number = sigtimedwait(caught, NULL, &pause);
		if (number < 0)
			continue;
		bool is_second = client->cancel_signal != 0;
		client->cancel_signal = number;
		if (is_second)
			return error_set(error,
					 "the node still ends the job; its results come to %s",
					 client->place);
		int withdrawn = cancel(client, packed, error);
		if (withdrawn < 0)
			return -1;
		if (withdrawn)
			return error_set(error, "cancelled by signal %d (%s) before a node had it",
					 number, strsignal(number));
	}
	if (client->cancel_signal)
		end_cancel(client, packed);
	return 0;
}

/* --- what came back --- */

/* Only a node that may give it to us has made it so; what others put there is not believed. */
static int check_place(const struct client *client, struct error *error)
{
	struct stat status;

	if (lstat(client->place, &status))
		return error_errno(error, "read %s", client->place);
	if (!S_ISDIR(status.st_mode) || status.st_uid != geteuid())
		return error_set(error, "%s: is not this user's: no node has made it for this job",
				 client->place);
	return 0;
}

/* Why there was no VM for the job, into ERROR; false: there was one. */
static bool is_refused(const struct client *client, struct error *error)
{
	char path[PATH_MAX], why[ERROR_TEXT_BYTES / 2] = "";

	snprintf(path, sizeof(path), "%s/" SPOOL_ERROR, client->place);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	if (!fgets(why, sizeof(why), file))
		snprintf(why, sizeof(why), "%s cannot be read", path);
	fclose(file);
	why[strcspn(why, "\n")] = '\0';
	error_set(error, "the node: %s", why);
	return true;
}

static int take(struct client *client, const struct packed *packed, struct report *report,
		struct disk *disk, struct error *error)
{
	if (is_refused(client, error))
		return -1;
	if (!check_place(client, error))
		client->disk_fd = stored_open(client->disk_path, report, disk, error);
	if (client->disk_fd < 0) {
		/* It stays where it is. */
		client->place[0] = '\0';
		return -1;
	}
	/* Nobody has asked for what a cancelled job left. */
	if (report->status == STATUS_CANCELLED)
		json_object_del(report->host, REPORT_RECOVERY);
	if (report->disk && strcmp(disk->job_id, packed->job_id) != 0)
		return error_set(error, "%s: is another job's", client->disk_path);
	return 0;
}

int client_run(struct client *client, const struct packed *packed, struct report *report,
	       struct disk *disk, struct error *error)
{
	sigset_t caught, before;
	char path[PATH_MAX];

	name_in(client, packed, SPOOL_RETURNED, path);
	snprintf(client->place, sizeof(client->place), "%s/" SPOOL_DONE "/%s", client->spool,
		 packed->job_id);
	snprintf(client->disk_path, sizeof(client->disk_path), "%s/" SPOOL_JOB_DISK, client->place);
	/* A reader of our output that went away shows as EPIPE. */
	signal(SIGPIPE, SIG_IGN);
	signals_block(&caught, &before);
	int failed = pack_publish(packed, path, error) ||
		     wait_for_results(client, packed, &caught, error);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return failed || take(client, packed, report, disk, error) ? -1 : 0;
}

/* A reader that has gone wants no more. */
static int write_all(int from_fd, int to_fd)
{
	char bytes[65536];
	ssize_t got;

	if (lseek(from_fd, 0, SEEK_SET))
		return -1;
	while ((got = read(from_fd, bytes, sizeof(bytes))) > 0)
		for (ssize_t done = 0, wrote; done < got; done += wrote) {
			wrote = write(to_fd, bytes + done, (size_t)(got - done));
			if (wrote < 0)
				return errno == EPIPE ? 0 : -1;
		}
	return got < 0 ? -1 : 0;
}

/* The reader of a hostile disk writes into files of its own; they have holes where zeros are. */
int client_pass_on(const struct report *report, const int fds[2], struct error *error)
{
	static const char *const names[2] = {JOBDISK_STDOUT, JOBDISK_STDERR};
	const struct manifest *manifest = report->manifest;
	const uint64_t limits[2] = {manifest ? manifest->stdout_max_bytes : 0,
				    manifest ? manifest->stderr_max_bytes : 0};
	struct report streams = {.disk = report->disk, .manifest = manifest};
	struct extraction extraction = {.directory = ".", .directory_fd = -1};
	struct packed files[2] = {{.fd = -1}, {.fd = -1}};
	int failed = 0;

	if (!report->disk || !report->disk->has_changes)
		return 0;
	for (size_t i = 0; i < 2; i++) {
		if (!failed && fds[i] >= 0)
			failed = pack_open(NULL, &files[i], error);
		extraction.streams[i] = (struct extract_stream){.on_disk = names[i],
								.path = names[i],
								.fd = failed ? -1 : files[i].fd,
								.max_bytes = limits[i]};
	}
	if (!failed)
		failed = extract(&streams, &extraction, error);
	for (size_t i = 0; i < 2; i++) {
		if (files[i].fd < 0)
			continue;
		if (write_all(files[i].fd, fds[i]) && !failed)
			failed = error_errno(error, "write the job's %s", names[i]);
		close(files[i].fd);
	}
	collected_free(&streams.collected);
	return failed ? -1 : 0;
}

void client_close(struct client *client, bool is_kept)
{
	static const char *const left[] = {SPOOL_ERROR, ("job" SPOOL_RETURNED), SPOOL_JOB_DISK};
	char path[PATH_MAX];

	if (client->disk_fd >= 0)
		close(client->disk_fd);
	client->disk_fd = -1;
	if (!client->place[0] || is_kept)
		return;
	sidefile_remove(client->disk_path);
	for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", client->place, left[i]);
		unlink(path);
	}
	rmdir(client->place);
}
