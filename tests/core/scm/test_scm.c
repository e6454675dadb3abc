/* The causal core on a graph with two parents: propagation, holding, batches, latents as values,
 * cancelling, and a bundle that is wrong in each way we could think of. */
#include "core/scm/session.h"
#include "tests/core/scm/two_parents.h"

#define NONE ((double)NAN)

static char dir[64];
static dscm_bundle *bundle;
static dscm_session *session;
static float images[3 * PIXELS];

static dscm_options resolved(const char *sampler)
{
    dscm_error err = {0};
    dscm_options o = dscm_options_defaults();
    o.sampler = sampler;
    o.steps = 4;
    o.scale = 6;
    CHECK_INT(dscm_options_resolve(bundle, &o, &err), DSCM_OK);
    return o;
}

/* ---- the graph ---- */
static void guidance_of(guidance out[2], const dscm_intervention *acts, size_t count,
                        const double factual[VARIABLES])
{
    dscm_error err = {0};
    dscm_query q = {.items = acts, .count = count, .factual = factual};
    CHECK_INT(dscm_query_guidance(bundle, &q, NULL, 6, out, &err), DSCM_OK);
}

static void a_change_reaches_descendants(void)
{
    guidance g[2];
    const double factual[VARIABLES] = {0, 2.5, NONE}; /* u = 2.5 - 2 - 0 = .5 */
    guidance_of(g, (dscm_intervention[]){{SHAPE, DSCM_DO, 2, NONE}}, 1, factual);
    CHECK_NEAR(g[0].target, 2, 0);
    CHECK_NEAR(g[0].scale, 6, 0);
    CHECK_NEAR(g[1].target, 2 + 3 + 0.5, 1e-12); /* the mechanism's value with the same noise */
    CHECK_NEAR(g[1].scale, 6, 0);
}

static void values_under_a_query(void)
{
    double value[VARIABLES];
    dscm_error err = {0};
    const double factual[VARIABLES] = {0, 2.5, NONE};
    const dscm_intervention acts[] = {{SHAPE, DSCM_DO, 2, NONE}, {THICKNESS, DSCM_HOLD, 0, NONE}};
    dscm_query q = {.items = acts, .count = 1, .factual = factual};
    CHECK_INT(dscm_query_values(bundle, &q, value, &err), DSCM_OK);
    CHECK_NEAR(value[SHAPE], 2, 0);
    CHECK_NEAR(value[THICKNESS], 2.5 + 3, 1e-12);
    CHECK(isnan(value[IMAGE]));
    q.count = 2;
    CHECK_INT(dscm_query_values(bundle, &q, value, &err), DSCM_OK);
    CHECK_NEAR(value[THICKNESS], 2.5, 0);
    q = (dscm_query){.items = acts, .count = 1};
    CHECK_INT(dscm_query_values(bundle, &q, value, &err), DSCM_OK);
    CHECK(value[SHAPE] == 2 && isnan(value[THICKNESS]));
    q.items = (dscm_intervention[]){{SHAPE, DSCM_DO, 3, NONE}};
    CHECK_INT(dscm_query_values(bundle, &q, value, &err), DSCM_E_INVALID);
}

static void an_ancestor_stays(void)
{
    guidance g[2];
    const double factual[VARIABLES] = {1, 3.25, NONE};
    guidance_of(g, (dscm_intervention[]){{THICKNESS, DSCM_DO, 9, 2}}, 1, factual);
    CHECK_NEAR(g[0].scale, 0, 0);
    CHECK_NEAR(g[1].target, 9, 0);
    CHECK_NEAR(g[1].scale, 2, 0);
    guidance_of(g, (dscm_intervention[]){{THICKNESS, DSCM_SHIFT, -1, NONE}}, 1, factual);
    CHECK_NEAR(g[1].target, 2.25, 1e-12);
}

/* What a query leaves alone is not guided by the rounding of its mechanism: 2 + (.1 - 2) is not .1. */
static void what_does_not_move_is_not_guided(void)
{
    guidance g[2];
    const double factual[VARIABLES] = {1, 0.1, NONE};
    guidance_of(g, NULL, 0, factual);
    CHECK(!g[1].set && g[1].scale == 0);
    guidance_of(g, (dscm_intervention[]){{SHAPE, DSCM_DO, 1, NONE}}, 1, factual);
    CHECK(g[0].set && !g[1].set);
}

