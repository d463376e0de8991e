/* measure: runs a program within the limits that a hostile disk must not make it pass. */
#ifndef TESTS_HOSTILE_MEASURE_H
#define TESTS_HOSTILE_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#define CPU_SECONDS_MAX	   10
/* For as many files as there may be, each made: a few system calls each, however slow. */
#define CPU_SECONDS_MAKING 40
#define MEMORY_KIB_MAX	   (256 * 1024)

/* Ends the calling process, a child, when it has used more than SECONDS of processor time. */
void measure_limit_cpu(unsigned seconds);

/* Whether memory is not the program's own, and no child of it can be confined. */
bool measure_is_sanitized(void);

struct measured {
	bool exited;
	int code; /* exit code, or the signal */
	uint64_t cpu_ms;
	uint64_t memory_kib; /* peak, of the largest process */
	char text[32768];    /* the first bytes of stderr, and then of stdout */
};

/*
 * Runs ARGV (the last is NULL), with stdin from /dev/null, for CPU_SECONDS at the most. Exits when
 * it cannot.
 */
void measure_run(char *const argv[], unsigned cpu_seconds, struct measured *measured);

/* The peak and the time of a child that ended. */
uint64_t usage_cpu_ms(const struct rusage *usage);

#endif
