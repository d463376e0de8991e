/*
 * confined: runs a function in a child process that can do little, because it meets what a job
 * left behind: Landlock, a list of allowed system calls, limits of memory and processor time, no
 * new privileges, no rights of root, no descriptors but those it needs.
 */
#ifndef HOST_TOOLS_CONFINED_H
#define HOST_TOOLS_CONFINED_H

#include "host-tools/confine.h"
#include "host-tools/frame.h"

struct confined {
	const char *name; /* of the job disk, in errors */
	int disk_fd;	  /* kept, and read-only there */
	/*
	 * With a directory (not -1) the child may make files below it, as the user that jobvm is;
	 * else it can open nothing at all, and is nobody where jobvm is root.
	 */
	int directory_fd;
	const int *file_fds; /* files that it may write besides */
	size_t file_count;
	const int *read_fds; /* and such that it may only read */
	size_t read_count;
	/* Processor time for each GiB of the disk; 0: what reading its metadata takes. */
	uint64_t cpu_seconds_per_gib;
	/*
	 * Not NULL: while the child works, the first SIGHUP, SIGINT or SIGTERM that is not ignored
	 * ends it, and not us, and is noted here.
	 */
	int *cancel_signal;
};

/*
 * What the child does. It answers by frames, of types from CONFINED_FRAMES on, and returns 0, or
 * -1 with ERROR set.
 */
typedef int confined_task(void *context, FILE *answers, struct error *error);
/* What the parent does with each frame. -1 with ERROR set ends the child. */
typedef int confined_answer(void *context, struct frame *frame, struct error *error);

#define CONFINED_FRAMES 16

/*
 * Runs TASK in a child and passes each of its frames to ANSWER, here. 0 when both succeeded; else
 * -1 with ERROR set: theirs, or how the child was ended (memory, time, a call it may not make).
 * CONTEXT is the child's own copy in TASK.
 */
int confined_run(const struct confined *confined, confined_task *task, confined_answer *answer,
		 void *context, struct error *error);

/*
 * The same in two halves, for a child that works while the parent does something else. Its first
 * part is what it does before it calls confined_ready: confined_start returns when that is done.
 * A child that was started is ended by confined_finish, which returns as confined_run does, or by
 * confined_cancel, which does not wait for its answers.
 */
struct confined_child {
	struct confined confined; /* what it names must last as long as the child */
	pid_t pid;
	FILE *answers;
};
int confined_start(struct confined_child *child, const struct confined *confined,
		   confined_task *task, void *context, struct error *error);
int confined_finish(struct confined_child *child, confined_answer *answer, void *context,
		    struct error *error);
void confined_cancel(struct confined_child *child);
/* For TASK: tells the parent, through ANSWERS, that it may go on. 0, or -1 with ERROR set. */
int confined_ready(FILE *answers, struct error *error);

/*
 * Whether a child can be confined here: 0, or -1 with ERROR set, which names what is to be read,
 * NAME. confined_run fails then; this is for knowing it before a job runs.
 */
int confined_check(const char *name, struct error *error);

/*
 * Whether a kernel without Landlock will do (--without-landlock). Otherwise confined_run fails
 * there.
 */
void confined_allow_without_landlock(void);

/* Sends a frame without values. 0, or -1 with ERROR set. */
int confined_send_type(FILE *answers, uint32_t type, struct error *error);
/* Sends a frame whose only value is TEXT. 0, or -1 with ERROR set. */
int confined_send_text(FILE *answers, uint32_t type, const char *text, struct error *error);
/* Sends FRAME: 0, or -1 with ERROR set. */
int confined_send(FILE *answers, const struct frame *frame, struct error *error);

#endif
