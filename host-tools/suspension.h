/*
 * suspension: a job that can be suspended and goes on later, here or elsewhere.
 *
 * What it goes on from is a pair: the job disk PATH as it was, and PATH.state, the VM that had it
 * (docs/formats.md). The state names its disk by digest, and the rename that gives it its name
 * makes the pair: until then, and if that never comes, the pair before it stays. A job that goes on
 * works on a copy of its pair's disk, so that whatever ends it, the pair is whole.
 */
#ifndef HOST_TOOLS_SUSPENSION_H
#define HOST_TOOLS_SUSPENSION_H

#include <jansson.h>
#include <limits.h>

#include "host-tools/boot.h"
#include "host-tools/inputs.h"
#include "host-tools/options.h"
#include "host-tools/pack.h"
#include "host-tools/suspend/state.h"
#include "host-tools/template.h"
#include "host-tools/vmm/vm.h"
#include "jobdisk/record.h"

#define SUSPENSION_SUFFIX_BYTES 17

/* As the user gave it; suspend_check fills the rest. */
struct suspend_options {
	const char *key_path; /* --state-key; NULL: the user's own */
	const char *every;    /* --checkpoint-every */
	uint64_t every_ms;    /* 0: never */
	bool whole;	      /* a state needs no template, and is larger */
	bool restart;	      /* what was suspended is dropped */
};

/* clang-format off */
#define SUSPEND_OPTIONS(options)                                                                   \
	{0, "state-key", OPTION_VALUE, &(options)->key_path},                                      \
	{0, "checkpoint-every", OPTION_VALUE, &(options)->every},                                  \
	{0, "suspend-whole", OPTION_FLAG, &(options)->whole}
/* clang-format on */

#define SUSPEND_HELP                                                                               \
	"  --checkpoint-every TIME  keep a state to go on from, each time so long\n"               \
	"  --suspend-whole      make states that need no template where they go on\n"              \
	"  --state-key FILE     the key that states are authenticated with\n"

/* A usage error ends the program. */
void suspend_check(const struct command *command, struct suspend_options *options);

/*
 * Until there is a VM, SIGTERM ends the program with EXIT_JOB_SUSPENDED, unless it is ignored: no
 * job has begun, and the same command starts it.
 */
void suspend_catch(void);

/* Zeroed, it is closed, and its job cannot be suspended. */
struct suspension {
	const struct suspend_options *options;
	char path[PATH_MAX]; /* of the job disk, by which the job is found again */
	uint8_t key[STATE_KEY_BYTES];
	bool is_open;
	bool in_place; /* the VM has the file PATH itself */

	/* A job that goes on: */
	struct state *state; /* NULL: it starts */
	struct packed copy;  /* the disk that the VM has, unless it is PATH */
	bool owns_copy;	     /* and nobody else closes it */
	struct manifest manifest;
	struct record_buffer manifest_buffer;
	json_t *notes;	       /* what the report needs of its earlier parts; of any job */
	struct inputs *inputs; /* the digests of a job that starts, the caller's; NULL: none */

	/* For what is saved: */
	int disk_fd; /* the disk that the VM has */
	const struct manifest *vm_manifest;
	const char *inputs_identity;		    /* of the input disk; NULL: there is none */
	const struct template *template;	    /* whose clone the VM is; NULL: it was booted */
	char saved_suffix[SUSPENSION_SUFFIX_BYTES]; /* of the pair's disk; "": PATH itself */
	bool has_pair;
	int lock_fd; /* of the pair's state: whoever holds its lock works on the job */
};

/*
 * Opens the suspension of the job at PATH. 0: a suspended job was found, and is what it was;
 * `copy` is the disk to go on with. 1: there is none. 2 with ERROR set: another jobvm goes on
 * with it. -1 with ERROR set: what lies there does not
 * fit. To be closed in each case.
 */
int suspension_open(struct suspension *suspension, const char *path,
		    const struct suspend_options *options, struct error *error);

/* Whether a state lies beside PATH. */
bool suspension_exists(const char *path);

/*
 * Fills QEMU, in which image, accelerator and input disk are set, with what the state says of the
 * VM, and compares all of it. 0, or -1 with ERROR set, which names what does not fit.
 */
int suspension_fit(const struct suspension *suspension, struct qemu_options *qemu,
		   struct error *error);

/* How the VM with DISK_FD is suspended, and resumed where the job goes on. */
struct vm_suspend suspension_handlers(struct suspension *suspension, int disk_fd,
				      const struct manifest *manifest);

/*
 * Whether the digests of the job's inputs are known from its start: then they are put into INPUTS.
 * Else INPUTS is where they will be, before its VM is saved. It must last as long as the VM.
 */
bool suspension_inputs(struct suspension *suspension, struct inputs *inputs);

/* Adds what there is to say to the host's section of the report. */
void suspension_report(const struct suspension *suspension, json_t *host);

/* Whether the job's VM, not the job, came to an end: what it was suspended to is kept. */
bool suspension_is_kept(const struct suspension *suspension, enum job_status status);

/*
 * The job has an end: its pair goes. KEEP_DISK: what the VM left is at PATH afterwards.
 * 0, or -1 with ERROR set.
 */
int suspension_end(struct suspension *suspension, bool keep_disk, struct error *error);

void suspension_close(struct suspension *suspension);

#endif
