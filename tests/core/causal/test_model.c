/* Causal models of tables: graphs, splines and gradients, fitting beside closed forms, Gumbel
 * posteriors, propagation, and models as JSON. */
#include "core/base/memory.h"
#include "core/causal/internal.h"
#include "core/causal/model.h"
#include "core/data/morpho.h"
#include "tests/harness.h"

#define MORPHO "thickness -> intensity; digit, thickness, intensity -> image"

static void graphs_are_read_and_sorted(void)
{
    dscm_causal m, j;
    dscm_error err = {0};
    REQUIRE(dscm_causal_graph(&m, " digit,thickness , intensity->image;\n thickness -> intensity; ",
                              &err) == DSCM_OK);
    CHECK_INT(m.count, 4);
    CHECK_STR(m.nodes[0].name, "digit");
    CHECK_STR(m.nodes[1].name, "thickness");
    CHECK_STR(m.nodes[2].name, "intensity");
    CHECK_INT(m.image, 3);
    CHECK_INT(m.nodes[2].parents[0], 1);
    CHECK_INT(m.nodes[3].parents_count, 3);
    REQUIRE(dscm_causal_graph(&j,
                              "{\"digit\": [], \"intensity\": [\"thickness\"],"
                              "\"image\": [\"digit\", \"thickness\", \"intensity\"]}",
                              &err) == DSCM_OK);
    CHECK_INT(j.count, 4);
    CHECK_INT(j.image, 3);
    dscm_causal_free(&j);
    dscm_causal_free(&m);
}

static void refused(const char *text, const char *part)
{
    dscm_causal m;
    dscm_error err = {0};
    CHECK(dscm_causal_graph(&m, text, &err) != DSCM_OK);
    CHECK_HAS(err.message, part);
    CHECK_INT(m.count, 0);
}

static void wrong_graphs_are_told_by_name(void)
{
    refused("a -> b; b -> c; c -> a; a -> image", "cycle among: a, b, c");
    refused("a -> a", "cycle among: a");
    refused("image -> a", "image -> a: the image cannot be a parent");
    refused("a -> b; a -> b", "a -> b is given twice");
    refused("a -> b -> c", "two arrows");
    refused("a, -> c", "a name is empty");
    refused("a -> ", "a name is empty");
    refused("", "graph: empty");
    refused("{\"a\": \"b\"}", "a: must be an array of parents");
    refused("{\"a\": [\"b\"], \"b\": [\"a\"]}", "cycle among: a, b");
    refused("{\"a\": ", "JSON, line 1");
}

static dscm_code table_of(dscm_table *t, const char *text, dscm_error *err)
{
    return dscm_table_parse(t, text, strlen(text), "v.csv", err);
}

static void tables_describe_variables(void)
{
    dscm_causal m;
    dscm_table t;
    dscm_error err = {0};
    double *values = NULL;
    REQUIRE(dscm_causal_graph(&m, "sex, size -> weight; weight -> image", &err) == DSCM_OK);
    REQUIRE(table_of(&t, "sex,size,weight\nf,2,1.5\nm,10,3.5\nf,2,2\n", &err) == DSCM_OK);
    REQUIRE(dscm_causal_describe(&m, &t, &err) == DSCM_OK);
    CHECK_INT(m.nodes[0].labels_count, 2);
    CHECK_STR(m.nodes[1].labels[1], "10"); /* in the order of numbers */
    CHECK_NEAR(m.nodes[2].min, 1.4, 1e-9);
    CHECK_NEAR(m.nodes[2].max, 3.6, 1e-9);
    REQUIRE(dscm_causal_values(&m, &t, false, &values, &err) == DSCM_OK);
    CHECK_NEAR(values[4], 1, 0);
    CHECK_NEAR(values[6], 3.5, 0);
    CHECK(isnan(values[3]));
    dscm_free(values);
    dscm_causal_free(&m);
    REQUIRE(dscm_causal_graph(&m, "sex -> colour", &err) == DSCM_OK);
    CHECK(dscm_causal_describe(&m, &t, &err) == DSCM_E_UNKNOWN);
    CHECK_HAS(err.message, "\"colour\" is neither the image nor a column of v.csv");
    dscm_causal_free(&m);
    dscm_table_free(&t);
    REQUIRE(dscm_causal_graph(&m, "a -> b", &err) == DSCM_OK);
    err = (dscm_error){0};
    REQUIRE(table_of(&t, "a,b\n1,0.5\n2,-3e200\n3,1.5\n", &err) == DSCM_OK);
    CHECK(dscm_causal_describe(&m, &t, &err) == DSCM_E_LIMIT);
    CHECK_HAS(err.message, "v.csv: column 2 (b): -3e+200 is too large; at most 1e+11 is");
    dscm_causal_free(&m);
    dscm_table_free(&t);
}

