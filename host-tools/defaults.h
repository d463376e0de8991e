/* defaults: what a guest image says of the processes in it, for jobs that do not say. */
#ifndef HOST_TOOLS_DEFAULTS_H
#define HOST_TOOLS_DEFAULTS_H

#include "host-tools/job.h"
#include "imagebuilder/image.h"

/*
 * Makes the image's Entrypoint and Cmd the command of JOB, which has none yet. 0, or 1 when the
 * image has neither.
 */
int defaults_command(const struct image_defaults *defaults, struct job *job);

/*
 * Gives JOB, which is finished, the variables of the image's environment that it does not have,
 * and binds its manifest again. -1 with ERROR set.
 */
int defaults_environment(const struct image_defaults *defaults, struct job *job,
			 struct error *error);

#endif
