/* Every allocation of ours fails once: bundle, session, abduction, prediction, scores. Nothing may
 * crash or leak (the leak checker of the asan build looks), and the error must say memory.
 *
 * All of the engine's memory comes from aligned_alloc, which this program replaces. */
#include <errno.h>
#include <malloc.h>

#include "core/scm/session.h"
#include "tests/core/scm/two_parents.h"

static size_t allocations, fail_at;

void *aligned_alloc(size_t align, size_t size)
{
    if (++allocations == fail_at) {
        errno = ENOMEM;
        return NULL;
    }
    return memalign(align, size);
}

static char dir[64];

static dscm_code use_session(dscm_session *session, const dscm_options *o, dscm_error *err)
{
    static float images[2 * PIXELS], out[2 * PIXELS];
    const dscm_intervention thick = {THICKNESS, DSCM_SHIFT, 1, (double)NAN};
    const dscm_query queries[2] = {{.items = &thick, .count = 1}, {0}};
    const int targets[2] = {1, 2}, factuals[2] = {0, 0};
    dscm_scores scores[2];
    dscm_scale_result found[2];
    dscm_latent *latent = NULL, *part = NULL, *again = NULL;
    void *bytes = NULL;
    size_t size = 0, one = 1;
    dscm_code code = dscm_abduct(session, &latent, images, 2, o, NULL, err);
    if (code == DSCM_OK) code = dscm_predict(session, out, latent, queries, o, NULL, err);
    if (code == DSCM_OK)
        code = dscm_predict_search(session, out, found, latent, queries, o, NULL, NULL, err);
    if (code == DSCM_OK) code = dscm_latent_select(&part, latent, &one, 1, err);
    if (code == DSCM_OK) code = dscm_latent_write(latent, &bytes, &size, err);
    if (code == DSCM_OK) code = dscm_latent_read(&again, session->bundle, bytes, size, err);
    if (code == DSCM_OK)
        code = dscm_score(session, scores, images, out, SHAPE, targets, factuals, 2, err);
    dscm_latent_free(latent);
    dscm_latent_free(part);
    dscm_latent_free(again);
    dscm_free(bytes);
    return code;
}

/* The whole life of a request. */
static dscm_code run(dscm_error *err)
{
    dscm_bundle *bundle = NULL;
    dscm_session *session = NULL;
    dscm_options o = dscm_options_defaults();
    dscm_code code = dscm_bundle_open(&bundle, dir, err);
    if (code == DSCM_OK) code = dscm_session_open(&session, bundle, 2, 2, err);
    if (code == DSCM_OK) code = dscm_options_resolve(bundle, &o, err);
    if (code == DSCM_OK) code = use_session(session, &o, err);
    dscm_session_free(session);
    dscm_bundle_free(bundle);
    return code;
}

static void each_allocation_may_fail(void)
{
    dscm_error err = {0};
    fail_at = 0;
    allocations = 0;
    REQUIRE(run(&err) == DSCM_OK);
    size_t all = allocations;
    printf("    %zu allocations\n", all);
    CHECK(all > 50);
    /* The leak checker makes every n worth its time; without it some do. */
    for (size_t n = 1; n <= all; n += TEST_INSTRUMENTED ? 1 : 5) {
        err = (dscm_error){0};
        allocations = 0;
        fail_at = n;
        dscm_code code = run(&err);
        if (code != DSCM_E_MEMORY || err.code != DSCM_E_MEMORY || !*err.message)
            TEST_FAIL_("allocation %zu of %zu: code %d, \"%s\"", n, all, (int)code, err.message);
    }
    fail_at = 0;
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"each_allocation_may_fail", each_allocation_may_fail}};
    if (!two_parents_write(dir)) {
        printf("test_memory 0 passed, 1 failed, 0 skipped\n");
        return 1;
    }
    int status = test_main(argc, argv, cases, TEST_COUNT(cases));
    two_parents_remove(dir);
    return status;
}
