#include "host-tools/merged.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host-tools/message.h"

/* So many conflicts are shown; the report has them all. */
#define CONFLICTS_SHOWN 50

const char *const merged_status_words[] = {
	[MERGED_NOT_ASKED] = NULL,	    [MERGED_DONE] = "merged",
	[MERGED_PLANNED] = "planned",	    [MERGED_CONFLICTS] = "conflicts",
	[MERGED_NOT_WANTED] = "not_wanted", [MERGED_FAILED] = "failed",
};

void merged_add_conflict(struct merged *merged, const char *path, const char *reason, size_t item)
{
	merged->conflicts =
		memory_or_exit(list_room(merged->conflicts, merged->conflict_count,
					 &merged->conflict_capacity, sizeof(*merged->conflicts)));
	merged->conflicts[merged->conflict_count++] = (struct merged_conflict){
		.path = memory_or_exit(strdup(path)), .reason = reason, .item = item};
}

void merged_free(struct merged *merged)
{
	for (size_t i = 0; i < merged->conflict_count; i++)
		free(merged->conflicts[i].path);
	free(merged->conflicts);
	strings_clear(&merged->skipped);
	*merged = (struct merged){.status = MERGED_NOT_ASKED};
}

static void say_conflicts(const struct merged *merged)
{
	for (size_t i = 0; i < merged->conflict_count && i < CONFLICTS_SHOWN; i++) {
		const struct merged_conflict *conflict = &merged->conflicts[i];
		if (conflict->is_overwritten)
			message_warning("overwritten: %s: %s", conflict->path, conflict->reason);
		else
			message_error("conflict: %s: %s", conflict->path, conflict->reason);
	}
	if (merged->conflict_count > CONFLICTS_SHOWN)
		message_error("and %zu conflicts more", merged->conflict_count - CONFLICTS_SHOWN);
}

static void say_counts(const struct merged *merged)
{
	char already[64] = "";

	if (merged->unchanged > 0)
		snprintf(already, sizeof(already), ", %" PRIu64 " as the job left it already",
			 merged->unchanged);
	message_note("%s %s: %" PRIu64 " created, %" PRIu64 " changed, %" PRIu64 " deleted%s",
		     merged->status == MERGED_DONE ? "merged into" : "a merge into",
		     merged->directory, merged->applied[CHANGE_CREATED],
		     merged->applied[CHANGE_CHANGED], merged->applied[CHANGE_DELETED], already);
}

static void say_failure(const struct merged *merged)
{
	uint64_t done = 0;

	for (enum change_kind kind = CHANGE_CREATED; kind <= CHANGE_DELETED; kind++)
		done += merged->applied[kind];
	message_error("%s", merged->message);
	if (done > 0)
		message_error("%" PRIu64 " change%s made in %s before that; the same merge again "
			      "makes the others",
			      done, done == 1 ? " was" : "s were", merged->directory);
}

void merged_say(const struct merged *merged)
{
	say_conflicts(merged);
	for (size_t i = 0; i < merged->skipped.count; i++)
		message_warning("not merged: %s", merged->skipped.items[i]);
	switch (merged->status) {
	case MERGED_NOT_ASKED:
		break;
	case MERGED_DONE:
	case MERGED_PLANNED:
		say_counts(merged);
		break;
	case MERGED_NOT_WANTED:
		message_note("nothing was merged into %s: the job did not succeed, and "
			     "when_to_transfer_output is ON_SUCCESS",
			     merged->directory);
		break;
	case MERGED_CONFLICTS:
	case MERGED_FAILED:
		say_failure(merged);
		break;
	}
}
