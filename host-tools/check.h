/*
 * check: compares a directory of results with its report. Neither is trusted: the report may be
 * anything that is JSON, and every path in it is opened beneath the directory without following a
 * link.
 */
#ifndef HOST_TOOLS_CHECK_H
#define HOST_TOOLS_CHECK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "jobdisk/error.h"

struct check_difference {
	char *path;
	char *problem; /* "is missing" */
};

struct check {
	const char *directory; /* its name in errors */
	int directory_fd;
	const char
		*report; /* the report's path in it; not one of the results, like its signature */

	/* What came of it. */
	struct check_difference *differences;
	size_t difference_count;
	uint64_t unread; /* differences that are none, perhaps: they could not be read */
	uint64_t files, directories, symlinks, file_bytes; /* that are as the report says */
	uint64_t without_digest; /* files of the right type and size; no more is known of them */
	struct check_listed *listed;
	size_t listed_count;
};

/* Notes that PATH is not as it should be; exits the program when there is no memory. */
void check_differs(struct check *check, const char *path, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Compares all that REPORT lists as collected: types, sizes, digests, targets of links. 0,
 * whatever was found; -1 with ERROR set when REPORT is not a report.
 */
int check_listed(struct check *check, const json_t *report, struct error *error);

/* After that: finds what is there and not listed. 0, or -1 with ERROR set. */
int check_unlisted(struct check *check, struct error *error);

void check_free(struct check *check);

#endif
