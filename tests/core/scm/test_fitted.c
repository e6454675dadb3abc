/* Bundles whose mechanisms were fitted to a table: loading, abduction, propagation, guidance. */
#include "core/scm/guidance.h"
#include "tests/core/scm/two_parents.h"

#define NONE ((double)NAN)

enum { ROWS = 1500 };

static char dir[64];
static dscm_bundle *bundle;
static dscm_session *session;
static dscm_causal model;
static int disc, ring, bar; /* labels, in the order that the table gave them */

static int label(const char *name)
{
    for (size_t k = 0; k < model.nodes[SHAPE].labels_count; k++)
        if (strcmp(model.nodes[SHAPE].labels[k], name) == 0) return (int)k;
    return -1;
}

/* thickness = 2 + {disc 0, ring 1, bar 3} + .4 N(0,1) */
static bool fit(dscm_error *err)
{
    static const char *const names[] = {"disc", "ring", "bar"};
    static const double means[] = {2, 3, 5};
    static char text[ROWS * 32];
    size_t used = (size_t)sprintf(text, "shape,thickness\n");
    dscm_rng rng = dscm_rng_make(3, 0);
    for (int i = 0; i < ROWS; i++) {
        float z;
        dscm_rng_normal(&rng, &z, 1);
        used +=
            (size_t)sprintf(text + used, "%s,%.5f\n", names[i % 3], means[i % 3] + .4 * (double)z);
    }
    dscm_table table;
    double *values = NULL;
    dscm_causal_options o = dscm_causal_defaults();
    o.epochs = 30;
    if (dscm_causal_graph(&model, "shape -> thickness; shape, thickness -> image", err) != DSCM_OK)
        return false;
    model.nodes[THICKNESS].min = 0;
    model.nodes[THICKNESS].max = 10;
    dscm_code code = dscm_table_parse(&table, text, used, "table.csv", err);
    if (code == DSCM_OK) code = dscm_causal_describe(&model, &table, err);
    if (code == DSCM_OK) code = dscm_causal_values(&model, &table, false, &values, err);
    if (code == DSCM_OK) code = dscm_causal_fit(&model, values, ROWS, &o, NULL, err);
    dscm_table_free(&table);
    dscm_free(values);
    disc = label("disc");
    ring = label("ring");
    bar = label("bar");
    return code == DSCM_OK;
}

/* thickness under do(shape := to) of a disc of 2.3, that is of noise .3: every shape moves it to its
 * own mean and keeps the noise. */
static void descendants_keep_their_noise(void)
{
    const double factual[VARIABLES] = {disc, 2.3, NONE};
    const int to[] = {disc, ring, bar};
    static const double want[] = {2.3, 3.3, 5.3};
    for (int k = 0; k < 3; k++) {
        double out[VARIABLES];
        dscm_error err = {0};
        const dscm_intervention act = {SHAPE, DSCM_DO, to[k], NONE};
        const dscm_query q = {.items = &act, .count = 1, .factual = factual};
        if (dscm_query_values(bundle, &q, out, &err) != DSCM_OK) TEST_FAIL_("%s", err.message);
        CHECK_NEAR(out[SHAPE], to[k], 0);
        CHECK_NEAR(out[THICKNESS], want[k], k ? 0.12 : 1e-9);
        CHECK(isnan(out[IMAGE]));
    }
}

static double thickness_under(const dscm_intervention *acts, size_t count, const double *factual,
                              dscm_code *code)
{
    double out[VARIABLES] = {0};
    dscm_error err = {0};
    const dscm_query q = {.items = acts, .count = count, .factual = factual};
    *code = dscm_query_values(bundle, &q, out, &err);
    return out[THICKNESS];
}

/* Holding, setting and shifting a descendant; what is not known cannot be propagated. */
static void interventions_meet_mechanisms(void)
{
    const double known[VARIABLES] = {disc, 2.3, NONE}, no_shape[VARIABLES] = {NONE, 2.3, NONE},
                 nothing[VARIABLES] = {NONE, NONE, NONE};
    const dscm_intervention both[2] = {{SHAPE, DSCM_DO, bar, NONE},
                                       {THICKNESS, DSCM_HOLD, 0, NONE}};
    const dscm_intervention shift = {THICKNESS, DSCM_SHIFT, 1.5, NONE};
    const dscm_intervention far = {THICKNESS, DSCM_SHIFT, 9, NONE};
    dscm_code code;
    CHECK_NEAR(thickness_under(both, 2, known, &code), 2.3, 0);
    CHECK_NEAR(thickness_under(&shift, 1, known, &code), 3.8, 1e-9);
    CHECK_NEAR(thickness_under(&shift, 1, no_shape, &code), 3.8, 1e-9);
    thickness_under(&shift, 1, nothing, &code);
    CHECK_INT(code, DSCM_E_INVALID);
    thickness_under(&far, 1, known, &code);
    CHECK_INT(code, DSCM_E_INVALID); /* 11.3 is outside 0..10 */
    thickness_under(both, 1, no_shape, &code);
    CHECK_INT(code, DSCM_E_INVALID); /* which noise thickness has depends on the shape before */
    CHECK(isnan(thickness_under(both, 1, nothing, &code)));
    CHECK_INT(code, DSCM_OK);
}

