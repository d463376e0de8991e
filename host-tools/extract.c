#include "host-tools/extract.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-tools/confined.h"
#include "host-tools/message.h"
#include "host-tools/outputs.h"
#include "host-tools/sink.h"
#include "jobdisk/layout.h"

/* Larger files are digested piece by piece while they are copied. */
#define LARGE_FILE_BYTES  FSIMAGE_PIECE_BYTES
/*
 * Files that share their data by hard links are copied each by itself; more than so many times the
 * disk's size is a disk whose files claim each other's blocks.
 */
#define DATA_PER_DISK_MAX 16
/* So much of holes is digested as zeros; a file with more has no digest. */
#define HOLES_BYTES_MAX	  (4ULL << 30)

/* What the child tells. */
enum {
	FRAME_STREAM = CONFINED_FRAMES, /* index: it is copied */
	FRAME_STARTED,			/* name for the time being: a large file */
	FRAME_COPIED,			/* from, to: of that file */
	FRAME_COLLECTED,		/* path, type, time, bytes of data, target of a symlink */
	FRAME_MISSING,			/* declared output */
	FRAME_SKIPPED,			/* path, mode */
	FRAME_LIMIT,			/* index in limit_names: why it stops early */
};

enum limit { LIMIT_BYTES, LIMIT_FILES, LIMIT_COUNT };

static const char *const limit_names[LIMIT_COUNT] = {
	[LIMIT_BYTES] = "max_transfer_output_mb",
	[LIMIT_FILES] = "files",
};

/* --- in the child: from the hostile image to the sink --- */

struct copier {
	const struct report *report;
	const struct extraction *extraction;
	struct fsimage *image;
	FILE *answers;
	uint64_t data_bytes; /* of the file that is copied */
	bool is_large;
	char *unfinished; /* of the sink, shared with the parent */
	struct frame frame;
};

static int send_flushed(struct copier *c, struct error *error)
{
	if (confined_send(c->answers, &c->frame, error))
		return -1;
	return fflush(c->answers) ? error_errno(error, "send what was read") : 0;
}

static int tell_started(void *context, const char *beside, const struct fsstat *stat,
			struct error *error)
{
	struct copier *c = context;

	c->data_bytes = 0;
	c->is_large = stat->size_bytes > LARGE_FILE_BYTES && !c->extraction->is_staging;
	if (!c->is_large)
		return 0;
	frame_begin(&c->frame, FRAME_STARTED);
	frame_put_text(&c->frame, beside);
	return send_flushed(c, error);
}

static int tell_copied(void *context, uint64_t start, uint64_t end, struct error *error)
{
	struct copier *c = context;

	c->data_bytes += end - start;
	if (!c->is_large)
		return 0;
	frame_begin(&c->frame, FRAME_COPIED);
	frame_put_number(&c->frame, start);
	frame_put_number(&c->frame, end);
	return send_flushed(c, error);
}

static int tell_missing(void *context, const char *declared, struct error *error)
{
	struct copier *c = context;

	return confined_send_text(c->answers, FRAME_MISSING, declared, error);
}

static int tell_collected(struct copier *c, const struct output *output, uint64_t data_bytes,
			  const char *target, struct error *error)
{
	frame_begin(&c->frame, FRAME_COLLECTED);
	frame_put_text(&c->frame, output->path);
	frame_put_number(&c->frame, output->stat.mode & S_IFMT);
	frame_put_number(&c->frame, (uint64_t)output->stat.mtime.tv_sec);
	frame_put_number(&c->frame, (uint64_t)output->stat.mtime.tv_nsec);
	frame_put_number(&c->frame, data_bytes);
	frame_put_text(&c->frame, target);
	return confined_send(c->answers, &c->frame, error);
}

static int tell_skipped(struct copier *c, const struct output *output, struct error *error)
{
	frame_begin(&c->frame, FRAME_SKIPPED);
	frame_put_text(&c->frame, output->path);
	frame_put_number(&c->frame, output->stat.mode);
	return confined_send(c->answers, &c->frame, error);
}

