#include "host-tools/traced_inputs.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-tools/lazy/trace.h"
#include "imagebuilder/files.h"

struct adding {
	int directory_fd;
	struct fstree *tree;
	const struct fsimport *rules;
	struct error *error;
};

/* A relative path without "", "." and "..". */
static bool is_plain(const char *path)
{
	for (const char *part = path; part; part = strchr(part, '/')) {
		part += *part == '/';
		size_t length = strcspn(part, "/");
		if (length == 0 || (length <= 2 && strncmp(part, "..", length) == 0))
			return false;
	}
	return true;
}

/* The child NAME of PARENT, made where it is not there; NULL where it is no directory. */
static struct fsnode *enter(const struct adding *a, struct fsnode *parent, const char *name,
			    const struct stat *status)
{
	const struct fsmeta meta = {.mode = status->st_mode & 07777,
				    .uid = a->rules->uid,
				    .gid = a->rules->gid,
				    .mtime = status->st_mtim};
	struct fsnode *child = fstree_child(parent, name);

	if (child)
		return S_ISDIR(fstree_meta(child)->mode) ? child : NULL;
	return fstree_add_directory(a->tree, parent, name, &meta, a->error);
}

/* 0: it is there, or cannot be; -1 with the error set. PATH is changed, and put right again. */
static int add_file(const struct adding *a, struct fsnode *node, char *path)
{
	char *name = path;
	struct stat status;

	for (char *slash; (slash = strchr(name, '/')); name = slash + 1) {
		*slash = '\0';
		bool is_there = fstatat(a->directory_fd, path, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
				S_ISDIR(status.st_mode);
		a->error->text[0] = '\0';
		node = is_there ? enter(a, node, name, &status) : NULL;
		*slash = '/';
		if (!node)
			return a->error->text[0] ? -1 : 0;
	}
	if (fstree_child(node, name) ||
	    fstatat(a->directory_fd, path, &status, AT_SYMLINK_NOFOLLOW) ||
	    !S_ISREG(status.st_mode))
		return 0;
	return fstree_import(a->tree, node, name, a->directory_fd, path, a->rules, a->error) ? 0
											     : -1;
}

static int add_files(const struct adding *a, struct fsnode *node, char *bytes, size_t size)
{
	size_t cursor = 0, length;
	const char *line;

	while ((line = trace_next(bytes, size, &cursor, &length))) {
		char *path = strndup(line, length);
		if (!path)
			return error_set(a->error, "no memory for the list of inputs");
		int failed = is_plain(path) ? add_file(a, node, path) : 0;
		free(path);
		if (failed)
			return -1;
	}
	return 0;
}

int traced_inputs_add(const char *trace_path, const char *directory, struct fstree *tree,
		      struct fsnode *node, const struct fsimport *rules, struct error *error)
{
	struct adding adding = {.tree = tree, .rules = rules, .error = error};
	uint64_t size_bytes;
	size_t size;
	int trace_fd = files_open(trace_path, &size_bytes, error);

	if (trace_fd < 0)
		return -1;
	char *bytes = files_read(trace_fd, trace_path, TRACE_BYTES_MAX, &size, error);
	close(trace_fd);
	if (!bytes)
		return -1;
	adding.directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int failed = adding.directory_fd < 0 ? error_errno(error, "open %s", directory)
					     : add_files(&adding, node, bytes, size);
	if (adding.directory_fd >= 0)
		close(adding.directory_fd);
	free(bytes);
	return failed;
}
