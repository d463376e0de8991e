/*
 * merge_plan: what a job did to its workspace, path by path, with what was there before: the base
 * that a merge compares with. It comes from a hostile disk, through a confined child.
 */
#ifndef HOST_TOOLS_MERGE_PLAN_H
#define HOST_TOOLS_MERGE_PLAN_H

#include "host-tools/disk.h"

/* What was, or is, at a path. */
struct merge_state {
	mode_t mode; /* 0: nothing */
	uint64_t size_bytes;
	struct timespec mtime;
	char *target; /* of a symlink; else NULL */
};

enum merge_step {
	MERGE_NOTHING, /* it is as the job left it, or only what is below it changed */
	MERGE_APPLY,
	MERGE_SKIP, /* it is not merged at all */
};

struct merge_item {
	char *path; /* below the workspace; "" is the workspace */
	/*
	 * As packed, and as the job left it; a special file, which is never made, is nothing here.
	 * Both are directories with the same mode: the job only went through.
	 */
	struct merge_state base, now;

	/* How far the merge has come (merge.c). */
	enum merge_step step;
	bool is_conflict;   /* with something that lies there */
	bool has_new;	    /* a directory that goes, with something in it that was not packed */
	bool is_touched;    /* a directory in which the merge changed something */
	bool is_opened;	    /* a directory that was made writable for that: */
	mode_t mode_before; /* its mode then */
	bool is_done;
	struct timespec seen_mtime; /* what lay there when it was judged: */
	uint64_t seen_inode, seen_bytes;
	mode_t seen_mode; /* 0: nothing */
};

/* In order of path, parents before what they hold; the workspace itself comes first. */
struct merge_plan {
	struct merge_item *items;
	size_t count, capacity;
};

/*
 * Reads what the job did from DISK. 0, or -1 with ERROR set; in either case merge_plan_free frees
 * what PLAN holds.
 */
int merge_plan_read(struct merge_plan *plan, const struct disk *disk, struct error *error);
void merge_plan_free(struct merge_plan *plan);

/*
 * Adds ITEM, whose strings were allocated and then belong to PLAN. -1, and they do not, where it
 * makes no sense after what PLAN has: its path does not come next, nothing is there before and
 * after, a special file after, or something in what is no directory.
 */
int merge_plan_add(struct merge_plan *plan, const struct merge_item *item);

/* The kind of change; only for an item that is one. */
enum change_kind merge_item_kind(const struct merge_item *item);
/* Whether the item is a directory that the job only went through. */
bool merge_item_is_context(const struct merge_item *item);

bool merge_same_time(const struct timespec *a, const struct timespec *b);

/* Compares paths in a plan's order: bytewise, name by name. */
int merge_path_compare(const char *a, const char *b);
/* The first LENGTH bytes of PATH in PLAN, or NULL. */
struct merge_item *merge_plan_find(const struct merge_plan *plan, const char *path, size_t length);
/* The directory that holds the item's path; NULL for the workspace itself. */
struct merge_item *merge_plan_parent(const struct merge_plan *plan, const char *path);
/* Whether PATH is below DIRECTORY. */
bool merge_path_is_below(const char *path, const char *directory);

#endif
