#include "host-tools/check.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-tools/changes.h"
#include "host-tools/jsontext.h"
#include "host-tools/message.h"
#include "host-tools/report.h"
#include "host-tools/sink.h"
#include "host-tools/values.h"
#include "imagebuilder/files.h"

/* A path of the report. */
struct check_listed {
	char *path;	    /* without "." and empty names; as the report has it when outside */
	bool is_outside;    /* it leads out of the directory, or might */
	const json_t *item; /* the report's */
};

void check_differs(struct check *check, const char *path, const char *format, ...)
{
	size_t count = check->difference_count;
	va_list values;
	char *problem;

	/* Room doubles at each power of two. */
	if ((count & (count - 1)) == 0)
		check->differences = memory_or_exit(realloc(
			check->differences, (count ? 2 * count : 1) * sizeof(*check->differences)));
	va_start(values, format);
	if (vasprintf(&problem, format, values) < 0)
		problem = NULL;
	va_end(values);
	check->differences[count] = (struct check_difference){
		.path = memory_or_exit(strdup(path)),
		.problem = memory_or_exit(problem),
	};
	check->difference_count++;
}

void check_free(struct check *check)
{
	for (size_t i = 0; i < check->difference_count; i++) {
		free(check->differences[i].path);
		free(check->differences[i].problem);
	}
	for (size_t i = 0; i < check->listed_count; i++)
		free(check->listed[i].path);
	free(check->differences);
	free(check->listed);
}

/* --- the report's list --- */

static bool is_name(const char *name, size_t length)
{
	return length > 0 && !(length == 1 && name[0] == '.');
}

/* The name behind the one at NAME of LENGTH bytes; "" at the end. */
static const char *next_name(const char *name, size_t length)
{
	return name + length + (name[length] == '/');
}

/* Whether PATH is relative, without "..", and more than the directory itself. */
static bool is_inside(const char *path)
{
	bool has_name = false;
	size_t length;

	if (*path == '/')
		return false;
	for (const char *name = path; *name; name = next_name(name, length)) {
		length = strcspn(name, "/");
		if (length == 2 && strncmp(name, "..", 2) == 0)
			return false;
		has_name = has_name || is_name(name, length);
	}
	return has_name;
}

/* Takes "." and empty names out of PATH, in place. */
static void tidy(char *path)
{
	char *end = path;

	for (const char *name = path; *name;) {
		size_t length = strcspn(name, "/");
		const char *next = next_name(name, length);
		if (is_name(name, length)) {
			if (end > path)
				*end++ = '/';
			memmove(end, name, length);
			end += length;
		}
		name = next;
	}
	*end = '\0';
}

static int compare_listed(const void *a, const void *b)
{
	return strcmp(((const struct check_listed *)a)->path,
		      ((const struct check_listed *)b)->path);
}

static int list(struct check *check, const json_t *collected, struct error *error)
{
	size_t count = json_array_size(collected);

	check->listed = memory_or_exit(calloc(count + 1, sizeof(*check->listed)));
	for (size_t i = 0; i < count; i++) {
		const json_t *item = json_array_get(collected, i);
		char *path = jsontext_get(item, "path");
		if (!path)
			return error_set(error, "outputs.collected[%zu]: it has no path", i);
		bool is_outside = !is_inside(path);
		if (!is_outside)
			tidy(path);
		check->listed[check->listed_count++] = (struct check_listed){
			.path = path,
			.is_outside = is_outside,
			.item = item,
		};
	}
	qsort(check->listed, count, sizeof(*check->listed), compare_listed);
	return 0;
}

/* --- what lies there --- */

static void cannot_read(struct check *check, const char *path)
{
	check_differs(check, path, "cannot be read: %s", strerror(errno));
	check->unread++;
}

