#include "host-tools/node/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fsimage/copy.h"
#include "host-tools/collect.h"
#include "host-tools/execute.h"
#include "host-tools/message.h"

/* One job on its way. */
struct work {
	const struct worker_options *options;
	const char *name;
	char disk[PATH_MAX], results[PATH_MAX];
	struct suspension suspension;
	struct packed copy; /* what the VM has */
};

/* --- a job that cannot be run --- */

/* What came is among the results, and why it was of no use. */
static int deliver_refusal(const struct work *work, const char *why, struct error *error)
{
	static const char *const suffixes[] = {SPOOL_DISK, SPOOL_DESCRIPTION};
	const struct spool *spool = work->options->spool;
	char from[PATH_MAX], to[PATH_MAX + NAME_MAX];

	if (mkdir(work->results, 0777) && errno != EEXIST)
		return error_errno(error, "make directory %s", work->results);
	snprintf(to, sizeof(to), "%s/" SPOOL_ERROR, work->results);
	FILE *file = fopen(to, "we");
	if (!file || fprintf(file, "%s\n", why) < 0 || fflush(file) || fsync(fileno(file)))
		error_errno(error, "write %s", to);
	else
		error->text[0] = '\0';
	if (file)
		fclose(file);
	for (size_t i = 0; !error->text[0] && i < 2; i++) {
		spool_path(spool, SPOOL_RUN, work->name, suffixes[i], from);
		snprintf(to, sizeof(to), "%s/job%s", work->results, suffixes[i]);
		if (rename(from, to) && errno != ENOENT)
			error_errno(error, "rename %s to %s", from, to);
	}
	return error->text[0] ? -1 : spool_deliver(spool, work->name, error);
}

static enum worker_word refuse(const struct work *work, const char *why, enum worker_word word)
{
	struct error error;

	message_error("%s: %s", work->name, why);
	if (spool_drop_results(work->options->spool, work->name, &error) ||
	    deliver_refusal(work, why, &error)) {
		message_error("%s: %s", work->name, error.text);
		exit(EXIT_FAILURE);
	}
	return word;
}

/* --- the job disk --- */

/* What comes from FD until its end, as far as there is room. */
static void read_words(int fd, char *words, size_t size)
{
	char chunk[512];
	size_t length = 0;
	ssize_t got;

	while ((got = read(fd, chunk, sizeof(chunk))) > 0) {
		size_t room = size - 1 - length;
		size_t taken = (size_t)got < room ? (size_t)got : room;
		memcpy(words + length, chunk, taken);
		length += taken;
	}
	words[length] = '\0';
}

/* A submit description is packed as its user would, in a process of its own. */
static int pack(const struct work *work, struct error *error)
{
	char description[PATH_MAX], words[ERROR_TEXT_BYTES / 2];
	int said[2], status;

	spool_path(work->options->spool, SPOOL_RUN, work->name, SPOOL_DESCRIPTION, description);
	if (pipe2(said, O_CLOEXEC))
		return error_errno(error, "make a pipe");
	pid_t child = fork();
	if (child == 0) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 &&
		    chdir(work->options->spool->path) == 0 && dup2(said[1], STDERR_FILENO) >= 0)
			execl("/proc/self/exe", "jobvm", "pack", "--quiet", "-o", work->disk,
			      description, (char *)NULL);
		_exit(EXIT_FAILURE);
	}
	close(said[1]);
	read_words(said[0], words, sizeof(words));
	close(said[0]);
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return error_errno(error, "start jobvm pack");
	return status == 0 ? 0 : error_set(error, "%s", words);
}

/* 0, or -1 with ERROR set: it is no disk with a job that can be run here. */
static int check(const struct work *work, int fd, struct disk *disk, struct error *error)
{
	if (disk_read(disk, fd, -1, work->name, DISK_RESULTS, error))
		return -1;
	if (disk->problem[0])
		return error_set(error, "%s: %s", work->name, disk->problem);
	if (disk->has_record || disk->was_started)
		return error_set(error, "%s: has been started before", work->name);
	if (disk->manifest.fetch != FETCH_EAGER)
		return error_set(error, "%s: fetches its inputs, which a node does not offer",
				 work->name);
	/* It would look as if the host could run no VMs. */
	if (disk->manifest.memory_limit_bytes / (uint64_t)sysconf(_SC_PAGESIZE) >
	    (uint64_t)sysconf(_SC_PHYS_PAGES))
		return error_set(error, "%s: asks for more memory than this host has", work->name);
	return 0;
}

