/* Values under interventions in a graph of additive mechanisms, without bundle or network:
 *
 *   group (3 labels) -> a = 1 + {0, 2, 5}[group] + u,   b = 2 a + u,   c = {0, 1, -1}[group] - b + u
 *   alone, a root;   image, of c */
#include "core/causal/propagate.h"

#include <math.h>

#include "core/base/memory.h"
#include "tests/harness.h"

#define NONE ((double)NAN)

enum { GROUP, A, B, C, ALONE, IMAGE, VARIABLES };

static const char *const labels[] = {"low", "middle", "high"};
static const int of_a[] = {GROUP}, of_b[] = {A}, of_c[] = {GROUP, B}, of_image[] = {C};
static const dscm_variable variables[VARIABLES] = {
    [GROUP] = {.name = "group", .kind = DSCM_CATEGORICAL, .labels_count = 3, .labels = labels},
    [A] = {.name = "a", .kind = DSCM_CONTINUOUS, .parents = of_a, .parents_count = 1},
    [B] = {.name = "b", .kind = DSCM_CONTINUOUS, .parents = of_b, .parents_count = 1},
    [C] = {.name = "c", .kind = DSCM_CONTINUOUS, .parents = of_c, .parents_count = 2},
    [ALONE] = {.name = "alone", .kind = DSCM_CONTINUOUS},
    [IMAGE] = {.name = "image", .kind = DSCM_IMAGE, .parents = of_image, .parents_count = 1},
};
static double levels_a[] = {0, 2, 5}, levels_c[] = {0, 1, -1};
static causal_additive mechanism_a = {.levels = {levels_a}}, mechanism_b = {.slopes = {2}},
                       mechanism_c = {.slopes = {0, -1}, .levels = {levels_c}};
static causal_additive *const additive[VARIABLES] = {
    [A] = &mechanism_a, [B] = &mechanism_b, [C] = &mechanism_c};
static const causal_system graph = {
    .variables = variables, .additive = additive, .count = VARIABLES, .image = IMAGE};
/* Noise of a: -.5, of b: .25, of c: 10. */
static const double known[VARIABLES] = {
    [GROUP] = 1, [A] = 2.5, [B] = 5.25, [C] = 5.75, [ALONE] = 7, [IMAGE] = NONE};

static dscm_code propagate(double value[VARIABLES], const dscm_intervention *acts, size_t count,
                           const double *factual, const double *observed, dscm_error *err)
{
    double before[VARIABLES];
    const dscm_query q = {.items = acts, .count = count, .factual = factual};
    dscm_code code = causal_propagate(&graph, &q, observed, before, value, err);
    for (int i = 0; code == DSCM_OK && i < VARIABLES; i++) {
        double want = factual && !isnan(factual[i]) ? factual[i] : observed ? observed[i] : NONE;
        CHECK(before[i] == want || (isnan(before[i]) && isnan(want)));
    }
    return code;
}

/* Values of a, b and c; the rest stays. */
static void follows(const dscm_intervention *acts, size_t count, double a, double b, double c)
{
    double value[VARIABLES];
    dscm_error err = {0};
    CHECK_INT(propagate(value, acts, count, known, NULL, &err), DSCM_OK);
    CHECK_NEAR(value[A], a, 1e-12);
    CHECK_NEAR(value[B], b, 1e-12);
    CHECK_NEAR(value[C], c, 1e-12);
    CHECK_NEAR(value[ALONE], 7, 0);
    CHECK(isnan(value[IMAGE]));
}

static void a_cause_moves_all_its_descendants(void)
{
    /* a = 1 + 5 - .5, b = 2 a + .25, c = -1 - b + 10: by both ways from group */
    follows((dscm_intervention[]){{GROUP, DSCM_DO, 2, NONE}}, 1, 5.5, 11.25, -2.25);
    follows((dscm_intervention[]){{GROUP, DSCM_DO, 1, NONE}}, 1, 2.5, 5.25, 5.75);
    follows(NULL, 0, 2.5, 5.25, 5.75);
}

static void an_effect_moves_no_ancestor(void)
{
    follows((dscm_intervention[]){{B, DSCM_DO, 0, NONE}}, 1, 2.5, 0, 11);
    follows((dscm_intervention[]){{C, DSCM_DO, 0, NONE}}, 1, 2.5, 5.25, 0);
}

static void shifts_and_holds_replace_the_mechanism(void)
{
    follows((dscm_intervention[]){{A, DSCM_SHIFT, 1, NONE}}, 1, 3.5, 7.25, 3.75);
    follows((dscm_intervention[]){{GROUP, DSCM_DO, 2, NONE}, {B, DSCM_HOLD, 0, NONE}}, 2, 5.5, 5.25,
            3.75);
    /* a shift is of the value that the mechanism gives */
    follows((dscm_intervention[]){{GROUP, DSCM_DO, 2, NONE}, {A, DSCM_SHIFT, 1, NONE}}, 2, 6.5,
            13.25, -4.25);
}

