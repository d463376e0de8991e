/* tsc: the frequency of this processor's time-stamp counter, which a TCG guest reads as it is. */
#ifndef HOST_TOOLS_VMM_TSC_H
#define HOST_TOOLS_VMM_TSC_H

#include <stdint.h>

/* Measures it, in kHz, to some 20 parts in a million; takes 5 ms. */
uint64_t tsc_measure_khz(void);

#endif
