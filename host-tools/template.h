/*
 * template: a VM that was booted once and saved where PID 1 waits for its job, and of which jobs
 * start as copies on write (docs/formats.md has the files).
 *
 * A template belongs to one guest image, machine shape, QEMU build, accelerator and processor
 * model: its key is a digest of all that. It lies beside the image, in IMAGEDIR.templates, where
 * `jobvm image template` puts it, or in the user's cache. Nothing of a job is ever in it.
 */
#ifndef HOST_TOOLS_TEMPLATE_H
#define HOST_TOOLS_TEMPLATE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "host-tools/job.h"
#include "imagebuilder/digest.h"
#include "imagebuilder/image.h"

#define TEMPLATE_FORMAT_VERSION 1

/* What a template is wanted for. */
struct template_wish {
	const struct image *image;
	enum job_accel accel; /* ACCEL_KVM or ACCEL_TCG */
	uint64_t memory_bytes, cpus;
	bool has_input_disk;
	uint64_t boot_timeout_ms; /* for making it */
};

/* What template.json says. */
struct template_facts {
	char key[DIGEST_HEX_BYTES];
	uint64_t memory_bytes, state_bytes;
	char memory_sha256[DIGEST_HEX_BYTES]; /* digest_sparse_file */
	char state_sha256[DIGEST_HEX_BYTES];
	uint64_t tsc_khz; /* that the guest was told; 0: it was not */
};

struct template
{
	struct template_facts facts;
	char place[PATH_MAX];	 /* the directory that holds templates */
	int memory_fd, state_fd; /* read-only */
	bool made;		 /* just now */
};

enum template_place {
	TEMPLATE_IN_CACHE,
	TEMPLATE_BESIDE_IMAGE, /* or in the cache, where that cannot be written */
};

/*
 * Opens the template for WISH. Where there is none that is whole, it is made in PLACE; others who
 * want it meanwhile wait for it. A signal that cancels the making ends the process.
 * Returns 0, or -1 with ERROR set and nothing to close; then the job can be booted all the same.
 */
int template_open(const struct template_wish *wish, enum template_place place,
		  struct template *template, struct error *error);
void template_close(struct template *template);

/*
 * Notes that the suspended job whose state is the file PATH needs TEMPLATE: as long as that is
 * there, the template is not removed to make room for others. Where it cannot be noted, nobody but
 * its owner removes it.
 */
void template_note_need(const struct template *template, const char *path);

/*
 * Notes that a clone of TEMPLATE did not come up, for REASON. For an hour nobody uses it; then it
 * is made anew.
 */
void template_reject(const struct template *template, const char *reason);

/*
 * Opens the template KEY whose memory has that digest, wherever it is. Never makes one.
 * 0, or -1 with ERROR set and nothing to close.
 */
int template_find(const struct template_wish *wish, const char *key, const char *memory_sha256,
		  struct template *template, struct error *error);

#define TEMPLATE_PROCESSOR_BYTES 65

/* This processor's name and stepping, as far as they matter to a VM that was saved. */
void template_processor(char name[TEMPLATE_PROCESSOR_BYTES]);

/* The key for WISH. 0, or -1 with ERROR set. */
int template_key(const struct template_wish *wish, char key[DIGEST_HEX_BYTES], struct error *error);

/* The text of template.json, to be freed; NULL: no memory. */
char *template_facts_text(const struct template_facts *facts);
/* Reads it: only the very bytes that template_facts_text makes. -1 with ERROR set. */
int template_facts_parse(const char *text, const char *name, struct template_facts *facts,
			 struct error *error);

#endif