/* What came stays as it was: a job that is cut off starts again from it. */
static int copy(struct work *work, int fd, struct error *error)
{
	if (pack_open(work->suspension.path, &work->copy, error))
		return -1;
	if (copy_whole(fd, work->copy.fd)) {
		pack_discard(&work->copy);
		return error_errno(error, "copy %s", work->disk);
	}
	return 0;
}

/* The disk of a job that starts, into DISK. WORKER_DONE: it is there. */
static enum worker_word open_fresh(struct work *work, struct disk *disk)
{
	struct error error;

	if (access(work->disk, F_OK) && pack(work, &error))
		return refuse(work, error.text, WORKER_REFUSED);
	int fd = disk_open_file(work->disk, false, &error);
	if (fd < 0)
		return refuse(work, error.text, WORKER_REFUSED);
	enum worker_word word = WORKER_DONE;
	if (check(work, fd, disk, &error))
		word = refuse(work, error.text, WORKER_REFUSED);
	else if (copy(work, fd, &error))
		word = refuse(work, error.text, WORKER_FAILED);
	close(fd);
	return word;
}

/* --- the run --- */

static int collect(const struct work *work, struct report *report, struct error *error)
{
	struct collect_places places = collect_places_in(work->results);
	bool created;

	if (spool_drop_results(work->options->spool, work->name, error))
		return -1;
	places.directory_fd = collect_prepare_directory(work->results, &created, error);
	if (places.directory_fd < 0)
		return -1;
	bool vm_failed = report->status > STATUS_LAST_OF_GUEST;
	int failed = collect_results(report, &places, vm_failed ? execute_console() : NULL, error);
	close(places.directory_fd);
	return failed;
}

static enum worker_word conclude(struct work *work, struct report *report)
{
	struct error error;

	if (report->status == STATUS_SUSPENDED)
		return WORKER_SUSPENDED;
	if (suspension_is_kept(&work->suspension, report->status))
		return WORKER_AGAIN;
	if (collect(work, report, &error))
		return refuse(work, error.text, WORKER_FAILED);
	if (suspension_end(&work->suspension, false, &error) ||
	    spool_deliver(work->options->spool, work->name, &error)) {
		message_error("%s: %s", work->name, error.text);
		exit(EXIT_FAILURE);
	}
	return report->status == STATUS_BOOT_FAILED || report->status == STATUS_VMM_FAILED
		       ? WORKER_FAILED
		       : WORKER_DONE;
}

static enum worker_word run(struct work *work, const struct manifest *manifest)
{
	static struct disk after;
	struct report report = {.has_run = false};
	struct error error;
	const struct execution execution = {
		.job = work->options->job,
		.disk_fd = work->copy.fd,
		.disk_name = work->name,
		.stdout_to_file = true,
		.stderr_to_file = true,
		.digest_inputs = true,
		.timeouts = work->options->timeouts,
		.suspension = &work->suspension,
		.parks = work->options->reuses,
		.recovers = true,
	};

	memset(&after, 0, sizeof(after));
	enum worker_word word = execute(&execution, manifest, &report, &after, &error)
					? refuse(work, error.text, WORKER_FAILED)
					: conclude(work, &report);
	report_free(&report);
	disk_close(&after);
	return word;
}

static enum worker_word run_job(const struct worker_options *options, const char *name)
{
	static struct work work;
	static struct disk before;
	char path[PATH_MAX];
	struct error error;
	enum worker_word word = WORKER_DONE;

