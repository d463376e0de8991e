#include "host-tools/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "host-tools/confined.h"
#include "jobdisk/layout.h"

int disk_open_file(const char *path, bool for_start, struct error *error)
{
	struct stat status;
	int fd = open(path, (for_start ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return error_errno(error, "open job disk %s", path);
	if (fstat(fd, &status) || !S_ISREG(status.st_mode)) {
		close(fd);
		return error_set(error, "%s: not a job disk: not a regular file", path);
	}
	if (flock(fd, (for_start ? LOCK_EX : LOCK_SH) | LOCK_NB)) {
		if (errno == EWOULDBLOCK)
			error_set(error, "%s: another jobvm is %s this job disk", path,
				  for_start ? "running or reading" : "running");
		else
			error_errno(error, "lock %s", path);
		close(fd);
		return -1;
	}
	return fd;
}

/* What the child tells. */
enum {
	FRAME_UNCLEAN = CONFINED_FRAMES,
	FRAME_JOB_ID,	/* text */
	FRAME_MANIFEST, /* bytes */
	FRAME_RESULT,	/* bytes */
	FRAME_CHANGE,	/* kind, struct fsstat, path */
	FRAME_PROBLEM,	/* text */
	FRAME_CUT_OFF,	/* there are more changes than CHANGES_MAX */
	FRAME_STARTED,	/* a guest laid out a workspace */
};

struct reading {
	struct disk *disk;
	enum disk_parts parts;
	bool unclean;
};

/* --- in the child: from the hostile image to frames --- */

/* Sends a record's file. 0; 1 when there is none; -1 on error. */
static int send_record(struct fsimage *image, const char *name, uint32_t type, FILE *answers,
		       struct error *error)
{
	static char text[RECORD_MAX_BYTES];
	static struct frame frame;
	struct fsstat stat;

	int found = fsimage_lookup(image, name, &stat, error);
	if (found)
		return found;
	if (!S_ISREG(stat.mode) || stat.size_bytes == 0 || stat.size_bytes > sizeof(text))
		return error_set(error, "/%s: not a file of 1 to %d bytes", name, RECORD_MAX_BYTES);
	int64_t length = fsimage_read(image, stat.inode, 0, text, stat.size_bytes, error);
	if (length < 0)
		return -1;
	frame_begin(&frame, type);
	frame_put_bytes(&frame, text, (size_t)length);
	return confined_send(answers, &frame, error);
}

struct sending {
	FILE *answers;
	size_t count;
};

static int send_change(void *context, const struct change *change, struct error *error)
{
	static struct frame frame;
	struct sending *sending = context;

	if (sending->count++ == CHANGES_MAX)
		return confined_send_type(sending->answers, FRAME_CUT_OFF, error) ? -1 : 1;
	frame_begin(&frame, FRAME_CHANGE);
	frame_put_number(&frame, change->kind);
	frame_put_bytes(&frame, &change->stat, sizeof(change->stat));
	frame_put_text(&frame, change->path);
	return confined_send(sending->answers, &frame, error);
}

/* Whether a guest ever laid out a workspace here. */
static int send_started(struct fsimage *image, FILE *answers, struct error *error)
{
	struct fsstat stat;
	int found = fsimage_lookup(image, JOBDISK_SCRATCH "/" SCRATCH_ROOT, &stat, error);

	return found == 0 ? confined_send_type(answers, FRAME_STARTED, error) : found < 0 ? -1 : 0;
}

static int send_changes(const struct reading *reading, struct fsimage *image, FILE *answers,
			struct error *error)
{
	struct sending sending = {.answers = answers};
	struct overlay overlay = {.disk = image};

	if (reading->disk->has_inputs) {
		overlay.inputs = fsimage_open(reading->disk->inputs_fd, "the input disk",
					      INPUTDISK_LABEL, error);
		if (!overlay.inputs)
			return -1;
	}
	return changes_find(&overlay, send_change, &sending, error) < 0 ? -1 : 0;
}

static int send_results(const struct reading *reading, struct fsimage *image, FILE *answers,
			struct error *error)
{
	if (send_started(image, answers, error))
		return -1;
	int found = send_record(image, JOBDISK_RESULT, FRAME_RESULT, answers, error);
	if (found < 0 && reading->parts == DISK_RESULTS)
		return -1;
	if (found > 0 && reading->parts == DISK_RESULTS)
		return 0;
	return send_changes(reading, image, answers, error);
}

static int send_disk(const struct reading *reading, struct fsimage *image, FILE *answers,
		     struct error *error)
{
	char job_id[sizeof(reading->disk->job_id)];
	struct error problem;
	uuid_t uuid = {0};

	fsimage_uuid(image, uuid);
	uuid_unparse_lower(uuid, job_id);
	if (confined_send_text(answers, FRAME_JOB_ID, job_id, error))
		return -1;
	int found = send_record(image, JOBDISK_MANIFEST, FRAME_MANIFEST, answers, error);
	if (found > 0)
		error_set(error, "/" JOBDISK_MANIFEST ": it is not there");
	if (found)
		return error_prefix(error, "%s", reading->disk->name);
	if (send_results(reading, image, answers, &problem) == 0)
		return 0;
	return confined_send_text(answers, FRAME_PROBLEM, problem.text, error);
}

static int read_in_child(void *context, FILE *answers, struct error *error)
{
	const struct reading *reading = context;
	const struct disk *disk = reading->disk;
	struct error ignored;
	struct fsimage *image = fsimage_open(disk->fd, disk->name, JOBDISK_LABEL, error);

	if (!image) {
		if (fsimage_needs_recovery(disk->fd, disk->name, &ignored) == 1)
			confined_send_type(answers, FRAME_UNCLEAN, &ignored);
		return -1;
	}
	return send_disk(reading, image, answers, error);
}

/* --- in the parent: from frames, which may be a hostile child's, to what they mean --- */

static int take_bytes(struct frame *frame, struct record_buffer *buffer, size_t *length,
		      struct error *error)
{
	const void *bytes = frame_get_bytes(frame, length);

	if (!frame_is_whole(frame) || *length > RECORD_MAX_BYTES)
		return error_set(error, "not a record");
	memcpy(buffer->text, bytes, *length);
	return 0;
}

static int take_manifest(struct disk *disk, struct frame *frame, struct error *error)
{
	size_t length;

	/* A second one would be parsed over the first. */
	if (disk->manifest.job_id)
		return error_set(error, "%s: its reader tells two manifests", disk->name);
	if (take_bytes(frame, &disk->manifest_buffer, &length, error) == 0 &&
	    record_parse(&manifest_schema, "/" JOBDISK_MANIFEST, &disk->manifest_buffer, length,
			 &disk->manifest, error) == 0) {
		if (strcmp(disk->manifest.job_id, disk->job_id) == 0)
			return 0;
		error_set(error, "/" JOBDISK_MANIFEST ": key 'job_id': not the disk's own id");
	}
	return error_prefix(error, "%s", disk->name);
}

/* What a record of a job that was not privileged cannot truly say. */
static const char *contradiction(const struct disk *disk)
{
	const struct result *result = &disk->result;

	/* PID 1 has no id to name when it could not read the manifest. */
	if (!result->job_id && !(result->status == STATUS_FAILED_TO_START && result->stage))
		return "it names no job";
	if (result->job_id && strcmp(result->job_id, disk->job_id) != 0)
		return "it is another job's";
	if (result->status > STATUS_LAST_OF_GUEST)
		return "its status is not one that a guest can give";
	if (result->status == STATUS_COMPLETED && result->exit_code == RECORD_UNSET)
		return "completed without an exit code";
	if (result->status == STATUS_SIGNALED && result->exit_signal == RECORD_UNSET)
		return "signaled without a signal";
	return NULL;
}

static int parse_result(struct disk *disk, struct frame *frame, struct error *error)
{
	size_t length;

	if (take_bytes(frame, &disk->result_buffer, &length, error) ||
	    record_parse(&result_schema, "/" JOBDISK_RESULT, &disk->result_buffer, length,
			 &disk->result, error))
		return -1;
	return contradiction(disk)
		       ? error_set(error, "/" JOBDISK_RESULT ": %s", contradiction(disk))
		       : 0;
}

static void note_problem(struct disk *disk, const char *text)
{
	if (!disk->problem[0])
		snprintf(disk->problem, sizeof(disk->problem), "%s", text);
}

static void take_result(struct disk *disk, struct frame *frame, enum disk_parts parts)
{
	struct error problem;

	if (disk->has_record) {
		disk->has_result = false;
		note_problem(disk, "its reader tells two results");
		return;
	}
	disk->has_record = true;
	disk->has_result = parse_result(disk, frame, &problem) == 0;
	if (!disk->has_result && parts == DISK_RESULTS)
		note_problem(disk, problem.text);
}

static int take_change(struct disk *disk, struct frame *frame, struct error *error)
{
	struct change change = {.kind = (enum change_kind)frame_get_number(frame)};
	size_t size;
	const void *stat = frame_get_bytes(frame, &size);

	change.path = frame_get_path(frame);
	if (!frame_is_whole(frame) || size != sizeof(change.stat) || change.kind > CHANGE_DELETED)
		return error_set(error, "%s: its reader tells of no such change", disk->name);
	memcpy(&change.stat, stat, sizeof(change.stat));
	/* Nothing was there: the job made it, and took it away again. */
	if (change.kind == CHANGE_DELETED && !change.stat.mode &&
	    disk->manifest.fetch == FETCH_EAGER)
		return 0;
	return changes_add(&disk->changes, &change, error);
}

static int take_frame(void *context, struct frame *frame, struct error *error)
{
	struct reading *reading = context;
	struct disk *disk = reading->disk;

	switch (frame->type) {
	case FRAME_UNCLEAN:
		reading->unclean = true;
		return 0;
	case FRAME_STARTED:
		disk->was_started = true;
		return 0;
	case FRAME_JOB_ID:
		snprintf(disk->job_id, sizeof(disk->job_id), "%s", frame_get_text(frame));
		return 0;
	case FRAME_MANIFEST:
		return take_manifest(disk, frame, error);
	case FRAME_RESULT:
		take_result(disk, frame, reading->parts);
		return 0;
	case FRAME_CHANGE:
		return take_change(disk, frame, error);
	case FRAME_PROBLEM:
		note_problem(disk, frame_get_text(frame));
		return 0;
	case FRAME_CUT_OFF:
		disk->changes.cut_off = true;
		return 0;
	default:
		return error_set(error, "%s: its reader tells of nothing known", disk->name);
	}
}

int disk_read(struct disk *disk, int fd, int inputs_fd, const char *name, enum disk_parts parts,
	      struct error *error)
{
	struct reading reading = {.disk = disk, .parts = parts};
	const struct confined confined = {
		.name = name,
		.disk_fd = fd,
		.directory_fd = -1,
		.read_fds = &inputs_fd,
		.read_count = inputs_fd >= 0,
	};

	memset(disk, 0, sizeof(*disk));
	disk->fd = fd;
	disk->name = name;
	disk->has_inputs = inputs_fd >= 0;
	disk->inputs_fd = inputs_fd;
	if (confined_run(&confined, read_in_child, take_frame, &reading, error))
		return reading.unclean ? 1 : -1;
	if (!disk->manifest.job_id)
		return error_set(error, "%s: its reader told no manifest", name);
	disk->has_changes = !disk->problem[0] && (disk->has_result || parts == DISK_PARTIAL);
	return 0;
}

void disk_close(struct disk *disk)
{
	changes_free(&disk->changes);
	disk->changes = (struct changes){.count = 0};
	disk->has_changes = false;
	if (disk->has_inputs)
		close(disk->inputs_fd);
	disk->has_inputs = false;
}

int disk_manifest_digest(const struct manifest *manifest, char hex[DIGEST_HEX_BYTES],
			 struct error *error)
{
	static char text[RECORD_MAX_BYTES + 1];
	long length = record_format(&manifest_schema, manifest, text, error);

	return length < 0 ? -1 : digest_bytes(text, (size_t)length, hex, error);
}
