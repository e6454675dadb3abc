/* Running requests as the service does, and letting go of what they give. */
#ifndef DSCM_TESTS_API_RUN_H
#define DSCM_TESTS_API_RUN_H

#include "api/pictures.h"
#include "api/request.h"
#include "tests/harness.h"

typedef struct run_item {
    const dscm_request *request;
    const dscm_abduction *cached; /* to be used, or NULL */
    dscm_abduction *abduction;
    dscm_result *result;
} run_item;

/* The batch through the pipeline, and its pictures. */
static inline dscm_code run_batch(dscm_session *s, const dscm_bundle *b, run_item *items,
                                  size_t count, const dscm_run_progress *progress, dscm_error *err)
{
    dscm_run_item batch[32];
    for (size_t i = 0; i < count; i++)
        batch[i] =
            (dscm_run_item){.ask = dscm_request_case(items[i].request), .cached = items[i].cached};
    dscm_code code = dscm_run(s, b, batch, count, progress, err);
    for (size_t i = 0; i < count; i++) {
        items[i].abduction = batch[i].abduction;
        items[i].result = batch[i].result;
        const dscm_abduction *from = items[i].cached ? items[i].cached : items[i].abduction;
        if (code == DSCM_OK && items[i].result)
            code = dscm_result_render(items[i].result, from, err);
    }
    return code;
}

static inline bool run_on(dscm_session *s, const dscm_bundle *b, run_item *items, size_t count)
{
    dscm_error err = {0};
    if (run_batch(s, b, items, count, NULL, &err) == DSCM_OK) return true;
    TEST_FAIL_("%s", err.message);
    return false;
}

static inline void release(run_item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        dscm_result_free(items[i].result);
        dscm_abduction_free(items[i].abduction);
        dscm_request_free((dscm_request *)items[i].request);
    }
}

#endif
