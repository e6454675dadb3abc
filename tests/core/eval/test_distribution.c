/* Precision, recall and Fréchet distances: against NumPy and SciPy, and where the answer is known. */
#include "core/eval/distribution.h"

#include <math.h>
#include <string.h>

#include "tests/core/eval/reference.h"
#include "tests/core/eval/reference_features.h"
#include "tests/harness.h"

static float mine[ITEMS * WIDTH], real[REALS * WIDTH];
static int targets[ITEMS], labels[REALS];

static dscm_feature_set set_of(const float *rows, const int *classes, size_t count)
{
    return (dscm_feature_set){rows, classes, count, WIDTH};
}

static void agrees_with_numpy(void)
{
    double precision, recall, distance;
    const dscm_feature_set a = set_of(mine, targets, ITEMS), b = set_of(real, labels, REALS);
    REQUIRE(dscm_precision_recall(&precision, &recall, &a, &b, 5, NULL) == DSCM_OK);
    CHECK_NEAR(precision, REFERENCE_PRECISION, 1e-9);
    CHECK_NEAR(recall, REFERENCE_RECALL, 1e-9);
    CHECK(precision > 0.05 && precision < 0.99 && recall > 0.05 && recall < 0.999);
    REQUIRE(dscm_frechet_distance(&distance, mine, ITEMS, real, REALS, WIDTH, NULL) == DSCM_OK);
    CHECK_NEAR(distance, REFERENCE_FRECHET, 1e-6);
}

/* Real images measured against a set that holds them: no ball counts for its own centre. */
static void own_ball_does_not_count(void)
{
    double precision, recall;
    const dscm_feature_set b = set_of(real, labels, REALS);
    REQUIRE(dscm_precision_recall(&precision, &recall, &b, &b, 5, NULL) == DSCM_OK);
    CHECK_NEAR(precision, REFERENCE_REAL_PRECISION, 1e-9);
    CHECK_NEAR(recall, precision, 0);
}

/* One point that all results share is precise and recalls little; far ones are neither. */
static void collapse_and_distance_show(void)
{
    static float all[ITEMS * WIDTH];
    double precision, recall;
    for (size_t i = 0; i < ITEMS; i++) {
        memcpy(all + i * WIDTH, real + i % CLASSES * WIDTH, WIDTH * sizeof *all);
        for (size_t j = 0; j < WIDTH; j++) all[i * WIDTH + j] += 1e-4f * (float)(i / CLASSES + 1);
    }
    const dscm_feature_set same = set_of(all, targets, ITEMS), b = set_of(real, labels, REALS);
    REQUIRE(dscm_precision_recall(&precision, &recall, &same, &b, 5, NULL) == DSCM_OK);
    CHECK_NEAR(precision, 1, 0);
    CHECK(recall < 0.1);
    for (size_t i = 0; i < ITEMS * WIDTH; i++) all[i] += 100;
    REQUIRE(dscm_precision_recall(&precision, &recall, &same, &b, 5, NULL) == DSCM_OK);
    CHECK_NEAR(precision, 0, 0);
    CHECK_NEAR(recall, 0, 0);
}

/* Classes are apart: results under the labels of another class are outside. A class of fewer than six
 * images has no balls. */
static void classes_are_apart(void)
{
    int wrong[REALS];
    double precision, recall;
    static float far[REALS * WIDTH];
    for (size_t i = 0; i < REALS; i++) {
        wrong[i] = (labels[i] + 1) % CLASSES;
        for (size_t j = 0; j < WIDTH; j++)
            far[i * WIDTH + j] = real[i * WIDTH + j] + 10 * (float)labels[i];
    }
    const dscm_feature_set moved = set_of(far, wrong, REALS), b = set_of(far, labels, REALS);
    REQUIRE(dscm_precision_recall(&precision, &recall, &moved, &b, 5, NULL) == DSCM_OK);
    CHECK_NEAR(precision, 0, 0);
    CHECK_NEAR(recall, 0, 0);
    const dscm_feature_set few = set_of(real, labels, 5 * CLASSES);
    REQUIRE(dscm_precision_recall(&precision, &recall, &few, &few, 5, NULL) == DSCM_OK);
    CHECK(isnan(precision) && isnan(recall));
}

static void halves(void)
{
    dscm_frechet_halves h, again, moved;
    static float shifted[REALS * WIDTH];
    REQUIRE(dscm_frechet_halved(&h, real, real, REALS, WIDTH, 2500, 40, 3, NULL) == DSCM_OK);
    CHECK_INT(h.half, REALS / 2);
    CHECK_INT(h.real.count, 40);
    /* results that are the images: the one is the other, and not 0, for halves share no image */
    CHECK_NEAR(h.results.mean, h.real.mean, 0);
    CHECK(h.real.low > 0 && h.real.low < h.real.mean && h.real.mean < h.real.high);
    REQUIRE(dscm_frechet_halved(&again, real, real, REALS, WIDTH, 2500, 40, 3, NULL) == DSCM_OK);
    CHECK_NEAR(again.real.high, h.real.high, 0);
    /* a shift by d in every feature adds |d|^2 and twice its product with the gap of the means, which
     * averages out */
    for (size_t i = 0; i < REALS * WIDTH; i++) shifted[i] = real[i] + 10;
    REQUIRE(dscm_frechet_halved(&moved, shifted, real, REALS, WIDTH, 2500, 40, 3, NULL) == DSCM_OK);
    CHECK_NEAR(moved.results.mean, h.real.mean + 100.0 * WIDTH, 2);
    CHECK_NEAR(moved.real.mean, h.real.mean, 0);
    REQUIRE(dscm_frechet_halved(&h, real, real, REALS, WIDTH, 20, 4, 3, NULL) == DSCM_OK);
    CHECK_INT(h.half, 20);
    /* too few for a covariance */
    REQUIRE(dscm_frechet_halved(&h, real, real, 4 * WIDTH - 2, WIDTH, 2500, 4, 3, NULL) == DSCM_OK);
    CHECK(isnan(h.results.mean) && isnan(h.real.mean));
    dscm_error err = {0};
    CHECK(dscm_frechet_halved(&h, real, real, REALS, WIDTH, 2500, 0, 3, &err) == DSCM_E_INVALID);
    CHECK_HAS(err.message, "0 halvings is not in 1..1000");
}

static void faint_pixels(void)
{
    const uint8_t levels[8] = {0, 2, 3, 40, 41, 255, 20, 0};
    CHECK_NEAR(dscm_faint_share(levels, 8), 3 / 8.0, 0);
    CHECK_NEAR(dscm_faint_share(levels, 2), 0, 0);
    CHECK(isnan(dscm_faint_share(levels, 0)));
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"agrees_with_numpy", agrees_with_numpy},
                                      {"own_ball_does_not_count", own_ball_does_not_count},
                                      {"collapse_and_distance_show", collapse_and_distance_show},
                                      {"classes_are_apart", classes_are_apart},
                                      {"halves", halves},
                                      {"faint_pixels", faint_pixels}};
    reference_features(mine, targets, ITEMS, 1, 0.6);
    reference_features(real, labels, REALS, 2, 0.55);
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
