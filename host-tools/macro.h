/*
 * macro: the names that a submit description defines, and $(NAME) in its values.
 * Values are kept as they were written and expanded when a job is made of them, as in HTCondor.
 */
#ifndef HOST_TOOLS_MACRO_H
#define HOST_TOOLS_MACRO_H

#include <stdbool.h>
#include <stddef.h>

#include "jobdisk/error.h"

struct macro {
	char *name; /* compared without regard to case */
	char *value;
	unsigned line; /* where it was defined, for errors */
};

/* Zero-initialised it is empty. What is not in it is looked for in OUTER, where that is set. */
struct macro_scope {
	struct macro *items;
	size_t count;
	const struct macro_scope *outer;
};

/* Defines NAME or changes its value; exits the program when there is no memory. */
void macro_set(struct macro_scope *scope, const char *name, const char *value, unsigned line);
const struct macro *macro_find(const struct macro_scope *scope, const char *name);
void macro_clear(struct macro_scope *scope);

/*
 * TEXT with its $(NAME), $(NAME:DEFAULT), $ENV(NAME) and $F...(NAME) replaced, over and over until
 * none is left; $$ is left alone. To be freed; NULL with ERROR set where a name is not defined or
 * the text grows without bounds.
 */
char *macro_expand(const struct macro_scope *scope, const char *text, struct error *error);

/* TEXT with only $(NAME) replaced by NAME's present value, for `NAME = $(NAME) more`. */
char *macro_expand_self(const struct macro_scope *scope, const char *name, const char *text);

/* Whether TEXT refers to NAME. */
bool macro_is_used(const char *text, const char *name);

#endif
