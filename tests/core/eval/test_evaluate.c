/* Every method end to end on the shipped mnist bundle, and what must hold whatever the images are.
 */
#include <math.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/data/idx.h"
#include "core/eval/evaluate.h"
#include "tests/harness.h"

enum { COUNT = 4, SIDE = 28, PIXELS = SIDE * SIDE, POOL = 20 };

static struct rig {
    dscm_bundle *bundle;
    dscm_dataset items, pool;
    int targets[COUNT];
    dscm_eval_data data;
    dscm_eval_worker *worker;
    dscm_record rows[COUNT];
    uint8_t pixels[COUNT * PIXELS];
} rig; /* opened once, by main */

/* Strokes at random: dark ground, a bright bar of varying place and slant. */
static void draw(dscm_dataset *d, size_t count, uint64_t stream, dscm_error *err)
{
    *d = (dscm_dataset){.count = count, .h = SIDE, .w = SIDE, .c = 1};
    d->pixels = dscm_alloc(count * PIXELS, 1, "test", err);
    d->labels = dscm_alloc(count, 1, "test", err);
    if (!d->pixels || !d->labels) abort();
    for (size_t i = 0; i < count; i++) {
        dscm_rng rng = dscm_rng_make(test_seed, stream + i);
        double x = 9 + 10 * (double)dscm_rng_uniform(&rng),
               slant = (double)dscm_rng_uniform(&rng) - 0.5;
        d->labels[i] = (uint8_t)(i % 10);
        for (size_t y = 5; y < 23; y++)
            for (size_t k = 0; k < 3; k++) {
                double at = x + slant * ((double)y - 14) + (double)k;
                d->pixels[i * PIXELS + y * SIDE + (size_t)at] = k == 1 ? 255 : 160;
            }
    }
}

static bool open_rig(void)
{
    dscm_error err = {0};
    draw(&rig.items, COUNT, 0, &err);
    draw(&rig.pool, POOL, 100, &err);
    for (int i = 0; i < COUNT; i++) rig.targets[i] = (i + 3) % 10;
    if (dscm_bundle_open(&rig.bundle, "models/mnist", &err) != DSCM_OK) {
        TEST_FAIL_("%s", err.message);
        return false;
    }
    rig.data = (dscm_eval_data){.bundle = rig.bundle,
                                .items = &rig.items,
                                .pool = &rig.pool,
                                .targets = rig.targets,
                                .variable = 0,
                                .seed = 1};
    /* "real" looks for the target class among the items */
    for (int i = 0; i < COUNT; i++) rig.targets[i] = (i + 1) % COUNT;
    return dscm_eval_worker_open(&rig.worker, &rig.data, COUNT, &err) == DSCM_OK;
}

static void close_rig(void)
{
    dscm_eval_worker_free(rig.worker);
    dscm_dataset_free(&rig.items);
    dscm_dataset_free(&rig.pool);
    dscm_bundle_free(rig.bundle);
}

static dscm_options options_of(const char *sampler)
{
    dscm_error err = {0};
    dscm_options o = dscm_options_defaults();
    o.sampler = sampler;
    o.steps = sampler ? 10 : 5;
    if (dscm_options_resolve(rig.bundle, &o, &err) != DSCM_OK) TEST_FAIL_("%s", err.message);
    return o;
}

static bool run_setting(const char *method, const char *sampler, bool search)
{
    dscm_error err = {0};
    dscm_eval_setting s = {.method = method, .options = options_of(sampler), .search = search};
    dscm_code code = dscm_eval_run(rig.worker, &s, 0, COUNT, rig.rows, rig.pixels, &err);
    if (code != DSCM_OK) TEST_FAIL_("%s: %s", method, err.message);
    return code == DSCM_OK;
}

static bool run(const char *method, const char *sampler)
{
    return run_setting(method, sampler, false);
}

static double value(size_t item, dscm_record_column column)
{
    return rig.rows[item].values[column];
}

static void identity_scores_what_an_unchanged_image_must(void)
{
    if (run("identity", NULL))
        for (size_t i = 0; i < COUNT; i++) {
            CHECK_NEAR(value(i, DSCM_COL_CLD), 1.3132617, 1e-6);
            CHECK_NEAR(value(i, DSCM_COL_MINIMALITY), 0, 0);
            CHECK_NEAR(value(i, DSCM_COL_DEPARTURE), 1, 0);
            CHECK_NEAR(value(i, DSCM_COL_L1), 0, 0);
            CHECK_NEAR(value(i, DSCM_COL_L2), 0, 0);
            CHECK_NEAR(value(i, DSCM_COL_CHANGED_05), 0, 0);
            CHECK_NEAR(value(i, DSCM_COL_NEARER), 1, 0);
            CHECK_INT(value(i, DSCM_COL_TARGET), rig.targets[i]);
        }
    CHECK(memcmp(rig.pixels, rig.items.pixels, sizeof rig.pixels) == 0);
}

