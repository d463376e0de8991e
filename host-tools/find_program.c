#include "host-tools/find_program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int find_program(const char *name, const char *variable, const char *package, char *path,
		 size_t size, struct error *error)
{
	const char *wanted = getenv(variable);
	const char *directories = getenv("PATH");

	if (wanted && *wanted) {
		snprintf(path, size, "%s", wanted);
		if (access(path, X_OK))
			return error_errno(error, "$%s: cannot execute %s", variable, path);
		return 0;
	}
	for (const char *start = directories ? directories : "/usr/bin"; *start;) {
		int length = (int)strcspn(start, ":");
		snprintf(path, size, "%.*s/%s", length, start, name);
		if (access(path, X_OK) == 0)
			return 0;
		start += length + (start[length] == ':');
	}
	return error_set(error, "%s is not in PATH: install it with 'apt-get install %s'", name,
			 package);
}
