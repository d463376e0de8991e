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
	int fd;		  /* the caller's, open for as long as the disk is used; or -1 */
	bool has_inputs;  /* the job had an input disk whose metadata is known, */
	int inputs_fd;	  /* and this is it, the disk's own */
	const char *name; /* in errors; the caller's too */
	char job_id[37];  /* the file system's UUID */
	struct manifest manifest;
	bool was_started; /* PID 1 laid out a workspace there */
	bool has_record;  /* PID 1 left a result record, */
	bool has_result;  /* and it is whole */
	struct result result;
	struct changes changes;
	bool has_changes;
	char problem[ERROR_TEXT_BYTES]; /* why record or outputs are not sane; or "" */
	struct record_buffer manifest_buffer, result_buffer;
};

/*
 * Opens PATH for reading, or with FOR_START for reading and writing. While one jobvm has it for a
 * start, no other gets it. Returns the descriptor, or -1 with ERROR set.
 */
int disk_open_file(const char *path, bool for_start, struct error *error);

enum disk_parts {
	DISK_RESULTS, /* manifest, record and, where there is one, what the job changed */
	DISK_PARTIAL, /* what the job changed also where there is no record, or none that is sane */
};

/*
 * Reads the job disk behind FD, named NAME in errors, in a confined child (confined.h). DISK is
 * large: not for the stack. What is wrong with the results only is put into DISK->problem.
 * INPUTS_FD: the metadata of the input disk that the job had, or -1: none, or it is not known here.
 * It becomes DISK's.
 * 0; 1 with ERROR set when the disk was not cleanly unmounted; -1 with ERROR set when it is no
 * disk of ours or cannot be read. In each case disk_close frees what DISK holds.
 */
int disk_read(struct disk *disk, int fd, int inputs_fd, const char *name, enum disk_parts parts,
	      struct error *error);

/* Frees what DISK holds and empties it. The descriptor stays open. */
void disk_close(struct disk *disk);

/* The SHA-256 of the manifest's text. 0, or -1 with ERROR set. */
int disk_manifest_digest(const struct manifest *manifest, char hex[DIGEST_HEX_BYTES],
			 struct error *error);

#endif
