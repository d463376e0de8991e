#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "imagebuilder/image_defaults.h"
#include "imagebuilder/oci_layout.h"
#include "imagebuilder/root_source.h"
#include "imagebuilder/unpack.h"

#define TAG_ANNOTATION "org.opencontainers.image.ref.name"
#define OS	       "linux"
#define ARCHITECTURE   "amd64"

/* An index of an index of indexes, and more, is nobody's image. */
#define INDEX_DEPTH_MAX 8

#define WHERE_BYTES 64

static const char *const index_types[] = {
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
	NULL,
};
static const char *const manifest_types[] = {
	"application/vnd.oci.image.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.v2+json",
	NULL,
};
static const char *const config_types[] = {
	"application/vnd.oci.image.config.v1+json",
	"application/vnd.docker.container.image.v1+json",
	NULL,
};
/* How they are compressed their bytes say too. */
static const char *const layer_types[] = {
	"application/vnd.oci.image.layer.v1.tar",
	"application/vnd.oci.image.layer.v1.tar+gzip",
	"application/vnd.oci.image.layer.v1.tar+zstd",
	"application/vnd.oci.image.layer.nondistributable.v1.tar",
	"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
	"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
	"application/vnd.docker.image.rootfs.diff.tar",
	"application/vnd.docker.image.rootfs.diff.tar.gzip",
	"application/vnd.docker.image.rootfs.diff.tar.zstd",
	"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
	NULL,
};

struct oci_image {
	struct root_source *source;
	struct root_target *target;
	struct digest *metadata;
	struct oci_layout layout;
	const char *path; /* of the layout */
	const char *tag;  /* NULL: none is given */
	json_t *manifest;
	json_t *diff_ids; /* the config's: the layers' digests, uncompressed */
};

static bool is_one_of(const char *type, const char *const *types)
{
	for (; *types; types++)
		if (strcmp(type, *types) == 0)
			return true;
	return false;
}

static bool is_text(const json_t *object, const char *key, const char *expected)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text && strcmp(text, expected) == 0;
}

/* --- which image --- */

/* "PATH[:TAG]"; a file that has a colon in its name is itself. */
static const char *cut_tag(char *path)
{
	char *colon = strrchr(path, ':');

	if (!colon || strchr(colon, '/') || access(path, F_OK) == 0)
		return NULL;
	*colon = '\0';
	return colon + 1;
}

static const char *tag_of(const json_t *entry)
{
	return json_string_value(
		json_object_get(json_object_get(entry, "annotations"), TAG_ANNOTATION));
}

/* A tag counts in index.json only. */
static bool has_tag(const struct oci_image *image, const json_t *entry, unsigned depth)
{
	const char *tag = tag_of(entry);

	return depth > 0 || !image->tag || (tag && strcmp(tag, image->tag) == 0);
}

/* An entry that names no platform is an image for any, or an index. */
static bool fits(const struct oci_image *image, const json_t *entry, unsigned depth)
{
	const json_t *platform = json_object_get(entry, "platform");

	return has_tag(image, entry, depth) &&
	       (!json_is_object(platform) ||
		(is_text(platform, "os", OS) && is_text(platform, "architecture", ARCHITECTURE)));
}

static void add_text(struct error *error, const char *text)
{
	size_t length = strlen(error->text);

	snprintf(error->text + length, sizeof(error->text) - length, "%s", text);
}

/* What the user could have meant, at the end of ERROR. */
static void add_tags(const json_t *entries, struct error *error)
{
	const char *separator = "; its tags are '";

	for (size_t i = 0; i < json_array_size(entries); i++) {
		const char *tag = tag_of(json_array_get(entries, i));

		if (!tag)
			continue;
		add_text(error, separator);
		add_text(error, tag);
		add_text(error, "'");
		separator = ", '";
	}
}

static void add_platform(const json_t *platform, const char *separator, struct error *error)
{
	const char *os = json_string_value(json_object_get(platform, "os"));
	const char *architecture = json_string_value(json_object_get(platform, "architecture"));

	add_text(error, separator);
	add_text(error, os ? os : "?");
	add_text(error, "/");
	add_text(error, architecture ? architecture : "?");
}

static void fail_to_choose(const struct oci_image *image, const json_t *entries, unsigned depth,
			   struct error *error)
{
	const char *separator = "; it has ";
	bool is_tagged = false;

	error_set(error, "%s: has no image%s%s%s for " OS "/" ARCHITECTURE, image->path,
		  image->tag ? " '" : "", image->tag ? image->tag : "", image->tag ? "'" : "");
	for (size_t i = 0; i < json_array_size(entries); i++) {
		const json_t *entry = json_array_get(entries, i);

		if (!has_tag(image, entry, depth))
			continue;
		is_tagged = true;
		add_platform(json_object_get(entry, "platform"), separator, error);
		separator = ", ";
	}
	if (!is_tagged)
		add_tags(entries, error);
}

