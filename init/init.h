/*
 * init: PID 1 of the guest. It reads the job's manifest from the job disk, runs the job, writes
 * the result record back and powers off (design, section 3).
 *
 * main.c runs the stages in order; each is one function below. A stage that fails sets ERROR and
 * returns -1: that becomes a committed result where a disk is mounted, and the VM powers off.
 * PID 1 allocates nothing: all its state is `struct guest`, which is static, and what it shares.
 */
#ifndef INIT_INIT_H
#define INIT_INIT_H

#include <stdbool.h>
#include <sys/types.h>

#include "jobdisk/control.h"
#include "jobdisk/error.h"
#include "jobdisk/manifest.h"
#include "jobdisk/result.h"

#define STAGE_MAX 24

/* Where things are in PID 1's own mount namespace, which the job never sees. */
#define IMAGE_DIR  "/image"   /* the guest image's root, read-only */
#define JOB_DIR	   "/jobdisk" /* the job disk */
#define INPUT_DIR  "/inputs"  /* the input disk, where the job has one */
#define ROOT_DIR   "/newroot" /* the job's root: an overlay on IMAGE_DIR */
#define JAIL_DIR   "/jail"    /* what goes into ROOT_DIR once there is one */
#define CGROUP_DIR "/cgroup"
#define JOB_CGROUP CGROUP_DIR "/job"

/* One of the job's output streams: a pipe from the job, to a file on the disk and a port. */
struct stream {
	const char *name;
	int pipe_fd, file_fd, port_fd; /* pipe_fd is -1 after its end */
	uint64_t max_bytes;
	uint64_t total_bytes;  /* written by the job */
	uint64_t stored_bytes; /* on the disk: at most max_bytes */
	uint64_t sent_bytes;   /* to the port */
	bool truncated;
	char buffer[32768]; /* what the port has not taken yet */
	size_t pending_start, pending_end;
};

/* What the processes that are forked before the manifest is read see of it, too. */
struct shared {
	struct record_buffer manifest_buffer;
	struct manifest manifest; /* points into the buffer */
};

struct guest {
	const char *stage;
	struct shared *shared;
	const struct manifest *manifest; /* of `shared` */
	struct result result;
	struct error fatal;
	char timings[STAGE_MAX][64];
	const char *timing_items[STAGE_MAX + 1];

	int uevent_fd;
	int control_fd, stdout_port_fd, stderr_port_fd;
	char hello[CONTROL_LINE_BYTES]; /* the host's, from wait_job_disk to make_unique */
	uint64_t ready_ms;		/* when PID 1 asked for it */
	char job_device[64];		/* from wait_job_disk */
	char input_device[64];
	bool job_disk_mounted;

	/* the job, from prepare_job to supervise */
	pid_t namespace_pid;
	int event_fd;	/* struct job_event from the namespace's init */
	int command_fd; /* to it: COMMAND_GO, then signal numbers */
	struct stream out, err;
};

extern struct guest guest;

/* --- the stages, in order (main.c has the table) --- */
int mount_api(struct error *error);
int load_modules(struct error *error);
int open_ports(struct error *error);
int mount_root(struct error *error);
int prepare_limits(struct error *error);
int prepare_job(struct error *error);
int wait_job_disk(struct error *error);
int make_unique(struct error *error);
int mount_job_disk(struct error *error);
int read_manifest(struct error *error);
int mount_input_disk(struct error *error);
int lay_out_workspace(struct error *error);
int apply_limits(struct error *error);
int start_job(struct error *error);
int supervise(struct error *error);
int sync_job_disk(struct error *error);
int commit_result(struct error *error);
int end_job_disk(struct error *error);
int power_off(struct error *error);

/* --- devices.c --- */

/* Finds the virtio disk with that serial number; its node goes to PATH. Waits for it. */
int find_disk(const char *serial, char *path, size_t size, struct error *error);
/* Waits until the disk DEVICE has the size that the host gives it. */
int wait_disk_size(const char *device, struct error *error);

/* --- control.c --- */

/* Tells the host one line: WORD and, unless it is "", ARGUMENT. Errors are ignored: the host
 * that does not listen any more will end this VM. */
void control_send(const char *word, const char *argument);
/* Reads one line from the host, without its newline. */
int control_receive(char *line, size_t size, struct error *error);
/* Takes what the host says while the job runs: that the VM was suspended, and goes on. */
int serve_control(struct error *error);
/*
 * Runs WORK, which may wait for a slow disk, in a child while PID 1 keeps talking: the host takes
 * silence for death. Returns what WORK does, 0 or an errno, or why there was no child.
 */
int work_while_talking(int (*work)(void));

/* --- namespace.c: the job's side of the wall --- */

enum job_event_kind {
	JOB_PREPARED,	  /* before the job is known */
	JOB_SETUP_FAILED, /* value: errno; step says where */
	JOB_EXEC_FAILED,  /* value: errno */
	JOB_STARTED,
	JOB_EXITED, /* value: wait status of the command */
};

struct job_event {
	enum job_event_kind kind;
	int value;
	char step[48];
};

/* To it: the manifest and the job's root are there. Any other byte is a signal's number. */
#define COMMAND_GO 0

/* What the namespace's init is given; it closes everything else. */
struct job_fds {
	int stdout_fd, stderr_fd;
	int event_fd, command_fd;
};

/*
 * The first process of the job's namespaces: sets them up as far as no job is needed, waits for
 * COMMAND_GO, sets up the rest, starts the command, waits, exits.
 */
void namespace_main(const struct job_fds *fds) __attribute__((noreturn));

/* --- mounts.c --- */

/* Removes what a job that is over has left in this VM; -1 with ERROR set where that cannot be. */
int leave_job(struct error *error);

/* --- supervise.c --- */

/* Closes what PID 1 has open for writing on the job disk: else it could not be made read-only. */
void close_job_files(void);

/* --- files.c: small files of the kernel's --- */

int write_file(const char *path, const char *text, struct error *error);
int write_number(const char *path, uint64_t number, struct error *error);
/* Reads at most size - 1 bytes and a NUL; returns how many, or -1. */
ssize_t read_file(const char *path, char *text, size_t size);
/* The number in a one-number file, or after "KEY " in a flat keyed one; RECORD_UNSET if none. */
uint64_t read_number(const char *path, const char *key);

/* --- cgroup.c --- */

/* Fills the usage fields of RESULT from the job's cgroup. */
void cgroup_usage(struct result *result);
uint64_t cgroup_oom_kills(void);
/* Notes how many processes the job has now. */
void cgroup_sample_processes(struct result *result);

/* --- time --- */
uint64_t monotonic_ms(void);

#endif
