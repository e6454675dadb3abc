/* Each formula of the scores on input whose result can be worked out by hand. */
#include <math.h>

#include "core/diffscm.h"
#include "core/scm/score.h"
#include "tests/harness.h"

static void kl_of_gaussians(void)
{
    const float zero[2] = {0, 0}, one[2] = {1, 1}, three[2] = {3, 0};
    CHECK_NEAR(dscm_gaussian_kl(zero, zero, zero, zero, 2), 0, 0);
    /* equal variances: half the squared gap over the variance, per dimension */
    CHECK_NEAR(dscm_gaussian_kl(three, zero, zero, zero, 2), 4.5, 1e-12);
    CHECK_NEAR(dscm_gaussian_kl(three, one, zero, one, 2), 4.5 / exp(1), 1e-6);
    /* equal means, variance e against 1: (e - 1 - 1) / 2 per dimension; and the other way round */
    CHECK_NEAR(dscm_gaussian_kl(zero, one, zero, zero, 2), exp(1) - 2, 1e-6);
    CHECK_NEAR(dscm_gaussian_kl(zero, zero, zero, one, 2), exp(-1), 1e-6);
}

static void cld_at_its_ends(void)
{
    CHECK_NEAR(dscm_cld(0, 1), 1.3132616875, 1e-9); /* identity: log(1 + e) */
    CHECK_NEAR(dscm_cld(0, 0), log(2), 1e-12);
    CHECK_NEAR(dscm_cld(1, 1), 1 + log(2), 1e-12);
    CHECK_NEAR(dscm_cld(0.5, 0.25), log(exp(0.5) + exp(0.25)), 1e-12);
}

static void im1_and_im2_by_hand(void)
{
    const float x[4] = {1, 0.5f, 0, 0.5f}, target[4] = {1, 0.5f, 0.5f, 0.5f},
                factual[4] = {0, 0.5f, 0, 0.5f}, all[4] = {1, 0.5f, 0, 0};
    CHECK_NEAR(dscm_im1(x, target, factual, 4), 0.25 / 1, 1e-6);
    CHECK_NEAR(dscm_im1(x, x, factual, 4), 0, 0);
    CHECK_NEAR(dscm_im2(x, target, all, 4), (0.25 + 0.25) / 2, 1e-6);
    const float black[4] = {0, 0, 0, 0};
    CHECK(isfinite(dscm_im1(black, black, black, 4)) && isfinite(dscm_im2(black, x, all, 4)));
}

/* Three channels: means run over all values, but a pixel has changed when any of its channels has. */
static void pixels_by_hand(void)
{
    const float a[9] = {0, 0, 0, -1, -1, -1, 0.5f, 0.5f, 0.5f};
    const float b[9] = {0.2f, 0, 0, -1, -1, -0.92f, 0.5f, 0.5f, 0.5f};
    dscm_scores s = dscm_scores_of_pixels(a, b, 3, 3);
    CHECK_NEAR(s.l1, 127.5 * (0.2 + 0.08) / 9, 1e-5);
    CHECK_NEAR(s.l2, 127.5 * sqrt((0.2 * 0.2 + 0.08 * 0.08) / 9), 1e-5);
    CHECK_NEAR(s.changed_share, 1 / 3.0, 1e-12); /* .08 of 2 is less than .05 of the range */
    CHECK(!s.valid && s.oracle_label == -1 && isnan(s.probability_before) && isnan(s.cld) &&
          isnan(s.im1) && isnan(s.cld_percentile) && isnan(s.im2_percentile));
    float levels[5] = {-1.5f, 2, 0.0039f, 0.5f, -1};
    dscm_images_round(levels, 5);
    const float want[5] = {-1, 1, 128 / 127.5f - 1, 191 / 127.5f - 1, -1};
    for (int i = 0; i < 5; i++) CHECK_NEAR(levels[i], want[i], 1e-6);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"kl_of_gaussians", kl_of_gaussians},
        {"cld_at_its_ends", cld_at_its_ends},
        {"im1_and_im2_by_hand", im1_and_im2_by_hand},
        {"pixels_by_hand", pixels_by_hand},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
