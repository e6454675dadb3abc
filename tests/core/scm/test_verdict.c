/* The rules of verdicts and outcomes: each number decides exactly from its limit on, and a number that
 * was not measured decides nothing. */
#include <math.h>
#include <string.h>

#include "core/scm/verdict.h"
#include "tests/harness.h"

static dscm_abduction_evidence faithful(void)
{
    dscm_abduction_evidence e = dscm_abduction_evidence_none();
    e.error_l1 = 0.5;
    return e;
}

static void nothing_measured_is_inaccurate(void)
{
    const dscm_abduction_evidence none = dscm_abduction_evidence_none(), good = faithful();
    CHECK_INT(dscm_verdict_of(&none), DSCM_VERDICT_INACCURATE);
    CHECK_INT(dscm_verdict_of(&good), DSCM_VERDICT_GOOD);
}

static void errors_beyond_four_are_inaccurate(void)
{
    dscm_abduction_evidence e = faithful();
    e.error_l1 = 4;
    CHECK_INT(dscm_verdict_of(&e), DSCM_VERDICT_GOOD);
    e.error_l1 = nextafter(4, 5);
    CHECK_INT(dscm_verdict_of(&e), DSCM_VERDICT_INACCURATE);
    e.confidence = 0;
    CHECK_INT(dscm_verdict_of(&e), DSCM_VERDICT_INACCURATE);
}

static void unsure_predictors_are_unfamiliar(void)
{
    dscm_abduction_evidence e = faithful();
    e.confidence = 0.5;
    CHECK_INT(dscm_verdict_of(&e), DSCM_VERDICT_GOOD);
    e.confidence = nextafter(0.5, 0);
    CHECK_INT(dscm_verdict_of(&e), DSCM_VERDICT_UNFAMILIAR);
    e.denoising = (dscm_quantile_check){1, {0, 2}}; /* known to be like others, if hard to name */
    CHECK_INT(dscm_verdict_of(&e), DSCM_VERDICT_GOOD);
}

/* Too small is as unfamiliar as too large: an empty picture is denoised too well. */
static void quantiles_have_two_sides(void)
{
    dscm_abduction_evidence e = faithful();
    dscm_quantile_check *checks[] = {&e.noise_only, &e.denoising, &e.contrast,
                                     &e.border,     &e.likeness,  &e.likeness_centred};
    for (size_t i = 0; i < TEST_COUNT(checks); i++) {
        const double values[] = {0.99, 1, 2, 2.01};
        for (size_t k = 0; k < 4; k++) {
            *checks[i] = (dscm_quantile_check){values[k], {1, 2}};
            CHECK_INT(dscm_verdict_of(&e),
                      k == 0 || k == 3 ? DSCM_VERDICT_UNFAMILIAR : DSCM_VERDICT_GOOD);
        }
        *checks[i] = (dscm_quantile_check){(double)NAN, {1, 2}};
        CHECK_INT(dscm_verdict_of(&e), DSCM_VERDICT_GOOD);
        *checks[i] = (dscm_quantile_check){5, {(double)NAN, (double)NAN}};
        CHECK_INT(dscm_verdict_of(&e), DSCM_VERDICT_GOOD);
    }
}

static void acceptance_replaces_the_guide(void)
{
    dscm_outcome_evidence e = dscm_outcome_evidence_none();
    CHECK_INT(dscm_outcome_of(&e), DSCM_OUTCOME_NOT_FOUND);
    e.valid = true;
    CHECK_INT(dscm_outcome_of(&e), DSCM_OUTCOME_FOUND);
    e.acceptance = 0.8;
    e.acceptance_min = 0.9;
    CHECK_INT(dscm_outcome_of(&e), DSCM_OUTCOME_NOT_FOUND);
    e.acceptance = 0.9;
    CHECK_INT(dscm_outcome_of(&e), DSCM_OUTCOME_FOUND);
    e.valid = false;
    CHECK_INT(dscm_outcome_of(&e), DSCM_OUTCOME_FOUND);
    e.missed = true; /* the nets speak of labels alone */
    CHECK_INT(dscm_outcome_of(&e), DSCM_OUTCOME_NOT_FOUND);
    const char *words = dscm_outcome_words(&e);
    CHECK_HAS(words ? words : "", "tolerance");
}

/* Each doubt alone contests what was found, says why, and rescues nothing that was not. */
static void doubts_contest(void)
{
    const char *const reasons[] = {"second opinion", "blur", "unlike", "accurately"};
    for (size_t i = 0; i < 4; i++) {
        dscm_outcome_evidence e = dscm_outcome_evidence_none();
        e.valid = true;
        e.opinions = e.agreed = 2;
        e.blurred = e.blurred_min = 0.9;
        CHECK_INT(dscm_outcome_of(&e), DSCM_OUTCOME_FOUND);
        CHECK(dscm_outcome_words(&e) == NULL);
        if (i == 0) e.agreed = 1;
        if (i == 1) e.blurred = 0.8;
        if (i == 2) e.verdict = DSCM_VERDICT_UNFAMILIAR;
        if (i == 3) e.verdict = DSCM_VERDICT_INACCURATE;
        CHECK_INT(dscm_outcome_of(&e), DSCM_OUTCOME_CONTESTED);
        const char *words = dscm_outcome_words(&e);
        CHECK_HAS(words ? words : "", reasons[i]);
        e.valid = false;
        CHECK_INT(dscm_outcome_of(&e), DSCM_OUTCOME_NOT_FOUND);
        words = dscm_outcome_words(&e);
        CHECK_HAS(words ? words : "", "scale");
        e.searched = true;
        words = dscm_outcome_words(&e);
        CHECK_HAS(words ? words : "", "strongest");
    }
}

static void names_are_those_of_replies(void)
{
    CHECK(strcmp(dscm_verdict_name(DSCM_VERDICT_UNFAMILIAR), "unfamiliar") == 0);
    CHECK(strcmp(dscm_outcome_name(DSCM_OUTCOME_FOUND), "found") == 0);
    CHECK(strcmp(dscm_outcome_name(DSCM_OUTCOME_CONTESTED), "contested") == 0);
    CHECK(strcmp(dscm_outcome_name(DSCM_OUTCOME_NOT_FOUND), "not-found") == 0);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"nothing_measured_is_inaccurate", nothing_measured_is_inaccurate},
        {"errors_beyond_four_are_inaccurate", errors_beyond_four_are_inaccurate},
        {"unsure_predictors_are_unfamiliar", unsure_predictors_are_unfamiliar},
        {"quantiles_have_two_sides", quantiles_have_two_sides},
        {"acceptance_replaces_the_guide", acceptance_replaces_the_guide},
        {"doubts_contest", doubts_contest},
        {"names_are_those_of_replies", names_are_those_of_replies},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