/* Returns -1 with ERROR as it is, if the limit could be told. */
static int fail_by_limit(struct copier *c, enum limit limit, struct error *error)
{
	struct error send_error;

	frame_begin(&c->frame, FRAME_LIMIT);
	frame_put_number(&c->frame, limit);
	if (confined_send(c->answers, &c->frame, &send_error))
		*error = send_error;
	return -1;
}

/* Symlinks come later. */
static int copy_output(struct copier *c, struct sink *sink, const struct output *output,
		       struct error *error)
{
	switch (output->stat.mode & S_IFMT) {
	case S_IFDIR:
		return sink_directory(sink, output->path, error);
	case S_IFREG:
		if (sink_copy(sink, output->path, &output->stat, error))
			return sink->cap_reached ? fail_by_limit(c, LIMIT_BYTES, error) : -1;
		return tell_collected(c, output, c->data_bytes, "", error);
	case S_IFLNK:
		return 0;
	default:
		return tell_skipped(c, output, error);
	}
}

static int copy_symlink(struct copier *c, struct sink *sink, const struct output *output,
			struct error *error)
{
	char target[PATH_MAX + 1];

	if (fsimage_readlink(c->image, output->stat.inode, target, sizeof(target), error) ||
	    sink_symlink(sink, output->path, target, error))
		return -1;
	return tell_collected(c, output, 0, target, error);
}

static int finish_directory(struct copier *c, struct sink *sink, const struct output *output,
			    struct error *error)
{
	if (!sink->is_staging && sink_directory_done(sink, output->path, &output->stat, error))
		return -1;
	return tell_collected(c, output, 0, "", error);
}

/* Links after all files, so that no file can be written through one; directories' modes last. */
static int copy_outputs(struct copier *c, const struct outputs *outputs, struct error *error)
{
	struct sink sink = {
		.directory_fd = c->extraction->directory_fd,
		.directory = c->extraction->directory,
		.image = c->image,
		.bytes_left = c->report->manifest->output_max_bytes,
		.started = tell_started,
		.copied = tell_copied,
		.context = c,
		.is_staging = c->extraction->is_staging,
		.unfinished = c->unfinished,
	};

	for (size_t i = 0; i < outputs->count; i++)
		if (copy_output(c, &sink, &outputs->items[i], error))
			return -1;
	for (size_t i = 0; i < outputs->count; i++)
		if (S_ISLNK(outputs->items[i].stat.mode) &&
		    copy_symlink(c, &sink, &outputs->items[i], error))
			return -1;
	for (size_t i = outputs->count; i-- > 0;)
		if (S_ISDIR(outputs->items[i].stat.mode) &&
		    finish_directory(c, &sink, &outputs->items[i], error))
			return -1;
	return 0;
}

static int plan_and_copy(struct copier *c, struct error *error)
{
	struct outputs outputs;
	int failed = outputs_plan(&outputs, c->report, c->image, c->extraction->outputs_below,
				  c->extraction->is_staging, tell_missing, c, error) ||
		     copy_outputs(c, &outputs, error);

	if (!failed && outputs.cut_off) {
		error_set(error, "the job has more than %d outputs", CHANGES_MAX);
		failed = fail_by_limit(c, LIMIT_FILES, error);
	}
	outputs_free(&outputs);
	return failed ? -1 : 0;
}

static int copy_stream(struct copier *c, size_t index, struct error *error)
{
	const struct extract_stream *stream = &c->extraction->streams[index];
	struct fsstat stat;

	int found = fsimage_lookup(c->image, stream->on_disk, &stat, error);
	if (found)
		return found < 0 ? -1
				 : error_set(error, "/%s is not on the job disk", stream->on_disk);
	if (stat.size_bytes > stream->max_bytes)
		return error_set(error, "/%s is larger than the job's limit lets it be",
				 stream->on_disk);
	if (fsimage_copy(c->image, stat.inode, stream->max_bytes, stream->fd, stream->path, error))
		return -1;
	frame_begin(&c->frame, FRAME_STREAM);
	frame_put_number(&c->frame, index);
	return send_flushed(c, error);
}

