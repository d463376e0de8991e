#include "host-tools/node/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-tools/lock.h"
#include "host-tools/values.h"

/* How long a node that was killed may take to be gone, with all that it ran. */
#define LOCK_WAIT_SECONDS 10

void spool_path(const struct spool *spool, const char *room, const char *name, const char *suffix,
		char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s/%s%s", spool->path, room, name, suffix);
}

const char *const spool_kinds[] = {SPOOL_DISK, SPOOL_RETURNED, SPOOL_DESCRIPTION, NULL};

/* --- opening --- */

/* What others may see and do there is for who owns them to say (chmod(1)), but for the node's own.
 */
static int make_rooms(const struct spool *spool, struct error *error)
{
	static const struct {
		const char *name;
		mode_t mode;
	} rooms[] = {{SPOOL_NEW, 0777}, {SPOOL_RUN, 0700}, {SPOOL_DONE, 0777}};
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", spool->path, rooms[i].name);
		if (mkdir(path, rooms[i].mode) && errno != EEXIST)
			return error_errno(error, "make directory %s", path);
	}
	return 0;
}

static int lock(struct spool *spool, struct error *error)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/" SPOOL_LOCK, spool->path);
	spool->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (spool->lock_fd < 0)
		return error_errno(error, "open %s", path);
	if (lock_wait(spool->lock_fd, LOCK_WAIT_SECONDS) == 0)
		return 0;
	error_set(error, "%s: has a node already", spool->path);
	close(spool->lock_fd);
	return -1;
}

bool spool_has_node(const char *path)
{
	char name[PATH_MAX];

	snprintf(name, sizeof(name), "%.4000s/" SPOOL_LOCK, path);
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == EACCES;
	bool is_held = flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
	close(fd);
	return is_held;
}

int spool_open(struct spool *spool, const char *path, struct error *error)
{
	char resolved[PATH_MAX];

	if (mkdir(path, 0777) && errno != EEXIST)
		return error_errno(error, "make directory %s", path);
	if (!realpath(path, resolved))
		return error_errno(error, "find directory %s", path);
	if (strlen(resolved) >= sizeof(spool->path))
		return error_set(error, "%s: its path is too long", path);
	snprintf(spool->path, sizeof(spool->path), "%s", resolved);
	return make_rooms(spool, error) || lock(spool, error) ? -1 : 0;
}

void spool_close(const struct spool *spool)
{
	close(spool->lock_fd);
}

/* --- names --- */

/* Whether FILE ends with SUFFIX, and then what is before it. */
static bool cut_suffix(const char *file, const char *suffix, char name[SPOOL_NAME_MAX + 1])
{
	size_t length = strlen(file), end = strlen(suffix);

	if (length <= end || length - end > SPOOL_NAME_MAX ||
	    strcmp(file + length - end, suffix) != 0)
		return false;
	snprintf(name, SPOOL_NAME_MAX + 1, "%.*s", (int)(length - end), file);
	return true;
}

/* What FILE comes as, and what is before that in its name; NULL: it is no job. */
static const char *kind_of(const char *file, char name[SPOOL_NAME_MAX + 1])
{
	for (size_t i = 0; spool_kinds[i]; i++)
		if (cut_suffix(file, spool_kinds[i], name))
			return spool_kinds[i];
	return NULL;
}

/* Cuts PRIORITY@ off NAME. */
static int64_t take_priority(char name[SPOOL_NAME_MAX + 1])
{
	char *end;

	errno = 0;
	long long priority = strtoll(name, &end, 10);
	if (end == name || *end != '@' || !end[1] || errno || end[1] == '.')
		return 0;
	memmove(name, end + 1, strlen(end + 1) + 1);
	return priority;
}

/* The job that FILE is; a file that is none, as one that is still being written, is nothing. */
static bool parse_file(const char *file, struct spool_job *job)
{
	if (file[0] == '.' || !kind_of(file, job->name))
		return false;
	snprintf(job->file, sizeof(job->file), "%s", file);
	job->priority = take_priority(job->name);
	return job->name[0] != '.';
}

static bool exists(const struct spool *spool, const char *room, const char *name,
		   const char *suffix)
{
	char path[PATH_MAX];
	struct stat status;

	spool_path(spool, room, name, suffix, path);
	return lstat(path, &status) == 0;
}

