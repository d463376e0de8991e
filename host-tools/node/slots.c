#include "host-tools/node/slots.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int slots_open(struct slots *slots, size_t count, const struct worker_options *options,
	       struct error *error)
{
	*slots = (struct slots){.options = options, .count = count};
	slots->items = calloc(count, sizeof(*slots->items));
	return slots->items ? 0 : error_set(error, "out of memory for %zu slots", count);
}

static void wait_for(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void slots_close(struct slots *slots)
{
	for (size_t i = 0; i < slots->count; i++) {
		if (slots->items[i].state == SLOT_EMPTY)
			continue;
		kill(slots->items[i].pid, SIGKILL);
		wait_for(slots->items[i].pid);
		close(slots->items[i].socket_fd);
	}
	free(slots->items);
	*slots = (struct slots){.items = NULL};
}

size_t slots_in(const struct slots *slots, enum slot_state state)
{
	size_t count = 0;

	for (size_t i = 0; i < slots->count; i++)
		count += slots->items[i].state == state;
	return count;
}

struct slot *slots_find(const struct slots *slots, enum slot_state state)
{
	for (size_t i = 0; i < slots->count; i++)
		if (slots->items[i].state == state)
			return &slots->items[i];
	return NULL;
}

/*
 * A terminal's signals are for the node, which tells its workers: they are of another session.
 * Others' sockets are not ours.
 */
static void become_worker(const struct slots *slots, bool rehearses, int socket_fd, pid_t parent)
{
	static const int ignored[] = {SIGINT, SIGQUIT, SIGHUP}; /* SIGINT: but for a job */
	sigset_t none;

	for (size_t i = 0; i < slots->count; i++)
		if (slots->items[i].state != SLOT_EMPTY)
			close(slots->items[i].socket_fd);
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	setsid();
	signal(SIGTERM, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* The signal is not sent for a parent that died before it was asked for. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && getppid() == parent)
		worker_main(slots->options, rehearses, socket_fd);
	_exit(EXIT_FAILURE);
}

int slot_start(const struct slots *slots, struct slot *slot, bool rehearses, struct error *error)
{
	pid_t parent = getpid();
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return error_errno(error, "make a socket pair");
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		close(ends[0]);
		become_worker(slots, rehearses, ends[1], parent);
	}
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return error_errno(error, "start a worker");
	}
	*slot = (struct slot){.state = SLOT_STARTS,
			      .pid = pid,
			      .socket_fd = ends[0],
			      .since = time(NULL),
			      .rehearses = rehearses};
	return 0;
}

void slot_give(struct slot *slot, const char *name)
{
	snprintf(slot->name, sizeof(slot->name), "%s", name);
	slot->since = time(NULL);
	slot->state = SLOT_RUNS;
	slot->has_begun = false;
	/* A worker that is gone says so by its socket's end. */
	if (send(slot->socket_fd, name, strlen(name), MSG_NOSIGNAL) < 0)
		return;
}

void slot_dismiss(struct slot *slot)
{
	shutdown(slot->socket_fd, SHUT_WR);
	slot->state = SLOT_ENDS;
}

int slot_listen(struct slot *slot)
{
	char byte = 0;
	ssize_t got = recv(slot->socket_fd, &byte, 1, MSG_DONTWAIT);

	if (got == 1)
		return byte;
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	wait_for(slot->pid);
	close(slot->socket_fd);
	slot->state = SLOT_EMPTY;
	return -1;
}
