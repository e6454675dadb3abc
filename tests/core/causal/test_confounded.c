/* A confounded data set: thickness follows the digit, t = 1 + .3 digit + .3 eps, so that who sees a
 * thick stroke guesses a high digit. Setting thickness must not move the digit, and a model of
 * observations, which says what goes along with a value, is not the answer. */
#include <math.h>

#include "core/base/memory.h"
#include "core/causal/model.h"
#include "core/data/morpho.h"
#include "tests/harness.h"

enum { ROWS = 3000, DIGIT = 0, THICKNESS, INTENSITY, IMAGE, NODES };

static dscm_causal model;
static double rows[ROWS][NODES];

static bool fit(void)
{
    static char text[ROWS * 40];
    size_t used = (size_t)sprintf(text, "digit,thickness,intensity\n");
    dscm_causal_options o = dscm_causal_defaults();
    dscm_table table;
    dscm_error err = {0};
    double *values = NULL;
    o.epochs = 20;
    for (size_t i = 0; i < ROWS; i++) {
        dscm_rng rng = dscm_rng_make(5, i);
        rows[i][DIGIT] = 2 + (double)(i % 8); /* thickness of lower ones is limited at .9 */
        dscm_morpho_draw(&rng, (int)rows[i][DIGIT], true, &rows[i][THICKNESS], &rows[i][INTENSITY]);
        used += (size_t)sprintf(text + used, "%g,%.9g,%.9g\n", rows[i][DIGIT], rows[i][THICKNESS],
                                rows[i][INTENSITY]);
    }
    dscm_code code = dscm_causal_graph(
        &model, "digit -> thickness; thickness -> intensity; digit, thickness, intensity -> image",
        &err);
    for (int n = 0; code == DSCM_OK && n < 2; n++) {
        model.nodes[THICKNESS + n].min = n ? 64 : 0.5;
        model.nodes[THICKNESS + n].max = n ? 255 : 7;
    }
    if (code == DSCM_OK) code = dscm_table_parse(&table, text, used, "confounded.csv", &err);
    if (code == DSCM_OK) code = dscm_causal_describe(&model, &table, &err);
    if (code == DSCM_OK) code = dscm_causal_values(&model, &table, false, &values, &err);
    if (code == DSCM_OK) code = dscm_causal_fit(&model, values, ROWS, &o, NULL, &err);
    if (code != DSCM_OK) TEST_FAIL_("%s", err.message);
    dscm_table_free(&table);
    dscm_free(values);
    return code == DSCM_OK;
}

static int label(int digit)
{
    char name[4];
    snprintf(name, sizeof name, "%d", digit);
    for (size_t k = 0; k < model.nodes[DIGIT].labels_count; k++)
        if (strcmp(model.nodes[DIGIT].labels[k], name) == 0) return (int)k;
    return -1;
}

/* What somebody who only observes would answer: the mean digit of those whose thickness is near. */
static double observed_digit(double thickness)
{
    double sum = 0, count = 0;
    for (size_t i = 0; i < ROWS; i++)
        if (fabs(rows[i][THICKNESS] - thickness) < 0.1) sum += rows[i][DIGIT], count++;
    return sum / count;
}

/* do(thickness): the digit stays, whichever it is; among observations it would be eight. */
static void setting_an_effect_moves_no_cause(void)
{
    double farthest = 0;
    for (size_t i = 0; i < 200; i++) {
        double out[NODES], before[NODES];
        dscm_error err = {0};
        memcpy(before, rows[i], sizeof before);
        before[DIGIT] = label((int)rows[i][DIGIT]);
        const dscm_intervention act = {THICKNESS, DSCM_DO, 3.4, (double)NAN};
        REQUIRE(dscm_causal_predict(&model, before, &act, 1, 1, out, NULL, &err) == DSCM_OK);
        CHECK(out[DIGIT] == before[DIGIT] && out[THICKNESS] == 3.4);
        double noise = dscm_morpho_noise(rows[i][THICKNESS], rows[i][INTENSITY]);
        CHECK_NEAR(out[INTENSITY], dscm_morpho_intensity(3.4, noise), 4);
        farthest = fmax(farthest, fabs(rows[i][DIGIT] - observed_digit(3.4)));
    }
    CHECK_NEAR(observed_digit(3.4), 8, 0.5);
    CHECK(farthest > 5);
}

/* do(digit): thickness follows by .3 per digit with the individual's own noise. Among observations of
 * that digit thickness would be the same for everybody, on average. */
static void setting_the_cause_keeps_the_individual(void)
{
    double ours = 0, observational = 0;
    for (size_t i = 0; i < 200; i++) {
        double out[NODES], before[NODES];
        dscm_error err = {0};
        memcpy(before, rows[i], sizeof before);
        before[DIGIT] = label((int)rows[i][DIGIT]);
        int to = 2 + ((int)rows[i][DIGIT] + 2) % 8;
        const dscm_intervention act = {DIGIT, DSCM_DO, label(to), (double)NAN};
        REQUIRE(dscm_causal_predict(&model, before, &act, 1, 1, out, NULL, &err) == DSCM_OK);
        double truth = rows[i][THICKNESS] + 0.3 * (to - rows[i][DIGIT]);
        ours += fabs(out[THICKNESS] - truth) / 200;
        observational += fabs(1 + 0.3 * to - truth) / 200;
    }
    CHECK(ours < 0.08);
    CHECK(observational > 2.5 * ours);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"setting_an_effect_moves_no_cause", setting_an_effect_moves_no_cause},
        {"setting_the_cause_keeps_the_individual", setting_the_cause_keeps_the_individual}};
    if (!fit()) return 1;
    int failed = test_main(argc, argv, cases, TEST_COUNT(cases));
    dscm_causal_free(&model);
    return failed;
}
