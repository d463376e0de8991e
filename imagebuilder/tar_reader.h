/*
 * tar_reader: a tar archive, plain or compressed, entry by entry, through libarchive. Nothing in
 * it depends on who reads or in which locale: owners are the archive's numbers, names its bytes.
 */
#ifndef IMAGEBUILDER_TAR_READER_H
#define IMAGEBUILDER_TAR_READER_H

#include <stdbool.h>
#include <sys/stat.h>

#include "fsimage/tree.h"
#include "imagebuilder/decompress.h"

struct archive;
struct archive_entry;

struct tar_reader {
	struct byte_source *source;
	struct decompress plain;
	struct archive *archive;
	struct archive_entry *entry; /* the archive's */
	/* Its end is marked: one without the mark may have been cut off between two entries. */
	bool needs_end_mark;
	uint64_t position; /* after the last entry, in the tar itself */
};

/*
 * Starts to read SOURCE, which the caller keeps. PLAIN_DIGEST, which may be NULL, gets the bytes of
 * the tar itself, uncompressed. To be closed even after a failure; READER stays where it is until
 * then.
 */
int tar_open(struct tar_reader *reader, struct byte_source *source, struct digest *plain_digest,
	     struct error *error);
void tar_close(struct tar_reader *reader);

/* Reads what comes after the archive's end: for the digests, and a checksum may be wrong there. */
int tar_drain(struct tar_reader *reader, struct error *error);

/* The next entry: 1, 0 at the end of a whole archive, -1 with ERROR set. */
int tar_next(struct tar_reader *reader, struct error *error);

/* Where the entry belongs, as the archive has it. */
const char *tar_path(const struct tar_reader *reader);
/* The path that it is another name of, or NULL. */
const char *tar_link_target(const struct tar_reader *reader);
const char *tar_symlink_target(const struct tar_reader *reader);
uint64_t tar_size(const struct tar_reader *reader);
dev_t tar_device(const struct tar_reader *reader);
int tar_meta(const struct tar_reader *reader, struct fsmeta *meta, struct error *error);

/*
 * The next piece of the entry's data, valid until the next call: 1, 0 at its end, -1 with ERROR
 * set. Between pieces there are holes.
 */
struct tar_piece {
	const void *bytes;
	size_t size;
	uint64_t offset; /* in the file */
};
int tar_next_piece(struct tar_reader *reader, struct tar_piece *piece, struct error *error);

/* Calls SET for each extended attribute; ACLs are among them, as Linux has them. */
typedef int tar_set_xattr(void *context, const char *name, const void *value, size_t size,
			  struct error *error);
int tar_xattrs(const struct tar_reader *reader, tar_set_xattr *set, void *context,
	       struct error *error);

#endif
