/*
 * extract: copies a job's files from its disk to the host. A confined child reads the disk and
 * writes; the parent takes the SHA-256 of what lies there then, while the child goes on.
 */
#ifndef HOST_TOOLS_EXTRACT_H
#define HOST_TOOLS_EXTRACT_H

#include "host-tools/report.h"

/* A file of the job disk that goes into a file that is open already. */
struct extract_stream {
	const char *on_disk;
	const char *path; /* where it goes, for the list of what was collected */
	int fd;		  /* -1: it is not wanted */
	uint64_t max_bytes;
};

struct extraction {
	const char *directory; /* outputs land below it */
	int directory_fd;
	const char *outputs_below; /* "" or a directory in it; NULL: no outputs */
	struct extract_stream streams[2];
	/*
	 * For a merge: all that the job changed, whatever the manifest selects, to be read by us
	 * alone until it gets its place, mode and time; without digests.
	 */
	bool is_staging;
};

/*
 * Copies the streams, then the outputs, of REPORT's disk. Lists in REPORT what was collected, what
 * declared outputs are missing and what cannot leave the disk. 0; -1 with ERROR set when it
 * stopped early: what is listed is whole.
 */
int extract(struct report *report, const struct extraction *extraction, struct error *error);

#endif
