/* Queries out of tables of factual values and interventions. */
#include "core/scm/table_query.h"

#include "tests/core/scm/two_parents.h"

static char dir[64];
static dscm_bundle *bundle;
static dscm_session *session;

static dscm_table table_of(const char *text, const char *name)
{
    dscm_table t;
    dscm_error err = {0};
    if (dscm_table_parse(&t, text, strlen(text), name, &err) != DSCM_OK)
        TEST_FAIL_("%s", err.message);
    return t;
}

/* thickness = 2 + {disc 0, ring 1, bar 3} + u: rows answer rows, in whatever order the columns are. */
static void rows_become_queries(void)
{
    dscm_error err = {0};
    dscm_table f = table_of("thickness,shape\n2.5,disc\n3.25,ring\n5,bar\n2,0\n", "f.csv");
    dscm_table d = table_of("shape,thickness\nbar,\n,4.125\nring,1.5\n,\n", "d.csv");
    double values[4 * VARIABLES];
    dscm_table_query q;
    size_t length = 0;
    REQUIRE(dscm_table_query_open(&q, bundle, 4, &f, &d, false, &err) == DSCM_OK);
    CHECK_INT(q.queries[0].count, 1);
    CHECK_INT(q.queries[1].count, 1);
    CHECK_INT(q.queries[2].count, 2);
    CHECK_INT(q.queries[3].count, 0);
    CHECK_INT(q.queries[1].items[0].variable, THICKNESS);
    REQUIRE(dscm_table_query_values(&q, bundle, &d, values, &err) == DSCM_OK);
    char *csv = dscm_table_query_csv(bundle, values, 4, &length);
    REQUIRE(csv);
    CHECK_STR(csv, "shape,thickness\nbar,5.5\nring,4.125\nring,1.5\ndisc,2\n");
    CHECK_INT(length, strlen(csv));
    free(csv);
    dscm_table_query_free(&q);
    dscm_table_free(&f);
    dscm_table_free(&d);
}

static void refused(const char *factuals, const char *dos, const char *part)
{
    dscm_error err = {0};
    dscm_table f = table_of(factuals, "f.csv"), d = table_of(dos, "d.csv");
    double values[2 * VARIABLES];
    dscm_table_query q;
    dscm_code code = dscm_table_query_open(&q, bundle, 2, &f, &d, false, &err);
    if (code == DSCM_OK) code = dscm_table_query_values(&q, bundle, &d, values, &err);
    CHECK(code != DSCM_OK);
    CHECK_HAS(err.message, part);
    dscm_table_query_free(&q);
    dscm_table_free(&f);
    dscm_table_free(&d);
}

static void wrong_rows_are_told_by_line(void)
{
    const char *good = "shape\ndisc\nring\n";
    refused(good, "colour\nred\nblue\n", "d.csv: line 1, column 1 (colour): variable \"colour\"");
    refused(good, "image\n1\n2\n", "d.csv: line 1, column 1 (image): an image cannot be set");
    refused(good, "thickness\n2\n11\n", "d.csv: line 3, column 1 (thickness): \"11\" is not");
    refused("shape\ndisc\nstar\n", good,
            "f.csv: line 3, column 1 (shape): \"star\" is not a label");
    refused(good, "shape\nbar\n", "d.csv: 1 rows for 2 images");
    refused("shape,thickness\n,\n,3\n", good, "d.csv: line 3: thickness: depends on what is set");
}

/* Unknown values come from the predictors, known ones stay; they are counted per variable. */
static void missing_values_are_observed(void)
{
    float images[3 * PIXELS], p[3], m[2];
    dscm_error err = {0};
    dscm_table f = table_of("shape,thickness\nbar,\n,4\n,\n", "f.csv");
    dscm_table_query q;
    size_t observed[VARIABLES] = {0};
    two_parents_images(images, 3, 5);
    REQUIRE(dscm_table_query_open(&q, bundle, 3, &f, NULL, false, &err) == DSCM_OK);
    REQUIRE(dscm_table_query_observe(&q, session, bundle, images, observed, &err) == DSCM_OK);
    CHECK_INT(observed[SHAPE], 2);
    CHECK_INT(observed[THICKNESS], 2);
    CHECK_NEAR(q.factuals[SHAPE], 2, 0);
    CHECK_NEAR(q.factuals[VARIABLES + THICKNESS], 4, 0);
    REQUIRE(dscm_observe(session, SHAPE, p, images + PIXELS, 1, &err) == DSCM_OK);
    REQUIRE(dscm_observe(session, THICKNESS, m, images + 2 * PIXELS, 1, &err) == DSCM_OK);
    int best = p[0] >= p[1] && p[0] >= p[2] ? 0 : p[1] >= p[2] ? 1 : 2;
    CHECK_NEAR(q.factuals[VARIABLES + SHAPE], best, 0);
    CHECK_NEAR(q.factuals[2 * VARIABLES + THICKNESS], fmax(0, fmin(10, (double)m[0])), 1e-6);
    dscm_table_query_free(&q);
    dscm_table_free(&f);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"rows_become_queries", rows_become_queries},
                                      {"wrong_rows_are_told_by_line", wrong_rows_are_told_by_line},
                                      {"missing_values_are_observed", missing_values_are_observed}};
    two_parents_sharpness = 30;
    return two_parents_main("test_table_query", dir, &bundle, &session, 2, argc, argv, cases,
                            TEST_COUNT(cases));
}
