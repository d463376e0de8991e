#include "imagebuilder/modules.h"

#include <errno.h>
#include <libkmod.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imagebuilder/files.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum need { REQUIRED, OPTIONAL };

static const struct needed_module {
	const char *name;
	enum need need; /* OPTIONAL: a kernel without it will do */
} needed_modules[] = {
	{"virtio_pci", REQUIRED},     /* the bus that all devices of the VM are on */
	{"virtio_blk", REQUIRED},     /* the guest image's and the job's disk */
	{"virtio_console", REQUIRED}, /* the control port, the job's stdout and stderr */
	{"virtio_rng", OPTIONAL},     /* feeds the random generator */
	{"overlay", REQUIRED},	      /* the guest root and the workspace */
	{"crc32c_generic", OPTIONAL}, /* ext4 asks for it by algorithm, not as a dependency */
	{"ext4", REQUIRED},	      /* both disks */
};

/* A file of the module tree, or a line of modules.builtin. */
struct known_module {
	struct known_module *next;
	char *name;
	char *path; /* NULL: built in */
	bool taken;
};

struct resolver {
	const char *directory, *release;
	struct kmod_ctx *kmod;
	/* The first one of a name counts. */
	struct known_module *known;
	struct module_list *modules;
};

/* The module's name from its file's, or NULL if that is not a module's. */
static char *name_of_file(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *name = strdup(slash ? slash + 1 : path);
	char *suffix = name ? strstr(name, ".ko") : NULL;

	if (!suffix || (suffix[3] != '\0' && suffix[3] != '.')) {
		free(name);
		return NULL;
	}
	*suffix = '\0';
	for (char *dash = strchr(name, '-'); dash; dash = strchr(dash, '-'))
		*dash = '_';
	return name;
}

static int learn(struct resolver *resolver, const char *file, bool built_in, struct error *error)
{
	char *name = name_of_file(file);

	if (!name)
		return 0;
	struct known_module *known = calloc(1, sizeof(*known));
	if (!known || (!built_in && !(known->path = strdup(file)))) {
		free(known);
		free(name);
		return error_set(error, "out of memory");
	}
	known->name = name;
	known->next = resolver->known;
	resolver->known = known;
	return 0;
}

/*
 * Of two files with one name the later counts, so that `updates` comes before `kernel`, as depmod
 * has it.
 */
static int learn_files(struct resolver *resolver, struct error *error)
{
	FTS *walk = files_walk(resolver->directory, error);
	FTSENT *entry;
	int result;

	if (!walk)
		return -1;
	while ((entry = files_walk_next(walk, &result, error))) {
		result = entry->fts_info == FTS_F ? learn(resolver, entry->fts_path, false, error)
						  : 0;
		if (result)
			break;
	}
	fts_close(walk);
	return result;
}

static int learn_built_in(struct resolver *resolver, struct error *error)
{
	char *path, *line = NULL;
	size_t line_size = 0;
	int result = 0;

	if (asprintf(&path, "%s/modules.builtin", resolver->directory) < 0)
		return error_set(error, "out of memory");
	FILE *file = fopen(path, "re");
	if (!file) {
		result = error_errno(error, "%s: not a kernel's lib/modules/RELEASE: open %s",
				     resolver->directory, path);
		free(path);
		return result;
	}
	while (!result && getline(&line, &line_size, file) > 0) {
		line[strcspn(line, "\n")] = '\0';
		result = learn(resolver, line, true, error);
	}
	if (!result && ferror(file))
		result = error_errno(error, "read %s", path);
	free(line);
	free(path);
	fclose(file);
	return result;
}

static void forget(struct resolver *resolver)
{
	struct known_module *next;

	for (struct known_module *known = resolver->known; known; known = next) {
		next = known->next;
		free(known->name);
		free(known->path);
		free(known);
	}
}

static struct known_module *find(const struct resolver *resolver, const char *name)
{
	struct known_module *known = resolver->known;

	while (known && strcmp(known->name, name) != 0)
		known = known->next;
	return known;
}

/* vermagic: the release, then what else must fit. */
static int check_vermagic(const struct resolver *resolver, const char *path, const char *vermagic,
			  struct error *error)
{
	int length = (int)strcspn(vermagic, " ");

	if ((size_t)length == strlen(resolver->release) &&
	    strncmp(vermagic, resolver->release, (size_t)length) == 0)
		return 0;
	return error_set(error, "%s: is for kernel %.*s, but the kernel is %s", path, length,
			 vermagic, resolver->release);
}