/*
 * Finds the one entry that is meant. Within an index for several platforms it is the first that
 * fits; in index.json two different ones that fit are two images.
 */
static const json_t *choose(const struct oci_image *image, const json_t *index, unsigned depth,
			    struct error *error)
{
	const json_t *entries = json_object_get(index, "manifests"), *chosen = NULL;

	for (size_t i = 0; i < json_array_size(entries); i++) {
		const json_t *entry = json_array_get(entries, i);

		if (!fits(image, entry, depth))
			continue;
		if (chosen && depth == 0 &&
		    !json_equal(json_object_get(chosen, "digest"),
				json_object_get(entry, "digest"))) {
			error_set(error, "%s: has several images", image->path);
			add_tags(entries, error);
			return NULL;
		}
		if (!chosen)
			chosen = entry;
	}
	if (!chosen)
		fail_to_choose(image, entries, depth, error);
	return chosen;
}

static json_t *read_typed(const struct oci_image *image, const struct oci_descriptor *descriptor,
			  struct error *error)
{
	json_t *json = oci_layout_json(&image->layout, descriptor, error);
	const json_t *own = json_object_get(json, "mediaType");

	/* What a document says that it is and what it is used as must not differ. */
	if (json && own && !is_text(json, "mediaType", descriptor->media_type)) {
		error_set(error, "%s: the blob %s is not of the media type '%s'", image->path,
			  descriptor->hex, descriptor->media_type);
		json_decref(json);
		return NULL;
	}
	return json;
}

/* From index.json down to the manifest. */
static int find_manifest(struct oci_image *image, struct error *error)
{
	json_t *index = oci_layout_index(&image->layout, error);
	struct oci_descriptor descriptor;

	for (unsigned depth = 0; index && depth < INDEX_DEPTH_MAX; depth++) {
		const json_t *entry = choose(image, index, depth, error);
		json_t *next = NULL;
		bool is_manifest = false;

		if (entry && oci_descriptor_read((json_t *)(uintptr_t)entry, image->path,
						 &descriptor, error) == 0) {
			is_manifest = is_one_of(descriptor.media_type, manifest_types);
			if (is_manifest || is_one_of(descriptor.media_type, index_types))
				next = read_typed(image, &descriptor, error);
			else
				error_set(error, "%s: the media type '%s' is not an image's",
					  image->path, descriptor.media_type);
		}
		json_decref(index);
		index = next;
		if (!is_manifest || !next)
			continue;
		image->manifest = next;
		for (size_t i = 0; i < DIGEST_BYTES; i++)
			sscanf(descriptor.hex + 2 * i, "%2hhx", &image->source->sha256[i]);
		return 0;
	}
	if (index)
		error_set(error, "%s: indexes of indexes, without an image", image->path);
	json_decref(index);
	return -1;
}

/* --- what is in it --- */

static int read_part(const struct oci_image *image, json_t *object, const char *where,
		     const char *const *types, struct oci_descriptor *descriptor,
		     struct error *error)
{
	char name[WHERE_BYTES + 256];

	snprintf(name, sizeof(name), "%s: the manifest's %s", image->path, where);
	if (oci_descriptor_read(object, name, descriptor, error))
		return -1;
	if (!is_one_of(descriptor->media_type, types))
		return error_set(error, "%s has the media type '%s', which jobvm does not know",
				 name, descriptor->media_type);
	return 0;
}

static int use_config(struct oci_image *image, json_t *config, struct error *error)
{
	json_t *defaults = json_object_get(config, "config");
	size_t layers = json_array_size(json_object_get(image->manifest, "layers"));
	json_t *diff_ids = json_object_get(json_object_get(config, "rootfs"), "diff_ids");

	if (!is_text(config, "os", OS) || !is_text(config, "architecture", ARCHITECTURE)) {
		error_set(error, "%s: its image is not for " OS "/" ARCHITECTURE, image->path);
		add_platform(config, ", but for ", error);
		return -1;
	}
	if (layers != json_array_size(diff_ids))
		return error_set(error, "%s: the manifest has %zu layers, the config %zu",
				 image->path, layers, json_array_size(diff_ids));
	image->diff_ids = json_incref(diff_ids);
	image_defaults_free(image->target->defaults);
	if (!defaults || json_is_null(defaults))
		return 0;
	if (image_defaults_parse(defaults, DEFAULTS_OF_OCI, "config", image->target->defaults,
				 error))
		return error_prefix(error, "%s", image->path);
	return 0;
}

