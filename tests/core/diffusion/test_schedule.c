/* Noise schedules against their closed forms, and which steps a spacing keeps. */
#include "core/base/memory.h"
#include "core/diffusion/schedule.h"
#include "tests/harness.h"

/* Ho et al. 2020: 1e-4 … 0.02 at 1000 steps, scaled so that fewer steps add as much noise. */
static void linear_betas(void)
{
    static const size_t counts[] = {1000, 200};
    for (size_t c = 0; c < TEST_COUNT(counts); c++) {
        dscm_schedule s;
        double n = (double)counts[c], product = 1;
        REQUIRE(dscm_schedule_open(&s, DSCM_SCHEDULE_LINEAR, counts[c], NULL) == DSCM_OK);
        for (size_t i = 0; i < counts[c]; i++) {
            double beta = 1000 / n * (1e-4 + (0.02 - 1e-4) * (double)i / (n - 1));
            product *= 1 - beta;
            CHECK_NEAR(s.betas[i], beta, 1e-12);
            CHECK_NEAR(s.alphas_cumprod[i], product, 1e-12);
        }
        dscm_schedule_close(&s);
    }
}

/* Nichol & Dhariwal 2021: alpha_bar(u) = cos((u + .008) / 1.008 pi/2)^2, betas at most .999. */
static void cosine_betas(void)
{
    dscm_schedule s;
    const double half_pi = 1.57079632679489661923;
    REQUIRE(dscm_schedule_open(&s, DSCM_SCHEDULE_COSINE, 500, NULL) == DSCM_OK);
    for (size_t i = 0; i < 499; i++) {
        double u = (double)(i + 1) / 500, end = cos((u + 0.008) / 1.008 * half_pi),
               start = cos(0.008 / 1.008 * half_pi);
        CHECK_NEAR(s.alphas_cumprod[i], end * end / (start * start), 1e-9);
    }
    CHECK_NEAR(s.betas[499], 0.999, 1e-12);
    dscm_schedule_close(&s);
}

/* What is kept, as "first second … last (count)". */
static void check_spacing(const char *spec, size_t total, const size_t *some, size_t count)
{
    size_t *steps = NULL, got = 0;
    dscm_error err = {0};
    if (dscm_spacing(spec, total, &steps, &got, &err) != DSCM_OK) {
        TEST_FAIL_("%s of %zu: %s", spec, total, err.message);
        return;
    }
    CHECK_INT(got, count);
    for (size_t i = 0; i < count && got == count; i++) CHECK_INT(steps[i], some[i]);
    dscm_free(steps);
}

static void spacings_keep_what_they_say(void)
{
    check_spacing("ddim5", 20, (const size_t[]){0, 4, 8, 12, 16}, 5);
    check_spacing("ddim4", 10, (const size_t[]){0, 3, 6, 9}, 4);
    check_spacing("5", 20, (const size_t[]){0, 5, 10, 14, 19}, 5);     /* 4.75 each, ties to even */
    check_spacing("3,2,1", 10, (const size_t[]){0, 2, 3, 4, 6, 7}, 6); /* sections of 4, 3, 3 */
    check_spacing("4,3", 7, (const size_t[]){0, 1, 2, 3, 4, 5, 6}, 7);
}

static void impossible_spacings_are_named(void)
{
    static const struct {
        const char *spec;
        size_t total;
        const char *part;
    } wrong[] = {{"ddim7", 10, "no integer stride"},
                 {"5,4", 8, "5 of 4 in section 1"},
                 {"3,4,4", 10, "4 of 3 in section 2"},
                 {"", 10, "ddimN"},
                 {"ten", 10, "ten"},
                 {"5,", 10, "5,"},
                 {"0", 10, "\"0\""},
                 {"ddim5,5", 10, "ddim5,5"}};
    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        size_t *steps = NULL, count = 0;
        dscm_error err = {0};
        CHECK_INT(dscm_spacing(wrong[i].spec, wrong[i].total, &steps, &count, &err),
                  DSCM_E_INVALID);
        CHECK_HAS(err.message, wrong[i].part);
        CHECK(steps == NULL);
    }
    dscm_schedule s;
    CHECK_INT(dscm_schedule_open(&s, DSCM_SCHEDULE_LINEAR, 0, NULL), DSCM_E_INVALID);
    CHECK_INT(dscm_schedule_open(&s, DSCM_SCHEDULE_LINEAR, 100001, NULL), DSCM_E_INVALID);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"linear_betas", linear_betas},
        {"cosine_betas", cosine_betas},
        {"spacings_keep_what_they_say", spacings_keep_what_they_say},
        {"impossible_spacings_are_named", impossible_spacings_are_named},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
