/*
 * stack: the guest's root tree as it grows source by source, and the one way in which every
 * kind of source changes it. Paths are those of the guest's root.
 */
#ifndef IMAGEBUILDER_STACK_H
#define IMAGEBUILDER_STACK_H

#include <stdbool.h>
#include <time.h>

#include "fsimage/tree.h"

struct stack {
	struct fstree *tree;
	time_t now;    /* the time of what no source describes */
	time_t latest; /* later times become it */
	/* Called by stack_report; may be NULL. */
	void (*progress)(void *context, const struct fstotals *done);
	void *progress_context;
};

#define STACK_NAME_BYTES 256

/* A name in a directory of the tree, taken or free. The root itself has the name "". */
struct place {
	struct fsnode *directory;
	char name[STACK_NAME_BYTES];
};

/* MTIME, or the latest that there may be. */
struct timespec stack_time(const struct stack *stack, struct timespec mtime);

/* Tells who waits how much the tree holds. To be called after each node. */
void stack_report(const struct stack *stack);

/*
 * Finds the place of PATH, which starts at the root with or without '/'. Symlinks on the way to
 * its last name are followed as if the tree were the whole system, so they never lead out of it.
 * Directories that are missing on the way are made with MAKE (mode 0755, root's, time now).
 * 1; 0 when there is no such directory, without MAKE; -1 with ERROR set: PATH has '..' in it, a
 * name on the way is no directory, or links lead in circles.
 */
int stack_locate(struct stack *stack, const char *path, bool make, struct place *place,
		 struct error *error);

/* What is at PLACE, or NULL. */
struct fsnode *stack_node(const struct stack *stack, const struct place *place);
/* Removes what is at PLACE, with all below it. Never the root. */
void stack_clear(struct stack *stack, const struct place *place);
/* Removes what is in DIRECTORY. */
void stack_empty(struct stack *stack, struct fsnode *directory);
/*
 * Makes a directory of META at PLACE. One that is there keeps its contents; anything else that
 * is there goes. NULL with ERROR set.
 */
struct fsnode *stack_put_directory(struct stack *stack, const struct place *place,
				   const struct fsmeta *meta, struct error *error);

#endif