/* A cause of which nobody knows what it was: what it moves is unknown, unless it is set too. */
static void an_unknown_cause_is_named(void)
{
    guidance g[2];
    dscm_error err = {0};
    const double factual[VARIABLES] = {NONE, 2.5, NONE};
    const dscm_intervention acts[] = {{SHAPE, DSCM_DO, 2, NONE}, {THICKNESS, DSCM_HOLD, 0, NONE}};
    guidance_of(g, acts + 1, 1, factual);
    CHECK_NEAR(g[1].target, 2.5, 0);
    guidance_of(g, acts, 2, factual);
    CHECK_NEAR(g[1].target, 2.5, 0);
    dscm_query q = {.items = acts, .count = 1, .factual = factual};
    CHECK_INT(dscm_query_guidance(bundle, &q, NULL, 6, g, &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, "thickness");
}

static void holding_stops_propagation(void)
{
    guidance g[2];
    const double factual[VARIABLES] = {0, 2.5, NONE};
    guidance_of(g,
                (dscm_intervention[]){{SHAPE, DSCM_DO, 1, NONE}, {THICKNESS, DSCM_HOLD, 0, NONE}},
                2, factual);
    CHECK_NEAR(g[0].target, 1, 0);
    CHECK_NEAR(g[1].target, 2.5, 0);
    CHECK_NEAR(g[1].scale, 6, 0);
    guidance_of(g, NULL, 0, factual);
    CHECK_NEAR(g[0].scale, 0, 0);
    CHECK_NEAR(g[1].scale, 0, 0);
}

static void impossible_queries_are_named(void)
{
    static const struct {
        dscm_intervention acts[2];
        size_t count;
        const char *word;
    } wrong[] = {{{{SHAPE, DSCM_DO, 3, 1}}, 1, "shape"},
                 {{{SHAPE, DSCM_DO, 0.5, 1}}, 1, "shape"},
                 {{{SHAPE, DSCM_DO, -1, 1}}, 1, "shape"},
                 {{{SHAPE, DSCM_SHIFT, 1, 1}}, 1, "shift"},
                 {{{IMAGE, DSCM_DO, 1, 1}}, 1, "intervention 0"},
                 {{{17, DSCM_DO, 1, 1}}, 1, "intervention 0"},
                 {{{SHAPE, DSCM_DO, 1, 1}, {SHAPE, DSCM_DO, 2, 1}}, 2, "twice"}};
    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        guidance g[2];
        dscm_error err = {0};
        dscm_query q = {.items = wrong[i].acts, .count = wrong[i].count};
        CHECK_INT(dscm_query_guidance(bundle, &q, NULL, 6, g, &err), DSCM_E_INVALID);
        CHECK(strstr(err.message, wrong[i].word) != NULL);
    }
    double value;
    dscm_error err = {0};
    CHECK_INT(dscm_value_parse(bundle, SHAPE, "ring", &value, NULL), DSCM_OK);
    CHECK_NEAR(value, 1, 0);
    CHECK_INT(dscm_value_parse(bundle, SHAPE, "cube", &value, &err), DSCM_E_INVALID);
    CHECK(strstr(err.message, "cube") && strstr(err.message, "bar"));
    CHECK_INT(dscm_value_parse(bundle, THICKNESS, "10.5", &value, NULL), DSCM_E_INVALID);
    CHECK_INT(dscm_value_parse(bundle, THICKNESS, "4x", &value, NULL), DSCM_E_INVALID);
}

/* ---- abduct, act, predict ---- */
static void predict(float *out, const dscm_latent *l, const dscm_query *q, const dscm_options *o)
{
    dscm_error err = {0};
    CHECK_INT(dscm_predict(session, out, l, q, o, NULL, &err), DSCM_OK);
}

