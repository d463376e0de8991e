#include "host-tools/node/worker.h"

#include <dirent.h>
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
#include "host-tools/sidefile.h"

/* One job on its way. */
struct work {
	const struct worker_options *options;
	const char *name;
	char disk[PATH_MAX], results[PATH_MAX];
	struct stat as_it_came; /* the file that the job came as */
	const char *kind;	/* its suffix (spool_kinds) */
	bool comes_back;	/* the disk is what its submitter gets */
	struct suspension suspension;
	struct packed copy; /* what the VM has */
};

/* --- whose a job is --- */

/* The results of a disk that comes back belong to who owned the disk, and are for no other. */
static int give_away(const struct work *work, struct error *error)
{
	const struct stat *owner = &work->as_it_came;
	char path[PATH_MAX + NAME_MAX];

	if (chmod(work->results, 0700))
		return error_errno(error, "change the mode of %s", work->results);
	if (owner->st_uid == geteuid())
		return 0;
	DIR *directory = opendir(work->results);
	bool failed = !directory;
	for (struct dirent *entry; !failed && (entry = readdir(directory));) {
		snprintf(path, sizeof(path), "%s/%s", work->results, entry->d_name);
		if (strcmp(entry->d_name, "..") != 0)
			failed = lchown(path, owner->st_uid, owner->st_gid) != 0;
	}
	if (failed)
		error_errno(error, "give %s to user %u", work->results, (unsigned)owner->st_uid);
	if (directory)
		closedir(directory);
	return failed ? -1 : 0;
}

/* --- a job that cannot be run --- */

/* What came is among the results, and why it was of no use. */
static int deliver_refusal(const struct work *work, const char *why, struct error *error)
{
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
	for (size_t i = 0; !error->text[0] && spool_kinds[i]; i++) {
		spool_path(spool, SPOOL_RUN, work->name, spool_kinds[i], from);
		snprintf(to, sizeof(to), "%s/job%s", work->results, spool_kinds[i]);
		if (rename(from, to) && errno != ENOENT)
			error_errno(error, "rename %s to %s", from, to);
	}
	if (error->text[0])
		return -1;
	/* One that cannot be given away can be read where it is. */
	if (work->comes_back && give_away(work, error))
		message_warning("%s", error->text);
	return spool_deliver(spool, work->name, error);
}

static enum worker_word refuse(const struct work *work, const char *why, enum worker_word word)
{
	struct error error;
	int failed = -1;