/* Checks the module and tells what it depends on: names separated by commas, to be freed. */
static int read_info(const struct resolver *resolver, const char *path, char **depends,
		     struct error *error)
{
	struct kmod_module *module;
	struct kmod_list *info = NULL, *entry;
	int result = kmod_module_new_from_path(resolver->kmod, path, &module);

	if (result >= 0) {
		result = kmod_module_get_info(module, &info);
		kmod_module_unref(module);
	}
	if (result < 0) {
		errno = -result;
		return error_errno(error, "read module %s", path);
	}

	result = 0;
	kmod_list_foreach(entry, info)
	{
		const char *key = kmod_module_info_get_key(entry);
		const char *value = kmod_module_info_get_value(entry);
		if (strcmp(key, "vermagic") == 0)
			result = result ? result : check_vermagic(resolver, path, value, error);
		else if (strcmp(key, "depends") == 0 && !*depends)
			*depends = strdup(value);
	}
	kmod_module_info_free_list(info);
	if (!result && !*depends)
		result = error_set(error, "%s: not a kernel module (no \"depends\" in it)", path);
	if (result)
		free(*depends);
	return result;
}

static int append(struct resolver *resolver, const struct known_module *known, struct error *error)
{
	struct module_list *modules = resolver->modules;
	struct module *items =
		reallocarray(modules->items, modules->count + 1, sizeof(*modules->items));

	if (!items)
		return error_set(error, "out of memory");
	modules->items = items;
	struct module *module = &items[modules->count++];
	module->name = strdup(known->name);
	module->path = strdup(known->path);
	return module->name && module->path ? 0 : error_set(error, "out of memory");
}

static int take(struct resolver *resolver, struct known_module *known, struct error *error);

static int take_dependencies(struct resolver *resolver, const struct known_module *known,
			     char *depends, struct error *error)
{
	for (char *name = strsep(&depends, ","); name; name = strsep(&depends, ",")) {
		if (!*name)
			continue;
		struct known_module *dependency = find(resolver, name);
		if (!dependency)
			return error_set(error, "%s: needs module '%s', which is not in %s",
					 known->path, name, resolver->directory);
		if (take(resolver, dependency, error))
			return -1;
	}
	return 0;
}

/* Appends a module after all that it depends on. */
static int take(struct resolver *resolver, struct known_module *known, struct error *error)
{
	char *depends = NULL;

	if (!known->path || known->taken)
		return 0;
	/* Before the recursion: a circle ends. */
	known->taken = true;
	if (strcmp(strrchr(known->path, '.'), ".ko") != 0)
		return error_set(error, "%s: compressed modules are not supported, decompress it",
				 known->path);
	if (read_info(resolver, known->path, &depends, error))
		return -1;
	int result = take_dependencies(resolver, known, depends, error);
	free(depends);
	return result ? result : append(resolver, known, error);
}

static int take_needed(struct resolver *resolver, struct error *error)
{
	for (size_t i = 0; i < COUNT(needed_modules); i++) {
		const struct needed_module *needed = &needed_modules[i];
		struct known_module *known = find(resolver, needed->name);
		if (!known && needed->need == OPTIONAL)
			continue;
		if (!known)
			return error_set(error, "%s: has no module '%s', which the guest needs",
					 resolver->directory, needed->name);
		if (take(resolver, known, error))
			return -1;
	}
	return 0;
}

/* A libkmod that knows no host configuration and prints nothing. */
static struct kmod_ctx *new_kmod(const char *directory, struct error *error)
{
	const char *const no_configuration[] = {NULL};
	struct kmod_ctx *kmod = kmod_new(directory, no_configuration);

	if (kmod)
		kmod_set_log_priority(kmod, -1);
	else
		error_set(error, "%s: cannot start libkmod", directory);
	return kmod;
}

int modules_resolve(const char *directory, const char *release, struct module_list *modules,
		    struct error *error)
{
	struct resolver resolver = {.directory = directory, .release = release, .modules = modules};
	int result = -1;

	*modules = (struct module_list){0};
	resolver.kmod = new_kmod(directory, error);
	if (resolver.kmod && !learn_files(&resolver, error) && !learn_built_in(&resolver, error))
		result = take_needed(&resolver, error);
	if (result)
		modules_free(modules);
	forget(&resolver);
	kmod_unref(resolver.kmod);
	return result;
}

void modules_free(struct module_list *modules)
{
	for (size_t i = 0; i < modules->count; i++) {
		free(modules->items[i].name);
		free(modules->items[i].path);
	}
	free(modules->items);
	*modules = (struct module_list){0};
}

const char *module_file_name(const struct module *module)
{
	const char *slash = strrchr(module->path, '/');

	return slash ? slash + 1 : module->path;
}
