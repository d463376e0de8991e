#include "host-tools/node/status.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-tools/jsontext.h"
#include "imagebuilder/files.h"

#define STATUS_BYTES_MAX (1 << 20)

static json_t *json_slots(const struct slots *slots)
{
	json_t *list = json_array();

	for (size_t i = 0; i < slots->count; i++) {
		const struct slot *slot = &slots->items[i];
		if (slot->state != SLOT_RUNS)
			continue;
		json_t *job = json_pack("{s:i, s:I}", "pid", (int)slot->pid, "since",
					(json_int_t)slot->since);
		jsontext_set(job, "job", slot->name);
		json_array_append_new(list, job);
	}
	return list;
}

static json_t *json_status(const struct node_status *status, const struct slots *slots)
{
	const char *state = status->ended ? "ended" : status->drains ? "draining" : "running";

	return json_pack("{s:i, s:s, s:i, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "pid",
			 (int)getpid(), "state", state, "slots", (int)status->slots, "running",
			 json_slots(slots), "ready", (json_int_t)slots_in(slots, SLOT_WAITS),
			 "waiting", (json_int_t)status->waiting, "held", (json_int_t)status->held,
			 "done", (json_int_t)status->done, "refused", (json_int_t)status->refused,
			 "failed", (json_int_t)status->failed, "suspended",
			 (json_int_t)status->suspended);
}

/*
 * It is not synced: after a crash of the host there is no node that it speaks of. Others are not to
 * know the names of jobs (node/client.h).
 */
int node_status_write(const struct spool *spool, const struct node_status *status,
		      const struct slots *slots, struct error *error)
{
	char path[PATH_MAX], beside[PATH_MAX];
	json_t *json = json_status(status, slots);

	spool_path(spool, ".", SPOOL_STATUS, "", path);
	spool_path(spool, ".", "." SPOOL_STATUS, "", beside);
	int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int failed = fd < 0 || !json || json_dumpfd(json, fd, JSON_INDENT(2));
	if (fd >= 0)
		failed = close(fd) || failed;
	failed = failed || rename(beside, path);
	json_decref(json);
	return failed ? error_errno(error, "write %s", path) : 0;
}

json_t *node_status_read(const char *path, bool *runs, struct error *error)
{
	char name[PATH_MAX];
	uint64_t size_bytes;
	json_t *json = NULL;

	*runs = spool_has_node(path);
	snprintf(name, sizeof(name), "%.4000s/" SPOOL_STATUS, path);
	int fd = files_open(name, &size_bytes, error);
	if (fd < 0)
		return NULL;
	size_t size;
	char *text = files_read(fd, name, STATUS_BYTES_MAX, &size, error);
	close(fd);
	if (text) {
		json = json_loadb(text, size, 0, NULL);
		if (!json)
			error_set(error, "%s: is not the status of a node", name);
	}
	free(text);
	return json;
}
