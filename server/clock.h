/* The one clock of the server: monotonic milliseconds for every deadline and duration. Wall time
 * appears only in log lines and replies. Threads: pure functions. */
#ifndef DSCM_SERVER_CLOCK_H
#define DSCM_SERVER_CLOCK_H

#include <stdint.h>
#include <time.h>

#define DSCM_NEVER INT64_MAX

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

/* Unix time in seconds, with the fraction. */
static inline double dscm_clock_wall(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#endif
