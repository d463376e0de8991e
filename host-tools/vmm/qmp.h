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

/*
 * Reads what has come and calls ON_EVENT for each event with its name and data (an object; may
 * be NULL). Returns false at the end of the stream or when QEMU does not speak JSON.
 */
typedef void qmp_event(void *context, const char *name, const json_t *data);
bool qmp_read(struct qmp *qmp, qmp_event *on_event, void *context);

#endif