/* Numbers that no file can hold are an error of the fit, not a file that lacks them. */
static void a_fit_beyond_all_numbers_is_refused(void)
{
    enum { ROWS = 40 };
    dscm_causal m;
    dscm_error err = {0};
    double values[ROWS][2];
    dscm_causal_options options = dscm_causal_defaults();
    options.epochs = 2;
    REQUIRE(dscm_causal_graph(&m, "a -> b", &err) == DSCM_OK);
    for (int i = 0; i < 2; i++) m.nodes[i].max = 1;
    for (int i = 0; i < ROWS; i++) {
        values[i][0] = (i % 7) * 1e300;
        values[i][1] = 0.02 * i;
    }
    CHECK_INT(dscm_causal_fit(&m, &values[0][0], ROWS, &options, NULL, &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, "b: its mechanism became ");
    dscm_causal_free(&m);
}

/* Loss of the spline at a point, as causal_spline_backward has it. */
static double spline_loss(const causal_spline *s, double at)
{
    causal_knots k;
    double slope;
    causal_spline_knots(&k, s);
    double z = causal_spline_forward(&k, at, &slope);
    return 0.5 * z * z - slope;
}

static void splines_invert_and_have_right_gradients(void)
{
    double p[3 * 5 - 1];
    causal_spline s = {.bins = 5, .p = p};
    causal_knots k;
    double slope;
    memset(p, 0, sizeof p);
    causal_spline_knots(&k, &s);
    for (double at = -5; at < 5; at += 0.37)
        CHECK_NEAR(causal_spline_forward(&k, at, &slope), at, 1e-9);
    dscm_rng rng = dscm_rng_make(test_seed, 0);
    for (size_t i = 0; i < 14; i++) {
        float z;
        dscm_rng_normal(&rng, &z, 1);
        p[i] = (double)z;
    }
    causal_spline_knots(&k, &s);
    double before = -INFINITY;
    for (double at = -4.5; at < 4.5; at += 0.193) {
        double z = causal_spline_forward(&k, at, &slope), h = 1e-6, up, down;
        CHECK(z > before);
        before = z;
        CHECK_NEAR(causal_spline_inverse(&k, z), at, 1e-9);
        up = causal_spline_forward(&k, at + h, &down);
        CHECK_NEAR((up - z) / h, exp(slope), 1e-3 * exp(slope) + 1e-4);
        causal_knots dk;
        double grad[14] = {0};
        memset(&dk, 0, sizeof dk);
        double ds = causal_spline_backward(&dk, &k, at);
        causal_spline_chain(grad, &dk, &s);
        CHECK_NEAR(ds, (spline_loss(&s, at + h) - spline_loss(&s, at - h)) / (2 * h),
                   1e-4 * (1 + fabs(ds)));
        for (size_t i = 0; i < 14; i++) {
            double held = p[i];
            p[i] = held + h;
            up = spline_loss(&s, at);
            p[i] = held - h;
            down = spline_loss(&s, at);
            p[i] = held;
            CHECK_NEAR(grad[i], (up - down) / (2 * h), 1e-5 * (1 + fabs(grad[i])));
        }
    }
}

static void networks_have_right_gradients(void)
{
    causal_net n;
    dscm_error err = {0};
    double f[3] = {0.4, -1.1, 0.7}, out[2], h[4], dout[2] = {0.9, -0.3};
    REQUIRE(causal_net_open(&n, 3, 4, 2, &err) == DSCM_OK);
    size_t count = causal_net_count(&n);
    double *grad = calloc(count, sizeof *grad);
    dscm_rng rng = dscm_rng_make(test_seed, 1);
    for (size_t i = 0; i < count; i++) n.p[i] = (double)dscm_rng_uniform(&rng) - 0.5;
    causal_net_forward(out, h, &n, f);
    causal_net_backward(grad, dout, h, &n, f);
    causal_net_backward(grad, dout, h, &n, f); /* adds */
    for (size_t i = 0; i < count; i++) {
        double held = n.p[i], step = 1e-6, up[2], down[2], scratch[4];
        n.p[i] = held + step;
        causal_net_forward(up, scratch, &n, f);
        n.p[i] = held - step;
        causal_net_forward(down, scratch, &n, f);
        n.p[i] = held;
        double want = (dout[0] * (up[0] - down[0]) + dout[1] * (up[1] - down[1])) / (2 * step);
        CHECK_NEAR(grad[i], 2 * want, 1e-7);
    }
    free(grad);
    dscm_free(n.p);
}

/* A table of the MorphoMNIST model. Caller frees. */
static double *draw_morpho(size_t rows, uint64_t seed)
{
    double *v = calloc(rows * 4, sizeof *v);
    for (size_t i = 0; v && i < rows; i++) {
        dscm_rng rng = dscm_rng_make(seed, i);
        v[4 * i] = (double)(i % 10);
        dscm_morpho_draw(&rng, (int)(i % 10), false, &v[4 * i + 1], &v[4 * i + 2]);
        v[4 * i + 3] = (double)NAN;
    }
    return v;
}

static dscm_code open_morpho(dscm_causal *m, dscm_error *err)
{
    dscm_code code = dscm_causal_graph(m, "digit; " MORPHO, err);
    if (code != DSCM_OK) return code;
    m->nodes[0].kind = DSCM_CATEGORICAL;
    m->nodes[0].labels_count = 10;
    m->nodes[0].labels = dscm_alloc(10, sizeof(char *), "labels", err);
    for (int k = 0; k < 10; k++) {
        char text[2] = {(char)('0' + k), 0};
        m->nodes[0].labels[k] = dscm_strdup(text, err);
    }
    m->nodes[1].min = 0.5;
    m->nodes[1].max = 10;
    m->nodes[2].min = 64;
    m->nodes[2].max = 255;
    return DSCM_OK;
}

/* Mean error of the intensity that follows do(thickness), against the true mechanism. */
static double propagation_error(const dscm_causal *m, const double *rows, size_t count)
{
    double sum = 0, out[4];
    dscm_error err = {0};
    for (size_t i = 0; i < count; i++) {
        const double *row = rows + 4 * i;
        double to = 1 + 4.0 * (double)i / (double)count;
        const dscm_intervention act = {.variable = 1, .action = DSCM_DO, .value = to};
        double truth = dscm_morpho_intensity(to, dscm_morpho_noise(row[1], row[2]));
        CHECK_INT(dscm_causal_predict(m, row, &act, 1, 1, out, NULL, &err), DSCM_OK);
        CHECK_NEAR(out[0], row[0], 0);
        CHECK_NEAR(out[1], to, 0);
        sum += fabs(out[2] - truth);
    }
    return sum / (double)count;
}

static void fitted_intensity_is_the_true_mechanism(void)
{
    enum { ROWS = 6000 };
    dscm_causal m, copy;
    dscm_error err = {0};
    dscm_causal_report reports[DSCM_CAUSAL_NODES_MAX];
    dscm_causal_options options = dscm_causal_defaults();
    options.epochs = 12;
    double *rows = draw_morpho(ROWS, 5), *fresh = draw_morpho(300, 99);
    REQUIRE(rows && fresh && open_morpho(&m, &err) == DSCM_OK);
    REQUIRE(dscm_causal_fit(&m, rows, ROWS, &options, reports, &err) == DSCM_OK);
    double error = propagation_error(&m, fresh, 300);
    CHECK_NEAR(error, 0, 1.0);
    /* The thickness flow: quantiles of .5 + Gamma(10, rate 5), by integration elsewhere. */
    double v[4] = {0};
    CHECK_NEAR(dscm_causal_value(&m, 1, v, 0), 2.434, 0.05);
    CHECK_NEAR(dscm_causal_value(&m, 1, v, -1.2815516), 1.744, 0.06);
    CHECK_NEAR(dscm_causal_value(&m, 1, v, 1.2815516), 3.341, 0.06);
    for (int i = 1; i < 3; i++) {
        CHECK(reports[i].held_out >= reports[i].start);
        CHECK(reports[i].calibration < 0.08);
        CHECK_INT(reports[i].held_out_rows, 600);
    }
    CHECK_NEAR(reports[0].held_out, log(0.1), 0.02);
    /* Abduction is exact: the noise gives the value again. */
    for (int i = 0; i < 50; i++) {
        const double *row = fresh + 4 * i;
        CHECK_NEAR(dscm_causal_value(&m, 2, row, dscm_causal_noise(&m, 2, row)), row[2], 2e-4);
        CHECK_NEAR(dscm_causal_value(&m, 1, row, dscm_causal_noise(&m, 1, row)), row[1], 1e-4);
    }
    json_t *json = dscm_causal_json(&m);
    REQUIRE(json && dscm_causal_from_json(&copy, json, "m.json", &err) == DSCM_OK);
    CHECK_NEAR(propagation_error(&copy, fresh, 300), error, 1e-9);
    CHECK_INT(copy.nodes[0].labels_count, 10);
    json_decref(json);
    dscm_causal_free(&copy);
    dscm_causal_free(&m);
    free(rows);
    free(fresh);
}

static json_t *json_of(const char *text)
{
    json_error_t why;
    return json_loads(text, 0, &why);
}

static void given_mechanisms_are_taken(void)
{
    dscm_causal m;
    dscm_error err = {0};
    double *fresh = draw_morpho(100, 7);
    REQUIRE(fresh && open_morpho(&m, &err) == DSCM_OK);
    json_t *given = json_of("{\"intensity\": {\"bias\": [-5, -0.6931471805599453],"
                            "\"weights\": [[2], [0]]}}");
    REQUIRE(dscm_causal_give(&m, given, "g.json", &err) == DSCM_OK);
    CHECK_NEAR(propagation_error(&m, fresh, 100), 0, 0.01);
    const double row[4] = {0, 2, 150, 0};
    CHECK_NEAR(dscm_causal_noise(&m, 2, row), dscm_morpho_noise(2, 150), 1e-6);
    CHECK(dscm_causal_give(&m, given, "g.json", &err) == DSCM_E_INVALID);
    CHECK_HAS(err.message, "g.json: intensity: has a mechanism already");
    json_decref(given);
    given = json_of("{\"thickness\": {\"bias\": [1]}}");
    err = (dscm_error){0};
    CHECK(dscm_causal_give(&m, given, "g.json", &err) == DSCM_E_FORMAT);
    CHECK_HAS(err.message, "g.json: thickness: bias must be a list of 2 numbers");
    json_decref(given);
    dscm_causal_free(&m);
    free(fresh);
}

/* a -> b, both with two labels: P(a=1) = .3; P(b=1 | a) = .2, .9. */
static dscm_code open_binary(dscm_causal *m, dscm_error *err)
{
    json_t *json = json_of(
        "{\"variables\": [{\"name\": \"a\", \"kind\": \"categorical\", \"labels\": [\"n\", \"y\"],"
        "\"mechanism\": {\"bias\": [-0.356675, -1.203973]}},"
        "{\"name\": \"b\", \"kind\": \"categorical\", \"labels\": [\"n\", \"y\"], \"parents\": "
        "[\"a\"], \"mechanism\": {\"bias\": [0, 0],"
        "\"weights\": [[-0.223144, -2.302585], [-1.609438, -0.105361]]}}]}");
    dscm_code code = dscm_causal_from_json(m, json, "binary", err);
    json_decref(json);
    return code;
}

static void gumbel_counterfactuals_agree_with_the_closed_form(void)
{
    dscm_causal m;
    dscm_error err = {0};
    double out[2], probabilities[2 * DSCM_CAUSAL_LABELS_MAX], sum = 0, joint = 0;
    REQUIRE(open_binary(&m, &err) == DSCM_OK);
    const double factual[2] = {0, 0}; /* a = n, b = n */
    const dscm_intervention act = {.variable = 0, .action = DSCM_DO, .value = 1};
    for (uint64_t seed = 1; seed <= 50; seed++) {
        REQUIRE(dscm_causal_predict(&m, factual, &act, 1, seed, out, probabilities, &err) ==
                DSCM_OK);
        sum += probabilities[DSCM_CAUSAL_LABELS_MAX + 1] / 50;
    }
    /* Two labels: b = y iff the logistic difference of noises exceeds logit P(b = n). Given b = n
     * under a = n (.8), P(b = y under a = y) = (.9 - .2) / .8. */
    CHECK_NEAR(sum, 0.875, 0.02);
    CHECK_NEAR(out[1], 1, 0);
    const double other[2] = {0, 1}; /* b = y already: raising P(b = y) cannot lower it (monotone) */
    REQUIRE(dscm_causal_predict(&m, other, &act, 1, 1, out, probabilities, &err) == DSCM_OK);
    CHECK_NEAR(probabilities[DSCM_CAUSAL_LABELS_MAX + 1], 1, 0);
    const dscm_intervention same = {.variable = 0, .action = DSCM_DO, .value = 0};
    REQUIRE(dscm_causal_predict(&m, factual, &same, 1, 1, out, probabilities, &err) == DSCM_OK);
    CHECK_NEAR(out[1], 0, 0); /* do(v := v) changes nothing */
    CHECK_NEAR(probabilities[DSCM_CAUSAL_LABELS_MAX], 1, 0);
    dscm_rng rng = dscm_rng_make(test_seed, 3);
    for (int i = 0; i < 20000; i++) {
        dscm_causal_sample(&m, &rng, out);
        joint += out[0] == 1 && out[1] == 1;
    }
    CHECK_NEAR(joint / 20000, 0.27, 0.012);
    dscm_causal_free(&m);
}

static void categorical_children_are_fitted(void)
{
    enum { ROWS = 8000 };
    dscm_causal truth, m;
    dscm_error err = {0};
    dscm_causal_report reports[DSCM_CAUSAL_NODES_MAX];
    dscm_causal_options options = dscm_causal_defaults();
    options.epochs = 15;
    REQUIRE(open_binary(&truth, &err) == DSCM_OK);
    REQUIRE(open_binary(&m, &err) == DSCM_OK);
    double *rows = calloc(2 * ROWS, sizeof *rows);
    dscm_rng rng = dscm_rng_make(11, 0);
    for (int i = 0; i < ROWS; i++) dscm_causal_sample(&truth, &rng, rows + 2 * i);
    for (int i = 0; i < 2; i++) { /* forget what was read */
        dscm_free(m.nodes[i].net.p);
        dscm_free(m.nodes[i].mean);
        dscm_free(m.nodes[i].deviation);
        m.nodes[i].known = false;
    }
    REQUIRE(dscm_causal_fit(&m, rows, ROWS, &options, reports, &err) == DSCM_OK);
    const double yy[2] = {1, 1}, ny[2] = {0, 1};
    CHECK_NEAR(exp(dscm_causal_log_likelihood(&m, 0, yy)), 0.3, 0.02);
    CHECK_NEAR(exp(dscm_causal_log_likelihood(&m, 1, yy)), 0.9, 0.03);
    CHECK_NEAR(exp(dscm_causal_log_likelihood(&m, 1, ny)), 0.2, 0.03);
    CHECK(reports[1].calibration < 0.05);
    free(rows);
    dscm_causal_free(&m);
    dscm_causal_free(&truth);
}

static void shifts_holds_and_ranges(void)
{
    dscm_causal m;
    dscm_error err = {0};
    double out[4];
    REQUIRE(open_morpho(&m, &err) == DSCM_OK);
    json_t *given = json_of("{\"intensity\": {\"bias\": [-5, -0.6931471805599453],"
                            "\"weights\": [[2], [0]]}}");
    REQUIRE(dscm_causal_give(&m, given, "g.json", &err) == DSCM_OK);
    json_decref(given);
    const double row[4] = {3, 2, 150, (double)NAN};
    const dscm_intervention shift = {.variable = 1, .action = DSCM_SHIFT, .value = 1.5};
    REQUIRE(dscm_causal_predict(&m, row, &shift, 1, 1, out, NULL, &err) == DSCM_OK);
    CHECK_NEAR(out[1], 3.5, 1e-12);
    CHECK_NEAR(out[2], dscm_morpho_intensity(3.5, dscm_morpho_noise(2, 150)), 1e-6);
    const dscm_intervention held[2] = {shift, {.variable = 2, .action = DSCM_HOLD}};
    REQUIRE(dscm_causal_predict(&m, row, held, 2, 1, out, NULL, &err) == DSCM_OK);
    CHECK_NEAR(out[2], 150, 0);
    const dscm_intervention far = {.variable = 1, .action = DSCM_SHIFT, .value = 9};
    CHECK(dscm_causal_predict(&m, row, &far, 1, 1, out, NULL, &err) == DSCM_E_INVALID);
    CHECK_HAS(err.message, "thickness: 11 is not in 0.5..10");
    const dscm_intervention image = {.variable = 3, .action = DSCM_DO, .value = 0};
    err = (dscm_error){0};
    CHECK(dscm_causal_predict(&m, row, &image, 1, 1, out, NULL, &err) == DSCM_E_INVALID);
    dscm_causal_free(&m);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"graphs_are_read_and_sorted", graphs_are_read_and_sorted},
        {"wrong_graphs_are_told_by_name", wrong_graphs_are_told_by_name},
        {"a_fit_beyond_all_numbers_is_refused", a_fit_beyond_all_numbers_is_refused},
        {"tables_describe_variables", tables_describe_variables},
        {"splines_invert_and_have_right_gradients", splines_invert_and_have_right_gradients},
        {"networks_have_right_gradients", networks_have_right_gradients},
        {"fitted_intensity_is_the_true_mechanism", fitted_intensity_is_the_true_mechanism},
        {"given_mechanisms_are_taken", given_mechanisms_are_taken},
        {"gumbel_counterfactuals_agree_with_the_closed_form",
         gumbel_counterfactuals_agree_with_the_closed_form},
        {"categorical_children_are_fitted", categorical_children_are_fitted},
        {"shifts_holds_and_ranges", shifts_holds_and_ranges}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
