/* A job without payload, for tests of what holds jobs. */
#ifndef DSCM_TESTS_SERVER_MAKE_JOB_H
#define DSCM_TESTS_SERVER_MAKE_JOB_H

#include <stdlib.h>

#include "server/job.h"

static dscm_job *make_job(const char *client, int64_t deadline_ms)
{
    dscm_job *job = NULL;
    if (dscm_job_create(&job, client, client, (dscm_payload){0}, deadline_ms, false, NULL)) abort();
    return job;
}

#endif
