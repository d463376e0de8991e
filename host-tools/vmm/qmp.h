/* qmp: the QEMU Machine Protocol, as much of it as we need (docs/interop/qmp-spec.rst of QEMU). */
#ifndef HOST_TOOLS_VMM_QMP_H
#define HOST_TOOLS_VMM_QMP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define QMP_LINE_MAX_BYTES 65536

struct qmp {
	int fd;
	size_t length;
	char line[QMP_LINE_MAX_BYTES];
};

/* Uses the connected socket FD; asks for command mode. QEMU answers when it is up. */
void qmp_init(struct qmp *qmp, int fd);

/* Sends a command without arguments. Errors show as the end of QEMU. */
void qmp_command(struct qmp *qmp, const char *command);
/* With ARGUMENTS, a JSON object as text, and with it the descriptor PASSED_FD (-1: none). */
void qmp_command_with(struct qmp *qmp, const char *command, const char *arguments, int passed_fd);

struct qmp_handlers {
	/* An event with its name and data, an object that may be NULL. */
	void (*on_event)(void *context, const char *name, const json_t *data);
	/*
	 * The answer to the next command in the order of sending; qmp_init sent the first. ERROR is
	 * QEMU's sentence, or NULL.
	 */
	void (*on_reply)(void *context, const char *error);
};

/*
 * Reads what has come and calls a handler for each message. Returns false at the end of the
 * stream or when QEMU does not speak JSON.
 */
bool qmp_read(struct qmp *qmp, const struct qmp_handlers *handlers, void *context);

#endif
