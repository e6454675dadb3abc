/* What is measured of abducted noise, where the answer is known. */
#include "core/eval/noise.h"
#include "tests/core/scm/two_parents.h"

#define NONE ((double)NAN)

enum { ITEMS = 8 };

static char dir[64];
static dscm_bundle *bundle;
static dscm_session *session;
static float images[ITEMS * PIXELS];

/* A probe names what a plane parts, and guesses where the label is not there. */
static void probe_reads_what_is_there(void)
{
    enum { ROWS = 200, SIZE = 6 };
    static float x[ROWS * SIZE];
    static int labels[ROWS], other[ROWS];
    dscm_rng rng = dscm_rng_make(1, 0);
    dscm_error err = {0};
    double share = 0;
    dscm_rng_normal(&rng, x, sizeof x / sizeof *x);
    for (size_t i = 0; i < ROWS; i++) {
        labels[i] = x[i * SIZE + 2] > 0.3f;
        other[i] = (int)dscm_rng_below(&rng, 2);
    }
    REQUIRE(dscm_noise_probe(&share, x, labels, ROWS, SIZE, 2, &err) == DSCM_OK);
    CHECK(share > 0.85);
    REQUIRE(dscm_noise_probe(&share, x, other, ROWS, SIZE, 2, &err) == DSCM_OK);
    CHECK(share > 0.3 && share < 0.7);
}

static dscm_noise_row measure(const char *sampler)
{
    static double factual[ITEMS * VARIABLES];
    static int labels[ITEMS], targets[ITEMS];
    dscm_noise_row row = {0};
    dscm_options o = dscm_options_defaults();
    dscm_error err = {0};
    for (size_t i = 0; i < ITEMS; i++) {
        labels[i] = (int)(i % 3);
        targets[i] = (labels[i] + 1) % 3;
        factual[i * VARIABLES + SHAPE] = labels[i];
        factual[i * VARIABLES + THICKNESS] = 3;
        factual[i * VARIABLES + IMAGE] = NONE;
    }
    const dscm_noise_data data = {.images = images,
                                  .factual = factual,
                                  .labels = labels,
                                  .targets = targets,
                                  .count = ITEMS,
                                  .variable = SHAPE};
    o.sampler = sampler;
    o.steps = 5;
    CHECK_INT(dscm_options_resolve(bundle, &o, &err), DSCM_OK);
    if (dscm_noise_measure(&row, session, bundle, &data, &o, &err) != DSCM_OK)
        TEST_FAIL_("%s", err.message);
    return row;
}

/* A sampler that stores nothing has nothing but the noise; one that stores corrections closes the walk of a
 * random network, which cannot, and the difference is seen. */
static void stored_terms_are_told_from_noise(void)
{
    dscm_noise_row plain = measure("ddim"), stored = measure("residual");
    CHECK_NEAR(plain.full, plain.noise_only, 0.1); /* noise alone is rounded to 1/256 */
    CHECK_NEAR(plain.follows, 1, 0);
    CHECK_NEAR(stored.full, 0, 1e-9);
    CHECK(stored.noise_only > 0.5);
    CHECK_NEAR(stored.mean, plain.mean, 1e-4);
    CHECK_NEAR(stored.deviation, plain.deviation, 1e-4);
    CHECK(stored.probe >= 0 && stored.probe <= 1);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"probe_reads_what_is_there", probe_reads_what_is_there},
        {"stored_terms_are_told_from_noise", stored_terms_are_told_from_noise}};
    two_parents_conditional = true;
    two_parents_images(images, ITEMS, 3);
    dscm_images_round(images, sizeof images / sizeof *images);
    return two_parents_main("test_noise", dir, &bundle, &session, 8, argc, argv, cases,
                            TEST_COUNT(cases));
}