static void cannot_open(struct check *check, const char *path)
{
	switch (errno) {
	case ENOENT:
	case ENOTDIR:
		check_differs(check, path, "is missing");
		break;
	case ELOOP:
		check_differs(check, path, "is reached through a symbolic link");
		break;
	case EXDEV:
		check_differs(check, path, "is not in %s", check->directory);
		break;
	default:
		cannot_read(check, path);
	}
}

static void check_digest(struct check *check, const struct sink *sink, const char *path,
			 const char *expected)
{
	char hex[DIGEST_HEX_BYTES];
	struct error error;
	struct stat status;
	int fd = sink_open(sink, path);

	if (fd < 0) {
		cannot_open(check, path);
		return;
	}
	progress_show("%s", path);
	if (fstat(fd, &status) || !S_ISREG(status.st_mode) ||
	    digest_file_hex(fd, path, hex, &error))
		cannot_read(check, path);
	else if (strcmp(hex, expected) != 0)
		check_differs(check, path, "has another SHA-256");
	close(fd);
}

static int check_file(struct check *check, const struct sink *sink, const char *path,
		      const json_t *item, const struct stat *status, struct error *error)
{
	const json_t *size = json_object_get(item, "size_bytes");
	const json_t *digest = json_object_get(item, "sha256");
	size_t before = check->difference_count;

	if (!json_is_integer(size) || !(json_is_string(digest) || json_is_null(digest)))
		return error_set(error, "%s: its size or digest is not one", path);
	if (status->st_size != json_integer_value(size))
		check_differs(check, path, "has %jd bytes, not %" JSON_INTEGER_FORMAT,
			      (intmax_t)status->st_size, json_integer_value(size));
	else if (json_is_null(digest))
		check->without_digest++;
	else
		check_digest(check, sink, path, json_string_value(digest));
	if (check->difference_count > before)
		return 0;
	check->files++;
	check->file_bytes += (uint64_t)status->st_size;
	return 0;
}

static int check_symlink(struct check *check, int fd, const char *path, const json_t *item,
			 struct error *error)
{
	char *expected = jsontext_get(item, "target"), target[PATH_MAX];

	if (!expected)
		return error_set(error, "%s: the link has no target", path);
	ssize_t length = readlinkat(fd, "", target, sizeof(target) - 1);
	if (length < 0) {
		cannot_read(check, path);
	} else {
		target[length] = '\0';
		if (strcmp(target, expected) != 0)
			check_differs(check, path, "points to '%s', not to '%s'", target, expected);
		else
			check->symlinks++;
	}
	free(expected);
	return 0;
}

static int check_found(struct check *check, const struct sink *sink, int fd,
		       const struct check_listed *listed, struct error *error)
{
	const char *type = json_string_value(json_object_get(listed->item, "type"));
	struct stat status;

	if (!type || (strcmp(type, file_type_name(S_IFREG)) != 0 &&
		      strcmp(type, file_type_name(S_IFDIR)) != 0 &&
		      strcmp(type, file_type_name(S_IFLNK)) != 0))
		return error_set(error, "%s: no file, directory or symlink", listed->path);
	if (fstat(fd, &status)) {
		cannot_read(check, listed->path);
		return 0;
	}
	const char *found = file_type_name(status.st_mode);
	if (strcmp(type, found) != 0) {
		check_differs(check, listed->path, "is a %s, not a %s", found, type);
		return 0;
	}
	if (S_ISREG(status.st_mode))
		return check_file(check, sink, listed->path, listed->item, &status, error);
	if (S_ISLNK(status.st_mode))
		return check_symlink(check, fd, listed->path, listed->item, error);
	check->directories++;
	return 0;
}

static int check_one(struct check *check, const struct check_listed *listed, struct error *error)
{
	const struct sink sink = {.directory_fd = check->directory_fd,
				  .directory = check->directory};

	if (listed->is_outside) {
		check_differs(check, listed->path, "is not in %s", check->directory);
		return 0;
	}
	if (listed > check->listed && strcmp(listed[-1].path, listed->path) == 0) {
		check_differs(check, listed->path, "is listed twice");
		return 0;
	}
	int fd = sink_look(&sink, listed->path);
	if (fd < 0) {
		cannot_open(check, listed->path);
		return 0;
	}
	int failed = check_found(check, &sink, fd, listed, error);
	close(fd);
	return failed;
}

