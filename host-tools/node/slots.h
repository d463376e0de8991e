/*
 * slots: the workers of a node, their processes and what each does.
 */
#ifndef HOST_TOOLS_NODE_SLOTS_H
#define HOST_TOOLS_NODE_SLOTS_H

#include "host-tools/node/worker.h"

#define SLOTS_MAX 1024

enum slot_state {
	SLOT_EMPTY,
	SLOT_STARTS, /* a worker that makes itself ready */
	SLOT_WAITS,  /* for a job */
	SLOT_RUNS,
	SLOT_ENDS, /* its process has nothing more to say */
};

struct slot {
	enum slot_state state;
	pid_t pid;
	int socket_fd;
	char name[SPOOL_NAME_MAX + 1]; /* of the job that it runs, or is to run */
	time_t since;
	bool has_begun; /* the worker knows of that job */
	bool rehearses; /* its VM has, or is to */
};

struct slots {
	const struct worker_options *options;
	struct slot *items;
	size_t count;
};

int slots_open(struct slots *slots, size_t count, const struct worker_options *options,
	       struct error *error);
/* Ends what runs, at once, and frees. */
void slots_close(struct slots *slots);

size_t slots_in(const struct slots *slots, enum slot_state state);
/* The first one in STATE; NULL: there is none. */
struct slot *slots_find(const struct slots *slots, enum slot_state state);

/* Starts a worker in the empty SLOT, which REHEARSES (worker.h). -1 with ERROR set. */
int slot_start(const struct slots *slots, struct slot *slot, bool rehearses, struct error *error);
/* Gives a worker that waits, or starts, its job. */
void slot_give(struct slot *slot, const char *name);
/* It gets no other job, and ends. */
void slot_dismiss(struct slot *slot);
/*
 * What the worker has to say: an enum worker_word; 0: nothing yet; -1: its process has ended, and
 * the slot is empty.
 */
int slot_listen(struct slot *slot);

#endif
