/*
 * job: one job as the user described it, on the command line or in a submit description.
 * What the guest needs to know is in the manifest; the rest is where things are on the host.
 *
 * Order of use: job_init, job_set for each key (or the fields themselves), job_finish, job_free.
 */
#ifndef HOST_TOOLS_JOB_H
#define HOST_TOOLS_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "host-tools/values.h"
#include "jobdisk/manifest.h"

enum job_accel { ACCEL_AUTO, ACCEL_KVM, ACCEL_TCG };

/* How a job's VM comes to be; the words that users give for it, ending with NULL. */
enum job_start { START_AUTO, START_CLONE, START_COLD };
extern const char *const job_start_words[];

/* Inputs that are fetched when the job reads them: where from, and how. */
struct job_fetch {
	char *from; /* a directory, or the URI of an NBD server; NULL: the job's inputs */
	char *tls_certificates; /* a directory; NULL: none */
	char *trace_path;	/* where the list of touched files goes; NULL: nowhere */
	char *prefetch_path;	/* such a list, to be fetched ahead; NULL: none */
	uint64_t timeout_ms;	/* how long a server that does not answer is a slow disk */
	uint64_t cache_max_bytes;
};

struct job {
	/* Its strings and lists point to the job's own: `arguments` and the like below. */
	struct manifest manifest;
	struct strings arguments, environment;
	struct strings transfer_outputs; /* normal form: no leading "./", no "." or ".." inside */
	struct strings transfer_output_remaps; /* FROM=TO; FROM has no '=' */
	struct strings host_environment; /* getenv: patterns of names, "!PATTERN" to leave out */

	/* Relative to the current directory, as in HTCondor. */
	char *directory; /* initialdir, never NULL: relative inputs start here, outputs land here */
	char *executable;	  /* to be packed under its last name with mode +x; NULL: none */
	char *image_path;	  /* guest image; NULL: the default */
	bool transfer_executable; /* false: `executable` is a path in the guest (until job_finish)
				   */

	/* As the user wrote them: relative to `directory`; job_path puts the two together. */
	struct strings inputs; /* transfer_input_files: HTCondor's and rsync's slash rule */
	char *stdin_path;      /* NULL: /dev/null */
	char *stdout_path;     /* of a submit description; NULL: passed through */
	char *stderr_path;
	char *log_path;	   /* HTCondor's event log; NULL: none */
	char *report_path; /* job.json of a submit description */

	uint64_t disk_bytes; /* request_disk: the whole job disk; 0: inputs and DISK_FREE_BYTES */
	uint64_t input_max_bytes; /* max_transfer_input_mb; RECORD_UNSET: no cap */
	uint64_t max_retries;
	struct job_fetch fetch;
	unsigned accel; /* enum job_accel */
	unsigned start; /* enum job_start */
	bool require_hardware;
	unsigned cluster, process; /* $(Cluster), $(Process) */
};

/* A job with every default set; free with job_free. */
void job_init(struct job *job);
void job_free(struct job *job);

/*
 * Sets the job's property NAME (a submit description's key) to VALUE, for command line and submit
 * description alike: one table in job_keys.c holds every key and its parser. A list is replaced,
 * not added to. Returns 0; 1 when no such key exists; -1 with ERROR saying what is wrong with VALUE
 * (the caller puts before it how the user wrote NAME).
 */
int job_set(struct job *job, const char *name, const char *value, struct error *error);

enum job_key_kind {
	JOB_KEY_UNKNOWN,
	JOB_KEY_USED,
	JOB_KEY_CHECKED, /* HTCondor's, without meaning here but for the values that are errors */
	JOB_KEY_IGNORED, /* HTCondor's, without meaning here whatever the value */
};

/* What job_set does with NAME. A key without meaning calls for a warning. */
enum job_key_kind job_key_kind(const char *name);

/* The known key nearest to NAME (for "did you mean"), or NULL when none is near. */
const char *job_nearest_key(const char *name);

/*
 * To be called once, when all keys are set: checks what must hold between keys, puts the
 * executable before the arguments, copies what getenv asks for, and binds the manifest.
 * The manifest then lacks only its job_id.
 */
int job_finish(struct job *job, struct error *error);

/* Points the manifest's lists at the job's own strings; again after changes to those. */
void job_bind_manifest(struct job *job);

/* PATH as it can be opened: with the job's directory before it unless absolute. To be freed. */
char *job_path(const struct job *job, const char *path);

#endif
