#include "core/base/rng.h"
#include "core/eval/identity.h"
#include "tests/harness.h"

/* Images of two pixels cannot be ranked by correlation (it is ±1): three it is. */
enum { SIZE = 3 };

static double diversity_of(const dscm_result_set *set)
{
    double out = -1;
    dscm_error err = {0};
    CHECK_INT(dscm_diversity(&out, set, &err), DSCM_OK);
    return out;
}

static double mean_rank_of(const dscm_result_set *set, double *ranks)
{
    double sum = 0;
    dscm_error err = {0};
    CHECK_INT(dscm_identity_ranks(ranks, set, &err), DSCM_OK);
    for (size_t i = 0; i < set->count; i++) sum += ranks[i];
    return sum / (double)set->count;
}

/* Target 0: items 0, 2, 3; target 1: items 1 and 4; target 2: item 5 alone. */
static const int targets[6] = {0, 1, 0, 0, 1, 2};
static const uint8_t factuals[6 * SIZE] = {0, 100, 200, 9, 0, 0,   200, 100, 0,
                                           0, 200, 0,   0, 0, 255, 7,   7,   0};

static dscm_result_set set_of(const uint8_t *results)
{
    return (dscm_result_set){.factuals = factuals,
                             .results = results,
                             .targets = targets,
                             .count = 6,
                             .labels = 4,
                             .size = SIZE,
                             .most = 100};
}

static void diversity_is_the_mean_over_pairs_of_a_target(void)
{
    dscm_result_set set = set_of(factuals);
    /* 0-2: 400, 0-3: 300, 2-3: 300, 1-4: 264; nothing between targets */
    CHECK_NEAR(diversity_of(&set), (400 + 300 + 300 + 264) / 4.0 / SIZE, 1e-12);
    set.most = 2; /* 0-2 and 1-4 */
    CHECK_NEAR(diversity_of(&set), (400 + 264) / 2.0 / SIZE, 1e-12);
    set.most = 1;
    CHECK(isnan(diversity_of(&set)));
    const uint8_t extremes[2 * SIZE] = {0, 0, 0, 255, 255, 255};
    const int same[2] = {3, 3};
    set = set_of(extremes);
    set.targets = same;
    set.count = 2;
    CHECK_NEAR(diversity_of(&set), 255, 0);
}

static void an_unchanged_image_knows_its_factual(void)
{
    dscm_result_set set = set_of(factuals);
    double ranks[6];
    (void)mean_rank_of(&set, ranks);
    for (int i = 0; i < 5; i++) CHECK_NEAR(ranks[i], 0, 0);
    CHECK(isnan(ranks[5])); /* alone */
    set.most = 2;
    (void)mean_rank_of(&set, ranks);
    CHECK(isnan(ranks[3]) && isnan(ranks[5])); /* item 3 is the third of its target */
    CHECK(ranks[0] == 0 && ranks[4] == 0);
}

/* Brightness and contrast do not count; what is turned into its opposite is behind all others. */
static void ranks_by_correlation(void)
{
    const uint8_t results[6 * SIZE] = {50, 60, 70, 5, 6, 6, 0, 1, 2, 9, 100, 10, 1, 1, 2, 0, 0, 0};
    dscm_result_set set = set_of(results);
    double ranks[6];
    (void)mean_rank_of(&set, ranks);
    CHECK_NEAR(ranks[0], 0, 0);
    CHECK_NEAR(ranks[1], 1, 0); /* ρ with its own factual −1, with that of item 4 ½ */
    CHECK_NEAR(ranks[2], 1, 0); /* −1; 1 with item 0, 0 with item 3 */
    CHECK_NEAR(ranks[3], 0, 0);
    CHECK_NEAR(ranks[4], 0, 0);
}

static void ties_count_half(void)
{
    /* Items 0 and 1 have one factual but for contrast, item 2 has another. */
    const uint8_t doubled[3 * SIZE] = {1, 2, 4, 31, 62, 124, 4, 2, 1};
    const int same[3] = {0, 0, 0};
    double ranks[3];
    dscm_result_set set = {.factuals = doubled,
                           .results = doubled,
                           .targets = same,
                           .count = 3,
                           .labels = 1,
                           .size = SIZE,
                           .most = 3};
    CHECK_NEAR(mean_rank_of(&set, ranks), 1.0 / 6, 1e-12);
    CHECK_NEAR(ranks[0], 0.25, 0);
    CHECK_NEAR(ranks[1], 0.25, 0);
    CHECK_NEAR(ranks[2], 0, 0);
    const uint8_t black[3 * SIZE] = {0};
    set.results = black; /* correlates with nothing: all are equal */
    CHECK_NEAR(mean_rank_of(&set, ranks), 0.5, 0);
    CHECK_NEAR(ranks[2], 0.5, 0);
    CHECK_NEAR(diversity_of(&set), 0, 0);
}

/* The case that scores of single items miss: one image for everybody. */
static void one_image_for_all_is_chance(void)
{
    enum { N = 60, PIXELS = 50 };
    static uint8_t many[N * PIXELS], one[N * PIXELS];
    int classes[N];
    double ranks[N];
    dscm_rng rng = dscm_rng_make(test_seed, 1);
    for (size_t i = 0; i < sizeof many; i++) many[i] = (uint8_t)dscm_rng_below(&rng, 256);
    for (size_t i = 0; i < sizeof one; i++) one[i] = many[7 * PIXELS + i % PIXELS];
    for (int i = 0; i < N; i++) classes[i] = i % 3;
    dscm_result_set set = {.factuals = many,
                           .results = one,
                           .targets = classes,
                           .count = N,
                           .labels = 3,
                           .size = PIXELS,
                           .most = N};
    CHECK_NEAR(diversity_of(&set), 0, 0);
    CHECK_NEAR(mean_rank_of(&set, ranks), 0.5, 1e-12);
    CHECK_NEAR(ranks[7], 0, 0);
    /* Half of the way back to the factual is enough to be known. */
    for (size_t i = 0; i < sizeof one; i++) one[i] = (uint8_t)((one[i] + many[i]) / 2);
    CHECK(mean_rank_of(&set, ranks) < 0.1);
    CHECK(diversity_of(&set) > 20);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"diversity_is_the_mean_over_pairs_of_a_target",
         diversity_is_the_mean_over_pairs_of_a_target},
        {"an_unchanged_image_knows_its_factual", an_unchanged_image_knows_its_factual},
        {"ranks_by_correlation", ranks_by_correlation},
        {"ties_count_half", ties_count_half},
        {"one_image_for_all_is_chance", one_image_for_all_is_chance},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
