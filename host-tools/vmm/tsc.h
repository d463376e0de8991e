/* tsc: the frequency of this processor's time-stamp counter, which a TCG guest reads as it is. */
#ifndef HOST_TOOLS_VMM_TSC_H
#define HOST_TOOLS_VMM_TSC_H

#include <stdint.h>

/* Two rates are the same if they differ by less than one part in so many. */
#define TSC_TOLERANCE 500

/* A moment, to measure from. */
struct tsc_mark {
	uint64_t ticks, ns;
};

struct tsc_mark tsc_mark(void);
/* The rate since then, in kHz: the more time has passed, the more exact. */
uint64_t tsc_khz_since(const struct tsc_mark *mark);

/* Measures it, in kHz, to some 20 parts in a million; takes 5 ms. */
uint64_t tsc_measure_khz(void);

#endif
