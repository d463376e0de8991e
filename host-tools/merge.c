#include "host-tools/merge.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "host-tools/exitcodes.h"
#include "host-tools/extract.h"
#include "host-tools/lock.h"
#include "host-tools/merge_work.h"
#include "host-tools/message.h"
#include "host-tools/pack.h"

/* In our own directory: what is extracted lies below it until it has its place. */
#define OWN_TREE "tree"

void merge_check_usage(const char *command, const struct merge *merge)
{
	if (!merge->directory && (merge->force || merge->dry_run))
		message_usage(command, "option '%s' needs '--merge DIR'",
			      merge->force ? "--merge-force" : "--dry-run");
}

static void show_item(FILE *stream, const struct merge_item *item)
{
	mode_t mode = item->now.mode ? item->now.mode : item->base.mode;

	fprintf(stream, "%s %-9s ", change_kind_name(merge_item_kind(item)), file_type_name(mode));
	print_escaped(stream, item->path);
	fprintf(stream, "%s\n", S_ISDIR(mode) ? "/" : "");
}

void merge_print_planned(const struct merge_item *item)
{
	show_item(stdout, item);
}

void merge_say_planned(const struct merge_item *item)
{
	show_item(stderr, item);
}

int merge_open(struct merge *merge, struct error *error)
{
	merge->directory_fd = open(merge->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (merge->directory_fd < 0)
		return error_errno(error, "open %s to merge into it", merge->directory);
	if (merge->dry_run || faccessat(merge->directory_fd, ".", W_OK | X_OK, AT_EACCESS) == 0)
		return 0;
	error_errno(error, "merge into %s", merge->directory);
	merge_close(merge);
	return -1;
}

void merge_close(struct merge *merge)
{
	if (merge->directory_fd >= 0)
		close(merge->directory_fd);
	merge->directory_fd = -1;
}

/* --- signals --- */

static const int stop_signals[] = {SIGHUP, SIGINT, SIGTERM};

#define STOP_SIGNALS (sizeof(stop_signals) / sizeof(stop_signals[0]))

static volatile sig_atomic_t stopped_by;

static void note_signal(int signal_number)
{
	stopped_by = signal_number;
}

int merge_go_on(struct error *error)
{
	if (!stopped_by)
		return 0;
	return error_set(error, "cancelled by signal %d (%s)", (int)stopped_by,
			 strsignal(stopped_by));
}

/* A second one ends us. */
static void catch_signals(struct sigaction before[STOP_SIGNALS])
{
	const struct sigaction action = {.sa_handler = note_signal,
					 .sa_flags = SA_RESTART | (int)SA_RESETHAND};

	stopped_by = 0;
	for (size_t i = 0; i < STOP_SIGNALS; i++)
		if (sigaction(stop_signals[i], NULL, &before[i]) == 0 &&
		    before[i].sa_handler != SIG_IGN)
			sigaction(stop_signals[i], &action, NULL);
}

static void release_signals(const struct sigaction before[STOP_SIGNALS])
{
	for (size_t i = 0; i < STOP_SIGNALS; i++)
		sigaction(stop_signals[i], &before[i], NULL);
}

/* --- our own directory --- */

/* A merge takes a moment; tasks that end at once merge one after the other. */
#define LOCK_WAIT_SECONDS 10

/*
 * One merge at a time: then a directory of our own that is there already is what a merge that was
 * killed left. Where the file system knows no locks, that one stays.
 */
static int lock_directory(const struct merge *merge, struct error *error)
{
	struct dirent *entry;

	if (lock_wait(merge->directory_fd, LOCK_WAIT_SECONDS)) {
		if (errno == EINTR)
			return error_set(error, "another jobvm merges into %s", merge->directory);
		return 0;
	}
	int fd = openat(merge->directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = fd < 0 ? NULL : fdopendir(fd);
	while (entries && (entry = readdir(entries)))
		if (strncmp(entry->d_name, MERGE_OWN_PREFIX, strlen(MERGE_OWN_PREFIX)) == 0)
			merge_tree_remove_own(merge->directory_fd, entry->d_name);
	if (entries)
		closedir(entries);
	return 0;
}

/* Where our own directory is: in the tree's file system, but elsewhere for a dry run. */
struct place {
	int parent_fd;
	const char *parent; /* its name in errors */
	char name[NAME_MAX + 1];
	/* The time of the parent before, and as we made it. */
	struct timespec before, after;
};

static int make_place(const struct merge *merge, struct place *place, struct merge_work *w,
		      struct error *error)
{
	struct stat status;

	place->parent = merge->dry_run ? pack_scratch_directory() : merge->directory;
	place->parent_fd = merge->dry_run ? open(place->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
					  : fcntl(merge->directory_fd, F_DUPFD_CLOEXEC, 0);
	if (place->parent_fd < 0 || fstat(place->parent_fd, &status))
		return error_errno(error, "open %s", place->parent);
	place->before = status.st_mtim;
	w->own_fd = merge_tree_make_own(place->parent_fd, MERGE_OWN_PREFIX, place->name);
	if (w->own_fd < 0 || fstat(place->parent_fd, &status) || mkdirat(w->own_fd, OWN_TREE, 0700))
		return error_errno(error, "make a directory in %s", place->parent);
	place->after = status.st_mtim;
	return 0;
}

/* Where nothing else happened, nothing shows that we were there. */
static int remove_place(const struct place *place, struct error *error)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, place->before};
	struct stat status;

	bool was_alone = fstat(place->parent_fd, &status) == 0 &&
			 merge_same_time(&status.st_mtim, &place->after);
	if (merge_tree_remove_own(place->parent_fd, place->name))
		return error_errno(error, "remove %s/%s", place->parent, place->name);
	if (was_alone)
		futimens(place->parent_fd, times);
	return 0;
}

/* --- the merge --- */

/* Extracts what the job changed to OWN_TREE. What cannot leave the disk is noted. */
static int stage(struct merge_work *w, struct report *report, struct error *error)
{
	/* What is listed there is not what is collected. */
	struct report staged = *report;
	const struct extraction extraction = {
		.directory = w->staged.sink.directory,
		.directory_fd = w->staged.sink.directory_fd,
		.outputs_below = "",
		.streams = {{.fd = -1}, {.fd = -1}},
		.is_staging = true,
	};
	mode_t umask_before = umask(077);

	staged.missing = staged.skipped = (struct strings){.count = 0};
	staged.collected = (struct collected){.count = 0};
	int failed = extract(&staged, &extraction, error);
	umask(umask_before);
	report->collect_signal = staged.collect_signal;
	if (staged.collect_signal)
		stopped_by = staged.collect_signal;
	report->merged.skipped = staged.skipped;
	strings_clear(&staged.missing);
	collected_free(&staged.collected);
	return failed;
}

static void count_steps(struct merge_work *w)
{
	for (size_t i = 0; i < w->plan.count; i++) {
		const struct merge_item *item = &w->plan.items[i];
		if (merge_item_is_context(item))
			continue;
		if (item->step == MERGE_SKIP)
			continue;
		if (item->step == MERGE_NOTHING)
			w->merged->unchanged++;
		else if (w->merge->dry_run || item->is_done)
			w->merged->applied[merge_item_kind(item)]++;
	}
}

static void show_planned(const struct merge_work *w)
{
	for (size_t i = 0; i < w->plan.count && w->merge->planned; i++)
		if (w->plan.items[i].step == MERGE_APPLY)
			w->merge->planned(&w->plan.items[i]);
}

/* Whatever is lost when power is lost, a file has its old bytes or its new ones. */
static int sync_staged(const struct merge_work *w, struct error *error)
{
	return sink_sync(
		&(struct sink){.directory_fd = w->own_fd, .directory = w->staged.sink.directory},
		error);
}

static int check_and_apply(struct merge_work *w, struct error *error)
{
	if (merge_check(w, error))
		return -1;
	if (w->merged->conflict_count > 0 && !w->merge->force) {
		w->merged->status = MERGED_CONFLICTS;
		return error_set(error,
				 "%zu conflict%s; nothing was merged into %s (--merge-force "
				 "overwrites what changed there)",
				 w->merged->conflict_count,
				 w->merged->conflict_count == 1 ? "" : "s", w->merge->directory);
	}
	if (w->merge->dry_run) {
		w->merged->status = MERGED_PLANNED;
		show_planned(w);
		return 0;
	}
	int failed = sync_staged(w, error) || merge_apply(w, error);
	for (size_t i = 0; i < w->merged->conflict_count; i++)
		w->merged->conflicts[i].is_overwritten =
			w->plan.items[w->merged->conflicts[i].item].is_done;
	return failed ? -1 : 0;
}

static int merge_staged(struct merge_work *w, struct report *report, struct error *error)
{
	int failed = stage(w, report, error) || merge_plan_read(&w->plan, report->disk, error) ||
		     check_and_apply(w, error);

	merge_tree_close(&w->tree);
	merge_tree_close(&w->staged);
	return failed ? -1 : 0;
}

/* What is removed with our own directory is lost only when the rest is done. */
static int end_merge(struct merge_work *w, const struct place *place, bool failed,
		     struct error *error)
{
	struct error end_error;

	bool kept = place->name[0] && remove_place(place, &end_error);
	if (!kept && !failed && w->merged->status != MERGED_PLANNED)
		kept = merge_apply_to_top(w, &end_error) ||
		       sink_sync(&(struct sink){.directory_fd = w->merge->directory_fd,
						.directory = w->merge->directory},
				 &end_error);
	if (kept && !failed)
		*error = end_error;
	return failed || kept ? -1 : 0;
}

static int merge_prepared(struct report *report, const struct merge *merge, struct error *error)
{
	struct place place = {.parent_fd = -1};
	struct merge_work w = {.merge = merge,
			       .merged = &report->merged,
			       .tree = merge_tree_at(merge->directory_fd, merge->directory),
			       .own_fd = -1};
	char shown[PATH_MAX];
	int tree_fd = -1;

	int failed = (!merge->dry_run && lock_directory(merge, error)) ||
		     make_place(merge, &place, &w, error);
	if (!failed) {
		snprintf(shown, sizeof(shown), "%.2000s/%s", place.parent, place.name);
		tree_fd = openat(w.own_fd, OWN_TREE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		w.staged = merge_tree_at(tree_fd, shown);
		failed = tree_fd < 0 ? error_errno(error, "open %s", shown)
				     : merge_staged(&w, report, error);
	}
	failed = end_merge(&w, &place, failed, error);
	count_steps(&w);
	merge_plan_free(&w.plan);
	if (tree_fd >= 0)
		close(tree_fd);
	if (w.own_fd >= 0)
		close(w.own_fd);
	if (place.parent_fd >= 0)
		close(place.parent_fd);
	flock(merge->directory_fd, LOCK_UN);
	return failed;
}

/* Whether what the job left is fit to be merged. 0, or -1 with ERROR set. */
static int check_report(const struct report *report, const struct merge *merge, struct error *error)
{
	if (!report->disk || !report->disk->has_changes)
		return error_set(error,
				 "nothing was merged into %s: %s%s%s: no outputs can be read",
				 merge->directory, job_status_words[report->status],
				 report->message[0] ? ": " : "", report->message);
	if (report->manifest->fetch != FETCH_EAGER && !report->disk->has_inputs &&
	    report->disk->changes.count > 0)
		return error_set(error,
				 "nothing was merged into %s: what the job's inputs were before "
				 "it ran is not known here",
				 merge->directory);
	if ((report->partial || !report_end_was_clean(report)) && !merge->force)
		return error_set(error,
				 "nothing was merged into %s: %s: the outputs are partial "
				 "(--merge-force merges them all the same)",
				 merge->directory, job_status_words[report->status]);
	return 0;
}

static bool is_wanted(const struct report *report)
{
	return report->manifest->when_to_transfer_output != TRANSFER_ON_SUCCESS ||
	       report_job_succeeded(report);
}

int merge_results(struct report *report, const struct merge *merge, struct error *error)
{
	struct merged *merged = &report->merged;
	struct sigaction signals_before[STOP_SIGNALS];

	*merged = (struct merged){.status = MERGED_DONE,
				  .directory = merge->directory,
				  .dry_run = merge->dry_run,
				  .forced = merge->force};
	int failed = check_report(report, merge, error);
	/* The verdict on a run that did not end well says more. */
	if (failed && report_end_was_clean(report) && report->status <= STATUS_LAST_OF_GUEST)
		report->exit_code = EXIT_JOBVM_FAILED;
	if (!failed && !is_wanted(report)) {
		merged->status = MERGED_NOT_WANTED;
		return 0;
	}
	if (!failed) {
		catch_signals(signals_before);
		progress_phase("merging");
		failed = merge_prepared(report, merge, error);
		progress_clear();
		release_signals(signals_before);
		merged->signal = failed ? (int)stopped_by : 0;
		if (failed)
			report->exit_code =
				stopped_by ? EXIT_SIGNAL_BASE + (int)stopped_by : EXIT_JOBVM_FAILED;
	}
	if (!failed)
		return 0;
	if (merged->status != MERGED_CONFLICTS)
		merged->status = MERGED_FAILED;
	snprintf(merged->message, sizeof(merged->message), "%s", error->text);
	return -1;
}
