/* Temperature scaling where the best temperature is known. */
#include "core/eval/calibrate.h"

#include <math.h>

#include "core/base/rng.h"
#include "tests/harness.h"

enum { COUNT = 20000, CLASSES = 4 };

static float logits[COUNT * CLASSES];
static int labels[COUNT];

/* Labels drawn from softmax(z): rows of z * factor are that much too sure. */
static void draw(float factor)
{
    dscm_rng rng = dscm_rng_make(4, 4);
    dscm_rng_normal(&rng, logits, COUNT * CLASSES);
    for (size_t i = 0; i < COUNT; i++) {
        float *z = logits + i * CLASSES;
        double sum = 0, u = dscm_rng_uniform(&rng);
        for (size_t k = 0; k < CLASSES; k++) sum += exp(2 * (double)z[k]);
        labels[i] = CLASSES - 1;
        for (size_t k = CLASSES; k-- > 0;) {
            u -= exp(2 * (double)z[k]) / sum;
            if (u < 0) {
                labels[i] = (int)k;
                break;
            }
        }
        for (size_t k = 0; k < CLASSES; k++) z[k] *= 2 * factor;
    }
}

static void true_temperature_is_found(void)
{
    const float factors[] = {0.5f, 1, 3};
    for (size_t f = 0; f < TEST_COUNT(factors); f++) {
        dscm_temperature t;
        draw(factors[f]);
        REQUIRE(dscm_temperature_fit(&t, logits, labels, COUNT, CLASSES, NULL) == DSCM_OK);
        CHECK_NEAR(t.temperature, factors[f], 0.03 * (double)factors[f]);
        CHECK(t.after <= t.before);
    }
}

/* Two rows, one right and one wrong by the same margin m: -log p = log(1 + exp(-+m/T)), whose mean is
 * least for no confidence at all: the hottest temperature. All right: the coldest. */
static void ends_of_the_range(void)
{
    const float rows[4] = {2, 0, 2, 0};
    const int half[2] = {0, 1}, all[2] = {0, 0}, wrong[2] = {0, 2};
    dscm_temperature t;
    dscm_error err = {0};
    REQUIRE(dscm_temperature_fit(&t, rows, half, 2, 2, NULL) == DSCM_OK);
    CHECK_NEAR(t.temperature, 20, 0.01);
    CHECK_NEAR(t.before, (log(1 + exp(-2.0)) + log(1 + exp(2.0))) / 2, 1e-9);
    REQUIRE(dscm_temperature_fit(&t, rows, all, 2, 2, NULL) == DSCM_OK);
    CHECK_NEAR(t.temperature, 0.05, 1e-4);
    CHECK(dscm_temperature_fit(&t, rows, wrong, 2, 2, &err) == DSCM_E_INVALID);
    CHECK_HAS(err.message, "label 2 is not in 0..1");
    CHECK(dscm_temperature_fit(&t, rows, all, 0, 2, &err) == DSCM_E_INVALID);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"true_temperature_is_found", true_temperature_is_found},
                                      {"ends_of_the_range", ends_of_the_range}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
