/* exitcodes: what jobvm's exit code says when it is not the job's own (design, section 5). */
#ifndef HOST_TOOLS_EXITCODES_H
#define HOST_TOOLS_EXITCODES_H

enum {
	EXIT_DIFFERS = 1, /* verify: the results are not as the report says */
	EXIT_USAGE = 2,
	EXIT_JOB_SUSPENDED = 85,
	EXIT_TIME_LIMIT = 124,
	EXIT_JOBVM_FAILED = 125,
	EXIT_CANNOT_EXECUTE = 126,
	EXIT_NOT_FOUND = 127,
	EXIT_SIGNAL_BASE = 128,
};

#endif