/* Guidance: what is set and what moves with it is drawn to its value, what stays is not. */
static void guidance_follows_the_model(void)
{
    guidance g[2];
    dscm_error err = {0};
    const double factual[VARIABLES] = {disc, 2.3, NONE};
    const dscm_intervention shape = {SHAPE, DSCM_DO, bar, NONE};
    const dscm_intervention thick = {THICKNESS, DSCM_DO, 4, NONE};
    dscm_query q = {.items = &shape, .count = 1};
    REQUIRE(dscm_query_guidance(bundle, &q, factual, 2, g, &err) == DSCM_OK);
    CHECK_NEAR(g[0].target, bar, 0);
    CHECK_NEAR(g[1].target, 5.3, 0.12);
    CHECK_NEAR(g[1].scale, 2, 0);
    q.items = &thick;
    REQUIRE(dscm_query_guidance(bundle, &q, factual, 2, g, &err) == DSCM_OK);
    CHECK(!g[0].set);
    CHECK_NEAR(g[1].target, 4, 0);
}

/* A prediction without factual values takes them from the predictors: do(shape) then moves thickness
 * from the mean that its predictor sees. */
static void predictions_observe_what_is_missing(void)
{
    float image[PIXELS], out[2 * PIXELS];
    dscm_error err = {0};
    dscm_latent *one = NULL, *two = NULL;
    dscm_options o = dscm_options_defaults();
    two_parents_images(image, 1, 4);
    REQUIRE(dscm_options_resolve(bundle, &o, &err) == DSCM_OK);
    REQUIRE(dscm_abduct(session, &one, image, 1, &o, NULL, &err) == DSCM_OK);
    REQUIRE(dscm_latent_select(&two, one, (const size_t[]){0, 0}, 2, &err) == DSCM_OK);
    float p[3], m[2], clean[PIXELS];
    const dscm_query none = {.items = NULL};
    REQUIRE(dscm_predict(session, clean, one, &none, &o, NULL, &err) == DSCM_OK);
    REQUIRE(dscm_observe(session, SHAPE, p, clean, 1, &err) == DSCM_OK);
    REQUIRE(dscm_observe(session, THICKNESS, m, clean, 1, &err) == DSCM_OK);
    int seen = p[0] >= p[1] && p[0] >= p[2] ? 0 : p[1] >= p[2] ? 1 : 2;
    const dscm_intervention act = {SHAPE, DSCM_DO, (seen + 1) % 3, NONE};
    const double factual[VARIABLES] = {seen, (double)m[0], NONE};
    const dscm_query queries[] = {{.items = &act, .count = 1},
                                  {.items = &act, .count = 1, .factual = factual}};
    if (dscm_predict(session, out, two, queries, &o, NULL, &err) != DSCM_OK)
        TEST_FAIL_("%s", err.message);
    double moved = 0;
    for (int k = 0; k < PIXELS; k++) {
        CHECK_NEAR(out[k], out[PIXELS + k], 1e-4);
        moved += fabs((double)(out[k] - clean[k]));
    }
    CHECK(moved > 1e-3);
    dscm_latent_free(one);
    dscm_latent_free(two);
}

/* ---- manifests ---- */
static void refused(const char *path, json_t *value, const char *part)
{
    char own[64], file[128];
    dscm_error err = {0};
    dscm_bundle *b = NULL;
    REQUIRE(two_parents_write(own));
    snprintf(file, sizeof file, "%s/manifest.json", own);
    json_t *manifest = json_load_file(file, 0, NULL), *at = manifest;
    char key[64];
    for (const char *p = path; *p;) { /* "causal/variables/1/max" */
        size_t n = strcspn(p, "/");
        memcpy(key, p, n);
        key[n] = '\0';
        bool last = !p[n];
        if (last && value)
            json_object_set_new(at, key, value);
        else if (last)
            json_object_del(at, key);
        else
            at = json_is_array(at) ? json_array_get(at, (size_t)atoi(key))
                                   : json_object_get(at, key);
        p += n + !last;
    }
    json_dump_file(manifest, file, 0);
    json_decref(manifest);
    CHECK(dscm_bundle_open(&b, own, &err) != DSCM_OK);
    CHECK_HAS(err.message, part);
    dscm_bundle_free(b);
    two_parents_remove(own);
}

static void models_must_be_the_bundles(void)
{
    refused("causal", NULL, "or none");
    refused("causal/variables/1/max", json_real(9), "variable 1 is not \"thickness\"");
    refused("causal/variables/1/mechanism", NULL, "variable 1 is not \"thickness\"");
    refused("causal/variables/1/parents", json_array(), "variable 1 is not \"thickness\"");
    refused("causal/variables/0/labels", json_pack("[s,s,s]", "a", "b", "c"),
            "variable 0 is not \"shape\"");
    refused("causal/variables/1/mechanism/bias", json_pack("[f]", 1.0), "bias must be a list");
    refused("variables/1/tolerance", json_real(11), "tolerance");
    refused("variables/1/mechanism/weights", json_object(), "weights");
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"descendants_keep_their_noise", descendants_keep_their_noise},
        {"interventions_meet_mechanisms", interventions_meet_mechanisms},
        {"guidance_follows_the_model", guidance_follows_the_model},
        {"predictions_observe_what_is_missing", predictions_observe_what_is_missing},
        {"models_must_be_the_bundles", models_must_be_the_bundles}};
    dscm_error err = {0};
    if (!fit(&err)) {
        printf("fit: %s\ntest_fitted 0 passed, 1 failed, 0 skipped\n", err.message);
        return 1;
    }
    two_parents_causal = &model;
    two_parents_sharpness = 30;
    int status = two_parents_main("test_fitted", dir, &bundle, &session, 2, argc, argv, cases,
                                  TEST_COUNT(cases));
    dscm_causal_free(&model);
    return status;
}