static bool is_claimed(const struct spool *spool, const char *name)
{
	for (size_t i = 0; spool_kinds[i]; i++)
		if (exists(spool, SPOOL_RUN, name, spool_kinds[i]))
			return true;
	return false;
}

static bool is_taken(const struct spool *spool, const char *name)
{
	return exists(spool, SPOOL_DONE, name, "") || is_claimed(spool, name) ||
	       exists(spool, SPOOL_RUN, name, SPOOL_RESULTS);
}

/* --- the queue --- */

void spool_queue_free(struct spool_queue *queue)
{
	free(queue->jobs);
	*queue = (struct spool_queue){.jobs = NULL};
}

int spool_queue_add(struct spool_queue *queue, const struct spool_job *job, struct error *error)
{
	struct spool_job *jobs =
		list_room(queue->jobs, queue->count, &queue->capacity, sizeof(*queue->jobs));

	if (!jobs)
		return error_set(error, "out of memory for %zu jobs", queue->count);
	queue->jobs = jobs;
	queue->jobs[queue->count++] = *job;
	return 0;
}

static int compare_times(const struct timespec *a, const struct timespec *b)
{
	if (a->tv_sec != b->tv_sec)
		return a->tv_sec < b->tv_sec ? -1 : 1;
	return a->tv_nsec < b->tv_nsec ? -1 : a->tv_nsec > b->tv_nsec;
}

static int compare_jobs(const void *left, const void *right)
{
	const struct spool_job *a = left, *b = right;
	int later = compare_times(&a->arrived, &b->arrived);

	if (a->priority != b->priority)
		return a->priority > b->priority ? -1 : 1;
	return later ? later : strcmp(a->name, b->name);
}

static DIR *open_room(const struct spool *spool, const char *room, struct error *error)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", spool->path, room);
	DIR *directory = opendir(path);
	if (!directory)
		error_errno(error, "read directory %s", path);
	return directory;
}

int spool_scan(const struct spool *spool, struct spool_queue *queue, struct error *error)
{
	DIR *directory = open_room(spool, SPOOL_NEW, error);
	struct spool_job job;
	struct stat status;
	int failed = 0;

	if (!directory)
		return -1;
	queue->count = queue->held = 0;
	for (struct dirent *entry; !failed && (entry = readdir(directory));) {
		if (!parse_file(entry->d_name, &job) ||
		    fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW))
			continue;
		/* A rename changes it. */
		job.arrived = status.st_ctim;
		if (is_taken(spool, job.name))
			queue->held++;
		else
			failed = spool_queue_add(queue, &job, error);
	}
	closedir(directory);
	if (queue->count > 0)
		qsort(queue->jobs, queue->count, sizeof(*queue->jobs), compare_jobs);
	return failed;
}

int spool_claim(const struct spool *spool, const struct spool_job *job, struct error *error)
{
	char from[PATH_MAX], to[PATH_MAX], ignored[SPOOL_NAME_MAX + 1];

	spool_path(spool, SPOOL_NEW, job->file, "", from);
	spool_path(spool, SPOOL_RUN, job->name, kind_of(job->file, ignored), to);
	if (rename(from, to) == 0)
		return 0;
	return errno == ENOENT ? 1 : error_errno(error, "rename %s to %s", from, to);
}

/* --- cancelling --- */

/* Whether the file CANCEL is of who owns job NAME, or of the node's own user. */
static bool may_cancel(const struct spool *spool, const char *name, const struct stat *cancel)
{
	char path[PATH_MAX];
	struct stat status;

	for (size_t i = 0; spool_kinds[i]; i++) {
		spool_path(spool, SPOOL_RUN, name, spool_kinds[i], path);
		if (lstat(path, &status) == 0)
			return cancel->st_uid == status.st_uid || cancel->st_uid == geteuid();
	}
	return false;
}

bool spool_is_cancel(const char *file)
{
	char name[SPOOL_NAME_MAX + 1];

	return cut_suffix(file, SPOOL_CANCEL, name);
}

