/*
 * inputs: the SHA-256 of a job's inputs as they were packed (jobvm-result(5) has the form that is
 * digested). A confined child reads the job disk; it can do so while the VM boots.
 */
#ifndef HOST_TOOLS_INPUTS_H
#define HOST_TOOLS_INPUTS_H

#include "host-tools/confined.h"
#include "imagebuilder/digest.h"

struct inputs {
	struct confined_child child;
	bool has_child;
	/* "" until they are known, and where there is none. */
	char tree_sha256[DIGEST_HEX_BYTES];
	char stdin_sha256[DIGEST_HEX_BYTES];
};

/*
 * Starts to digest the inputs on a disk that has not run yet. When it returns, the child has
 * opened the file system, so that a guest may mount it. DISK_NAME must last as long as INPUTS.
 * 0, and inputs_finish or inputs_cancel is to be called; or -1 with ERROR set.
 */
int inputs_start(struct inputs *inputs, int disk_fd, const char *disk_name, struct error *error);

/*
 * Waits for the digests; does nothing where nothing was started. Inputs whose holes and hard links
 * make them much larger than the disk have none. 0, or -1 with ERROR set.
 */
int inputs_finish(struct inputs *inputs, struct error *error);

/* Does without them. */
void inputs_cancel(struct inputs *inputs);

#endif