/* --- in the parent: what lies there now --- */

/* The large file that is being copied. */
struct growing {
	int fd; /* -1: none */
	struct digest *digest;
	uint64_t done_bytes;
	bool given_up; /* its holes are too large */
};

struct taker {
	struct copier copier; /* the child's */
	struct report *report;
	const struct extraction *extraction;
	struct sink sink; /* to open what lies there */
	uint64_t data_left;
	uint64_t holes_left;
	bool is_counted; /* the data of the file that is being copied */
	struct growing growing;
};

static int fail_to_digest(const struct taker *t, const char *path, struct error *error)
{
	return error_errno(error, "read again what was written to %s/%s", t->extraction->directory,
			   path);
}

static int take_data(struct taker *t, uint64_t bytes, struct error *error)
{
	if (bytes > t->data_left)
		return error_set(error, "%s: its files claim more data than it can hold",
				 t->report->disk->name);
	t->data_left -= bytes;
	return 0;
}

/* Whether a hole may be digested as the zeros that it reads as. */
static bool take_hole(struct taker *t, uint64_t bytes)
{
	if (bytes > t->holes_left)
		return false;
	t->holes_left -= bytes;
	return true;
}

static int digest_until(struct taker *t, uint64_t end, struct error *error)
{
	static char buffer[1 << 18];
	struct growing *growing = &t->growing;

	while (growing->done_bytes < end) {
		uint64_t left = end - growing->done_bytes;
		ssize_t got =
			pread(growing->fd, buffer, left < sizeof(buffer) ? left : sizeof(buffer),
			      (off_t)growing->done_bytes);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? fail_to_digest(t, "", error)
				       : error_set(error,
						   "an output was cut off while it was read");
		digest_add(growing->digest, buffer, (size_t)got);
		growing->done_bytes += (uint64_t)got;
	}
	return 0;
}

static void end_growing(struct growing *growing)
{
	if (growing->fd >= 0)
		close(growing->fd);
	digest_free(growing->digest);
	*growing = (struct growing){.fd = -1};
}

static int start_digest(struct taker *t, const char *path, struct error *error)
{
	struct stat status;

	end_growing(&t->growing);
	t->growing.fd = sink_open(&t->sink, path);
	if (t->growing.fd < 0)
		return fail_to_digest(t, path, error);
	if (fstat(t->growing.fd, &status) || !S_ISREG(status.st_mode))
		return error_set(error, "%s/%s: is no longer the file that was written there",
				 t->extraction->directory, path);
	t->growing.digest = digest_new(error);
	return t->growing.digest ? 0 : -1;
}

/* A file that has its final name already when we come is digested when it is said to be there. */
static int take_started(struct taker *t, struct frame *frame, struct error *error)
{
	const char *beside = frame_get_path(frame);

	if (!frame_is_whole(frame))
		return error_set(error, "%s: its reader copies nothing", t->report->disk->name);
	progress_show("%s/%s", t->extraction->directory, beside);
	t->is_counted = true;
	errno = 0;
	return start_digest(t, beside, error) && errno != ENOENT ? -1 : 0;
}

static int take_copied(struct taker *t, struct frame *frame, struct error *error)
{
	struct growing *growing = &t->growing;
	uint64_t start = frame_get_number(frame), end = frame_get_number(frame);

	if (!frame_is_whole(frame) || !t->is_counted || start < growing->done_bytes || end < start)
		return error_set(error, "%s: its reader copies nothing", t->report->disk->name);
	if (take_data(t, end - start, error))
		return -1;
	if (growing->fd < 0)
		return 0;
	/* On its way to the disk while we go on, so that sink_sync has less to wait for. */
	sync_file_range(growing->fd, (off_t)start, (off_t)(end - start), SYNC_FILE_RANGE_WRITE);
	growing->given_up = growing->given_up || !take_hole(t, start - growing->done_bytes);
	if (growing->given_up)
		growing->done_bytes = end;
	return digest_until(t, end, error);
}

