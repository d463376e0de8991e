#include "host-tools/vmm/migration.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "host-tools/vmm/qemu.h"

#define COMMAND_BYTES 256

struct migration_step {
	const char *command; /* NULL: the end of the list */
	const char *arguments;
	bool passes_fd;	  /* the migration's descriptor goes along */
	bool waits_event; /* is over only with the event that says so */
	/*
	 * For each # in the arguments: where in struct migration_disks the number is that it stands
	 * for. Without such a number there is no such step.
	 */
	bool takes_number;
	size_t number_offset;
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
		.command = "getfd", .arguments = "{\"fdname\":\"state\"}", .passes_fd = true       \
	}
#define STATE_URI "{\"uri\":\"fd:state\"}"

static const struct migration_step save_steps[] = {
	CAPABILITIES,	   {.command = "stop", .arguments = "{}"},
	PASS_STATE,	   {.command = "migrate", .arguments = STATE_URI, .waits_event = true},
	{.command = NULL},
};

#define LOAD_STEPS                                                                                 \
	CAPABILITIES, PASS_STATE,                                                                  \
	{                                                                                          \
		.command = "migrate-incoming", .arguments = STATE_URI, .waits_event = true         \
	}

#define NUMBER(member)                                                                             \
	.takes_number = true, .number_offset = offsetof(struct migration_disks, member)

/* Their own sizes: that makes the guest read the capacity again. */
#define RUN_STEPS                                                                                  \
	{.command = "block_resize",                                                                \
	 .arguments = "{\"node-name\":\"" QEMU_JOB_NODE "\",\"size\":#}",                          \
	 NUMBER(job_bytes)},                                                                       \
		{.command = "block_resize",                                                        \
		 .arguments = "{\"node-name\":\"" QEMU_INPUT_NODE "\",\"size\":#}",                \
		 NUMBER(input_bytes)},                                                             \
		{.command = "cont", .arguments = "{}"},                                            \
	{                                                                                          \
		.command = NULL                                                                    \
	}

static const struct migration_step pause_steps[] = {{.command = "stop", .arguments = "{}"},
						    {.command = NULL}};
static const struct migration_step load_steps[] = {LOAD_STEPS, {.command = NULL}};
static const struct migration_step restore_steps[] = {LOAD_STEPS, RUN_STEPS};

/*
 * The job disk's node gets another file below it, and the one before it goes with its node; that
 * of QEMU's command line has none. As add_disk has it (qemu.c).
 */
static const struct migration_step attach_steps[] = {
	{.command = "add-fd",
	 .arguments = "{\"fdset-id\":#}",
	 .passes_fd = true,
	 NUMBER(file_number)},
	{.command = "blockdev-add",
	 .arguments = "{\"driver\":\"file\",\"node-name\":\"file-#\","
		      "\"filename\":\"/dev/fdset/#\",\"locking\":\"off\","
		      "\"cache\":{\"no-flush\":true}}",
	 NUMBER(file_number)},
	{.command = "blockdev-reopen",
	 .arguments = "{\"options\":[{\"driver\":\"raw\",\"node-name\":\"" QEMU_JOB_NODE "\","
		      "\"read-only\":false,\"cache\":{\"no-flush\":true},"
		      "\"file\":\"file-#\"}]}",
	 NUMBER(file_number)},
	{.command = "remove-fd", .arguments = "{\"fdset-id\":#}", NUMBER(file_number)},
	{.command = "blockdev-del", .arguments = "{\"node-name\":\"file-#\"}", NUMBER(file_before)},
	RUN_STEPS,
};

static uint64_t number_of(const struct migration *migration)
{
	const char *disks = (const char *)&migration->disks;

	return *(const uint64_t *)(const void *)(disks + migration->step->number_offset);
}

/* The step's arguments with its number in their places. */
static void fill_arguments(const struct migration *migration, char arguments[COMMAND_BYTES])
{
	const char *from = migration->step->arguments;
	size_t length = 0;

	for (; *from && length < COMMAND_BYTES - 1; from++) {
		char *to = arguments + length;
		size_t room = COMMAND_BYTES - length;
		length +=
			(size_t)(*from == '#' ? snprintf(to, room, "%" PRIu64, number_of(migration))
					      : snprintf(to, room, "%c", *from));
	}
}

static void send_step(struct migration *migration)
{
	const struct migration_step *step = migration->step;
	char arguments[COMMAND_BYTES];

	migration->replied = migration->completed = false;
	if (step->takes_number)
		fill_arguments(migration, arguments);
	qmp_command_with(migration->qmp, step->command,
			 step->takes_number ? arguments : step->arguments,
			 step->passes_fd ? migration->fd : -1);
}

static void begin(struct migration *migration, const struct migration_step *steps, struct qmp *qmp,
		  int fd)
{
	migration->qmp = qmp;
	migration->step = steps;
	migration->fd = fd;
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

void migration_load(struct migration *migration, struct qmp *qmp, int state_fd)
{
	*migration = (struct migration){.done = false};
	begin(migration, load_steps, qmp, state_fd);
}

void migration_attach(struct migration *migration, struct qmp *qmp,
		      const struct migration_disks *disks)
{
	*migration = (struct migration){.disks = *disks};
	begin(migration, attach_steps, qmp, disks->file_fd);
}

void migration_pause(struct migration *migration, struct qmp *qmp)
{
	*migration = (struct migration){.done = false};
	begin(migration, pause_steps, qmp, -1);
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
	while (migration->step->takes_number && number_of(migration) == 0);
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
