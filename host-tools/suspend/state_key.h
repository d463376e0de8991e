/* state_key: the secret that the states of suspended jobs are authenticated with. */
#ifndef HOST_TOOLS_SUSPEND_STATE_KEY_H
#define HOST_TOOLS_SUSPEND_STATE_KEY_H

#include <stdint.h>

#include "jobdisk/error.h"

#define STATE_KEY_BYTES 32

/*
 * Reads the key in the file PATH, 64 hexadecimal digits and a newline, which only its owner may
 * read; NULL: that of the user, $XDG_DATA_HOME/jobvm/state.key or ~/.local/share/jobvm/state.key,
 * which is made where there is none yet. 0, or -1 with ERROR set.
 */
int state_key_read(const char *path, uint8_t key[STATE_KEY_BYTES], struct error *error);

#endif
