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

/* Two of a target: what sets them apart points one way or the other. Three: by hand, from the means
 * (200, 400, 200)/3 of the factuals and (54, 60, 60)/3 of the results. */
static void ranks_by_what_sets_apart(void)
{
    const uint8_t results[6 * SIZE] = {0, 0, 60, 5, 6, 6, 54, 0, 0, 0, 60, 0, 1, 9, 2, 0, 0, 0};
    dscm_result_set set = set_of(results);
    double ranks[6];
    (void)mean_rank_of(&set, ranks);
    CHECK_NEAR(ranks[0], 0, 0);
    CHECK_NEAR(ranks[1], 1, 0); /* r' = (2, -1.5, 2), f' = (4.5, 0, -127.5): ρ = -.47 */
    CHECK_NEAR(ranks[2], 0, 0);
    CHECK_NEAR(ranks[3], 0, 0);
    const uint8_t swapped[6 * SIZE] = {54, 0, 0, 5, 6, 6, 0, 60, 0, 0, 0, 60, 9, 9, 2, 0, 0, 0};
    set.results = swapped; /* each of three has another's */
    (void)mean_rank_of(&set, ranks);
    CHECK_NEAR(ranks[0], 1, 0); /* ρ with f0 is below those with f2, its own, and f3 */
    CHECK_NEAR(ranks[2], 0.5, 0);
    CHECK_NEAR(ranks[3], 0.5, 0);
}

/* What all results of a target share changes nothing, be it as strong as it likes. */
static void what_is_shared_does_not_count(void)
{
    enum { N = 40, PIXELS = 30 };
    static uint8_t many[N * PIXELS], faint[N * PIXELS], shared[N * PIXELS];
    int classes[N];
    double before[N], after[N];
    dscm_rng rng = dscm_rng_make(test_seed, 2);
    for (size_t i = 0; i < sizeof many; i++) {
        many[i] = (uint8_t)dscm_rng_below(&rng, 200);
        faint[i] = (uint8_t)(many[i] / 8 + dscm_rng_below(&rng, 60));
        shared[i] = (uint8_t)(faint[i] + i % PIXELS * 5);
    }
    for (int i = 0; i < N; i++) classes[i] = i % 2;
    dscm_result_set set = {.factuals = many,
                           .results = faint,
                           .targets = classes,
                           .count = N,
                           .labels = 2,
                           .size = PIXELS,
                           .most = N};
    double mean = mean_rank_of(&set, before);
    CHECK(mean > 0.02 && mean < 0.4);
    set.results = shared;
    (void)mean_rank_of(&set, after);
    for (size_t i = 0; i < N; i++) CHECK_NEAR(after[i], before[i], 0);
}

static void ties_count_half(void)
{
    /* Items 0 and 1 have one factual, item 2 has another. */
    const uint8_t doubled[3 * SIZE] = {1, 2, 4, 1, 2, 4, 4, 2, 1};
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
    for (size_t i = 0; i < N; i++) CHECK_NEAR(ranks[i], 0.5, 0);
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
        {"ranks_by_what_sets_apart", ranks_by_what_sets_apart},
        {"what_is_shared_does_not_count", what_is_shared_does_not_count},
        {"ties_count_half", ties_count_half},
        {"one_image_for_all_is_chance", one_image_for_all_is_chance},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
