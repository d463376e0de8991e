#include "imagebuilder/image_json.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imagebuilder/files.h"
#include "imagebuilder/image.h"
#include "imagebuilder/image_defaults.h"
#include "jobdisk/layout.h"

/* Keys in order of name: the bytes depend on nothing else than the facts. */
#define JSON_STYLE (JSON_INDENT(2) | JSON_SORT_KEYS)

/* Ours has a few thousand, and what an OCI image's config brings. */
#define IMAGE_JSON_BYTES_MAX (16 << 20)

/* --- writing; a NULL from jansson means that there is no memory, and json_pack passes it on --- */

static json_t *pack_part(const struct image_part *part)
{
	char hex[DIGEST_HEX_BYTES];

	if (!part->file)
		return json_null();
	digest_hex(part->sha256, hex);
	return json_pack("{s:s, s:I, s:s}", "file", part->file, "size_bytes",
			 (json_int_t)part->size_bytes, "sha256", hex);
}

/* A part with one more field. */
static json_t *pack_part_with(const struct image_part *part, const char *key, const char *value)
{
	json_t *object = pack_part(part);

	if (json_object_set_new(object, key, json_string(value))) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static json_t *pack_init(const uint8_t sha256[DIGEST_BYTES])
{
	char hex[DIGEST_HEX_BYTES];

	digest_hex(sha256, hex);
	return json_pack("{s:s}", "sha256", hex);
}

static json_t *pack_modules(const struct module_list *modules)
{
	json_t *array = json_array();

	for (size_t i = 0; i < modules->count; i++) {
		if (json_array_append_new(array, json_string(modules->items[i].name))) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

/* Without paths: the same sources elsewhere shall give the same image. */
static json_t *pack_source(const struct root_source *source)
{
	char hex[DIGEST_HEX_BYTES], prefixed[sizeof("sha256:") + DIGEST_HEX_BYTES];
	json_int_t nodes = (json_int_t)source->nodes;

	digest_hex(source->kind == SOURCE_DIRECTORY ? source->metadata_digest : source->sha256,
		   hex);
	snprintf(prefixed, sizeof(prefixed), "sha256:%s", hex);
	switch (source->kind) {
	case SOURCE_DIRECTORY:
		return json_pack("{s:s, s:I, s:s}", "kind", "directory", "nodes", nodes,
				 "metadata_sha256", hex);
	case SOURCE_TAR:
		return json_pack("{s:s, s:I, s:s}", "kind", "tar", "nodes", nodes, "sha256", hex);
	default:
		return json_pack("{s:s, s:I, s:s}", "kind", "oci", "nodes", nodes, "manifest",
				 prefixed);
	}
}

static json_t *pack_sources(const struct root_tree *tree)
{
	json_t *array = json_array();

	for (size_t i = 0; i < tree->source_count; i++) {
		if (json_array_append_new(array, pack_source(&tree->sources[i]))) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static json_t *pack_image(const struct image_facts *facts)
{
	/* clang-format off */
	return json_pack("{s:i, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
			 "format_version", IMAGE_FORMAT_VERSION,
			 "architecture", IMAGE_ARCHITECTURE,
			 "machine", facts->machine,
			 "kernel", pack_part_with(&facts->kernel, "release", facts->release),
			 "initrd", pack_part(&facts->initrd),
			 "root", pack_part_with(&facts->root, "label", ROOTDISK_LABEL),
			 "init", pack_init(facts->init_sha256),
			 "modules", pack_modules(facts->modules),
			 "sources", pack_sources(facts->tree),
			 "defaults", image_defaults_pack(&facts->tree->defaults));
	/* clang-format on */
}

/* The text, with a newline at its end, to be freed; NULL when there is no memory. */
static char *dump(const json_t *image)
{
	char *json = image ? json_dumps(image, JSON_STYLE) : NULL;
	char *text = NULL;

	if (json && asprintf(&text, "%s\n", json) < 0)
		text = NULL;
	free(json);
	return text;
}

int image_json_write(const struct image_facts *facts, int fd, const char *name, struct error *error)
{
	json_t *image = pack_image(facts);
	char *text = dump(image);
	int result = text ? files_write(fd, name, text, strlen(text), error)
			  : error_set(error, "%s: out of memory", name);

	free(text);
	json_decref(image);
	return result;
}

/* --- loading --- */

struct loader {
	int directory_fd;
	const char *directory;
	const char *file; /* DIRECTORY/image.json */
	json_t *json;
};

static const char *type_name(json_type type)
{
	return type == JSON_STRING ? "string" : "whole number";
}

/* The field KEY of the object SECTION, or of the whole when that is NULL. */
static json_t *find(const struct loader *loader, const char *section, const char *key,
		    json_type type, struct error *error)
{
	json_t *object = section ? json_object_get(loader->json, section) : loader->json;
	json_t *value = json_object_get(object, key);
	char name[64];

	if (value && json_typeof(value) == type)
		return value;
	snprintf(name, sizeof(name), "%s%s%s", section ? section : "", section ? "." : "", key);
	if (value)
		error_set(error, "%s: '%s' is not a %s", loader->file, name, type_name(type));
	else
		error_set(error, "%s: '%s' is missing", loader->file, name);
	return NULL;
}

static int load_string(const struct loader *loader, const char *section, const char *key,
		       char **value, struct error *error)
{
	json_t *string = find(loader, section, key, JSON_STRING, error);

	if (!string)
		return -1;
	*value = strdup(json_string_value(string));
	return *value ? 0 : error_set(error, "out of memory");
}

/* The same for a word that must be one of CHOICES, which ends with NULL. */
static int load_choice(const struct loader *loader, const char *key, const char *const *choices,
		       char **value, struct error *error)
{
	if (load_string(loader, NULL, key, value, error))
		return -1;
	for (; *choices; choices++)
		if (strcmp(*value, *choices) == 0)
			return 0;
	return error_set(error, "%s: '%s' is '%s', which this jobvm does not know", loader->file,
			 key, *value);
}

static int check_version(const struct loader *loader, struct error *error)
{
	json_t *version = find(loader, NULL, "format_version", JSON_INTEGER, error);

	if (!version)
		return -1;
	if (json_integer_value(version) != IMAGE_FORMAT_VERSION)
		return error_set(error, "%s: 'format_version' is %lld, but this jobvm reads %d",
				 loader->file, (long long)json_integer_value(version),
				 IMAGE_FORMAT_VERSION);
	return 0;
}

static int check_size(const struct loader *loader, const char *part, const char *file,
		      struct error *error)
{
	json_t *size = find(loader, part, "size_bytes", JSON_INTEGER, error);
	struct stat stat;

	if (!size)
		return -1;
	if (fstatat(loader->directory_fd, file, &stat, AT_SYMLINK_NOFOLLOW))
		return error_errno(error, "%s: '%s.file': %s/%s", loader->file, part,
				   loader->directory, file);
	if (!S_ISREG(stat.st_mode))
		return error_set(error, "%s: '%s.file': %s/%s is not a regular file", loader->file,
				 part, loader->directory, file);
	if (stat.st_size != json_integer_value(size))
		return error_set(error, "%s: '%s.size_bytes' is %lld, but %s/%s has %lld bytes",
				 loader->file, part, (long long)json_integer_value(size),
				 loader->directory, file, (long long)stat.st_size);
	return 0;
}

static int load_part(const struct loader *loader, const char *part, char **path, char **sha256,
		     struct error *error)
{
	json_t *file = find(loader, part, "file", JSON_STRING, error);
	const char *name = json_string_value(file);

	if (!file)
		return -1;
	/* An image is one directory: nothing in it leads out. */
	if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return error_set(error, "%s: '%s.file' is not the name of a file in the image",
				 loader->file, part);
	if (check_size(loader, part, name, error) ||
	    load_string(loader, part, "sha256", sha256, error))
		return -1;
	if (asprintf(path, "%s/%s", loader->directory, name) < 0) {
		*path = NULL;
		return error_set(error, "out of memory");
	}
	return 0;
}

static int load_fields(const struct loader *loader, struct image *image, struct error *error)
{
	static const char *const architectures[] = {IMAGE_ARCHITECTURE, NULL};
	static const char *const machines[] = {MACHINE_PC, MACHINE_MICROVM, NULL};

	if (check_version(loader, error) ||
	    load_choice(loader, "architecture", architectures, &image->architecture, error) ||
	    load_choice(loader, "machine", machines, &image->machine, error) ||
	    load_string(loader, "kernel", "release", &image->release, error) ||
	    load_part(loader, "kernel", &image->kernel, &image->kernel_sha256, error) ||
	    load_part(loader, "root", &image->root, &image->root_sha256, error))
		return -1;
	if (!json_is_null(json_object_get(loader->json, "initrd")) &&
	    load_part(loader, "initrd", &image->initrd, &image->initrd_sha256, error))
		return -1;
	/* An image that was made by hand may leave them out. */
	json_t *defaults = json_object_get(loader->json, "defaults");
	if (defaults &&
	    image_defaults_parse(defaults, DEFAULTS_OF_IMAGE, "defaults", &image->defaults, error))
		return error_prefix(error, "%s", loader->file);
	image->directory = strdup(loader->directory);
	image->json = dump(loader->json);
	return image->directory && image->json ? 0 : error_set(error, "out of memory");
}

/* What is parsed is what is digested. */
static json_t *parse_text(const char *file, const char *text, size_t size, struct image *image,
			  struct error *error)
{
	json_error_t json_error;
	json_t *json;

	if (digest_bytes(text, size, image->sha256, error))
		return NULL;
	json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &json_error);
	if (!json)
		error_set(error, "%s:%d: %s", file, json_error.line, json_error.text);
	return json;
}

static int parse(struct loader *loader, struct image *image, struct error *error)
{
	int fd = openat(loader->directory_fd, IMAGE_JSON, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t size;

	if (fd < 0 && errno == ENOENT)
		return error_set(error, "%s: not a guest image (no " IMAGE_JSON " in it)",
				 loader->directory);
	if (fd < 0)
		return error_errno(error, "open %s", loader->file);
	char *text = files_read(fd, loader->file, IMAGE_JSON_BYTES_MAX, &size, error);
	close(fd);
	if (!text)
		return -1;
	loader->json = parse_text(loader->file, text, size, image, error);
	free(text);
	if (!loader->json)
		return -1;
	int result = load_fields(loader, image, error);
	json_decref(loader->json);
	return result;
}

int image_load(const char *directory, struct image *image, struct error *error)
{
	struct loader loader = {.directory = directory};
	char *file;

	*image = (struct image){0};
	loader.directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (loader.directory_fd < 0 && errno == ENOENT)
		return error_set(error,
				 "%s: no such guest image; make one with `jobvm image build -o %s`",
				 directory, directory);
	if (loader.directory_fd < 0)
		return error_errno(error, "%s: cannot open guest image", directory);
	int result = -1;
	if (asprintf(&file, "%s/" IMAGE_JSON, directory) >= 0) {
		loader.file = file;
		result = parse(&loader, image, error);
		free(file);
	} else {
		error_set(error, "out of memory");
	}
	close(loader.directory_fd);
	if (result)
		image_free(image);
	return result;
}

void image_free(struct image *image)
{
	free(image->directory);
	free(image->kernel);
	free(image->initrd);
	free(image->root);
	free(image->kernel_sha256);
	free(image->initrd_sha256);
	free(image->root_sha256);
	free(image->release);
	free(image->machine);
	free(image->architecture);
	image_defaults_free(&image->defaults);
	free(image->json);
	*image = (struct image){0};
}