	work = (struct work){.options = options, .name = name, .copy = {.fd = -1}};
	spool_path(options->spool, SPOOL_RUN, name, SPOOL_DISK, work.disk);
	spool_path(options->spool, SPOOL_RUN, name, SPOOL_RESULTS, work.results);
	spool_path(options->spool, SPOOL_RUN, name, SPOOL_WORK, path);
	memset(&before, 0, sizeof(before));
	int found = suspension_open(&work.suspension, path, &options->suspend, &error);
	if (found == 1)
		word = open_fresh(&work, &before);
	else if (found != 0)
		word = refuse(&work, error.text, WORKER_FAILED);
	const struct manifest *manifest = found == 0 ? &work.suspension.manifest : &before.manifest;
	if (found == 0) {
		work.copy = work.suspension.copy;
		work.suspension.owns_copy = false;
	}
	work.suspension.copy = work.copy;
	if (word == WORKER_DONE)
		word = run(&work, manifest);
	suspension_close(&work.suspension);
	disk_close(&before);
	if (work.copy.fd >= 0)
		pack_discard(&work.copy);
	return word;
}

/* --- the process --- */

static void say(int socket_fd, enum worker_word word)
{
	char byte = (char)word;

	/* Without the node there is nobody to work for. */
	if (send(socket_fd, &byte, 1, MSG_NOSIGNAL) != 1)
		exit(EXIT_FAILURE);
}

static bool has_job(int socket_fd)
{
	struct pollfd job = {.fd = socket_fd, .events = POLLIN};

	return poll(&job, 1, 0) > 0;
}

/* A job that does nothing, in a VM like those of OPTIONS. */
static int pack_rehearsal(const struct worker_options *options, struct job *job,
			  struct packed *packed, struct error *error)
{
	const struct job *shape = options->job;

	job_init(job);
	strings_add(&job->arguments, "true");
	job->image_path = shape->image_path ? memory_or_exit(strdup(shape->image_path)) : NULL;
	job->accel = shape->accel;
	job->start = shape->start;
	job->manifest.memory_limit_bytes = shape->manifest.memory_limit_bytes;
	job->manifest.cpus = shape->manifest.cpus;
	if (job_finish(job, error) || pack_job(job, NULL, NULL, packed, error)) {
		job_free(job);
		return -1;
	}
	return 0;
}

/*
 * What every job needs is then in the guest's memory, and its kernel's code is translated. The VM
 * is left as another job would leave it.
 */
static int rehearse(const struct worker_options *options, struct error *error)
{
	static struct disk disk;
	struct report report = {.has_run = false};
	struct packed packed;
	struct job job;

	if (pack_rehearsal(options, &job, &packed, error))
		return -1;
	const struct execution execution = {
		.job = &job,
		.disk_fd = packed.fd,
		.disk_name = "the rehearsal's job disk",
		.stdout_to_file = true,
		.stderr_to_file = true,
		.timeouts = options->timeouts,
		.parks = true,
		.is_rehearsal = true,
	};
	memset(&disk, 0, sizeof(disk));
	int failed = execute(&execution, &job.manifest, &report, &disk, error);
	report_free(&report);
	disk_close(&disk);
	pack_discard(&packed);
	job_free(&job);
	if (execute_cancelled())
		exit(EXIT_SUCCESS);
	return failed;
}

/* A VM that waits is a matter of speed: without it the job's own is started. */
static void get_ready(const struct worker_options *options, bool rehearses, int socket_fd)
{
	struct error error;

	if (!options->waits_ready)
		return;
	if (execute_park(options->job, &options->timeouts, &error))
		message_warning("no VM waits for jobs: %s", error.text);
	else if (rehearses && !has_job(socket_fd) && rehearse(options, &error))
		message_warning("the VM that waits has not rehearsed: %s", error.text);
}

void worker_main(const struct worker_options *options, bool rehearses, int socket_fd)
{
	char name[SPOOL_NAME_MAX + 1];

	suspend_catch();
	get_ready(options, rehearses, socket_fd);
	say(socket_fd, WORKER_READY);
	for (;;) {
		ssize_t length = recv(socket_fd, name, sizeof(name) - 1, 0);
		if (length <= 0)
			break;
		name[length] = '\0';
		say(socket_fd, run_job(options, name));
		if (!options->reuses)
			break;
		/* The end of a VM leaves it ignored. */
		signal(SIGTERM, SIG_DFL);
		suspend_catch();
	}
	execute_unpark();
	exit(EXIT_SUCCESS);
}
