#include "host-tools/input_path.h"

#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Whether PATH names a directory's contents: it ends with '/', or is '.' or '..' at its end. */
static bool means_contents(const char *path)
{
	const char *last = strrchr(path, '/');

	last = last ? last + 1 : path;
	return *last == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0;
}

int input_resolve(const char *path, const char *full_path, struct input_path *input,
		  struct error *error)
{
	char copy[PATH_MAX];
	struct stat status;

	/* What the user names is meant, also through a link; below it links stay links. */
	if (!realpath(full_path, input->resolved) || stat(input->resolved, &status))
		return error_errno(error, "input '%s'", path);
	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(input->name, sizeof(input->name), "%s", basename(copy));
	input->type = status.st_mode & S_IFMT;
	input->contents = means_contents(path) && S_ISDIR(status.st_mode);
	return 0;
}

int input_add(const struct input_path *input, struct fstree *tree, struct fsnode *directory,
	      const struct fsimport *rules, struct error *error)
{
	if (input->contents)
		return fstree_import_contents(tree, directory, AT_FDCWD, input->resolved, rules,
					      error);
	return fstree_import(tree, directory, input->name, AT_FDCWD, input->resolved, rules, error)
		       ? 0
		       : -1;
}

struct fsimport input_rules(uid_t uid, gid_t gid, const struct epoch *epoch)
{
	return (struct fsimport){
		.override_owner = true,
		.uid = uid,
		.gid = gid,
		.clamp_mtime = epoch->is_set,
		.latest_mtime = epoch->seconds,
		/* Only where the disk shall be the same again: it costs a reading of all inputs. */
		.zeros_are_holes = epoch->is_set,
	};
}
