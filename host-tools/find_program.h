/* find_program: the programs that jobvm runs. */
#ifndef HOST_TOOLS_FIND_PROGRAM_H
#define HOST_TOOLS_FIND_PROGRAM_H

#include <stddef.h>

#include "jobdisk/error.h"

/*
 * Puts into PATH, of SIZE bytes, which NAME is run: the environment's VARIABLE says, or it is the
 * first in PATH. -1 with ERROR set, which says that Debian's PACKAGE has it.
 */
int find_program(const char *name, const char *variable, const char *package, char *path,
		 size_t size, struct error *error);

#endif
