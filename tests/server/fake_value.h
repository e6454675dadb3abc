/* A payload for tests of what the server keeps: it weighs what a test says, and `released` counts
 * how often one was let go. A test that counts sets it to 0 first. */
#ifndef DSCM_TESTS_SERVER_FAKE_VALUE_H
#define DSCM_TESTS_SERVER_FAKE_VALUE_H

#include "server/job.h"

static int released;

static void count_release(void *data)
{
    (void)data;
    released++;
}

static dscm_payload fake_value(size_t bytes)
{
    static int something;
    return (dscm_payload){&something, count_release, bytes};
}

#endif
