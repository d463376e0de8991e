#include "host-tools/collect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-tools/exitcodes.h"
#include "host-tools/extract.h"
#include "host-tools/message.h"
#include "host-tools/sink.h"
#include "jobdisk/layout.h"

struct collect_places collect_places_in(const char *directory)
{
	return (struct collect_places){
		.directory = directory,
		.directory_fd = -1,
		.outputs_below = "output",
		.stdout_path = "stdout",
		.stderr_path = "stderr",
		.report_path = REPORT_FILE,
		.console_path = REPORT_CONSOLE_FILE,
	};
}

static int check_empty(int directory_fd, const char *directory, struct error *error)
{
	int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = fd < 0 ? NULL : fdopendir(fd);
	int count = 0;

	if (!entries) {
		error_errno(error, "output directory %s", directory);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while (readdir(entries))
		count++;
	closedir(entries);
	if (count > 2)
		return error_set(error, "output directory %s: exists and is not empty", directory);
	return 0;
}

int collect_prepare_directory(const char *directory, bool *created, struct error *error)
{
	char name[PATH_MAX];
	size_t length = strlen(directory);

	/* With a slash at its end, a symlink would be followed. */
	while (length > 1 && directory[length - 1] == '/')
		length--;
	snprintf(name, sizeof(name), "%.*s", (int)length, directory);
	*created = mkdir(name, 0777) == 0;
	if (!*created && errno != EEXIST)
		return error_errno(error, "make output directory %s", directory);
	int fd = open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_errno(error, "output directory %s", directory);
	if (*created || check_empty(fd, directory, error) == 0)
		return fd;
	close(fd);
	return -1;
}

static int open_directory(const struct collect_places *places)
{
	if (places->directory_fd >= 0)
		return fcntl(places->directory_fd, F_DUPFD_CLOEXEC, 0);
	return open(places->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* A sink at the directory of PATH, which is the user's own and may lead anywhere. */
static int open_place(const struct collect_places *places, const char *path, struct sink *sink,
		      char *name, size_t size, struct error *error)
{
	char copy[PATH_MAX];
	int base_fd = open_directory(places);

	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(name, size, "%s", basename(copy));
	snprintf(copy, sizeof(copy), "%s", path);
	*sink = (struct sink){.directory = places->directory};
	sink->directory_fd =
		base_fd < 0 ? -1 : openat(base_fd, dirname(copy), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (sink->directory_fd < 0)
		error_errno(error, "open the directory of %s in %s", path, places->directory);
	if (base_fd >= 0)
		close(base_fd);
	return sink->directory_fd < 0 ? -1 : 0;
}

static bool is_discarded(const char *path)
{
	return !path || strcmp(path, "/dev/null") == 0;
}

/* A rename would put a regular file in the place of a FIFO or a device. */
static int check_place(const struct collect_places *places, const char *path, struct error *error)
{
	char name[NAME_MAX + 1];
	struct stat status;
	struct sink sink;

	if (is_discarded(path))
		return 0;
	if (open_place(places, path, &sink, name, sizeof(name), error))
		return -1;
	bool is_special = fstatat(sink.directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
			  !S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode);
	close(sink.directory_fd);
	return is_special ? error_set(error, "%s: exists and is not a regular file", path) : 0;
}

/* Beside the report. */
static void signature_path(const struct collect_places *places, char *path, size_t size)
{
	snprintf(path, size, "%s" REPORT_SIGNATURE_SUFFIX, places->report_path);
}

int collect_check_places(const struct collect_places *places, struct error *error)
{
	if (check_place(places, places->stdout_path, error) ||
	    check_place(places, places->stderr_path, error))
		return -1;
	if (is_discarded(places->report_path))
		return 0;
	char signature[PATH_MAX];
	signature_path(places, signature, sizeof(signature));
	return check_place(places, places->report_path, error) ||
			       check_place(places, signature, error)
		       ? -1
		       : 0;
}

/* --- the job's own files --- */

/* One of stdout and stderr on its way. */
struct stream {
	const char *path; /* NULL: it is not kept */
	struct sink_file file;
};

static int begin_stream(const struct collect_places *places, const char *path,
			struct stream *stream, struct error *error)
{
	char name[NAME_MAX + 1];
	struct sink sink;

	stream->path = NULL;
	if (is_discarded(path))
		return 0;
	if (open_place(places, path, &sink, name, sizeof(name), error))
		return -1;
	int failed = sink_begin(&sink, name, 0600, &stream->file, error);
	close(sink.directory_fd);
	if (failed)
		return -1;
	stream->path = path;
	return 0;
}

/* Whether it is on another file system than DIRECTORY_FD, which is synced as a whole. */
static bool is_elsewhere(const struct stream *stream, int directory_fd)
{
	struct stat file, directory;

	return fstat(stream->file.fd, &file) || fstat(directory_fd, &directory) ||
	       file.st_dev != directory.st_dev;
}

static int end_stream(struct stream *stream, int directory_fd, bool keep, struct error *error)
{
	int failed = 0;

	if (!stream->path)
		return 0;
	if (keep && fchmod(stream->file.fd, 0644) == 0)
		return sink_commit(&stream->file, is_elsewhere(stream, directory_fd), error);
	if (keep)
		failed = error_errno(error, "write %s", stream->path);
	sink_abandon(&stream->file);
	return failed;
}

static struct extract_stream stream_of(const struct stream *stream, const char *on_disk,
				       uint64_t max_bytes)
{
	return (struct extract_stream){
		.on_disk = on_disk,
		.path = stream->path,
		.fd = stream->path ? stream->file.fd : -1,
		.max_bytes = max_bytes,
	};
}

static bool has_data(const struct stream *stream)
{
	struct stat status;

	return stream->path && fstat(stream->file.fd, &status) == 0 && status.st_size > 0;
}

static bool is_listed(const struct report *report, const struct stream *stream)
{
	for (size_t i = 0; i < report->collected.count && stream->path; i++)
		if (strcmp(report->collected.items[i].path, stream->path) == 0)
			return true;
	return false;
}

/* What a stream has got until a failure is kept too. */
static int extract_all(struct report *report, const struct collect_places *places, int directory_fd,
		       struct stream streams[2], struct error *error)
{
	const struct manifest *manifest = report->manifest;
	const struct extraction extraction = {
		.directory = places->directory,
		.directory_fd = directory_fd,
		.outputs_below = places->outputs_below,
		.streams = {stream_of(&streams[0], JOBDISK_STDOUT, manifest->stdout_max_bytes),
			    stream_of(&streams[1], JOBDISK_STDERR, manifest->stderr_max_bytes)},
	};
	struct error stream_error;
	int failed = extract(report, &extraction, error);

	for (size_t i = 0; i < 2; i++) {
		bool keep = !failed || has_data(&streams[i]) || is_listed(report, &streams[i]);
		if (end_stream(&streams[i], directory_fd, keep, &stream_error) && !failed) {
			*error = stream_error;
			failed = -1;
		}
	}
	return failed;
}

static int write_disk_results(struct report *report, const struct collect_places *places,
			      int directory_fd, struct error *error)
{
	const struct sink sink = {.directory_fd = directory_fd, .directory = places->directory};
	struct stream streams[2];
	struct error ignored;

	if (!report->disk || !report->disk->has_changes)
		return 0;
	if (begin_stream(places, places->stdout_path, &streams[0], error))
		return -1;
	if (begin_stream(places, places->stderr_path, &streams[1], error)) {
		end_stream(&streams[0], directory_fd, false, &ignored);
		return -1;
	}
	if (extract_all(report, places, directory_fd, streams, error)) {
		sink_sync(&sink, &ignored);
		return -1;
	}
	return sink_sync(&sink, error);
}

/* --- our own files --- */

static int write_text(const struct collect_places *places, const char *path, const char *text,
		      size_t length, struct error *error)
{
	char name[NAME_MAX + 1];
	struct sink sink;

	if (open_place(places, path, &sink, name, sizeof(name), error))
		return -1;
	int failed = sink_bytes(&sink, name, text, length, error);
	close(sink.directory_fd);
	return failed;
}

/* Writes TEXT, which was allocated, and frees it. */
static int write_owned(const struct collect_places *places, const char *path, char *text,
		       struct error *error)
{
	if (!text)
		return error_set(error, "no memory for %s", path);
	int failed = write_text(places, path, text, strlen(text), error);
	free(text);
	return failed;
}

/* Names every declared output that is not there: the user asked for all of them. */
static void judge_missing(struct report *report)
{
	for (size_t i = 0; i < report->missing.count; i++)
		message_error("the job did not make its declared output '%s'",
			      report->missing.items[i]);
	if (report->missing.count > 0)
		report->exit_code = EXIT_JOBVM_FAILED;
}

/* An old report's signature must not stay beside a new report that is not signed. */
static int remove_signature(const struct collect_places *places, const char *path,
			    struct error *error)
{
	char name[NAME_MAX + 1];
	struct sink sink;

	if (open_place(places, path, &sink, name, sizeof(name), error))
		return -1;
	int failed = unlinkat(sink.directory_fd, name, 0) && errno != ENOENT;
	if (failed)
		error_errno(error, "remove %s", path);
	close(sink.directory_fd);
	return failed ? -1 : 0;
}

static int write_report(const struct collect_places *places, const char *text, struct error *error)
{
	uint8_t signature[SIGNATURE_BYTES];
	char path[PATH_MAX];
	int failed;

	signature_path(places, path, sizeof(path));
	if (places->signer)
		failed =
			signer_sign(places->signer, text, strlen(text), signature, error) ||
			write_text(places, path, (const char *)signature, sizeof(signature), error);
	else
		failed = remove_signature(places, path, error);
	return failed ? -1 : write_text(places, places->report_path, text, strlen(text), error);
}

/* The report comes last: where it is, all that it tells of is on the disk. */
static int write_own_files(struct report *report, const struct collect_places *places,
			   const struct log *console, struct error *error)
{
	if (console && places->console_path &&
	    write_owned(places, places->console_path, log_text(console), error))
		return -1;
	if (is_discarded(places->report_path))
		return 0;
	char *text = report_json(report);
	if (!text)
		return error_set(error, "no memory for %s", places->report_path);
	int failed = write_report(places, text, error);
	free(text);
	return failed;
}

int collect_results(struct report *report, const struct collect_places *places,
		    const struct log *console, struct error *error)
{
	struct error own_error;
	int directory_fd = open_directory(places);

	progress_phase("collecting");
	int failed = directory_fd < 0 ? error_errno(error, "open %s", places->directory)
				      : write_disk_results(report, places, directory_fd, error);
	progress_clear();
	if (directory_fd >= 0)
		close(directory_fd);
	judge_missing(report);
	if (failed) {
		report->partial = true;
		snprintf(report->partial_reason, sizeof(report->partial_reason), "%s", error->text);
		report->exit_code = report->collect_signal
					    ? EXIT_SIGNAL_BASE + report->collect_signal
					    : EXIT_JOBVM_FAILED;
	}
	for (size_t i = 0; i < report->skipped.count; i++)
		message_warning("not collected: %s", report->skipped.items[i]);
	if (write_own_files(report, places, failed ? NULL : console, &own_error) && !failed) {
		*error = own_error;
		failed = -1;
		report->exit_code = EXIT_JOBVM_FAILED;
	}
	return failed ? -1 : 0;
}
