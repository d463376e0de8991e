#include "host-tools/vmm/tsc.h"

#include <time.h>
#include <x86intrin.h>

#define INTERVAL_NS 5000000
#define TRIES	    8

struct sample {
	uint64_t ticks, ns, width_ns;
};

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Both at the same moment: of several tries the one that was interrupted least. */
static struct sample take_sample(void)
{
	struct sample best = {.width_ns = UINT64_MAX};

	for (int i = 0; i < TRIES; i++) {
		uint64_t before = clock_ns(), ticks = __rdtsc(), after = clock_ns();
		if (after - before < best.width_ns)
			best = (struct sample){.ticks = ticks,
					       .ns = before + (after - before) / 2,
					       .width_ns = after - before};
	}
	return best;
}

struct tsc_mark tsc_mark(void)
{
	struct sample now = take_sample();

	return (struct tsc_mark){.ticks = now.ticks, .ns = now.ns};
}

uint64_t tsc_khz_since(const struct tsc_mark *mark)
{
	struct sample now = take_sample();

	return (uint64_t)((double)(now.ticks - mark->ticks) * 1e6 / (double)(now.ns - mark->ns) +
			  0.5);
}

uint64_t tsc_measure_khz(void)
{
	const struct timespec interval = {.tv_nsec = INTERVAL_NS};
	struct tsc_mark mark = tsc_mark();

	nanosleep(&interval, NULL);
	return tsc_khz_since(&mark);
}
