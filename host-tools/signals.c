#include "host-tools/signals.h"

#include <stddef.h>

void signals_block(sigset_t *caught, sigset_t *before)
{
	static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	struct sigaction action;

	sigemptyset(caught);
	for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
		if (sigaction(ending[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
			sigaddset(caught, ending[i]);
	sigprocmask(SIG_BLOCK, caught, before);
}