static int read_config(struct oci_image *image, struct error *error)
{
	struct oci_descriptor descriptor;

	if (read_part(image, json_object_get(image->manifest, "config"), "config", config_types,
		      &descriptor, error))
		return -1;
	json_t *config = oci_layout_json(&image->layout, &descriptor, error);
	int result = config ? use_config(image, config, error) : -1;
	json_decref(config);
	return result;
}

typedef int pass(struct unpack *unpack, struct byte_source *source, struct error *error);

static int read_layer(const struct oci_image *image, const struct oci_descriptor *descriptor,
		      struct unpack *unpack, pass *read, struct error *error)
{
	struct oci_blob *blob = oci_blob_open(&image->layout, descriptor, error);

	if (!blob)
		return -1;
	int result = read(unpack, &blob->source, error);
	struct error ignored;
	bool is_read = !result || byte_source_drain(&blob->source, &ignored) == 0;
	/* That a blob is damaged explains every other error in it. */
	return oci_blob_close(blob, is_read, error) ? -1 : result;
}

/* The config names layers by what they are uncompressed, whoever has compressed them how. */
static int check_diff_id(const struct oci_image *image, const char *where, const char *expected,
			 struct digest *plain, struct error *error)
{
	char hex[DIGEST_HEX_BYTES];

	if (digest_finish_hex(plain, hex, error))
		return -1;
	if (strcmp(hex, expected) == 0)
		return 0;
	return error_set(error,
			 "%s: %s is not the one that the config means: the SHA-256 digest of its "
			 "tar is %s, but its diff_id is %s",
			 image->path, where, hex, expected);
}

/* The first pass through a layer. */
static int prepare_layer(const struct oci_image *image, size_t i, const char *where,
			 const struct oci_descriptor *descriptor, struct unpack *unpack,
			 struct error *error)
{
	const char *diff_id = json_string_value(json_array_get(image->diff_ids, i));
	char name[WHERE_BYTES + 256], expected[DIGEST_HEX_BYTES];

	snprintf(name, sizeof(name), "%s: the config's diff_id of %s", image->path, where);
	if (oci_digest_read(diff_id ? diff_id : "", name, expected, error))
		return -1;
	unpack->plain = digest_new(error);
	if (!unpack->plain)
		return -1;
	int result = read_layer(image, descriptor, unpack, unpack_make_way, error);
	if (result)
		digest_free(unpack->plain);
	else
		result = check_diff_id(image, where, expected, unpack->plain, error);
	unpack->plain = NULL;
	return result;
}

/* Each pass checks the digest, for somebody may write to the layout at the same time. */
static int stack_layer(const struct oci_image *image, size_t i, struct unpack *unpack,
		       struct error *error)
{
	json_t *layer = json_array_get(json_object_get(image->manifest, "layers"), i);
	struct oci_descriptor descriptor;
	char where[WHERE_BYTES];

	snprintf(where, sizeof(where), "layer %zu", i);
	if (read_part(image, layer, where, layer_types, &descriptor, error) ||
	    prepare_layer(image, i, where, &descriptor, unpack, error))
		return -1;
	return read_layer(image, &descriptor, unpack, unpack_tar, error);
}

static int stack_image(struct oci_image *image, struct error *error)
{
	struct unpack unpack = {
		.stack = &image->target->stack,
		.spool = &image->target->spool,
		.metadata = image->metadata,
		.is_layer = true,
	};
	int result = oci_layout_open(image->path, &image->target->spool, &image->layout, error) ||
		     find_manifest(image, error) || read_config(image, error);

	/* Whiteouts leave no entry behind, but another tree. */
	digest_add(image->metadata, image->source->sha256, DIGEST_BYTES);
	for (size_t i = 0;
	     !result && i < json_array_size(json_object_get(image->manifest, "layers")); i++)
		result = stack_layer(image, i, &unpack, error);
	image->source->nodes = unpack.nodes;
	return result ? -1 : 0;
}

int source_oci_stack(struct root_source *source, struct root_target *target,
		     struct digest *metadata, struct error *error)
{
	char *path = strdup(source->path);
	struct oci_image image = {
		.source = source,
		.target = target,
		.metadata = metadata,
		.layout.directory_fd = -1,
		.path = path,
	};

	if (!path)
		return error_set(error, "out of memory");
	image.tag = cut_tag(path);
	int result = stack_image(&image, error);

	json_decref(image.manifest);
	json_decref(image.diff_ids);
	oci_layout_close(&image.layout);
	free(path);
	return result;
}
