/*
 * unpack: puts what a tar archive holds on the stack, in the archive's order, so that of several
 * entries of one name the last one counts.
 *
 * Entries lie below the root whether their names start with '/', "./" or neither; '..' in a name
 * is an error. Symlinks on the way are followed within the tree, as an unpacker in a chroot would.
 * A directory over a directory gives it its metadata; everything else replaces what is there. The
 * root's own metadata is not the archive's. Sockets are left out.
 */
#ifndef IMAGEBUILDER_UNPACK_H
#define IMAGEBUILDER_UNPACK_H

#include "imagebuilder/digest.h"
#include "imagebuilder/spool.h"
#include "imagebuilder/stack.h"
#include "imagebuilder/tar_reader.h"

struct unpack {
	struct stack *stack;
	struct spool *spool;	 /* where the files' data goes */
	struct digest *metadata; /* of all entries' names and metadata, in order */
	uint64_t nodes;		 /* entries so far */
	struct digest *plain;	 /* of the next tar, uncompressed; NULL: none; the caller's */
	bool is_layer;		 /* of an OCI image: names that start with ".wh." are whiteouts */
};

/* Unpacks SOURCE, to its last byte. -1 with ERROR set, which names source and entry. */
int unpack_tar(struct unpack *unpack, struct byte_source *source, struct error *error);

/*
 * Prepares the stack for an OCI layer: removes what its whiteouts hide and what its entries will
 * replace by something of another type. To be done before unpack_tar: a whiteout hides what lower
 * layers have, wherever it stands in its own.
 */
int unpack_make_way(struct unpack *unpack, struct byte_source *source, struct error *error);

#endif