static int check_format(const json_t *report, struct error *error)
{
	const json_t *version = json_object_get(report, "format_version");

	if (!json_is_integer(version))
		return error_set(error, "it has no format_version");
	if (json_integer_value(version) != REPORT_FORMAT_VERSION)
		return error_set(error,
				 "format_version is %" JSON_INTEGER_FORMAT
				 ", but this jobvm reads %d",
				 json_integer_value(version), REPORT_FORMAT_VERSION);
	return 0;
}

int check_listed(struct check *check, const json_t *report, struct error *error)
{
	const json_t *outputs = json_object_get(report, "outputs");
	const json_t *collected = json_object_get(outputs, "collected");

	if (check_format(report, error))
		return error_prefix(error, "%s/%s", check->directory, check->report);
	/* A report of a run that left nothing has null here. */
	if (!json_is_array(collected) && !json_is_null(outputs))
		return error_set(error, "%s/%s: it lists nothing as collected", check->directory,
				 check->report);
	if (list(check, collected, error))
		return error_prefix(error, "%s/%s", check->directory, check->report);
	for (size_t i = 0; i < check->listed_count; i++)
		if (check_one(check, &check->listed[i], error))
			return error_prefix(error, "%s/%s", check->directory, check->report);
	return 0;
}

/* --- what else lies there --- */

/* The first path of the list that is not before PATH. */
static const struct check_listed *find(const struct check *check, const char *path)
{
	size_t first = 0, end = check->listed_count;

	while (first < end) {
		size_t middle = first + (end - first) / 2;
		if (strcmp(check->listed[middle].path, path) < 0)
			first = middle + 1;
		else
			end = middle;
	}
	return first < check->listed_count ? &check->listed[first] : NULL;
}

static bool is_listed(const struct check *check, const char *path)
{
	const struct check_listed *found = find(check, path);

	return found && !found->is_outside && strcmp(found->path, path) == 0;
}

/* Directories on the way to what was collected are made without being listed. */
static bool holds_listed(const struct check *check, const char *path)
{
	char below[PATH_MAX + 1];

	snprintf(below, sizeof(below), "%s/", path);
	const struct check_listed *found = find(check, below);
	return found && strncmp(found->path, below, strlen(below)) == 0;
}

static bool is_own(const struct check *check, const char *path)
{
	size_t length = strlen(check->report);

	if (strncmp(path, check->report, length) == 0 &&
	    (!path[length] || strcmp(path + length, REPORT_SIGNATURE_SUFFIX) == 0))
		return true;
	return strcmp(path, REPORT_CONSOLE_FILE) == 0;
}

/* Whether to look into it. */
static bool check_entry(struct check *check, const char *path, bool is_directory)
{
	if (is_listed(check, path) || (!is_directory && is_own(check, path)) ||
	    (is_directory && holds_listed(check, path)))
		return true;
	check_differs(check, path, "is not in the report");
	return false;
}

/* Paths are walked from the directory itself, so that they are no longer than they were written. */
int check_unlisted(struct check *check, struct error *error)
{
	FTSENT *entry;
	int result;

	if (fchdir(check->directory_fd))
		return error_errno(error, "%s", check->directory);
	FTS *walk = files_walk(".", error);
	if (!walk)
		return -1;
	while ((entry = files_walk_next(walk, &result, error)))
		if (entry->fts_level > 0 &&
		    !check_entry(check, entry->fts_path + strlen("./"), entry->fts_info == FTS_D))
			fts_set(walk, entry, FTS_SKIP);
	fts_close(walk);
	return result ? error_prefix(error, "%s", check->directory) : 0;
}