static void observed_values_stand_in_for_missing_ones(void)
{
    double value[VARIABLES];
    dscm_error err = {0};
    const dscm_intervention act = {GROUP, DSCM_DO, 2, NONE};
    const double factual[VARIABLES] = {1, NONE, 5.25, NONE, NONE, NONE};
    const double observed[VARIABLES] = {0, 2.5, 0, 5.75, NONE, NONE}; /* group and b are told */
    CHECK_INT(propagate(value, &act, 1, factual, observed, &err), DSCM_OK);
    CHECK_NEAR(value[A], 5.5, 1e-12);
    CHECK_NEAR(value[B], 11.25, 1e-12);
    CHECK_NEAR(value[C], -2.25, 1e-12);
    CHECK(isnan(value[ALONE]));
}

/* A known value that moves by an unknown amount is refused; an unknown one stays unknown. */
static void what_moves_by_an_unknown_amount_is_refused(void)
{
    double value[VARIABLES];
    dscm_error err = {0};
    const dscm_intervention act = {GROUP, DSCM_DO, 2, NONE};
    double factual[VARIABLES] = {NONE, 2.5, NONE, NONE, NONE, NONE};
    CHECK_INT(propagate(value, &act, 1, factual, NULL, &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, "a: depends on what is set");
    factual[A] = NONE;
    CHECK_INT(propagate(value, &act, 1, factual, NULL, &err), DSCM_OK);
    CHECK_NEAR(value[GROUP], 2, 0);
    for (int v = A; v < VARIABLES; v++) CHECK(isnan(value[v]));
}

static void wrong_interventions_are_named(void)
{
    static const struct {
        dscm_intervention acts[2];
        size_t count;
        const char *words;
    } wrong[] = {
        {{{GROUP, DSCM_DO, 3, 1}}, 1, "group: 3 is not a label index of 0..2"},
        {{{GROUP, DSCM_DO, 0.5, 1}}, 1, "group: 0.5 is not a label index of 0..2"},
        {{{GROUP, DSCM_DO, -1, 1}}, 1, "group: -1 is not a label index of 0..2"},
        {{{GROUP, DSCM_SHIFT, 1, 1}}, 1, "group: only continuous variables can be shifted"},
        {{{IMAGE, DSCM_DO, 1, 1}}, 1, "intervention 0: no variable that can be set"},
        {{{A, DSCM_DO, 1, 1}, {VARIABLES, DSCM_DO, 1, 1}}, 2, "intervention 1: no variable"},
        {{{-1, DSCM_DO, 1, 1}}, 1, "intervention 0: no variable"},
        {{{A, DSCM_DO, 1, 1}, {A, DSCM_SHIFT, 2, 1}}, 2, "a: set twice"},
    };
    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        double value[VARIABLES];
        dscm_error err = {0};
        CHECK_INT(propagate(value, wrong[i].acts, wrong[i].count, known, NULL, &err),
                  DSCM_E_INVALID);
        CHECK_HAS(err.message, wrong[i].words);
    }
}

static void a_graph_without_mechanisms_does_not_move(void)
{
    causal_additive *const none[VARIABLES] = {NULL};
    causal_system roots = graph;
    roots.additive = none;
    CHECK(causal_moves(&graph) && !causal_moves(&roots));
    double before[VARIABLES], value[VARIABLES];
    dscm_error err = {0};
    const dscm_intervention act = {GROUP, DSCM_DO, 2, NONE};
    const dscm_query q = {.items = &act, .count = 1, .factual = known};
    CHECK_INT(causal_propagate(&roots, &q, NULL, before, value, &err), DSCM_OK);
    CHECK_NEAR(value[GROUP], 2, 0);
    CHECK_NEAR(value[A], 2.5, 0);
}

static void mechanisms_own_their_parts(void)
{
    causal_additive *a = dscm_alloc(1, sizeof *a, "mechanism", NULL);
    REQUIRE(a != NULL);
    a->levels[DSCM_CAUSAL_NODES_MAX - 1] = dscm_alloc(3, sizeof(double), "mechanism", NULL);
    causal_additive_free(a); /* a leak is seen by AddressSanitizer */
    causal_additive_free(NULL);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"a_cause_moves_all_its_descendants", a_cause_moves_all_its_descendants},
        {"an_effect_moves_no_ancestor", an_effect_moves_no_ancestor},
        {"shifts_and_holds_replace_the_mechanism", shifts_and_holds_replace_the_mechanism},
        {"observed_values_stand_in_for_missing_ones", observed_values_stand_in_for_missing_ones},
        {"what_moves_by_an_unknown_amount_is_refused", what_moves_by_an_unknown_amount_is_refused},
        {"wrong_interventions_are_named", wrong_interventions_are_named},
        {"a_graph_without_mechanisms_does_not_move", a_graph_without_mechanisms_does_not_move},
        {"mechanisms_own_their_parts", mechanisms_own_their_parts},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