static void every_method_gives_whole_records(void)
{
    static const struct {
        const char *method, *sampler;
        double passes;
    } all[] = {{"ours", NULL, 11},     {"published", "published", 14},
               {"pgd", NULL, 0},       {"greedy", NULL, 0},
               {"prototype", NULL, 0}, {"nearest", NULL, 0},
               {"random", NULL, 0},    {"real", NULL, 0}};
    for (size_t m = 0; m < TEST_COUNT(all); m++) {
        if (!run(all[m].method, all[m].sampler)) continue;
        for (size_t i = 0; i < COUNT; i++) {
            double cld = value(i, DSCM_COL_CLD), l1 = value(i, DSCM_COL_L1);
            CHECK(cld >= log(2) && cld <= 1 + log(2));
            /* means over the panel: of a convex function, at least that of the means */
            double of_means =
                log(exp(value(i, DSCM_COL_MINIMALITY)) + exp(value(i, DSCM_COL_DEPARTURE)));
            CHECK(cld >= of_means - 1e-9 && cld <= of_means + 0.1);
            CHECK(l1 >= 0 && l1 <= value(i, DSCM_COL_L2));
            CHECK(value(i, DSCM_COL_CHANGED_05) >= value(i, DSCM_COL_CHANGED_10));
            CHECK(value(i, DSCM_COL_IM1) > 0 && value(i, DSCM_COL_IM2) > 0);
            CHECK(value(i, DSCM_COL_SECONDS) > 0);
            if (all[m].passes > 0) CHECK(value(i, DSCM_COL_PASSES) >= all[m].passes);
            if (all[m].passes == 0) CHECK(isnan(value(i, DSCM_COL_PASSES)));
        }
    }
    if (run("nearest", NULL)) /* the nearest real image is not nearer than itself */
        for (size_t i = 0; i < COUNT; i++) CHECK_NEAR(value(i, DSCM_COL_NEARER), 0, 0);
}

/* Pictures of the search for every item, walked once more as it found them: (COUNT,H,W). */
static void walk_as_found(const dscm_options *o, uint8_t *pixels)
{
    static float images[COUNT * PIXELS], out[COUNT * PIXELS];
    static double given[COUNT * 32];
    size_t variables = dscm_bundle_describe(rig.bundle)->variables_count;
    dscm_intervention acts[COUNT];
    dscm_query queries[COUNT];
    dscm_scale_result found[COUNT];
    dscm_session *session = NULL;
    dscm_latent *latent = NULL;
    dscm_error err = {0};
    REQUIRE(variables <= 32);
    dscm_pixels_to_float(images, rig.items.pixels, COUNT * PIXELS);
    for (size_t i = 0; i < COUNT * variables; i++)
        given[i] = i % variables == 0 ? rig.items.labels[i / variables] : (double)NAN;
    for (size_t i = 0; i < COUNT; i++) {
        acts[i] = (dscm_intervention){0, DSCM_DO, rig.targets[i], (double)NAN};
        queries[i] = (dscm_query){.items = &acts[i],
                                  .count = 1,
                                  .image = images + i * PIXELS,
                                  .min_change = o->min_change};
    }
    REQUIRE(dscm_session_open(&session, rig.bundle, COUNT, 1, &err) == DSCM_OK);
    REQUIRE(dscm_abduct_given(session, &latent, images, given, COUNT, o, NULL, &err) == DSCM_OK);
    REQUIRE(dscm_predict_search(session, out, found, latent, queries, o, NULL, NULL, &err) ==
            DSCM_OK);
    memset(out, 0, sizeof out);
    REQUIRE(dscm_predict_found(session, out, latent, queries, o, found, NULL, &err) == DSCM_OK);
    dscm_images_round(out, COUNT * PIXELS);
    dscm_pixels_from_float(pixels, out, COUNT * PIXELS);
    dscm_latent_free(latent);
    dscm_session_free(session);
}

