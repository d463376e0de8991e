#include "host-tools/vmm/migration.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "host-tools/vmm/qemu.h"

#define COMMAND_BYTES 160

struct migration_step {
	const char *command; /* NULL: the end of the list */
	const char *arguments;
	bool passes_state; /* the state's descriptor goes along */
	bool waits_event;  /* is over only with the event that says so */
	/* Of a disk's size: for it the arguments are made, with the name of its node. */
	const char *node;
	size_t size_offset; /* in struct migration_disks */
};

#define CAPABILITIES                                                                               \
	{                                                                                          \
		.command = "migrate-set-capabilities",                                             \
		.arguments = "{\"capabilities\":["                                                 \
			     "{\"capability\":\"x-ignore-shared\",\"state\":true},"                \
			     "{\"capability\":\"events\",\"state\":true}]}"                        \
	}
#define PASS_STATE                                                                                 \
	{                                                                                          \
		.command = "getfd", .arguments = "{\"fdname\":\"state\"}", .passes_state = true    \
	}
#define STATE_URI "{\"uri\":\"fd:state\"}"

static const struct migration_step save_steps[] = {
	CAPABILITIES,	   {.command = "stop", .arguments = "{}"},
	PASS_STATE,	   {.command = "migrate", .arguments = STATE_URI, .waits_event = true},
	{.command = NULL},
};

static const struct migration_step restore_steps[] = {
	CAPABILITIES,
	PASS_STATE,
	{.command = "migrate-incoming", .arguments = STATE_URI, .waits_event = true},
	/* Their own sizes: that makes the guest read the capacity again. */
	{.command = "block_resize",
	 .node = QEMU_JOB_NODE,
	 .size_offset = offsetof(struct migration_disks, job_bytes)},
	{.command = "block_resize",
	 .node = QEMU_INPUT_NODE,
	 .size_offset = offsetof(struct migration_disks, input_bytes)},
	{.command = "cont", .arguments = "{}"},
	{.command = NULL},
};

static uint64_t disk_bytes(const struct migration *migration)
{
	const char *disks = (const char *)&migration->disks;

	return *(const uint64_t *)(const void *)(disks + migration->step->size_offset);
}

static void send_step(struct migration *migration)
{
	const struct migration_step *step = migration->step;
	char arguments[COMMAND_BYTES];

	migration->replied = migration->completed = false;
	if (step->node)
		snprintf(arguments, sizeof(arguments),
			 "{\"node-name\":\"%s\",\"size\":%" PRIu64 "}", step->node,
			 disk_bytes(migration));
	qmp_command_with(migration->qmp, step->command, step->node ? arguments : step->arguments,
			 step->passes_state ? migration->state_fd : -1);
}

static void begin(struct migration *migration, const struct migration_step *steps, struct qmp *qmp,
		  int state_fd)
{
	migration->qmp = qmp;
	migration->step = steps;
	migration->state_fd = state_fd;
	send_step(migration);
}

void migration_save(struct migration *migration, struct qmp *qmp, int state_fd)
{
	*migration = (struct migration){.done = false};
	begin(migration, save_steps, qmp, state_fd);
}

void migration_restore(struct migration *migration, struct qmp *qmp, int state_fd,
		       const struct migration_disks *disks)
{
	*migration = (struct migration){.disks = *disks};
	begin(migration, restore_steps, qmp, state_fd);
}

static bool is_over(const struct migration *migration)
{
	return migration->done || migration->problem[0];
}

/* The answer and the event come in either order. */
static void go_on(struct migration *migration)
{
	const struct migration_step *step = migration->step;

	if (!migration->replied || (step->waits_event && !migration->completed))
		return;
	do
		migration->step++;
	while (migration->step->node && disk_bytes(migration) == 0);
	if (migration->step->command)
		send_step(migration);
	else
		migration->done = true;
}

void migration_on_reply(struct migration *migration, const char *error)
{
	if (is_over(migration))
		return;
	if (error) {
		snprintf(migration->problem, sizeof(migration->problem), "%s: %s",
			 migration->step->command, error);
		return;
	}
	migration->replied = true;
	go_on(migration);
}

void migration_on_event(struct migration *migration, const char *name, const json_t *data)
{
	const char *status = json_string_value(json_object_get(data, "status"));

	if (is_over(migration) || strcmp(name, "MIGRATION") != 0 || !status)
		return;
	if (strcmp(status, "failed") == 0)
		snprintf(migration->problem, sizeof(migration->problem), "%s failed",
			 migration->step->command);
	if (strcmp(status, "completed") != 0)
		return;
	migration->completed = true;
	go_on(migration);
}