static void null_counterfactuals_are_the_image(void)
{
    static const char *const exact[] = {"residual", "obelm", "bdia"};
    for (size_t s = 0; s < TEST_COUNT(exact); s++) {
        dscm_error err = {0};
        dscm_options o = resolved(exact[s]);
        dscm_latent *l = NULL;
        dscm_query none[3] = {{0}};
        float out[3 * PIXELS];
        REQUIRE(dscm_abduct(session, &l, images, 3, &o, NULL, &err) == DSCM_OK);
        predict(out, l, none, &o);
        for (size_t i = 0; i < 3 * PIXELS; i++) CHECK_NEAR(out[i], images[i], 1e-3);
        dscm_latent_free(l);
    }
}

/* Each item of a batch has its own query; alone it gives the same image. */
static void items_do_not_mix(void)
{
    dscm_error err = {0};
    dscm_options o = resolved("residual");
    dscm_latent *all = NULL;
    const dscm_intervention shape = {SHAPE, DSCM_DO, 2, NONE}, thick = {THICKNESS, DSCM_DO, 9, 3};
    const dscm_query queries[3] = {
        {.items = &shape, .count = 1}, {0}, {.items = &thick, .count = 1}};
    float together[3 * PIXELS], alone[PIXELS];
    REQUIRE(dscm_abduct(session, &all, images, 3, &o, NULL, &err) == DSCM_OK);
    predict(together, all, queries, &o);
    for (size_t i = 0; i < 3; i++) {
        dscm_latent *one = NULL;
        double moved = 0;
        REQUIRE(dscm_latent_select(&one, all, &i, 1, &err) == DSCM_OK);
        predict(alone, one, &queries[i], &o);
        for (size_t k = 0; k < PIXELS; k++) {
            CHECK_NEAR(alone[k], together[i * PIXELS + k], 1e-4);
            moved += fabs((double)alone[k] - (double)images[i * PIXELS + k]);
        }
        CHECK((moved > 0.5) == (queries[i].count > 0));
        dscm_latent_free(one);
    }
    dscm_latent_free(all);
}

static void latents_are_values(void)
{
    dscm_error err = {0};
    dscm_options o = resolved("obelm");
    dscm_latent *l = NULL, *again = NULL;
    dscm_query none[3] = {{0}};
    void *bytes = NULL;
    size_t size = 0;
    float first[3 * PIXELS], second[3 * PIXELS];
    REQUIRE(dscm_abduct(session, &l, images, 3, &o, NULL, &err) == DSCM_OK);
    REQUIRE(dscm_latent_write(l, &bytes, &size, &err) == DSCM_OK);
    REQUIRE(dscm_latent_read(&again, bundle, bytes, size, &err) == DSCM_OK);
    predict(first, l, none, &o);
    predict(second, again, none, &o);
    CHECK(memcmp(first, second, sizeof first) == 0);
    dscm_latent_free(again);
    for (size_t cut = 0; cut < size; cut += cut < 200 ? 1 : 97)
        CHECK(dscm_latent_read(&again, bundle, bytes, cut, &err) != DSCM_OK);
    for (size_t i = 0; i < 144; i++) { /* every byte of the header */
        unsigned char *at = (unsigned char *)bytes + i;
        *at ^= 0x81;
        if (dscm_latent_read(&again, bundle, bytes, size, NULL) == DSCM_OK) {
            /* another ratio, say: a latent all the same, and prediction tells it apart */
            CHECK(dscm_latent_count(again) == 3);
            CHECK(dscm_predict(session, second, again, none, &o, NULL, NULL) != DSCM_OK);
            dscm_latent_free(again);
        }
        *at ^= 0x81;
    }
    o.steps = 5;
    CHECK_INT(dscm_predict(session, second, l, none, &o, NULL, &err), DSCM_E_MISMATCH);
    dscm_latent_free(l);
    dscm_free(bytes);
}

/* Chosen items are those of the latent; bytes that are no latent, and latents of others, are
 * refused. */