	message_error("%s: %s", work->name, why);
	if (spool_drop_results(work->options->spool, work->name, &error) ||
	    (failed = deliver_refusal(work, why, &error)) != 0) {
		message_error("%s: %s", work->name, error.text);
		if (failed < 0)
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

/*
 * What came stays as it was: a job that is cut off starts again from it. Whoever still has it open
 * for writing changes nothing of the copy.
 */
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

/*
 * Others may put jobs into a spool: a link would let them have a disk that is not theirs, and a
 * description packs what the node's user can read. In run/ nothing is theirs to change any more.
 */
static int check_owner(const struct work *work, struct error *error)
{
	if (!S_ISREG(work->as_it_came.st_mode))
		return error_set(error, "%s: is not a regular file", work->name);
	if (strcmp(work->kind, SPOOL_DESCRIPTION) == 0 && work->as_it_came.st_uid != geteuid())
		return error_set(error,
				 "%s: is packed with the node's rights, so it must be of its user; "
				 "'jobvm run --spool' packs with your own",
				 work->name);
	if (work->comes_back && work->as_it_came.st_uid != geteuid() && geteuid() != 0)
		return error_set(error,
				 "%s: only root can give it back to user %u; a node of that user's "
				 "own can run it",
				 work->name, (unsigned)work->as_it_came.st_uid);
	return 0;
}

/* The disk of a job that starts, into DISK. WORKER_DONE: it is there. */
static enum worker_word open_fresh(struct work *work, struct disk *disk)
{
	struct error error;

	if (check_owner(work, &error) || (access(work->disk, F_OK) && pack(work, &error)))
		return refuse(work, error.text, WORKER_REFUSED);
	int fd = disk_open_file(work->disk, false, &error);
	if (fd < 0)
		return refuse(work, error.text, WORKER_REFUSED);
	enum worker_word word = WORKER_DONE;
	if (copy(work, fd, &error))
		word = refuse(work, error.text, WORKER_FAILED);
	else if (check(work, work->copy.fd, disk, &error))
		word = refuse(work, error.text, WORKER_REFUSED);
	close(fd);
	return word;
}

/* --- the run --- */

/* A recovered copy may be on another file system, where it cannot get a name in the spool. */
static int publish(const struct work *work, const struct report *report, const char *path,
		   struct error *error)
{
	struct packed copy;

	if (!report->partial)
		return pack_publish(&work->copy, path, error);
	if (pack_open(path, &copy, error))
		return -1;
	int failed = copy_whole(work->copy.fd, copy.fd) ? error_errno(error, "write %s", path)
							: pack_publish(&copy, path, error);
	pack_discard(&copy);
	return failed;
}

/* The disk with what the host saw, for `collect` or whoever else can read it. */
static int hand_back(const struct work *work, const struct report *report, struct error *error)
{
	char path[PATH_MAX + sizeof(SPOOL_JOB_DISK)];

	snprintf(path, sizeof(path), "%s/" SPOOL_JOB_DISK, work->results);
	return sidefile_write(path, report->host, -1, error) ||
			       publish(work, report, path, error) || give_away(work, error)
		       ? -1
		       : 0;
}

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
	int failed = work->comes_back
			     ? hand_back(work, report, error)
			     : collect_results(report, &places,
					       vm_failed ? execute_console() : NULL, error);
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
	int failed = suspension_end(&work->suspension, false, &error)
			     ? -1
			     : spool_deliver(work->options->spool, work->name, &error);
	if (failed)
		message_error("%s: %s", work->name, error.text);
	if (failed < 0)
		exit(EXIT_FAILURE);
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

static void on_cancel(int signal_number)
{
	(void)signal_number;
}

/*
 * SIGINT cancels the job; it is blocked but for a VM's loop, which finds one that came before. One
 * that was meant for the last job is dropped.
 */
static void listen_for_cancel(void)
{
	sigset_t cancel;

	signal(SIGINT, SIG_IGN);
	signal(SIGINT, on_cancel);
	sigemptyset(&cancel);
	sigaddset(&cancel, SIGINT);
	sigprocmask(SIG_BLOCK, &cancel, NULL);
}

/* What the job came as, and where its disk is or is to be. */
static void find_disk(struct work *work)
{
	const struct spool *spool = work->options->spool;
	char path[PATH_MAX];

	for (size_t i = 0; spool_kinds[i]; i++) {
		spool_path(spool, SPOOL_RUN, work->name, spool_kinds[i], path);
		if (lstat(path, &work->as_it_came))
			continue;
		work->kind = spool_kinds[i];
		work->comes_back = strcmp(work->kind, SPOOL_RETURNED) == 0;
		if (work->comes_back) {
			snprintf(work->disk, sizeof(work->disk), "%s", path);
			return;
		}
	}
	spool_path(spool, SPOOL_RUN, work->name, SPOOL_DISK, work->disk);
}

static enum worker_word run_job(const struct worker_options *options, const char *name)
{
	static struct work work;
	static struct disk before;
	char path[PATH_MAX];
	struct error error;
	enum worker_word word = WORKER_DONE;

	work = (struct work){.options = options, .name = name, .kind = "", .copy = {.fd = -1}};
	find_disk(&work);
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
		listen_for_cancel();
		say(socket_fd, WORKER_BEGINS);
		say(socket_fd, run_job(options, name));
		if (!options->reuses)
			break;
		/* The end of a VM leaves it ignored. */
		signal(SIGTERM, SIG_DFL);
		suspend_catch();
		/* It was lost with its job, or was not of that job's shape. */
		if (!execute_is_parked())
			get_ready(options, false, socket_fd);
	}
	execute_unpark();
	exit(EXIT_SUCCESS);
}
