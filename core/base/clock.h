/* The one monotonic clock: every deadline and duration. Threads: pure functions. */
#ifndef DSCM_CORE_BASE_CLOCK_H
#define DSCM_CORE_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t dscm_clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static inline int64_t dscm_clock_ms(void)
{
    return dscm_clock_us() / 1000;
}

/* Seconds with the fraction, for durations that are printed. */
static inline double dscm_clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
