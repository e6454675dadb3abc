/* Ground truth of MorphoMNIST: the draws of the protocol, the true parents, the errors. */
#include "core/eval/truth.h"

#include <math.h>

#include "core/base/memory.h"
#include "tests/harness.h"

enum { COUNT = 300, SIDE = 28, PIXELS = SIDE * SIDE };

static dscm_morpho_parents people[COUNT];

static void draw_people(void)
{
    for (size_t i = 0; i < COUNT; i++) {
        dscm_rng rng = dscm_rng_make(3, i);
        people[i].digit = (double)(i % 10);
        dscm_morpho_draw(&rng, (int)(i % 10), false, &people[i].thickness, &people[i].intensity);
    }
}

static int bin(double v, bool thickness)
{
    double low = HUGE_VAL, high = -HUGE_VAL;
    for (size_t i = 0; i < COUNT; i++) {
        double x = thickness ? people[i].thickness : people[i].intensity;
        low = fmin(low, x), high = fmax(high, x);
    }
    return (int)fmin(8, floor(9 * (v - low) / (high - low)));
}

/* Every value drawn is another image's, in another bin; only what the kind names is set; the same seed
 * draws the same and another one does not. */
static void draws_follow_the_protocol(void)
{
    dscm_morpho_parents set[COUNT], again[COUNT], other[COUNT];
    draw_people();
    for (int kind = 0; kind < DSCM_TRUTH_KINDS; kind++) {
        dscm_truth_kind k = (dscm_truth_kind)kind;
        size_t same = 0;
        bool joint = kind == DSCM_TRUTH_JOINT;
        REQUIRE(dscm_truth_draw(set, k, people, COUNT, 1, NULL) == DSCM_OK);
        REQUIRE(dscm_truth_draw(again, k, people, COUNT, 1, NULL) == DSCM_OK);
        REQUIRE(dscm_truth_draw(other, k, people, COUNT, 2, NULL) == DSCM_OK);
        CHECK(memcmp(set, again, sizeof set) == 0);
        for (size_t i = 0; i < COUNT; i++) {
            CHECK_INT(!isnan(set[i].thickness), joint || kind == DSCM_TRUTH_THICKNESS);
            CHECK_INT(!isnan(set[i].intensity), joint || kind == DSCM_TRUTH_INTENSITY);
            CHECK_INT(!isnan(set[i].digit), joint || kind == DSCM_TRUTH_DIGIT);
            if (!isnan(set[i].thickness))
                CHECK(bin(set[i].thickness, true) != bin(people[i].thickness, true));
            if (!isnan(set[i].intensity))
                CHECK(bin(set[i].intensity, false) != bin(people[i].intensity, false));
            if (!isnan(set[i].digit))
                CHECK(set[i].digit != people[i].digit && set[i].digit >= 0 && set[i].digit <= 9);
            same += memcmp(&set[i], &other[i], sizeof set[i]) == 0;
        }
        CHECK(same < COUNT / 2);
    }
    for (size_t i = 0; i < COUNT; i++) people[i] = people[0];
    CHECK_INT(dscm_truth_draw(set, DSCM_TRUTH_THICKNESS, people, COUNT, 1, NULL), DSCM_E_INVALID);
}

/* Thickness carries intensity along with the individual's noise; intensity and digit carry nothing. */
static void truth_keeps_the_noise(void)
{
    const dscm_morpho_parents f = {3, 2.1, dscm_morpho_intensity(2.1, 0.7)};
    const dscm_morpho_parents thick = {NAN, 3, NAN}, grey = {NAN, NAN, 100}, all = {5, 3, 90};
    dscm_morpho_parents p = dscm_truth_parents(&f, &thick);
    CHECK_NEAR(p.intensity, dscm_morpho_intensity(3, 0.7), 1e-9);
    CHECK(p.thickness == 3 && p.digit == 3);
    p = dscm_truth_parents(&f, &grey);
    CHECK(p.intensity == 100 && p.thickness == 2.1);
    p = dscm_truth_parents(&f, &all);
    CHECK(p.intensity == 90 && p.thickness == 3 && p.digit == 5);
}

