#include "imagebuilder/oci_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imagebuilder/tar_reader.h"

#define LAYOUT_FILE   "oci-layout"
#define INDEX_FILE    "index.json"
#define BLOBS	      "blobs/sha256/"
#define DIGEST_PREFIX "sha256:"

#define BLOB_PATH_BYTES (sizeof(BLOBS) + DIGEST_HEX_BYTES)

/* --- opening --- */

/* PATH without what says nothing at its start. */
static const char *plain_path(const char *path)
{
	while (*path == '/' || strncmp(path, "./", 2) == 0)
		path += *path == '/' ? 1 : 2;
	return path;
}

static bool is_of_a_layout(const char *path)
{
	return strcmp(path, LAYOUT_FILE) == 0 || strcmp(path, INDEX_FILE) == 0 ||
	       strncmp(path, BLOBS, strlen(BLOBS)) == 0;
}

static int add_member(struct oci_layout *layout, struct tar_reader *reader, struct spool *spool,
		      struct error *error)
{
	struct oci_member *grown =
		reallocarray(layout->members, layout->member_count + 1, sizeof(*layout->members));
	struct tar_piece piece;
	int result;

	if (!grown)
		return error_set(error, "%s: out of memory", layout->path);
	layout->members = grown;
	struct oci_member *member = &grown[layout->member_count];
	*member = (struct oci_member){strdup(plain_path(tar_path(reader))), spool->end_bytes, 0};
	if (!member->path)
		return error_set(error, "%s: out of memory", layout->path);
	layout->member_count++;
	while ((result = tar_next_piece(reader, &piece, error)) == 1) {
		if (piece.offset != member->size_bytes)
			return error_set(error, "%s: '%s' has holes", layout->path, member->path);
		if (spool_append(spool, piece.bytes, piece.size, error))
			return -1;
		member->size_bytes += piece.size;
	}
	if (result == 0 && member->size_bytes != tar_size(reader))
		return error_set(error, "%s: '%s' has holes", layout->path, member->path);
	return result;
}

static int read_members(struct oci_layout *layout, struct byte_source *source, struct spool *spool,
			struct error *error)
{
	struct tar_reader reader;
	struct fsmeta meta;
	int result = tar_open(&reader, source, NULL, error);

	/* Digests tell whether all is there. */
	while (result == 0 && (result = tar_next(&reader, error)) == 1) {
		result = tar_meta(&reader, &meta, error);
		if (result == 0 && S_ISREG(meta.mode) && !tar_link_target(&reader) &&
		    is_of_a_layout(plain_path(tar_path(&reader))))
			result = add_member(layout, &reader, spool, error);
	}
	tar_close(&reader);
	return result;
}

static int open_archive(struct oci_layout *layout, int fd, struct spool *spool, struct error *error)
{
	struct byte_source *source = calloc(1, sizeof(*source));

	if (!source)
		return error_set(error, "%s: out of memory", layout->path);
	source->fd = fd;
	source->name = layout->path;
	source->offset = BYTE_SOURCE_STREAM;
	source->rest = UINT64_MAX;
	int result = read_members(layout, source, spool, error);
	free(source);
	return result;
}

/* --- files of the layout --- */

static int not_there(const struct oci_layout *layout, const char *path, struct error *error)
{
	if (strcmp(path, LAYOUT_FILE) == 0)
		return error_set(error, "%s: not an OCI layout (no " LAYOUT_FILE " in it)",
				 layout->path);
	return error_set(error, "%s: '%s' is missing", layout->path, path);
}

static int find_member(const struct oci_layout *layout, const char *path,
		       struct byte_source *source, struct error *error)
{
	/* As in any tar, the last one of a name counts. */
	for (size_t i = layout->member_count; i-- > 0;) {
		if (strcmp(layout->members[i].path, path) == 0) {
			source->fd = layout->spool->fd;
			source->offset = layout->members[i].offset;
			source->rest = layout->members[i].size_bytes;
			return 0;
		}
	}
	return not_there(layout, path, error);
}

