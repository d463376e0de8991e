/* kinds: every lie that the tests tell the reader, and what it must say to it. */
#ifndef TESTS_HOSTILE_KINDS_H
#define TESTS_HOSTILE_KINDS_H

#include "tests/hostile/craft.h"

/* What a kind's text is where everything is to be read and collected. */
#define FINE ""

/* A number of SIZE bytes that a kind puts where another belongs. */
struct lie {
	const char *path; /* of the file whose inode it is in; NULL: the offset is the image's */
	size_t offset, size;
	uint64_t value;
};

struct kind {
	const char *name;
	struct lie lie;			    /* if its size is not 0 */
	void (*craft)(struct craft *craft); /* then this; may be NULL */
	uint64_t free_blocks, free_inodes;  /* beyond FREE_BLOCKS and FREE_INODES */
	/* A part of the error's text, or FINE. */
	const char *read;    /* of read_image */
	const char *inspect; /* of jobvm inspect; NULL: as READ */
	const char *collect; /* of jobvm collect; NULL: as READ */
	bool is_honest;	     /* no lie, but as many files as a job may leave */
};

/* Each ends with an entry without a name. */
extern const struct kind super_kinds[], directory_kinds[], inode_kinds[], large_kinds[];

/* The kind of that name, or NULL. */
const struct kind *kind_find(const char *name);
/* Calls VISIT for each kind. */
void kinds_visit(void (*visit)(void *context, const struct kind *kind), void *context);

/* Writes an image of KIND to PATH. */
void kind_write(const struct kind *kind, const char *path);

#endif