static void latents_stay_what_they_are(void)
{
    enum { HEAD = 144 }; /* bytes before the values */
    dscm_error err = {0};
    dscm_options o = resolved("residual");
    dscm_latent *l = NULL, *part = NULL;
    dscm_query none[3] = {{0}};
    void *bytes = NULL;
    size_t size = 0;
    float out[3 * PIXELS];
    const float nan = NAN;
    REQUIRE(dscm_abduct(session, &l, images, 3, &o, NULL, &err) == DSCM_OK);
    REQUIRE(dscm_latent_select(&part, l, (const size_t[]){1, 2, 0}, 3, &err) == DSCM_OK);
    for (size_t i = 0; i < 3; i++)
        CHECK(memcmp(part->x + i * PIXELS, l->x + (i + 1) % 3 * PIXELS, PIXELS * sizeof(float)) ==
              0);
    dscm_latent_free(part);
    CHECK_INT(dscm_latent_select(&part, l, (const size_t[]){0, 3}, 2, &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, "item 3 of 3");
    l->model[0] ^= 1;
    CHECK_INT(dscm_predict(session, out, l, none, &o, NULL, &err), DSCM_E_MISMATCH);
    dscm_latent_free(l);
    REQUIRE(dscm_abduct(session, &l, images, 3, &o, NULL, &err) == DSCM_OK);
    REQUIRE(dscm_latent_write(l, &bytes, &size, &err) == DSCM_OK);
    unsigned char *longer = dscm_alloc(size + 1, 1, "test", &err);
    REQUIRE(longer != NULL);
    memcpy(longer, bytes, size);
    CHECK_INT(dscm_latent_read(&part, bundle, longer, size + 1, &err), DSCM_E_FORMAT);
    memcpy(longer + HEAD + 4 * 5, &nan, 4);
    err = (dscm_error){0};
    CHECK_INT(dscm_latent_read(&part, bundle, longer, size, &err), DSCM_E_FORMAT);
    CHECK_HAS(err.message, "value 5 is not finite");
    dscm_free(longer);
    dscm_free(bytes);
    dscm_latent_free(l);
}

/* `published` has the defaults of its release; the others those of the bundle. A scale that nobody
 * names is the calibrated one, and may be searched only where no sampler is named either. */
static void options_have_their_defaults(void)
{
    dscm_options o = dscm_options_defaults();
    REQUIRE(dscm_options_resolve(bundle, &o, NULL) == DSCM_OK);
    CHECK_STR(o.sampler, "residual");
    CHECK_INT(o.steps, 4);
    CHECK_NEAR(o.ratio, 0.9, 0);
    CHECK_NEAR(o.scale, 6, 0);
    CHECK_INT(o.dynamic, 0);
    o = dscm_options_defaults();
    o.sampler = "published";
    CHECK(!dscm_options_search(bundle, &o));
    REQUIRE(dscm_options_resolve(bundle, &o, NULL) == DSCM_OK);
    CHECK_INT(o.steps, 100);
    CHECK_NEAR(o.ratio, 0.75, 0);
    CHECK_INT(o.dynamic, 1);
    o.steps = 0; /* a draw: a finer walk than an image needs, unless somebody names steps */
    dscm_options_draw(bundle, &o);
    CHECK_INT(o.steps, 0);
    o = dscm_options_defaults();
    dscm_options_draw(bundle, &o);
    CHECK_INT(o.steps, 20);
    o.steps = 7;
    dscm_options_draw(bundle, &o);
    CHECK_INT(o.steps, 7);
    double value;
    CHECK_INT(dscm_value_parse(bundle, SHAPE, "2", &value, NULL), DSCM_OK); /* an index */
    CHECK_NEAR(value, 2, 0);
    CHECK_INT(dscm_value_parse(bundle, SHAPE, "3", &value, NULL), DSCM_E_INVALID);
    dscm_session *none = NULL;
    CHECK_INT(dscm_session_open(&none, bundle, 0, 1, NULL), DSCM_E_INVALID);
    CHECK_INT(dscm_session_open(&none, bundle, 4097, 1, NULL), DSCM_E_INVALID);
}

typedef struct stop_after {
    size_t steps, seen;
} stop_after;

static bool stop(void *arg, const dscm_progress_event *event)
{
    stop_after *s = arg;
    CHECK(event->step <= event->steps);
    return s->seen++ < s->steps;
}

/* Means of channels stay within one standard deviation; noise that had such a mean is untouched. */
static void drawn_noise_is_not_bright(void)
{
    enum { DRAWS = 300 };
    dscm_options o = resolved("ddim");
    dscm_error err = {0};
    dscm_latent *latent = NULL;
    REQUIRE(dscm_latent_draw(session, &latent, DRAWS, 7, 40, &o, &err) == DSCM_OK);
    size_t untouched = 0, channels = latent->channels, pixels = latent->size / channels;
    double most = 1 / sqrt((double)pixels), deviation = 0;
    for (size_t i = 0; i < DRAWS; i++) {
        float plain[PIXELS];
        const float *x = latent->x + i * latent->size;
        dscm_rng rng = dscm_rng_make(7, 40 + i);
        REQUIRE(latent->size == PIXELS);
        dscm_rng_normal(&rng, plain, PIXELS);
        untouched += memcmp(plain, x, sizeof plain) == 0;
        for (size_t c = 0; c < channels; c++) {
            double before = 0, mean = 0;
            for (size_t p = 0; p < pixels; p++) {
                before += (double)plain[p * channels + c] / (double)pixels;
                mean += (double)x[p * channels + c] / (double)pixels;
            }
            CHECK_NEAR(mean, before > most ? most : before < -most ? -most : before, 1e-6);
            for (size_t p = 0; p < pixels; p++)
                deviation = fmax(deviation, fabs((double)(x[p * channels + c] - x[c]) -
                                                 (double)(plain[p * channels + c] - plain[c])));
        }
    }
    CHECK_NEAR(deviation, 0, 1e-5); /* nothing but a shift */
    CHECK(channels > 1 || (untouched > DRAWS / 2 && untouched < DRAWS * 4 / 5)); /* 68 % */
    dscm_latent_free(latent);
}

static void a_caller_can_stop(void)
{
    dscm_options o = resolved("residual");
    dscm_intervention act = {SHAPE, DSCM_DO, 1, NONE};
    dscm_query q = {.items = &act, .count = 1};
    for (size_t steps = 0; steps < 4; steps++) {
        dscm_error err = {0};
        dscm_latent *l = NULL;
        stop_after s = {.steps = steps};
        dscm_progress p = {.on_step = stop, .arg = &s};
        float out[PIXELS];
        CHECK_INT(dscm_abduct(session, &l, images, 1, &o, &p, &err), DSCM_E_CANCELED);
        CHECK(l == NULL);
        REQUIRE(dscm_abduct(session, &l, images, 1, &o, NULL, NULL) == DSCM_OK);
        s.seen = 0;
        CHECK_INT(dscm_predict(session, out, l, &q, &o, &p, NULL), DSCM_E_CANCELED);
        dscm_latent_free(l);
    }
}

/* A scale of the ladder, one prediction for each rung up to it. */
static void the_search_reports_what_it_cost(void)
{
    dscm_error err = {0};
    dscm_options o = resolved("residual");
    o.scale = 4;
    dscm_intervention act = {SHAPE, DSCM_DO, 1, NONE};
    dscm_query q[3] = {{.items = &act, .count = 1}, {.items = &act, .count = 1}, {0}};
    dscm_scale_result results[3];
    dscm_latent *l = NULL;
    float out[3 * PIXELS], again[PIXELS];
    REQUIRE(dscm_abduct(session, &l, images, 3, &o, NULL, &err) == DSCM_OK);
    dscm_scale_search never = {.confidence = 1.1, .max_scale = 16}, always = {.max_scale = 16};
    CHECK_INT(dscm_predict_search(session, out, results, l, q, &o, &never, NULL, &err), DSCM_OK);
    for (size_t i = 0; i < 3; i++) {
        CHECK_INT(results[i].predictions, 11); /* 1, 1.2, 1.4 … 3.4, 4, 8, 16 */
        CHECK(results[i].scale >= 1 && results[i].scale <= 16);
    }
    CHECK_INT(dscm_predict_search(session, out, results, l, q, &o, &always, NULL, &err), DSCM_OK);
    o.scale = results[0].scale;
    dscm_latent *first = NULL;
    const size_t zero = 0;
    REQUIRE(dscm_latent_select(&first, l, &zero, 1, &err) == DSCM_OK);
    REQUIRE(dscm_predict(session, again, first, q, &o, NULL, &err) == DSCM_OK);
    for (size_t i = 0; i < PIXELS; i++) { /* the search rounds to the levels of a file */
        float inside = again[i] < -1 ? -1 : again[i] > 1 ? 1 : again[i];
        CHECK_NEAR(out[i], inside, 1 / 255.0 + 1e-6);
    }
    dscm_latent_free(first);
    dscm_latent_free(l);
}

static void scores_of_an_unchanged_image(void)
{
    dscm_error err = {0};
    dscm_scores s[3];
    const int targets[3] = {1, 2, 0}, factuals[3] = {0, 0, 1};
    REQUIRE(dscm_score(session, s, images, images, SHAPE, targets, factuals, 3, &err) == DSCM_OK);
    for (int i = 0; i < 3; i++) {
        CHECK_NEAR(s[i].l1, 0, 0);
        CHECK_NEAR(s[i].l2, 0, 0);
        CHECK_NEAR(s[i].changed_share, 0, 0);
        CHECK_NEAR(s[i].probability_before, s[i].probability_after, 1e-6);
        CHECK(isnan(s[i].cld) && isnan(s[i].im1) && s[i].oracle_label == -1);
    }
}

/* ---- bundles that are wrong ---- */
/* Replaces one text of the manifest and expects a refusal that holds `word`. */
static void refuses(const char *from, const char *to, const char *word)
{
    char path[128];
    static char text[65536], wrong[65536];
    dscm_error err = {0};
    dscm_bundle *b = NULL;
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    FILE *f = fopen(path, "rb");
    REQUIRE(f != NULL);
    size_t size = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[size] = 0;
    const char *at = strstr(text, from);
    if (!at) TEST_FAIL_("the manifest has no %s", from);
    REQUIRE(at != NULL);
    snprintf(wrong, sizeof wrong, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    f = fopen(path, "wb");
    fputs(wrong, f);
    fclose(f);
    dscm_code code = dscm_bundle_open(&b, dir, &err);
    if (code == DSCM_OK || !strstr(err.message, word) || !strstr(err.message, dir))
        TEST_FAIL_("%s -> %s: %d, \"%s\" lacks %s", from, to, (int)code, err.message, word);
    CHECK(b == NULL);
    f = fopen(path, "wb");
    fwrite(text, 1, size, f);
    fclose(f);
}

static void wrong_manifests_are_refused(void)
{
    refuses("{", "", "manifest.json");
    refuses("\"two-parents\"", "7", "name");
    refuses("\"categorical\"", "\"colourful\"", "colourful");
    refuses("\"ratio\"", "\"scale\": 3, \"ratio\"", "must be \"auto\"");
    refuses("\"categorical\"", "\"image\"", "shape");
    refuses("\"disc\"", "\"\"", "label 0");
    refuses("\"max\": 10.0", "\"max\": -1", "max");
    refuses("\"additive\"", "\"magic\"", "magic");
    refuses("\"shape\": [\n      0.0", "\"shape\": [\n      \"0\"", "must list 3 numbers");
    refuses("\"root\"", "\"diffusion\"", "diffusion");
    refuses("\"cosine\"", "\"square\"", "square");
    refuses("\"cosine\"", "\"cosine\", \"limit\": 1", "\"limit\" must be true or false");
    refuses("\"cosine\"", "\"cosine\", \"noise_limit\": 0.5",
            "\"noise_limit\" must be a number in 1..100");
    refuses("\"cosine\"", "\"cosine\", \"eta\": true", "\"eta\" must be a number in 0..1");
    refuses("\"parents\": []", "\"parents\": [\"thickness\"]", "thickness"); /* a cycle */
    refuses("\"parent\": \"shape\"", "\"parent\": \"size\"", "size");
    refuses("\"parent\": \"shape\"", "\"parent\": \"thickness\"", "2 for 8x8");
    refuses("\"child\": \"image\"", "\"child\": \"thickness\"",
            "must go from a parent to an image");
    refuses("\"sampler\": \"residual\"", "\"sampler\": \"magic\"", "magic");
    refuses("\"ratio\": 0.9", "\"ratio\": 1.5", "ratio");
    refuses("\"scale\": 6.0", "\"scale\": -6.0", "scale");
    refuses("\"licence\"", "\"license\"", "license");
    refuses("\"height\": 8", "\"height\": 9", "8x8");
    refuses("\"out_channels\": 3", "\"out_channels\": 4", "shape.safetensors");
    refuses("\"weights\": \"score.safetensors\"", "\"weights\": \"../score\"", "../score");
    refuses("\"weights\": \"score.safetensors\"", "\"weights\": \"shape.safetensors\"", "shape");
    refuses("diffscm-bundle-2", "diffscm-bundle-9", "diffscm-bundle-9");
}

static void a_changed_file_is_refused(void)
{
    for (int i = 0; two_parents_files[i]; i++) {
        char path[128];
        dscm_error err = {0};
        dscm_bundle *b = NULL;
        snprintf(path, sizeof path, "%s/%s", dir, two_parents_files[i]);
        FILE *f = fopen(path, "rb+");
        REQUIRE(f != NULL);
        fseek(f, -1, SEEK_END);
        int last = fgetc(f);
        fseek(f, -1, SEEK_END);
        fputc(last ^ 1, f);
        fclose(f);
        CHECK(dscm_bundle_open(&b, dir, &err) != DSCM_OK);
        CHECK(strstr(err.message, two_parents_files[i]) && strstr(err.message, "SHA-256"));
        f = fopen(path, "rb+");
        fseek(f, -1, SEEK_END);
        fputc(last, f);
        fclose(f);
    }
}

/* The networks of one guided image run side by side on two threads: nothing of the result may
 * change. */
static void networks_side_by_side(void)
{
    static float alone[PIXELS], beside[PIXELS];
    dscm_error err = {0};
    const dscm_intervention act = {SHAPE, DSCM_DO, 2, NONE};
    const dscm_query query = {.items = &act, .count = 1};
    for (size_t i = 0; dscm_sampler_name(i); i++) {
        dscm_options o = dscm_options_defaults();
        o.sampler = dscm_sampler_name(i);
        o.steps = strcmp(o.sampler, "published") == 0 ? 10 : 4;
        o.scale = 6;
        REQUIRE(dscm_options_resolve(bundle, &o, &err) == DSCM_OK);
        for (int threads = 1; threads <= 2; threads++) {
            dscm_session *s = NULL;
            dscm_latent *latent = NULL;
            REQUIRE(dscm_session_open(&s, bundle, 1, threads, &err) == DSCM_OK);
            CHECK_INT(s->apart, threads == 2);
            CHECK_INT(dscm_abduct(s, &latent, images, 1, &o, NULL, &err), DSCM_OK);
            CHECK_INT(
                dscm_predict(s, threads == 1 ? alone : beside, latent, &query, &o, NULL, &err),
                DSCM_OK);
            dscm_latent_free(latent);
            dscm_session_free(s);
        }
        CHECK(memcmp(alone, beside, sizeof alone) == 0);
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"a_change_reaches_descendants", a_change_reaches_descendants},
        {"values_under_a_query", values_under_a_query},
        {"an_ancestor_stays", an_ancestor_stays},
        {"what_does_not_move_is_not_guided", what_does_not_move_is_not_guided},
        {"an_unknown_cause_is_named", an_unknown_cause_is_named},
        {"holding_stops_propagation", holding_stops_propagation},
        {"impossible_queries_are_named", impossible_queries_are_named},
        {"null_counterfactuals_are_the_image", null_counterfactuals_are_the_image},
        {"items_do_not_mix", items_do_not_mix},
        {"networks_side_by_side", networks_side_by_side},
        {"latents_are_values", latents_are_values},
        {"latents_stay_what_they_are", latents_stay_what_they_are},
        {"options_have_their_defaults", options_have_their_defaults},
        {"drawn_noise_is_not_bright", drawn_noise_is_not_bright},
        {"a_caller_can_stop", a_caller_can_stop},
        {"the_search_reports_what_it_cost", the_search_reports_what_it_cost},
        {"scores_of_an_unchanged_image", scores_of_an_unchanged_image},
        {"wrong_manifests_are_refused", wrong_manifests_are_refused},
        {"a_changed_file_is_refused", a_changed_file_is_refused},
    };
    two_parents_images(images, 3, 9);
    return two_parents_main("test_scm", dir, &bundle, &session, 2, argc, argv, cases,
                            TEST_COUNT(cases));
}