static int digest_rest(struct taker *t, struct collected_item *item, uint64_t data_bytes,
		       struct error *error)
{
	struct growing *growing = &t->growing;

	/* All that is left but data is holes. */
	uint64_t left = item->size_bytes - growing->done_bytes;
	uint64_t data_left = growing->done_bytes ? 0 : data_bytes;
	if (growing->given_up || !take_hole(t, left - (data_left < left ? data_left : left)))
		return 0;
	if (digest_until(t, item->size_bytes, error))
		return -1;
	struct digest *digest = growing->digest;
	growing->digest = NULL;
	return digest_finish_hex(digest, item->sha256, error);
}

/* Digests what lies at the file's path now, unless that was done while it grew. */
static int take_file(struct taker *t, struct collected_item *item, uint64_t data_bytes,
		     struct error *error)
{
	struct growing *growing = &t->growing;
	struct stat status;

	if (t->extraction->is_staging)
		return take_data(t, data_bytes, error);
	if (growing->fd < 0 && start_digest(t, item->path, error))
		return -1;
	if (!t->is_counted && take_data(t, data_bytes, error))
		return -1;
	if (fstat(growing->fd, &status) || !S_ISREG(status.st_mode) ||
	    (uint64_t)status.st_size < growing->done_bytes)
		return fail_to_digest(t, item->path, error);
	item->size_bytes = (uint64_t)status.st_size;
	int failed = digest_rest(t, item, data_bytes, error);
	end_growing(growing);
	t->is_counted = false;
	return failed;
}

static int take_collected(struct taker *t, struct frame *frame, struct error *error)
{
	const char *path = frame_get_path(frame);
	mode_t type = (mode_t)frame_get_number(frame);
	struct timespec mtime = {.tv_sec = (time_t)frame_get_number(frame)};
	mtime.tv_nsec = (long)frame_get_number(frame);
	uint64_t data_bytes = frame_get_number(frame);
	const char *target = frame_get_text(frame);
	struct collected_item item = {.type = type};

	if (!frame_is_whole(frame) || (type != S_IFREG && type != S_IFDIR && type != S_IFLNK))
		return error_set(error, "%s: its reader collects nothing", t->report->disk->name);
	progress_show("%s/%s", t->extraction->directory, path);
	item.path = memory_or_exit(strdup(path));
	int failed = type == S_IFREG ? take_file(t, &item, data_bytes, error) : 0;
	if (type == S_IFLNK)
		failed = sink_symlink_done(&t->sink, path, &mtime, error);
	if (failed) {
		free(item.path);
		return -1;
	}
	if (type == S_IFLNK)
		item.target = memory_or_exit(strdup(target));
	collected_take(&t->report->collected, &item);
	return 0;
}

static int take_stream(struct taker *t, struct frame *frame, struct error *error)
{
	uint64_t index = frame_get_number(frame);
	struct stat status;

	if (!frame_is_whole(frame) || index > 1 || t->extraction->streams[index].fd < 0)
		return error_set(error, "%s: its reader copies nothing", t->report->disk->name);
	const struct extract_stream *stream = &t->extraction->streams[index];
	struct collected_item item = {.type = S_IFREG};
	if (fstat(stream->fd, &status))
		return error_errno(error, "%s", stream->path);
	if (digest_file_hex(stream->fd, stream->path, item.sha256, error))
		return -1;
	item.path = memory_or_exit(strdup(stream->path));
	item.size_bytes = (uint64_t)status.st_size;
	collected_take(&t->report->collected, &item);
	return 0;
}

