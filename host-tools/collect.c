#include "host-tools/collect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-tools/exitcodes.h"
#include "host-tools/message.h"
#include "host-tools/overlay.h"
#include "host-tools/sink.h"
#include "jobdisk/layout.h"

/* What is to be written, in order of path: parents come before what they hold. */
struct plan {
	struct planned {
		char *path; /* below the sink */
		struct fsstat stat;
	} * items;
	size_t count, capacity;
};

struct collector {
	struct report *report;
	const struct collect_places *places;
	struct plan plan;
	char source[OVERLAY_PATH_MAX]; /* a declared output while its tree is walked, */
	const char *target;	       /* and where it goes */
};

struct collect_places collect_places_in(const char *directory)
{
	return (struct collect_places){
		.directory = directory,
		.outputs_below = "output",
		.stdout_path = "stdout",
		.stderr_path = "stderr",
		.report_path = "job.json",
		.console_path = "console.log",
	};
}

static int check_empty(const char *directory, struct error *error)
{
	DIR *entries = opendir(directory);
	int count = 0;

	if (!entries)
		return error_errno(error, "output directory %s", directory);
	while (readdir(entries))
		count++;
	closedir(entries);
	if (count > 2)
		return error_set(error, "output directory %s: exists and is not empty", directory);
	return 0;
}

int collect_prepare_directory(const char *directory, bool *created, struct error *error)
{
	*created = mkdir(directory, 0777) == 0;
	if (*created)
		return 0;
	if (errno == EEXIST)
		return check_empty(directory, error);
	return error_errno(error, "make output directory %s", directory);
}

/* --- planning --- */

static int plan_add(struct plan *plan, const char *below, const char *path,
		    const struct fsstat *stat, struct error *error)
{
	char *full;

	if (plan->count == plan->capacity) {
		size_t capacity = plan->capacity ? 2 * plan->capacity : 64;
		struct planned *items = realloc(plan->items, capacity * sizeof(*items));
		if (!items)
			return error_set(error, "no memory for the list of outputs");
		plan->items = items;
		plan->capacity = capacity;
	}
	if (asprintf(&full, "%s%s%s", below, *below && *path ? "/" : "", path) < 0)
		return error_set(error, "no memory for the list of outputs");
	plan->items[plan->count++] = (struct planned){full, *stat};
	return 0;
}

static void plan_free(struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++)
		free(plan->items[i].path);
	free(plan->items);
}

static int plan_changes(struct collector *c, struct error *error)
{
	const struct changes *changes = &c->report->disk->changes;

	for (size_t i = 0; i < changes->count; i++)
		if (changes->items[i].kind != CHANGE_DELETED &&
		    plan_add(&c->plan, c->places->outputs_below, changes->items[i].path,
			     &changes->items[i].stat, error))
			return -1;
	return 0;
}

/* Where a declared output goes: transfer_output_remaps first, else its name or relative path. */
static const char *target_of(const struct manifest *manifest, const char *declared)
{
	const char *slash = strrchr(declared, '/');
	const char *name = slash ? slash + 1 : declared;

	for (size_t i = 0; i < manifest->transfer_output_remaps.count; i++) {
		const char *remap = manifest->transfer_output_remaps.items[i];
		const char *equals = strchr(remap, '=');
		size_t length = equals ? (size_t)(equals - remap) : 0;
		if (equals &&
		    ((strlen(declared) == length && strncmp(declared, remap, length) == 0) ||
		     (strlen(name) == length && strncmp(name, remap, length) == 0)))
			return equals + 1;
	}
	return manifest->preserve_relative_paths ? declared : name;
}

static int plan_walked(void *context, const struct overlay_entry *entry, struct error *error)
{
	struct collector *c = context;
	char target[2 * OVERLAY_PATH_MAX];
	size_t source_length = strlen(c->source);
	const char *rest =
		entry->path + source_length + (source_length && entry->path[source_length] == '/');

	if (!overlay_exists(entry))
		return 0;
	snprintf(target, sizeof(target), "%s%s%s", c->target, *c->target ? "/" : "", rest);
	return plan_add(&c->plan, c->places->outputs_below, target, overlay_stat(entry), error);
}

/* "DIR/" means what DIR holds; anything else itself, and a directory all that it holds too. */
static int plan_declared(struct collector *c, const char *declared, struct error *error)
{
	char *source = c->source;
	struct overlay_entry entry;

	snprintf(c->source, sizeof(c->source), "%s", declared);
	size_t length = strlen(source);
	bool contents_only = length > 0 && source[length - 1] == '/';
	if (contents_only)
		source[length - 1] = '\0';
	int found = overlay_lookup(c->report->disk->image, source, &entry, error);
	if (found < 0)
		return -1;
	if (found > 0) {
		strings_add(&c->report->missing, declared);
		return 0;
	}
	c->target = contents_only ? "" : target_of(c->report->manifest, source);
	if (!contents_only &&
	    plan_add(&c->plan, c->places->outputs_below, c->target, overlay_stat(&entry), error))
		return -1;
	if (!S_ISDIR(overlay_stat(&entry)->mode))
		return 0;
	return overlay_walk(c->report->disk->image, source, false, plan_walked, c, error);
}

static int make_plan(struct collector *c, struct error *error)
{
	const struct manifest *manifest = c->report->manifest;

	if (manifest->when_to_transfer_output == TRANSFER_ON_SUCCESS &&
	    !report_job_succeeded(c->report))
		return 0;
	if (manifest->outputs == OUTPUTS_CHANGED)
		return plan_changes(c, error);
	for (size_t i = 0; i < manifest->transfer_outputs.count; i++)
		if (plan_declared(c, manifest->transfer_outputs.items[i], error))
			return -1;
	return 0;
}

