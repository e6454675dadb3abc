/* Slant, thickness, height and intensity, and how they correlate with the factual. */
#include "core/eval/traits.h"

#include <math.h>
#include <string.h>

#include "tests/core/eval/reference.h"
#include "tests/core/eval/reference_features.h"
#include "tests/harness.h"

/* A bar of `width` columns over rows 6..21 of 28, its top moved right by `lean` columns. */
static void draw_bar(uint8_t *pixels, size_t width, size_t lean, uint8_t level)
{
    memset(pixels, 0, 28 * 28);
    for (size_t y = 6; y < 22; y++)
        for (size_t x = 0; x < width; x++) pixels[y * 28 + 8 + x + lean * (21 - y) / 15] = level;
}

static void bars_are_measured(void)
{
    static uint8_t pixels[3 * 28 * 28];
    double t[3 * DSCM_TRAITS];
    draw_bar(pixels, 3, 0, 200);
    draw_bar(pixels + 28 * 28, 6, 0, 100);
    draw_bar(pixels + 2 * 28 * 28, 3, 8, 200);
    pixels[0] = 20; /* a faint pixel has no height */
    REQUIRE(dscm_traits_measure(t, pixels, 3, 28, 28, NULL) == DSCM_OK);
    for (int i = 0; i < 3; i++) CHECK_NEAR(t[i * DSCM_TRAITS + DSCM_TRAIT_HEIGHT], 16, 0);
    CHECK_NEAR(t[DSCM_TRAIT_INTENSITY], 200, 0);
    CHECK_NEAR(t[DSCM_TRAITS + DSCM_TRAIT_INTENSITY], 100, 0);
    CHECK_NEAR(t[DSCM_TRAIT_THICKNESS], 3, 0.8);
    CHECK_NEAR(t[DSCM_TRAITS + DSCM_TRAIT_THICKNESS], 6, 1.5);
    CHECK_NEAR(t[DSCM_TRAITS + DSCM_TRAIT_SLANT], 0, 0.01);
    CHECK_NEAR(fabs(t[2 * DSCM_TRAITS + DSCM_TRAIT_SLANT]), atan(8 / 15.0), 0.06);
    memset(pixels, 0, 28 * 28);
    REQUIRE(dscm_traits_measure(t, pixels, 1, 28, 28, NULL) == DSCM_OK);
    CHECK_NEAR(t[DSCM_TRAIT_HEIGHT], 0, 0);
    CHECK_STR(dscm_trait_name(DSCM_TRAIT_THICKNESS), "thickness");
}

static void correlation_agrees_with_numpy(void)
{
    static float a[REALS * WIDTH], b[ITEMS * WIDTH];
    static double factual[REALS * DSCM_TRAITS], result[ITEMS * DSCM_TRAITS];
    int labels[REALS], targets[ITEMS], own[ITEMS];
    double means[CLASSES * DSCM_TRAITS], out[DSCM_TRAITS];
    reference_features(b, targets, ITEMS, 1, 0.6);
    reference_features(a, labels, REALS, 2, 0.55);
    for (size_t i = 0; i < REALS; i++)
        for (size_t t = 0; t < DSCM_TRAITS; t++)
            factual[i * DSCM_TRAITS + t] = (double)a[i * WIDTH + t];
    for (size_t i = 0; i < ITEMS; i++) {
        own[i] = (int)((i + 1) % CLASSES);
        for (size_t t = 0; t < DSCM_TRAITS; t++)
            result[i * DSCM_TRAITS + t] = (double)b[i * WIDTH + t];
    }
    dscm_traits_class_means(means, factual, labels, REALS, CLASSES);
    dscm_traits_correlation(out, factual, result, own, targets, ITEMS, means);
    const double want[DSCM_TRAITS] = {REFERENCE_CORRELATION_0, REFERENCE_CORRELATION_1,
                                      REFERENCE_CORRELATION_2, REFERENCE_CORRELATION_3};
    for (int t = 0; t < DSCM_TRAITS; t++) CHECK_NEAR(out[t], want[t], 1e-9);
}

/* What classes differ by is no identity: results that hold nothing but their class correlate with
 * nothing, and those that carry the individual's deviation over to another class do so fully. */
static void classes_are_no_identity(void)
{
    enum { N = 60 };
    double factual[N * DSCM_TRAITS], result[N * DSCM_TRAITS], carried[N * DSCM_TRAITS],
        means[2 * DSCM_TRAITS], out[DSCM_TRAITS];
    int own[N], target[N];
    for (size_t i = 0; i < N; i++) {
        own[i] = i % 2;
        target[i] = 1 - own[i];
        for (size_t t = 0; t < DSCM_TRAITS; t++) {
            double deviation = (double)(i / 2 % 5) - 2; /* sums to 0 in each class */
            factual[i * DSCM_TRAITS + t] = 100 * own[i] + deviation;
            result[i * DSCM_TRAITS + t] = 100 * target[i];
            carried[i * DSCM_TRAITS + t] = 100 * target[i] + deviation;
        }
    }
    dscm_traits_class_means(means, factual, own, N, 2);
    dscm_traits_correlation(out, factual, result, own, target, N, means);
    for (int t = 0; t < DSCM_TRAITS; t++) CHECK(isnan(out[t]));
    dscm_traits_correlation(out, factual, carried, own, target, N, means);
    for (int t = 0; t < DSCM_TRAITS; t++) CHECK_NEAR(out[t], 1, 1e-12);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"bars_are_measured", bars_are_measured},
        {"correlation_agrees_with_numpy", correlation_agrees_with_numpy},
        {"classes_are_no_identity", classes_are_no_identity}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
