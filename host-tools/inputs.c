#include "host-tools/inputs.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "host-tools/overlay.h"
#include "jobdisk/layout.h"

/* Beyond the disk's size, what hard links repeat and holes that are read as zeros. */
#define EXTRA_BYTES_MAX	    (1ULL << 30)
/* SHA-256 without the processor's help, and reading. */
#define CPU_SECONDS_PER_GIB 20

/* What the child tells. */
enum {
	FRAME_TREE = CONFINED_FRAMES, /* digest, or nothing */
	FRAME_STDIN,		      /* digest, or nothing */
};

struct task {
	int disk_fd;
	const char *disk_name;
	struct digest *tree, *stdin_file; /* begun by the parent: libcrypto opens files for that */
	struct fsimage *image;
	uint64_t bytes_left;
};

/* --- in the child --- */

/* Whether there is enough of bytes_left for a file of that size. */
static bool take_bytes(struct task *task, uint64_t size_bytes)
{
	if (size_bytes > task->bytes_left)
		return false;
	task->bytes_left -= size_bytes;
	return true;
}

static int add_content(struct task *task, struct digest *digest, const struct fsstat *stat,
		       struct error *error)
{
	static char buffer[1 << 18];
	int64_t length;

	for (uint64_t offset = 0; offset < stat->size_bytes; offset += (uint64_t)length) {
		length = fsimage_read(task->image, stat->inode, offset, buffer, sizeof(buffer),
				      error);
		if (length < 0)
			return -1;
		if (length == 0)
			return error_set(error, "%s: an input ends early", task->disk_name);
		digest_add(digest, buffer, (size_t)length);
	}
	return 0;
}

static int add_target(struct task *task, const struct fsstat *stat, struct error *error)
{
	char target[PATH_MAX + 1];

	if (fsimage_readlink(task->image, stat->inode, target, sizeof(target), error))
		return -1;
	digest_add(task->tree, target, strlen(target));
	return 0;
}

/* 1 ends the walk: there is more than can be digested. */
static int add_entry(void *context, const struct overlay_entry *entry, struct error *error)
{
	const struct fsstat *stat = overlay_stat(entry);
	bool has_size = S_ISREG(stat->mode) || S_ISLNK(stat->mode);
	struct task *task = context;
	char facts[64];

	if (!overlay_exists(entry))
		return 0;
	if (S_ISREG(stat->mode) && !take_bytes(task, stat->size_bytes))
		return 1;
	int length = snprintf(facts, sizeof(facts), "%06o%c%" PRIu64, stat->mode, '\0',
			      has_size ? stat->size_bytes : 0);
	/* Each with its final NUL. */
	digest_add(task->tree, entry->path, strlen(entry->path) + 1);
	digest_add(task->tree, facts, (size_t)length + 1);
	if (S_ISREG(stat->mode))
		return add_content(task, task->tree, stat, error);
	return S_ISLNK(stat->mode) ? add_target(task, stat, error) : 0;
}

/* NONE: there is no digest to send. */
static int send_digest(FILE *answers, uint32_t type, struct digest *digest, bool none,
		       struct error *error)
{
	char hex[DIGEST_HEX_BYTES];

	if (none) {
		digest_free(digest);
		return confined_send_text(answers, type, "", error);
	}
	if (digest_finish_hex(digest, hex, error))
		return -1;
	return confined_send_text(answers, type, hex, error);
}

static int digest_stdin(struct task *task, FILE *answers, struct error *error)
{
	struct fsstat stat;

	int found = fsimage_lookup(task->image, JOBDISK_STDIN, &stat, error);
	if (found < 0)
		return -1;
	bool none = found > 0 || !S_ISREG(stat.mode) || !take_bytes(task, stat.size_bytes);
	if (!none && add_content(task, task->stdin_file, &stat, error))
		return -1;
	return send_digest(answers, FRAME_STDIN, task->stdin_file, none, error);
}

static int digest_in_child(void *context, FILE *answers, struct error *error)
{
	struct task *task = context;

	task->image = fsimage_open(task->disk_fd, task->disk_name, JOBDISK_LABEL, error);
	if (!task->image || confined_ready(answers, error))
		return -1;
	const struct overlay overlay = {.disk = task->image};
	int walked = overlay_walk(&overlay, "", false, add_entry, task, error);
	if (walked < 0 || send_digest(answers, FRAME_TREE, task->tree, walked > 0, error))
		return -1;
	return digest_stdin(task, answers, error);
}

/* --- in the parent --- */

static int take_digest(void *context, struct frame *frame, struct error *error)
{
	struct inputs *inputs = context;
	const char *text = frame_get_text(frame);
	size_t length = strlen(text);
	bool is_known = frame->type == FRAME_TREE || frame->type == FRAME_STDIN;

	if (!is_known || !frame_is_whole(frame) || strspn(text, "0123456789abcdef") != length ||
	    (length != 0 && length != DIGEST_HEX_BYTES - 1))
		return error_set(error, "%s: its reader digests nothing",
				 inputs->child.confined.name);
	memcpy(frame->type == FRAME_TREE ? inputs->tree_sha256 : inputs->stdin_sha256, text,
	       length + 1);
	return 0;
}

int inputs_start(struct inputs *inputs, int disk_fd, const char *disk_name, struct error *error)
{
	const struct confined confined = {
		.name = disk_name,
		.disk_fd = disk_fd,
		.directory_fd = -1,
		.cpu_seconds_per_gib = CPU_SECONDS_PER_GIB,
	};
	struct task task = {.disk_fd = disk_fd, .disk_name = disk_name};
	struct stat status;
	int failed = -1;

	*inputs = (struct inputs){.has_child = false};
	if (fstat(disk_fd, &status))
		return error_errno(error, "%s", disk_name);
	task.bytes_left = (uint64_t)status.st_size + EXTRA_BYTES_MAX;
	task.tree = digest_new(error);
	task.stdin_file = task.tree ? digest_new(error) : NULL;
	if (task.stdin_file)
		failed = confined_start(&inputs->child, &confined, digest_in_child, &task, error);
	digest_free(task.tree);
	digest_free(task.stdin_file);
	inputs->has_child = !failed;
	return failed;
}

int inputs_finish(struct inputs *inputs, struct error *error)
{
	if (!inputs->has_child)
		return 0;
	inputs->has_child = false;
	return confined_finish(&inputs->child, take_digest, inputs, error);
}

void inputs_cancel(struct inputs *inputs)
{
	if (inputs->has_child)
		confined_cancel(&inputs->child);
	inputs->has_child = false;
}