/* --- writing --- */

static int write_one(struct collector *c, struct sink *sink, const struct planned *item,
		     struct error *error)
{
	char *skipped;

	progress_show("%s", item->path);
	if (S_ISDIR(item->stat.mode))
		return sink_directory(sink, item->path, error);
	if (S_ISREG(item->stat.mode))
		return sink_file(sink, item->path, &item->stat, error);
	if (S_ISLNK(item->stat.mode))
		return 0;
	if (asprintf(&skipped, "%s (%s)", item->path, file_type_name(item->stat.mode)) < 0)
		return error_set(error, "no memory for the list of skipped outputs");
	strings_add(&c->report->skipped, skipped);
	free(skipped);
	return 0;
}

/* Links after all files, so that no file can be written through one; directories' modes last. */
static int write_plan(struct collector *c, struct sink *sink, struct error *error)
{
	const struct plan *plan = &c->plan;

	for (size_t i = 0; i < plan->count; i++)
		if (write_one(c, sink, &plan->items[i], error))
			return -1;
	for (size_t i = 0; i < plan->count; i++)
		if (S_ISLNK(plan->items[i].stat.mode) &&
		    sink_symlink(sink, plan->items[i].path, &plan->items[i].stat, error))
			return -1;
	for (size_t i = plan->count; i-- > 0;)
		if (S_ISDIR(plan->items[i].stat.mode) &&
		    sink_directory_done(sink, plan->items[i].path, &plan->items[i].stat, error))
			return -1;
	return 0;
}

/* A sink at the directory of PATH, which is the user's own and may lead anywhere. */
static int open_place(const struct collect_places *places, const char *path, struct sink *sink,
		      char *name, size_t size, struct error *error)
{
	char full[PATH_MAX], copy[PATH_MAX];

	if (path[0] == '/')
		snprintf(full, sizeof(full), "%s", path);
	else
		snprintf(full, sizeof(full), "%s/%s", places->directory, path);
	snprintf(copy, sizeof(copy), "%s", full);
	snprintf(name, size, "%s", basename(copy));
	snprintf(copy, sizeof(copy), "%s", full);
	*sink = (struct sink){.directory = places->directory, .bytes_left = RECORD_UNSET};
	sink->directory_fd = open(dirname(copy), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (sink->directory_fd < 0)
		return error_errno(error, "open the directory of %s", full);
	return 0;
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

int collect_check_places(const struct collect_places *places, struct error *error)
{
	if (check_place(places, places->stdout_path, error) ||
	    check_place(places, places->stderr_path, error))
		return -1;
	return check_place(places, places->report_path, error);
}

static int write_stream(const struct disk *disk, const struct collect_places *places,
			const char *on_disk, const char *path, uint64_t max_bytes,
			struct error *error)
{
	char name[NAME_MAX + 1];
	struct fsstat stat;
	struct sink sink;

	if (is_discarded(path))
		return 0;
	int found = fsimage_lookup(disk->image, on_disk, &stat, error);
	if (found)
		return found < 0 ? -1 : error_set(error, "/%s is not on the job disk", on_disk);
	if (stat.size_bytes > max_bytes)
		return error_set(error, "/%s is larger than the job's limit lets it be", on_disk);
	stat.mode = S_IFREG | 0644;
	if (open_place(places, path, &sink, name, sizeof(name), error))
		return -1;
	sink.image = disk->image;
	int failed = sink_file(&sink, name, &stat, error);
	close(sink.directory_fd);
	return failed;
}

static int write_outputs(struct collector *c, struct error *error)
{
	struct sink sink = {
		.directory = c->places->directory,
		.image = c->report->disk->image,
		.bytes_left = c->report->manifest->output_max_bytes,
	};

	if (make_plan(c, error))
		return -1;
	sink.directory_fd = open(c->places->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (sink.directory_fd < 0)
		return error_errno(error, "open %s", c->places->directory);
	int failed = write_plan(c, &sink, error);
	close(sink.directory_fd);
	return failed;
}

static int write_disk_results(struct collector *c, struct error *error)
{
	const struct collect_places *places = c->places;
	const struct disk *disk = c->report->disk;

	if (!disk || !disk->has_changes)
		return 0;
	const struct manifest *manifest = c->report->manifest;
	if (write_stream(disk, places, JOBDISK_STDOUT, places->stdout_path,
			 manifest->stdout_max_bytes, error) ||
	    write_stream(disk, places, JOBDISK_STDERR, places->stderr_path,
			 manifest->stderr_max_bytes, error))
		return -1;
	return places->outputs_below ? write_outputs(c, error) : 0;
}

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

int collect_results(struct report *report, const struct collect_places *places,
		    const struct log *console, struct error *error)
{
	struct collector c = {.report = report, .places = places};
	struct error report_error;

	progress_phase("collecting");
	int failed = write_disk_results(&c, error);
	progress_clear();
	plan_free(&c.plan);
	judge_missing(report);
	if (failed) {
		report->partial = true;
		report->exit_code = EXIT_JOBVM_FAILED;
	}
	for (size_t i = 0; i < report->skipped.count; i++)
		message_warning("not collected: %s", report->skipped.items[i]);
	if (console && places->console_path && !failed)
		failed = write_owned(places, places->console_path, log_text(console), error);
	if (!is_discarded(places->report_path) &&
	    write_owned(places, places->report_path, report_json(report), &report_error)) {
		if (!failed)
			*error = report_error;
		failed = -1;
	}
	return failed ? -1 : 0;
}
