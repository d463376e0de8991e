/* request: the jobs that `run` and `pack` are asked for: "-- COMMAND" or a submit description. */
#ifndef HOST_TOOLS_REQUEST_H
#define HOST_TOOLS_REQUEST_H

#include "host-tools/options.h"
#include "host-tools/submit.h"

struct request {
	bool is_submission; /* jobs came from a file */
	struct job *jobs;
	size_t job_count;
	struct job command_job; /* the one of a command line */
	struct submission submission;
};

/* Of the job, and of the host that runs it. */
#define REQUEST_JOB_HELP                                                                           \
	"  -i PATH              an input: a file, a directory, or with a final / its contents\n"   \
	"  --stdin FILE         the job's standard input\n"                                        \
	"  --env NAME=VALUE     a variable of the job's environment\n"                             \
	"  --user job|root      who the job is in the guest\n"                                     \
	"  --privileged         root without the guest's own walls\n"                              \
	"  --request-memory N   the job's memory, in MiB or with a unit (512M)\n"                  \
	"  --request-cpus N     processors\n"                                                      \
	"  --request-disk N     room on the job disk, in KiB or with a unit\n"                     \
	"  --allowed-execute-duration SECONDS\n"                                                   \
	"  --transfer-output-files LIST, and every other key of jobvm-submit(5)\n"                 \
	"  --quiet              no warnings, notes or progress\n"
#define REQUEST_HOST_HELP                                                                          \
	"  --image DIR          the guest image\n"                                                 \
	"  --accel auto|kvm|tcg\n"                                                                 \
	"  --require-isolation hardware\n"                                                         \
	"  --start auto|clone|cold  a copy of a VM that was booted before, or a boot\n"

/* Which guest image gives the jobs what they do not say themselves. */
enum request_image {
	REQUEST_IMAGE_NAMED, /* the one that they name: the disk may be started with any other */
	REQUEST_IMAGE_FOUND, /* the one that they run in */
};

/*
 * Reads the command line of COMMAND with its own OPTIONS. Usage errors end the program with 2,
 * and so does a submit description with errors; an image that cannot be loaded with 125.
 * The image's environment stands below the job's own; a command line without a command gets the
 * image's.
 */
void request_read(const struct command *command, int argc, char **argv,
		  const struct option *options, enum request_image image, struct request *request);
void request_free(struct request *request);

#endif
