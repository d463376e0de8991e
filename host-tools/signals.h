/* signals: those that a user or a scheduler ends a program with. */
#ifndef HOST_TOOLS_SIGNALS_H
#define HOST_TOOLS_SIGNALS_H

#include <signal.h>

/*
 * Blocks SIGINT, SIGTERM, SIGHUP and SIGQUIT, but for those that are ignored: what was ignored when
 * we started stays so, for nohup(1). CAUGHT becomes what was blocked, BEFORE the mask until then.
 */
void signals_block(sigset_t *caught, sigset_t *before);

#endif