/* What a scale per item costs and gives is that of the walk it ended with. */
static void a_search_records_the_scale_and_its_cost(void)
{
    dscm_options o = options_of(NULL);
    double fixed = 0, again = 0;
    dscm_record found[COUNT];
    uint8_t pixels[COUNT * PIXELS];
    if (run("ours", NULL)) fixed = value(0, DSCM_COL_PASSES);
    REQUIRE(fixed > 0 && value(0, DSCM_COL_GRADIENTS) == 0);
    REQUIRE(run_setting("ours", NULL, true));
    memcpy(found, rig.rows, sizeof found);
    for (size_t i = 0; i < COUNT; i++) {
        double scale = found[i].values[DSCM_COL_SCALE];
        /* rungs of a factor 1.4 from 1/1.2 of it, the last one cut to 3 times it */
        double walks = 1 + ceil(log(1.2 * scale / o.scale) / log(1.4) - 1e-6);
        CHECK(scale >= o.scale / 1.2 * (1 - 1e-9) && scale <= 3 * o.scale * (1 + 1e-9));
        again += (walks - 1) / COUNT;
        CHECK_NEAR(found[i].values[DSCM_COL_PASSES], found[0].values[DSCM_COL_PASSES], 0);
    }
    /* two evaluations per step of each walk after the first */
    CHECK(found[0].values[DSCM_COL_PASSES] >= fixed + again * 2 * (double)o.steps - 1e-9);
    walk_as_found(&o, pixels);
    for (size_t i = 0; i < COUNT; i++)
        CHECK(memcmp(rig.pixels + i * PIXELS, pixels + i * PIXELS, PIXELS) == 0);
}

static void null_counterfactuals_return_the_image(void)
{
    enum { CYCLES = 3 };
    double searched[COUNT * CYCLES];
    double off[COUNT * CYCLES], on[COUNT * CYCLES], back[COUNT];
    dscm_error err = {0};
    dscm_eval_setting s = {.method = "ours", .options = options_of(NULL)};
    REQUIRE(dscm_eval_composition(rig.worker, &s, 0, COUNT, CYCLES, true, on, &err) == DSCM_OK);
    REQUIRE(dscm_eval_reversibility(rig.worker, &s, 0, COUNT, back, &err) == DSCM_OK);
    s.search = true;
    REQUIRE(dscm_eval_composition(rig.worker, &s, 0, COUNT, CYCLES, true, searched, &err) ==
            DSCM_OK);
    REQUIRE(dscm_eval_composition(rig.worker, &s, 0, COUNT, CYCLES, false, off, &err) == DSCM_OK);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_NEAR(off[i * CYCLES + CYCLES - 1], 0, 1e-9);
        /* a variable set to its own value changes nothing at any scale, in any cycle */
        CHECK_NEAR(on[i * CYCLES + CYCLES - 1], 0, 1e-9);
        CHECK_NEAR(searched[i * CYCLES + CYCLES - 1], 0, 1e-9);
        CHECK(back[i] > 0);
    }
}

static void features_tell_images_apart(void)
{
    size_t width = dscm_eval_features_width(rig.worker);
    REQUIRE(width >= 16);
    float *f = calloc(COUNT * width, sizeof *f), *again = calloc(width, sizeof *again);
    dscm_eval_features(rig.worker, rig.items.pixels, COUNT, f);
    dscm_eval_features(rig.worker, rig.items.pixels + 2 * PIXELS, 1, again);
    double same = 0, other = 0;
    for (size_t i = 0; i < width; i++) {
        same += fabs((double)f[2 * width + i] - (double)again[i]);
        other += fabs((double)f[i] - (double)again[i]);
    }
    CHECK(same < 1e-3 && other > 10 * same + 1e-3);
    free(f);
    free(again);
}

static void unknown_methods_are_refused(void)
{
    dscm_error err = {0};
    CHECK_INT(dscm_eval_check(rig.bundle, "magic", &err), DSCM_E_UNKNOWN);
    CHECK_HAS(err.message, "prototype");
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"identity_scores_what_an_unchanged_image_must",
         identity_scores_what_an_unchanged_image_must},
        {"every_method_gives_whole_records", every_method_gives_whole_records},
        {"a_search_records_the_scale_and_its_cost", a_search_records_the_scale_and_its_cost},
        {"null_counterfactuals_return_the_image", null_counterfactuals_return_the_image},
        {"features_tell_images_apart", features_tell_images_apart},
        {"unknown_methods_are_refused", unknown_methods_are_refused},
    };
    if (!open_rig()) {
        printf("test_evaluate 0 passed, 1 failed, 0 skipped\n");
        return 1;
    }
    int status = test_main(argc, argv, cases, TEST_COUNT(cases));
    close_rig();
    return status;
}
