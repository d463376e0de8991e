/*
 * state: the file that a suspended VM is kept in (docs/formats.md).
 *
 * It holds what the VM was, QEMU's state, notes of whoever saved it, and of the guest's memory what
 * differs from its template, compressed, in frames that threads write and read at once. The keyed
 * digest at its end covers every byte.
 */
#ifndef HOST_TOOLS_SUSPEND_STATE_H
#define HOST_TOOLS_SUSPEND_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host-tools/suspend/memory.h"
#include "host-tools/suspend/state_key.h"
#include "jobdisk/record.h"

#define STATE_VERSION 1

/* What a VM is, and was when it was saved. Its strings are the caller's, or the state's. */
struct state_facts {
	uint64_t version;
	const char *job_id, *manifest_sha256;
	/* All that it must find again where it goes on. */
	const char *qemu_sha256, *machine_sha256;		 /* the program; its command line */
	const char *kernel_sha256, *initrd_sha256, *root_sha256; /* initrd: NULL for none */
	const char *processor, *accel;
	uint64_t memory_bytes, cpus, tsc_khz;
	/* NULL where it stands by itself. */
	const char *template_key, *template_memory_sha256;
	const char *disk_suffix;     /* of the file's name; NULL: the job disk itself */
	const char *disk_sha256;     /* disk_digest.h */
	const char *inputs_identity; /* of the input disk; NULL: it has none */
	uint64_t ran_ms, job_started_ms, stdout_bytes, stderr_bytes;
	uint64_t suspensions;		   /* so far, with this one */
	uint64_t suspended_at;		   /* seconds since 1970 */
	uint64_t pages_changed, raw_bytes; /* struct state_sizes; state_save fills them */
};

extern const struct record_schema state_schema;

/* What goes into a state beside the facts. */
struct state_source {
	const struct vm_memory *memory;
	bool whole;	   /* also what the memory began as */
	int device_fd;	   /* QEMU's state, a file from its start */
	const char *notes; /* any text */
};

/* Of the guest's memory. */
struct state_sizes {
	uint64_t pages_changed; /* that QEMU had for itself */
	uint64_t pages_stored;
	uint64_t raw_bytes;    /* of those, with their places */
	uint64_t stored_bytes; /* of the file */
};

/*
 * Writes a state into the empty file behind FD, which it does not sync. 0, or -1 with ERROR set.
 */
int state_save(int fd, const struct state_facts *facts, const struct state_source *source,
	       const uint8_t key[STATE_KEY_BYTES], struct state_sizes *sizes, struct error *error);

struct state;

/*
 * Checks the whole file behind FD, which stays the caller's, against KEY, and opens it. 0 and
 * *STATE, or -1 with ERROR set, which says what is wrong but not of which file.
 */
int state_open(int fd, const uint8_t key[STATE_KEY_BYTES], struct state **state,
	       struct error *error);
void state_close(struct state *state); /* NULL is allowed */

const struct state_facts *state_facts(const struct state *state);

/* The notes, with a final NUL, to be freed; or NULL with ERROR set. */
char *state_notes(const struct state *state, struct error *error);

/* Writes QEMU's state into the file behind FD. 0, or -1 with ERROR set. */
int state_device(const struct state *state, int fd, struct error *error);

/* Writes the guest's memory into a QEMU that has none of it yet. 0, or -1 with ERROR set. */
int state_restore_memory(const struct state *state, const struct vm_memory *memory,
			 struct error *error);

#endif