static int take_skipped(struct taker *t, struct frame *frame, struct error *error)
{
	const char *path = frame_get_path(frame);
	mode_t mode = (mode_t)frame_get_number(frame);
	char *skipped;

	if (!frame_is_whole(frame))
		return error_set(error, "%s: its reader skips nothing", t->report->disk->name);
	if (asprintf(&skipped, "%s (%s)", path, file_type_name(mode)) < 0)
		skipped = NULL;
	strings_take(&t->report->skipped, memory_or_exit(skipped));
	return 0;
}

static int take_limit(struct taker *t, struct frame *frame, struct error *error)
{
	uint64_t limit = frame_get_number(frame);

	if (!frame_is_whole(frame) || limit >= LIMIT_COUNT)
		return error_set(error, "%s: its reader met no limit", t->report->disk->name);
	t->report->partial_limit = limit_names[limit];
	return 0;
}

static int take_frame(void *context, struct frame *frame, struct error *error)
{
	struct taker *t = context;

	switch (frame->type) {
	case FRAME_STREAM:
		return take_stream(t, frame, error);
	case FRAME_STARTED:
		return take_started(t, frame, error);
	case FRAME_COPIED:
		return take_copied(t, frame, error);
	case FRAME_COLLECTED:
		return take_collected(t, frame, error);
	case FRAME_MISSING:
		strings_add(&t->report->missing, frame_get_text(frame));
		return 0;
	case FRAME_SKIPPED:
		return take_skipped(t, frame, error);
	case FRAME_LIMIT:
		return take_limit(t, frame, error);
	default:
		return error_set(error, "%s: its reader tells of nothing known",
				 t->report->disk->name);
	}
}

static int copy_in_child(void *context, FILE *answers, struct error *error)
{
	struct copier *c = &((struct taker *)context)->copier;
	const struct disk *disk = c->report->disk;
	int failed = 0;

	c->answers = answers;
	c->image = fsimage_open(disk->fd, disk->name, JOBDISK_LABEL, error);
	if (!c->image)
		return -1;
	for (size_t i = 0; i < 2 && !failed; i++)
		if (c->extraction->streams[i].fd >= 0)
			failed = copy_stream(c, i, error);
	if (!failed && c->extraction->outputs_below)
		failed = plan_and_copy(c, error);
	fsimage_close(c->image);
	return failed;
}

/* PATH_MAX bytes that the child and we both see; NULL with ERROR set. */
static char *shared_path(struct error *error)
{
	void *path =
		mmap(NULL, PATH_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (path != MAP_FAILED)
		return path;
	error_errno(error, "no memory for the name of an output");
	return NULL;
}

int extract(struct report *report, const struct extraction *extraction, struct error *error)
{
	static struct taker taker;
	int file_fds[2];
	struct stat disk_status;
	struct confined confined = {
		.name = report->disk->name,
		.cancel_signal = &report->collect_signal,
		.directory_fd = extraction->outputs_below ? extraction->directory_fd : -1,
		.file_fds = file_fds,
	};

	for (size_t i = 0; i < 2; i++)
		if (extraction->streams[i].fd >= 0)
			file_fds[confined.file_count++] = extraction->streams[i].fd;
	if (fstat(report->disk->fd, &disk_status))
		return error_errno(error, "%s", report->disk->name);
	taker = (struct taker){
		.copier = {.report = report, .extraction = extraction},
		.report = report,
		.extraction = extraction,
		.sink = {.directory_fd = extraction->directory_fd,
			 .directory = extraction->directory},
		.data_left = DATA_PER_DISK_MAX * (uint64_t)disk_status.st_size,
		.holes_left = HOLES_BYTES_MAX,
		.growing = {.fd = -1},
	};
	confined.disk_fd = report->disk->fd;
	taker.sink.unfinished = taker.copier.unfinished = shared_path(error);
	if (!taker.sink.unfinished)
		return -1;
	int failed = confined_run(&confined, copy_in_child, take_frame, &taker, error);
	end_growing(&taker.growing);
	/* A child that was killed could not tidy up. */
	if (failed)
		sink_remove_unfinished(&taker.sink);
	munmap(taker.sink.unfinished, PATH_MAX);
	return failed;
}
