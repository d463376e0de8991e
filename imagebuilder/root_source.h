/*
 * root_source: one thing that the guest's root is made from, as `--from` names it: a host
 * directory, a tar archive, an OCI image.
 */
#ifndef IMAGEBUILDER_ROOT_SOURCE_H
#define IMAGEBUILDER_ROOT_SOURCE_H

#include <stdint.h>

#include "imagebuilder/digest.h"
#include "imagebuilder/image.h"
#include "imagebuilder/spool.h"
#include "imagebuilder/stack.h"

enum source_kind { SOURCE_DIRECTORY, SOURCE_TAR, SOURCE_OCI };

struct root_source {
	const char *path; /* as the user gave it */
	const char *name; /* for errors */
	int fd;		  /* of a directory: only to find it; -1: none */
	enum source_kind kind;
	uint64_t nodes;
	/*
	 * Of all nodes' paths, types, modes, owners, times, sizes, link targets and extended
	 * attributes; not of their data, which the digest of the finished image covers.
	 */
	uint8_t metadata_digest[DIGEST_BYTES];
	uint8_t sha256[DIGEST_BYTES]; /* an archive's bytes; an OCI image's manifest */
};

/* Finds out what PATH is and opens it. -1 with ERROR set and nothing to close. */
int root_source_open(const char *path, struct root_source *source, struct error *error);
void root_source_close(struct root_source *source);

/* Where a source goes. */
struct root_target {
	struct stack stack;
	struct spool spool;
	struct image_defaults *defaults; /* an OCI image replaces them */
};

/* Stacks SOURCE, fills in its digests and counts its nodes. */
int root_source_stack(struct root_source *source, struct root_target *target, struct error *error);

/* The three that it is made of; METADATA takes what metadata_digest is of. */
int source_directory_stack(struct root_source *source, struct root_target *target,
			   struct digest *metadata, struct error *error);
int source_tar_stack(struct root_source *source, struct root_target *target,
		     struct digest *metadata, struct error *error);
int source_oci_stack(struct root_source *source, struct root_target *target,
		     struct digest *metadata, struct error *error);

#endif
