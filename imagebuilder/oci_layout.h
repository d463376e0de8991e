/*
 * oci_layout: the files of an OCI image layout, in a directory or in a tar archive, and their
 * digests. Which image is meant and what is in it is source_oci.c's matter.
 */
#ifndef IMAGEBUILDER_OCI_LAYOUT_H
#define IMAGEBUILDER_OCI_LAYOUT_H

#include <jansson.h>
#include <stdbool.h>

#include "imagebuilder/byte_source.h"
#include "imagebuilder/spool.h"

/* More no index, manifest or config needs. */
#define OCI_JSON_BYTES_MAX (4 << 20)

/* A file of a layout that is in an archive: where the spool has it. */
struct oci_member {
	char *path;
	uint64_t offset, size_bytes;
};

struct oci_layout {
	const char *path; /* as the user knows it */
	int directory_fd; /* -1: an archive */
	const struct spool *spool;
	struct oci_member *members; /* in the archive's order */
	size_t member_count;
};

/*
 * Opens the layout PATH; an archive's files are put into SPOOL. -1 with ERROR set: not a layout,
 * or of another version. To be closed in any case.
 */
int oci_layout_open(const char *path, struct spool *spool, struct oci_layout *layout,
		    struct error *error);
void oci_layout_close(struct oci_layout *layout);

/* Reads the text "sha256:HEX", which is called WHERE in errors. */
int oci_digest_read(const char *digest, const char *where, char hex[DIGEST_HEX_BYTES],
		    struct error *error);

/* What a descriptor in an index or manifest says of a blob. */
struct oci_descriptor {
	const char *media_type;	    /* the JSON's */
	char hex[DIGEST_HEX_BYTES]; /* SHA-256 */
	uint64_t size_bytes;
};

/* Reads the descriptor OBJECT, which is called WHERE in errors. */
int oci_descriptor_read(json_t *object, const char *where, struct oci_descriptor *descriptor,
			struct error *error);

/* index.json, to be freed with json_decref; NULL with ERROR set. */
json_t *oci_layout_index(const struct oci_layout *layout, struct error *error);
/* The same for a blob, whose size and digest are checked. */
json_t *oci_layout_json(const struct oci_layout *layout, const struct oci_descriptor *descriptor,
			struct error *error);

/*
 * A blob to be read by its bytes. Its size is checked by the opening; its digest by the closing,
 * where IS_READ says that all of it has been read; else the closing fails and leaves ERROR alone.
 */
struct oci_blob {
	struct byte_source source;
	char *name; /* for errors */
	bool owns_fd;
	char hex[DIGEST_HEX_BYTES];
};
/* NULL with ERROR set. */
struct oci_blob *oci_blob_open(const struct oci_layout *layout,
			       const struct oci_descriptor *descriptor, struct error *error);
int oci_blob_close(struct oci_blob *blob, bool is_read, struct error *error);

#endif
