/*
 * modules: which kernel modules a guest needs, and in which order they are loaded.
 */
#ifndef IMAGEBUILDER_MODULES_H
#define IMAGEBUILDER_MODULES_H

#include <stddef.h>

#include "jobdisk/error.h"

struct module {
	char *name; /* the kernel's: '_', never '-' */
	char *path; /* of its file on the host */
};

/* In the order of loading; zero-initialised it is empty. */
struct module_list {
	struct module *items;
	size_t count;
};

/*
 * Finds the modules that PID 1 needs, and what they depend on, in DIRECTORY, a kernel's
 * lib/modules/RELEASE (modules.dep is not needed, modules.builtin is). What is built into the
 * kernel is left out. A module that is missing, compressed, or made for another kernel than
 * RELEASE is an error. On failure there is nothing to free.
 */
int modules_resolve(const char *directory, const char *release, struct module_list *modules,
		    struct error *error);
void modules_free(struct module_list *modules);

/* The file's name without its directory. */
const char *module_file_name(const struct module *module);

#endif
