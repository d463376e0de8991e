#include "host-tools/outputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host-tools/overlay.h"
#include "host-tools/values.h"

struct planner {
	struct outputs *outputs;
	const struct report *report;
	struct fsimage *image;
	const char *below;
	outputs_missing *missing;
	void *context;
	char source[OVERLAY_PATH_MAX]; /* a declared output while its tree is walked, */
	const char *target;	       /* and where it goes */
};

/* 0; 1 when there are too many already; -1 with ERROR set. */
static int add(const struct planner *p, const char *path, const struct fsstat *stat,
	       struct error *error)
{
	struct outputs *outputs = p->outputs;
	char *full;

	if (outputs->count == CHANGES_MAX) {
		outputs->cut_off = true;
		return 1;
	}
	struct output *items =
		list_room(outputs->items, outputs->count, &outputs->capacity, sizeof(*items));
	if (!items)
		return error_set(error, "no memory for the list of outputs");
	outputs->items = items;
	if (asprintf(&full, "%s%s%s", p->below, *p->below && *path ? "/" : "", path) < 0)
		return error_set(error, "no memory for the list of outputs");
	outputs->items[outputs->count++] = (struct output){full, *stat};
	return 0;
}

void outputs_free(struct outputs *outputs)
{
	for (size_t i = 0; i < outputs->count; i++)
		free(outputs->items[i].path);
	free(outputs->items);
}

static int plan_changes(const struct planner *p, struct error *error)
{
	const struct changes *changes = &p->report->disk->changes;

	p->outputs->cut_off = changes->cut_off;
	for (size_t i = 0; i < changes->count; i++)
		if (changes->items[i].kind != CHANGE_DELETED &&
		    add(p, changes->items[i].path, &changes->items[i].stat, error))
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
	const struct planner *p = context;
	char target[2 * OVERLAY_PATH_MAX];
	size_t source_length = strlen(p->source);
	const char *rest =
		entry->path + source_length + (source_length && entry->path[source_length] == '/');

	if (!overlay_exists(entry))
		return 0;
	snprintf(target, sizeof(target), "%s%s%s", p->target, *p->target ? "/" : "", rest);
	return add(p, target, overlay_stat(entry), error);
}

/* "DIR/" means what DIR holds; anything else itself, and a directory all that it holds too. */
static int plan_declared(struct planner *p, const char *declared, struct error *error)
{
	char *source = p->source;
	struct overlay_entry entry;

	snprintf(p->source, sizeof(p->source), "%s", declared);
	size_t length = strlen(source);
	bool contents_only = length > 0 && source[length - 1] == '/';
	if (contents_only)
		source[length - 1] = '\0';
	/* Only what is on the job disk can be brought back from there. */
	const struct overlay overlay = {.disk = p->image};
	int found = overlay_lookup(&overlay, source, &entry, error);
	if (found < 0)
		return -1;
	if (found > 0)
		return p->missing(p->context, declared, error);
	p->target = contents_only ? "" : target_of(p->report->manifest, source);
	int stopped = contents_only ? 0 : add(p, p->target, overlay_stat(&entry), error);
	if (stopped)
		return stopped;
	if (!S_ISDIR(overlay_stat(&entry)->mode))
		return 0;
	return overlay_walk(&overlay, source, false, plan_walked, p, error);
}

int outputs_plan(struct outputs *outputs, const struct report *report, struct fsimage *image,
		 const char *below, bool everything, outputs_missing *missing, void *context,
		 struct error *error)
{
	struct planner planner = {.outputs = outputs,
				  .report = report,
				  .image = image,
				  .below = below,
				  .missing = missing,
				  .context = context};
	const struct manifest *manifest = report->manifest;

	*outputs = (struct outputs){.count = 0};
	if (manifest->when_to_transfer_output == TRANSFER_ON_SUCCESS &&
	    !report_job_succeeded(report))
		return 0;
	if (everything || manifest->outputs == OUTPUTS_CHANGED)
		return plan_changes(&planner, error);
	for (size_t i = 0; i < manifest->transfer_outputs.count; i++) {
		int stopped = plan_declared(&planner, manifest->transfer_outputs.items[i], error);
		if (stopped)
			return stopped < 0 ? -1 : 0;
	}
	return 0;
}
