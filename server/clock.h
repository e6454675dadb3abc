/* The clocks of the server: monotonic for every deadline and duration (core/base/clock.h); wall time
 * appears only in log lines and replies. Threads: pure functions. */
#ifndef DSCM_SERVER_CLOCK_H
#define DSCM_SERVER_CLOCK_H

#include "core/base/clock.h"

#define DSCM_NEVER INT64_MAX

/* Unix time in seconds, with the fraction. */
static inline double dscm_clock_wall(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#endif
