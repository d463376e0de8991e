#include "host-tools/vmm/qmp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
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
	qmp_command_with(qmp, command, "{}", -1);
}

void qmp_command_with(struct qmp *qmp, const char *command, const char *arguments, int passed_fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.bytes = {0}};
	char text[512];
	int length = snprintf(text, sizeof(text), "{\"execute\":\"%s\",\"arguments\":%s}\n",
			      command, arguments);
	struct iovec part = {text, (size_t)length};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	if (length >= (int)sizeof(text))
		abort();
	if (passed_fd >= 0) {
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &passed_fd, sizeof(int));
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
	}
	/* A QEMU that is gone is noticed by its process's end. */
	if (sendmsg(qmp->fd, &message, MSG_NOSIGNAL) < 0)
		return;
}

static bool handle_line(const char *line, size_t length, const struct qmp_handlers *handlers,
			void *context)
{
	json_t *message = json_loadb(line, length, 0, NULL);

	if (!message)
		return false;
	const char *event = json_string_value(json_object_get(message, "event"));
	const json_t *error = json_object_get(message, "error");
	const char *sentence = json_string_value(json_object_get(error, "desc"));
	if (event)
		handlers->on_event(context, event, json_object_get(message, "data"));
	else if (error)
		handlers->on_reply(context, sentence ? sentence : "unknown error");
	else if (json_object_get(message, "return"))
		handlers->on_reply(context, NULL);
	json_decref(message);
	return true;
}

bool qmp_read(struct qmp *qmp, const struct qmp_handlers *handlers, void *context)
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
		if (!handle_line(qmp->line, line_length, handlers, context))
			return false;
		qmp->length -= line_length;
		memmove(qmp->line, qmp->line + line_length, qmp->length);
	}
}
