/* Running requests and letting go of what they give. */
#ifndef DSCM_TESTS_API_RUN_H
#define DSCM_TESTS_API_RUN_H

#include "api/run.h"
#include "tests/harness.h"

static inline bool run_on(dscm_session *s, const dscm_bundle *b, dscm_run_item *items, size_t count)
{
    dscm_error err = {0};
    if (dscm_run(s, b, items, count, NULL, &err) == DSCM_OK) return true;
    TEST_FAIL_("%s", err.message);
    return false;
}

static inline void release(dscm_run_item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        dscm_result_free(items[i].result);
        dscm_abduction_free(items[i].abduction);
        dscm_request_free((dscm_request *)items[i].request);
    }
}

#endif
