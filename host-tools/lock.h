/* lock: waits for another process that has a file locked, but not for ever. */
#ifndef HOST_TOOLS_LOCK_H
#define HOST_TOOLS_LOCK_H

/*
 * Locks FD as flock(2) does, exclusively, and waits for others at most SECONDS. 0, or -1 with
 * errno: EINTR after that time, or when a signal came. Uses SIGALRM.
 */
int lock_wait(int fd, unsigned seconds);

#endif
