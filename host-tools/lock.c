#include "host-tools/lock.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/file.h>
#include <unistd.h>

static void on_alarm(int signal_number)
{
	(void)signal_number;
}

int lock_wait(int fd, unsigned seconds)
{
	struct sigaction action = {.sa_handler = on_alarm}, before;

	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return -1;
	sigaction(SIGALRM, &action, &before);
	alarm(seconds);
	int result = flock(fd, LOCK_EX);
	int reason = errno;
	alarm(0);
	sigaction(SIGALRM, &before, NULL);
	errno = reason;
	return result;
}
