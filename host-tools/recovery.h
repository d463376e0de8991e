/*
 * recovery: what is left of a job whose VM was cut off. The journal of its disk is never replayed
 * on the host: the guest image boots on a copy of the disk, its kernel replays the journal, and
 * PID 1 only mounts and unmounts it. The copy is as hostile as any disk that comes back.
 */
#ifndef HOST_TOOLS_RECOVERY_H
#define HOST_TOOLS_RECOVERY_H

#include "host-tools/boot.h"
#include "host-tools/disk.h"
#include "host-tools/pack.h"
#include "host-tools/timeouts.h"
#include "jobdisk/status.h"

/* Whether what a run that ended so has left is worth it: not that of a guest caught lying. */
bool recovery_is_for(enum job_status status);

/*
 * Copies the job disk behind DISK_FD, named DISK_NAME in errors, to COPY, which the caller made
 * (pack_open), and recovers the copy in a VM that ends within the timeouts' sum. The disk itself
 * is only read. 0, or -1 with ERROR set.
 */
int recovery_make(const struct boot *boot, const struct timeouts *timeouts, int disk_fd,
		  const char *disk_name, const struct packed *copy, struct error *error);

/*
 * Does so with a copy in the scratch directory, and lets DISK_FD be that copy from then on. 0; or
 * -1 with ERROR set, and DISK_FD is what it was.
 */
int recovery_replace(const struct boot *boot, const struct timeouts *timeouts, int disk_fd,
		     const char *disk_name, struct error *error);

/*
 * Reads a disk whose run has no end that can be believed, or what a recovery made of it, with
 * DISK_PARTIAL. DISK is what an earlier disk_read left, or zeroed. 0, or -1 with ERROR set.
 */
int recovery_read(struct disk *disk, int disk_fd, int inputs_fd, const char *disk_name,
		  struct error *error);

/* The signal to us that ended the last recovery, or 0. */
int recovery_cancel_signal(void);

#endif
