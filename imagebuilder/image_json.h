/*
 * image_json: image.json, the description that makes a directory a guest image.
 */
#ifndef IMAGEBUILDER_IMAGE_JSON_H
#define IMAGEBUILDER_IMAGE_JSON_H

#include "imagebuilder/digest.h"
#include "imagebuilder/modules.h"
#include "imagebuilder/root_tree.h"

#define IMAGE_JSON	   "image.json"
#define IMAGE_ARCHITECTURE "x86_64"

#define MACHINE_PC	"pc"
#define MACHINE_MICROVM "microvm"

/* One of the image's files. */
struct image_part {
	const char *file; /* its name in the image; NULL: the image has no such part */
	uint64_t size_bytes;
	uint8_t sha256[DIGEST_BYTES];
};

/* Where image.json comes from. */
struct image_facts {
	const char *machine;
	const char *release; /* of the kernel */
	struct image_part kernel, initrd, root;
	uint8_t init_sha256[DIGEST_BYTES];
	const struct module_list *modules;
	const struct root_tree *tree;
};

/* Writes image.json, which is the same for the same facts, to FD, named NAME in errors. */
int image_json_write(const struct image_facts *facts, int fd, const char *name,
		     struct error *error);

#endif
