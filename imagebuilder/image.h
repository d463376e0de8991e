/*
 * image: guest images. A guest image is a directory with `kernel`, optional `initrd`, `root.img`
 * (ext4, read-only for every VM) and `image.json`.
 */
#ifndef IMAGEBUILDER_IMAGE_H
#define IMAGEBUILDER_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "fsimage/tree.h"
#include "imagebuilder/digest.h"
#include "jobdisk/error.h"

#define IMAGE_FORMAT_VERSION 1

struct image_build_options {
	const char *output; /* the image directory to make; must not exist, but its parent */
	/*
	 * Sources, NULL-terminated, stacked in order: a file of a later one replaces what an
	 * earlier one has there, directories are merged. Missing mount points are added. Each is
	 *   DIR                  a host directory
	 *   FILE, or "-"         a tar archive, plain or compressed by gzip, bzip2, xz or zstd
	 *   oci:DIR[:TAG]        an image of an OCI layout, for linux/amd64
	 *   oci:FILE[:TAG]       the same in a tar archive
	 */
	const char *const *from;
	uint64_t root_bytes; /* of root.img; 0: as large as its contents need */
	const char *kernel;  /* bzImage or vmlinux */
	const char *modules; /* lib/modules/RELEASE of that kernel; NULL: all built in */
	/* PID 1's static binary: in an initrd, or in the root for a vmlinux without modules. */
	const char *init;
	/*
	 * Progress for people, may be NULL: a stage ("root tree", "root image", "kernel",
	 * "initrd") and what is done of it, which starts at 0 and stays there for the last two.
	 */
	void (*progress)(void *context, const char *stage, const struct fstotals *done);
	void *progress_context;
};

/*
 * Builds the image beside its name, syncs it and renames it. On failure nothing is left, -1 is
 * returned and ERROR is set. The same inputs give the same bytes, wherever they are; times after
 * SOURCE_DATE_EPOCH (from the environment, in seconds) are clamped to it. Owners in directories
 * are kept, but what belongs to the directory's own owner becomes root's. Owners, modes,
 * attributes and devices of archives and OCI images are theirs. Who builds plays no part.
 */
int image_build(const struct image_build_options *options, struct error *error);

/*
 * What an image says of the processes in it: what the topmost OCI image's config had. Lists end
 * with NULL; a list or text that there is not is NULL. In image.json they are strings and lists
 * of strings in the object `defaults`, under the names here.
 */
struct image_defaults {
	char **environment;	 /* Env: NAME=VALUE */
	char **entrypoint;	 /* Entrypoint */
	char **command;		 /* Cmd */
	char *user;		 /* User; jobs do not get it: an image does not say who a job is */
	char *working_directory; /* WorkingDir; jobs start in their workspace all the same */
};

/* A guest image as image.json describes it; strings are owned by the struct. */
struct image {
	char *directory;
	char *kernel; /* path */
	char *initrd; /* path, or NULL */
	char *root;   /* path */
	/* The parts' digests, in hexadecimal; the initrd's is NULL when there is none. */
	char *kernel_sha256, *initrd_sha256, *root_sha256;
	char *release; /* of the kernel */
	char *machine; /* QEMU's machine type: "pc" or "microvm" */
	char *architecture;
	struct image_defaults defaults;
	char *json;		       /* the whole of image.json, in our own style */
	char sha256[DIGEST_HEX_BYTES]; /* of the image.json that was loaded; it vouches for the rest
					*/
};

/*
 * Loads DIRECTORY/image.json and checks that the format is ours and that the parts are there
 * with the sizes that it says; image_verify checks the digests. -1 with ERROR set and nothing to
 * free.
 */
int image_load(const char *directory, struct image *image, struct error *error);
/* Frees what IMAGE holds; an image that was freed or zeroed is allowed. */
void image_free(struct image *image);

#endif
