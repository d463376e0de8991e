#include "host-tools/vmm/qmp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void qmp_init(struct qmp *qmp, int fd)
{
	qmp->fd = fd;
	qmp->length = 0;
	qmp_command(qmp, "qmp_capabilities");
}

void qmp_command(struct qmp *qmp, const char *command)
{
	char text[128];
	int length = snprintf(text, sizeof(text), "{\"execute\":\"%s\"}\n", command);

	/* A QEMU that is gone is noticed by its process's end. */
	if (send(qmp->fd, text, (size_t)length, MSG_NOSIGNAL) < 0)
		return;
}

static bool handle_line(const char *line, size_t length, qmp_event *on_event, void *context)
{
	json_t *message = json_loadb(line, length, 0, NULL);

	if (!message)
		return false;
	const char *event = json_string_value(json_object_get(message, "event"));
	if (event)
		on_event(context, event, json_object_get(message, "data"));
	json_decref(message);
	return true;
}

bool qmp_read(struct qmp *qmp, qmp_event *on_event, void *context)
{
	ssize_t got = recv(qmp->fd, qmp->line + qmp->length, sizeof(qmp->line) - qmp->length,
			   MSG_DONTWAIT);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	if (got == 0)
		return false;
	qmp->length += (size_t)got;
	for (;;) {
		char *end = memchr(qmp->line, '\n', qmp->length);
		if (!end)
			return qmp->length < sizeof(qmp->line);
		size_t line_length = (size_t)(end - qmp->line) + 1;
		if (!handle_line(qmp->line, line_length, on_event, context))
			return false;
		qmp->length -= line_length;
		memmove(qmp->line, qmp->line + line_length, qmp->length);
	}
}
