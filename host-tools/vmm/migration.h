/*
 * migration: saves a VM's state to a file, or restores one, by QMP: a list of commands, each sent
 * when the one before it was answered. The guest's memory is not part of the state: it is the file
 * that QEMU has it in (qemu.h).
 */
#ifndef HOST_TOOLS_VMM_MIGRATION_H
#define HOST_TOOLS_VMM_MIGRATION_H

#include <stdbool.h>
#include <stdint.h>

#include "host-tools/vmm/qmp.h"

struct migration_step;

/* What a clone is told of its disks. */
struct migration_disks {
	uint64_t job_bytes, input_bytes; /* their sizes; input: 0 where the VM has none */
	/*
	 * For migration_attach: the job disk's file, the number that it gets, from 1, and that of
	 * the one before it; 0: that is the one that QEMU was started with.
	 */
	uint64_t file_number, file_before;
	int file_fd;
};

struct migration {
	struct qmp *qmp;
	const struct migration_step *step; /* the one that is under way */
	int fd;				   /* that goes along with one of them */
	struct migration_disks disks;
	bool replied, completed; /* of this step: the answer, and QEMU's event where it needs one */
	bool done;
	char problem[256]; /* why it failed, or "" */
};

/*
 * Stops the VM and saves its state to STATE_FD, from its position. The caller keeps the descriptor
 * and then ends QEMU.
 */
void migration_save(struct migration *migration, struct qmp *qmp, int state_fd);

/*
 * Restores the state in STATE_FD into a QEMU that was started for it, tells the guest the sizes of
 * its DISKS, and lets it run.
 */
void migration_restore(struct migration *migration, struct qmp *qmp, int state_fd,
		       const struct migration_disks *disks);

/* The first part of that: the VM stands still, and knows nothing of its disks. */
void migration_load(struct migration *migration, struct qmp *qmp, int state_fd);

/* A VM that was loaded and has run stands still again. */
void migration_pause(struct migration *migration, struct qmp *qmp);

/*
 * The last part of it, for a VM that was loaded or that waits for another job disk: its disks
 * become DISKS, and it runs.
 */
void migration_attach(struct migration *migration, struct qmp *qmp,
		      const struct migration_disks *disks);

/* To be called with each answer (error: QEMU's sentence or NULL) and event, once one was begun. */
void migration_on_reply(struct migration *migration, const char *error);
void migration_on_event(struct migration *migration, const char *name, const json_t *data);

#endif