/* The renderer's own answer has no error to the truth; another thickness has. */
static void errors_are_those_of_the_renderer(void)
{
    uint8_t source[PIXELS] = {0}, truth[PIXELS], other[PIXELS];
    dscm_morpho *m = NULL;
    dscm_truth_row row;
    for (int y = 5; y < 23; y++)
        for (int x = 12; x < 15; x++) source[y * SIDE + x] = 220;
    REQUIRE(dscm_morpho_open(&m, SIDE, SIDE, NULL) == DSCM_OK);
    const dscm_morpho_parents asked = {1, 4, 180};
    dscm_morpho_render(m, truth, source, 4, 180);
    dscm_morpho_render(m, other, source, 2, 120);
    dscm_truth_measure(&row, m, source, truth, truth, PIXELS, &asked);
    CHECK(row.l1 == 0 && row.thickness_truth == 0 && row.intensity_truth == 0);
    CHECK(row.thickness < 0.4 && row.intensity < 2);
    dscm_truth_measure(&row, m, source, other, truth, PIXELS, &asked);
    CHECK(row.l1 > 5 && fabs(row.thickness_truth - 2) < 0.6 && fabs(row.intensity_truth - 60) < 3);
    dscm_truth_measure(&row, m, source, other, NULL, PIXELS, &asked);
    CHECK(isnan(row.l1) && isnan(row.thickness_truth) && row.thickness > 1);
    dscm_morpho_free(m);
}

/* What is called for is no excess, nor is doing nothing; what goes beyond the truth's change of a pixel
 * is, in whichever direction. */
static void minimality_counts_what_nobody_asked_for(void)
{
    uint8_t factual[PIXELS] = {0}, truth[PIXELS] = {0}, result[PIXELS] = {0};
    dscm_morpho *m = NULL;
    dscm_truth_row row;
    const dscm_morpho_parents asked = {1, 4, 180};
    REQUIRE(dscm_morpho_open(&m, SIDE, SIDE, NULL) == DSCM_OK);
    memset(factual + 10 * SIDE, 100, 4 * SIDE);
    memset(truth + 10 * SIDE, 150, 4 * SIDE); /* +50 in a seventh of the image */
    dscm_truth_measure(&row, m, factual, truth, truth, PIXELS, &asked);
    CHECK_NEAR(row.due, 50 / 7.0, 1e-9);
    CHECK_NEAR(row.change, 50 / 7.0, 1e-9);
    CHECK(row.excess == 0);
    dscm_truth_measure(&row, m, factual, factual, truth, PIXELS, &asked);
    CHECK(row.change == 0 && row.excess == 0 && row.l1 > 7);
    memset(result, 14, sizeof result); /* +14 where nothing is due, -30 of 50 where it is */
    memset(result + 10 * SIDE, 70, 4 * SIDE);
    dscm_truth_measure(&row, m, factual, result, truth, PIXELS, &asked);
    CHECK_NEAR(row.excess, 14 * 6 / 7.0, 1e-9);
    CHECK_NEAR(row.change, (14 * 6 + 30) / 7.0, 1e-9);
    dscm_truth_measure(&row, m, factual, result, NULL, PIXELS, &asked);
    CHECK(isnan(row.excess) && isnan(row.due) && row.change > 0);
    dscm_morpho_free(m);
}

static void the_nearest_has_the_digit(void)
{
    const dscm_morpho_parents all[] = {{1, 2, 100}, {1, 2.1, 110}, {2, 2, 100}, {1, 5, 250}};
    const dscm_morpho_parents asked = {1, 2.05, 104}, none = {7, 2, 100};
    CHECK_INT(dscm_truth_nearest(all, 4, 3, &asked), 0);
    CHECK_INT(dscm_truth_nearest(all, 4, 0, &asked), 1);
    CHECK_INT(dscm_truth_nearest(all, 4, 2, &none), 2);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"draws_follow_the_protocol", draws_follow_the_protocol},
        {"truth_keeps_the_noise", truth_keeps_the_noise},
        {"errors_are_those_of_the_renderer", errors_are_those_of_the_renderer},
        {"minimality_counts_what_nobody_asked_for", minimality_counts_what_nobody_asked_for},
        {"the_nearest_has_the_digit", the_nearest_has_the_digit}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
