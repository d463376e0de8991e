#include "host-tools/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uuid/uuid.h>

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

/* Reads a record's file. Its length; 0 when there is none, -1 on error. */
static long read_record(struct fsimage *image, const char *name, struct record_buffer *buffer,
			struct error *error)
{
	struct fsstat stat;
	size_t length = 0;

	int found = fsimage_lookup(image, name, &stat, error);
	if (found)
		return found < 0 ? -1 : 0;
	if (!S_ISREG(stat.mode) || stat.size_bytes == 0 || stat.size_bytes > RECORD_MAX_BYTES)
		return error_set(error, "/%s: not a file of 1 to %d bytes", name, RECORD_MAX_BYTES);
	while (length < stat.size_bytes) {
		int64_t got = fsimage_read(image, stat.inode, length, buffer->text + length,
					   stat.size_bytes - length, error);
		if (got <= 0)
			return got < 0 ? -1 : error_set(error, "/%s: ends early", name);
		length += (size_t)got;
	}
	return (long)length;
}

static int read_manifest(struct disk *disk, struct error *error)
{
	long length = read_record(disk->image, JOBDISK_MANIFEST, &disk->manifest_buffer, error);

	if (length == 0)
		error_set(error, "/" JOBDISK_MANIFEST ": it is not there");
	if (length <= 0)
		return -1;
	if (record_parse(&manifest_schema, "/" JOBDISK_MANIFEST, &disk->manifest_buffer,
			 (size_t)length, &disk->manifest, error))
		return -1;
	if (strcmp(disk->manifest.job_id, disk->job_id) != 0)
		return error_set(error,
				 "/" JOBDISK_MANIFEST ": key 'job_id': not the disk's own id");
	return 0;
}

int disk_open(struct disk *disk, int fd, const char *name, struct error *error)
{
	uuid_t uuid = {0};

	memset(disk, 0, sizeof(*disk));
	disk->image = fsimage_open(fd, name, JOBDISK_LABEL, error);
	if (!disk->image)
		return -1;
	fsimage_uuid(disk->image, uuid);
	uuid_unparse_lower(uuid, disk->job_id);
	if (read_manifest(disk, error) == 0)
		return 0;
	disk_close(disk);
	return error_prefix(error, "%s", name);
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

static int read_result(struct disk *disk, struct error *error)
{
	long length = read_record(disk->image, JOBDISK_RESULT, &disk->result_buffer, error);

	if (length <= 0)
		return length < 0 ? -1 : 1;
	if (record_parse(&result_schema, "/" JOBDISK_RESULT, &disk->result_buffer, (size_t)length,
			 &disk->result, error))
		return -1;
	if (contradiction(disk))
		return error_set(error, "/" JOBDISK_RESULT ": %s", contradiction(disk));
	disk->has_result = true;
	return 0;
}

int disk_read_results(struct disk *disk, struct error *error)
{
	int result = read_result(disk, error);

	if (result)
		return result;
	if (changes_read(disk->image, &disk->changes, error))
		return -1;
	disk->has_changes = true;
	return 0;
}

void disk_close(struct disk *disk)
{
	if (disk->has_changes)
		changes_free(&disk->changes);
	fsimage_close(disk->image);
	disk->image = NULL;
	disk->has_changes = false;
}

int disk_manifest_digest(const struct manifest *manifest, char hex[DIGEST_HEX_BYTES],
			 struct error *error)
{
	static char text[RECORD_MAX_BYTES + 1];
	uint8_t value[DIGEST_BYTES];
	long length = record_format(&manifest_schema, manifest, text, error);
	struct digest *digest = length < 0 ? NULL : digest_new(error);

	if (!digest)
		return -1;
	digest_add(digest, text, (size_t)length);
	if (digest_finish(digest, value, error))
		return -1;
	digest_hex(value, hex);
	return 0;
}