static int open_file(const struct oci_layout *layout, const char *path, struct byte_source *source,
		     struct error *error)
{
	struct stat stat;

	source->fd = openat(layout->directory_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (source->fd < 0 && errno == ENOENT)
		return not_there(layout, path, error);
	if (source->fd < 0)
		return error_errno(error, "open %s/%s", layout->path, path);
	if (fstat(source->fd, &stat) || !S_ISREG(stat.st_mode)) {
		close(source->fd);
		return error_set(error, "%s/%s: not a regular file", layout->path, path);
	}
	source->offset = 0;
	source->rest = (uint64_t)stat.st_size;
	return 0;
}

static struct oci_blob *open_any(const struct oci_layout *layout, const char *path,
				 struct error *error)
{
	struct oci_blob *blob = calloc(1, sizeof(*blob));

	if (!blob || asprintf(&blob->name, "%s/%s", layout->path, path) < 0) {
		free(blob);
		error_set(error, "%s: out of memory", layout->path);
		return NULL;
	}
	blob->source.name = blob->name;
	blob->owns_fd = layout->directory_fd >= 0;
	if (blob->owns_fd ? open_file(layout, path, &blob->source, error)
			  : find_member(layout, path, &blob->source, error)) {
		free(blob->name);
		free(blob);
		return NULL;
	}
	return blob;
}

static void free_blob(struct oci_blob *blob)
{
	if (blob->owns_fd)
		close(blob->source.fd);
	digest_free(blob->source.digest);
	free(blob->name);
	free(blob);
}

/* --- JSON --- */

static char *read_text(struct oci_blob *blob, size_t *size, struct error *error)
{
	char *text;
	ssize_t got;

	if (blob->source.rest > OCI_JSON_BYTES_MAX) {
		error_set(error, "%s: has %" PRIu64 " bytes, more than %d", blob->name,
			  blob->source.rest, OCI_JSON_BYTES_MAX);
		return NULL;
	}
	*size = 0;
	text = malloc(blob->source.rest + 1);
	if (!text)
		error_set(error, "%s: out of memory", blob->name);
	while (text && (got = byte_source_read(&blob->source)) != 0) {
		if (got < 0) {
			error_errno(error, "read %s", blob->name);
			free(text);
			return NULL;
		}
		memcpy(text + *size, blob->source.buffer, (size_t)got);
		*size += (size_t)got;
	}
	return text;
}

static json_t *parse_text(const char *name, const char *text, size_t size, struct error *error)
{
	json_error_t problem;
	json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &problem);

	if (json_is_object(json))
		return json;
	error_set(error, "%s:%d: %s", name, json ? 1 : problem.line,
		  json ? "not a JSON object" : problem.text);
	json_decref(json);
	return NULL;
}

/* A file of the layout that no descriptor is of. */
static json_t *read_json_file(const struct oci_layout *layout, const char *path,
			      struct error *error)
{
	struct oci_blob *blob = open_any(layout, path, error);
	size_t size;
	char *text = blob ? read_text(blob, &size, error) : NULL;
	json_t *json = text ? parse_text(blob->name, text, size, error) : NULL;

	free(text);
	if (blob)
		free_blob(blob);
	return json;
}

json_t *oci_layout_index(const struct oci_layout *layout, struct error *error)
{
	return read_json_file(layout, INDEX_FILE, error);
}

json_t *oci_layout_json(const struct oci_layout *layout, const struct oci_descriptor *descriptor,
			struct error *error)
{
	struct oci_blob *blob = oci_blob_open(layout, descriptor, error);
	size_t size;
	char *text = blob ? read_text(blob, &size, error) : NULL;
	char *name = blob ? strdup(blob->name) : NULL;
	json_t *json = NULL;

	/* Nothing is parsed that is not what the digest says. */
	if (blob && oci_blob_close(blob, text, error) == 0 && text)
		json = parse_text(name ? name : "", text, size, error);
	free(name);
	free(text);
	return json;
}

/* --- blobs --- */