int spool_cancels(const struct spool *spool, struct spool_queue *cancels, struct error *error)
{
	DIR *directory = open_room(spool, SPOOL_NEW, error);
	struct spool_job job = {.file = ""};
	struct stat status;
	int failed = 0;

	if (!directory)
		return -1;
	cancels->count = 0;
	for (struct dirent *entry; !failed && (entry = readdir(directory));) {
		if (!cut_suffix(entry->d_name, SPOOL_CANCEL, job.name) ||
		    fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW))
			continue;
		if (may_cancel(spool, job.name, &status))
			failed = spool_queue_add(cancels, &job, error);
		else
			unlinkat(dirfd(directory), entry->d_name, 0);
	}
	closedir(directory);
	return failed;
}

void spool_end_cancel(const struct spool *spool, const char *name)
{
	char path[PATH_MAX];

	spool_path(spool, SPOOL_NEW, name, SPOOL_CANCEL, path);
	unlink(path);
}

/* --- results --- */

int spool_drop_results(const struct spool *spool, const char *name, struct error *error)
{
	char path[PATH_MAX];
	char *paths[] = {path, NULL};
	int failed = 0;

	spool_path(spool, SPOOL_RUN, name, SPOOL_RESULTS, path);
	FTS *walk = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	if (!walk)
		return error_errno(error, "read directory %s", path);
	for (FTSENT *entry; (entry = fts_read(walk));) {
		if (entry->fts_info == FTS_D || entry->fts_info == FTS_NS)
			continue;
		if (remove(entry->fts_accpath) && errno != ENOENT)
			failed = error_errno(error, "remove %s", entry->fts_path);
	}
	fts_close(walk);
	return failed;
}

/* What a job was suspended to, when it is over. */
static void drop_work(const struct spool *spool, const char *name)
{
	char prefix[SPOOL_NAME_MAX + sizeof(SPOOL_WORK)];
	struct error ignored;
	DIR *directory = open_room(spool, SPOOL_RUN, &ignored);

	snprintf(prefix, sizeof(prefix), "%s" SPOOL_WORK, name);
	for (struct dirent *entry; directory && (entry = readdir(directory));)
		if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0)
			unlinkat(dirfd(directory), entry->d_name, 0);
	if (directory)
		closedir(directory);
}

/* Removes what made it a job that is not over. */
static int end_job(const struct spool *spool, const char *name, struct error *error)
{
	char path[PATH_MAX];

	for (size_t i = 0; spool_kinds[i]; i++) {
		spool_path(spool, SPOOL_RUN, name, spool_kinds[i], path);
		if (unlink(path) && errno != ENOENT)
			return error_errno(error, "remove %s", path);
	}
	return 0;
}

static int rename_out(const struct spool *spool, const char *name, struct error *error)
{
	char from[PATH_MAX], to[PATH_MAX];

	spool_path(spool, SPOOL_RUN, name, SPOOL_RESULTS, from);
	spool_path(spool, SPOOL_DONE, name, "", to);
	if (rename(from, to) == 0)
		return 0;
	bool is_taken = errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR;
	error_errno(error, "rename %s to %s", from, to);
	return is_taken ? 1 : -1;
}

int spool_deliver(const struct spool *spool, const char *name, struct error *error)
{
	return end_job(spool, name, error) ? -1 : rename_out(spool, name, error);
}

int spool_resume(const struct spool *spool, struct spool_queue *queue, struct error *error)
{
	DIR *directory = open_room(spool, SPOOL_RUN, error);
	struct spool_job job = {.file = ""};
	int failed = 0;

	if (!directory)
		return -1;
	for (struct dirent *entry; !failed && (entry = readdir(directory));) {
		const char *kind = kind_of(entry->d_name, job.name);
		if (kind) {
			/* A description that was packed is there twice. */
			if (strcmp(kind, SPOOL_DESCRIPTION) != 0 ||
			    !exists(spool, SPOOL_RUN, job.name, SPOOL_DISK))
				failed = spool_queue_add(queue, &job, error);
		} else if (cut_suffix(entry->d_name, SPOOL_RESULTS, job.name) &&
			   !is_claimed(spool, job.name)) {
			drop_work(spool, job.name);
			failed = rename_out(spool, job.name, error) < 0;
		}
	}
	closedir(directory);
	return failed;
}
