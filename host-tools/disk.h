/* disk: a job disk as the host reads it, before or after its run. */
#ifndef HOST_TOOLS_DISK_H
#define HOST_TOOLS_DISK_H

#include <stdbool.h>

#include "fsimage/reader.h"
#include "host-tools/changes.h"
#include "imagebuilder/digest.h"
#include "jobdisk/manifest.h"
#include "jobdisk/result.h"

struct disk {
	struct fsimage *image;
	char job_id[37]; /* the file system's UUID */
	struct manifest manifest;
	bool has_result; /* a record is there and whole */
	struct result result;
	struct changes changes;
	bool has_changes;
	struct record_buffer manifest_buffer, result_buffer;
};

/*
 * Opens PATH for reading, or with FOR_START for reading and writing. While one jobvm has it for a
 * start, no other gets it. Returns the descriptor, or -1 with ERROR set.
 */
int disk_open_file(const char *path, bool for_start, struct error *error);

/*
 * Opens the job disk behind FD, named NAME in errors, and reads its manifest. DISK is large: not
 * for the stack. 0, or -1 with ERROR set and nothing to close.
 */
int disk_open(struct disk *disk, int fd, const char *name, struct error *error);

/*
 * Reads what a run left: the result record, the changes. 0; 1 when there is no record; -1 with
 * ERROR set when record or file system are not sane.
 */
int disk_read_results(struct disk *disk, struct error *error);

void disk_close(struct disk *disk);

/* The SHA-256 of the manifest's text. 0, or -1 with ERROR set. */
int disk_manifest_digest(const struct manifest *manifest, char hex[DIGEST_HEX_BYTES],
			 struct error *error);

#endif