int oci_digest_read(const char *digest, const char *where, char hex[DIGEST_HEX_BYTES],
		    struct error *error)
{
	const char *digits = digest + strlen(DIGEST_PREFIX);

	if (strncmp(digest, DIGEST_PREFIX, strlen(DIGEST_PREFIX)) != 0 ||
	    strlen(digits) != DIGEST_HEX_BYTES - 1 ||
	    strspn(digits, "0123456789abcdef") != DIGEST_HEX_BYTES - 1)
		return error_set(error, "%s: the digest '%s' is not a SHA-256 digest", where,
				 digest);
	memcpy(hex, digits, DIGEST_HEX_BYTES);
	return 0;
}

int oci_descriptor_read(json_t *object, const char *where, struct oci_descriptor *descriptor,
			struct error *error)
{
	const char *digest = json_string_value(json_object_get(object, "digest"));
	json_t *size = json_object_get(object, "size");

	descriptor->media_type = json_string_value(json_object_get(object, "mediaType"));
	if (!descriptor->media_type || !digest || !json_is_integer(size) ||
	    json_integer_value(size) < 0)
		return error_set(error, "%s: not a descriptor with mediaType, digest and size",
				 where);
	if (oci_digest_read(digest, where, descriptor->hex, error))
		return -1;
	descriptor->size_bytes = (uint64_t)json_integer_value(size);
	return 0;
}

struct oci_blob *oci_blob_open(const struct oci_layout *layout,
			       const struct oci_descriptor *descriptor, struct error *error)
{
	char path[BLOB_PATH_BYTES];

	snprintf(path, sizeof(path), "%s%s", BLOBS, descriptor->hex);
	struct oci_blob *blob = open_any(layout, path, error);
	if (!blob)
		return NULL;
	memcpy(blob->hex, descriptor->hex, sizeof(blob->hex));
	if (blob->source.rest != descriptor->size_bytes)
		error_set(error, "%s: has %" PRIu64 " bytes, but should have %" PRIu64, blob->name,
			  blob->source.rest, descriptor->size_bytes);
	else if ((blob->source.digest = digest_new(error)))
		return blob;
	free_blob(blob);
	return NULL;
}

int oci_blob_close(struct oci_blob *blob, bool is_read, struct error *error)
{
	char hex[DIGEST_HEX_BYTES];
	int result = -1;

	if (is_read) {
		result = digest_finish_hex(blob->source.digest, hex, error);
		blob->source.digest = NULL;
	}
	if (result == 0 && strcmp(hex, blob->hex) != 0)
		result = error_set(error, "%s: damaged: its SHA-256 digest is %s", blob->name, hex);
	free_blob(blob);
	return result;
}

/* --- the layout as a whole --- */

static int check_version(const struct oci_layout *layout, struct error *error)
{
	json_t *json = read_json_file(layout, LAYOUT_FILE, error);
	const char *version = json_string_value(json_object_get(json, "imageLayoutVersion"));
	int result = json ? 0 : -1;

	if (json && (!version || strncmp(version, "1.", 2) != 0))
		result =
			error_set(error, "%s: imageLayoutVersion is '%s', but this jobvm reads 1.x",
				  layout->path, version ? version : "");
	json_decref(json);
	return result;
}

int oci_layout_open(const char *path, struct spool *spool, struct oci_layout *layout,
		    struct error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat stat;

	*layout = (struct oci_layout){.path = path, .directory_fd = -1, .spool = spool};
	if (fd < 0 || fstat(fd, &stat)) {
		error_errno(error, "open %s", path);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (S_ISDIR(stat.st_mode)) {
		layout->directory_fd = fd;
		return check_version(layout, error);
	}
	int result = open_archive(layout, fd, spool, error);
	close(fd);
	return result ? -1 : check_version(layout, error);
}

void oci_layout_close(struct oci_layout *layout)
{
	if (layout->directory_fd >= 0)
		close(layout->directory_fd);
	for (size_t i = 0; i < layout->member_count; i++)
		free(layout->members[i].path);
	free(layout->members);
	*layout = (struct oci_layout){.directory_fd = -1};
}
