/* A panel of random networks over random results: every figure is found again by another way. */
#include <math.h>

#include "core/bundle/bundle.h"
#include "core/data/idx.h"
#include "core/eval/baselines.h"
#include "core/eval/judges.h"
#include "core/scm/score.h"
#include "tests/core/scm/two_parents.h"

enum { COUNT = 40, LABELS = 3, POOL = 30 };

static char dir[64];
static dscm_bundle *bundle;
static dscm_session *session;
static uint8_t real[COUNT * PIXELS], results[COUNT * PIXELS], labels[COUNT];
static int targets[COUNT], own[COUNT];

static const char *const more[] = {
    "first.safetensors",  "second.safetensors", "flat.safetensors",
    "conv.safetensors",   "pool.safetensors",   "plain.safetensors",
    "deep-0.safetensors", "deep-1.safetensors", "deep-2.safetensors"};

static bool open_all(dscm_error *err)
{
    const char *files[TEST_COUNT(more) + 4];
    size_t count = 0;
    if (!two_parents_write(dir) || !write_pool(dir, more[4], POOL, 0.2f)) return false;
    json_t *manifest = two_parents_manifest(dir);
    for (; two_parents_files[count]; count++) files[count] = two_parents_files[count];
    for (size_t i = 0; i < TEST_COUNT(more); i++) files[count++] = more[i];
    files[count] = NULL;
    json_object_set_new(manifest, "evaluation", json_pack("{s:s}", "variable", "shape"));
    json_t *first = write_network(dir, more[0], DSCM_ARCH_CNN, LABELS, 11);
    json_t *panel =
        json_pack("{s:[O, o], s:[{s:o, s:s}, {s:o, s:s}], s:o, s:[o, o, o]}", "classifiers", first,
                  write_network(dir, more[1], DSCM_ARCH_RESNET, LABELS, 12), "vaes", "network",
                  write_coder(dir, more[2], DSCM_ARCH_MLP_VAE, false, 13), "pool", more[4],
                  "network", write_coder(dir, more[3], DSCM_ARCH_VAE, false, 14), "pool", more[4],
                  "autoencoder", write_coder(dir, more[5], DSCM_ARCH_AUTOENCODER, false, 15),
                  "class_autoencoders", write_coder(dir, more[6], DSCM_ARCH_AUTOENCODER, true, 16),
                  write_coder(dir, more[7], DSCM_ARCH_AUTOENCODER, true, 17),
                  write_coder(dir, more[8], DSCM_ARCH_AUTOENCODER, true, 18));
    json_object_set_new(manifest, "panel", panel);
    json_object_set_new(manifest, "selection", json_pack("{s:[o]}", "classifiers", first));
    dscm_code code = dscm_manifest_write(manifest, dir, files, 0, err);
    json_decref(manifest);
    if (code == DSCM_OK) code = dscm_bundle_open(&bundle, dir, err);
    if (code == DSCM_OK) code = dscm_session_open(&session, bundle, 8, 1, err);
    return code == DSCM_OK;
}

static void make_images(void)
{
    dscm_rng rng = dscm_rng_make(7, 7);
    for (size_t i = 0; i < COUNT; i++) {
        own[i] = (int)(i % LABELS);
        labels[i] = (uint8_t)own[i];
        targets[i] = (own[i] + 1 + (int)(i / LABELS % 2)) % LABELS;
        for (size_t p = 0; p < PIXELS; p++) {
            real[i * PIXELS + p] = (uint8_t)dscm_rng_below(&rng, 256);
            results[i * PIXELS + p] = (uint8_t)dscm_rng_below(&rng, 256);
        }
    }
}

static double share_called(size_t classifier, const uint8_t *pixels, const int *wanted, bool blur)
{
    float image[PIXELS], soft[PIXELS];
    double called = 0;
    dscm_probe p;
    const bundle_net *n = &bundle->panel.classifiers[classifier];
    if (dscm_probe_open(&p, n->net, n->weights, "out", 1, NULL) != DSCM_OK) return (double)NAN;
    for (size_t i = 0; i < COUNT; i++) {
        dscm_pixels_to_float(image, pixels + i * PIXELS, PIXELS);
        dscm_light_blur(soft, image, SIDE, SIDE, 1);
        const float *z = dscm_probe_forward(&p, blur ? soft : image, 1);
        bool best = true;
        for (int k = 0; k < LABELS; k++) best &= z[k] <= z[wanted[i]];
        called += best;
    }
    dscm_probe_close(&p);
    return called / COUNT;
}

static void figures_found_again(void)
{
    static float factual[COUNT * PIXELS], changed[COUNT * PIXELS];
    static dscm_scores scores[COUNT];
    dscm_judges *judges = NULL;
    dscm_real_figures about;
    dscm_judged d;
    double cld = 0, im1 = 0;
    REQUIRE(dscm_judges_open(&judges, bundle, false, 16, NULL) == DSCM_OK);
    REQUIRE(dscm_judges_set_real(judges, real, labels, COUNT, &about, NULL) == DSCM_OK);
    REQUIRE(dscm_judges_run(judges, &d, results, targets, COUNT, 4, 1, NULL) == DSCM_OK);
    CHECK_INT(d.calls.classifiers, 2);
    for (size_t c = 0; c < 2; c++) {
        CHECK_NEAR(d.calls.sharp[c], share_called(c, results, targets, false), 1e-9);
        CHECK_NEAR(d.calls.blurred[c], share_called(c, results, targets, true), 1e-9);
        CHECK_NEAR(about.calls.sharp[c], share_called(c, real, own, false), 1e-9);
        CHECK_NEAR(about.calls.blurred[c], share_called(c, real, own, true), 1e-9);
    }
    /* the served scores are of the same panel, by another path */
    dscm_pixels_to_float(factual, real, COUNT * PIXELS);
    dscm_pixels_to_float(changed, results, COUNT * PIXELS);
    REQUIRE(dscm_score(session, scores, factual, changed, SHAPE, targets, own, COUNT, NULL) ==
            DSCM_OK);
    for (size_t i = 0; i < COUNT; i++) {
        cld += scores[i].cld / COUNT;
        im1 += scores[i].im1 / COUNT;
        CHECK(scores[i].cld_spread >= 0);
    }
    CHECK_INT(d.vaes, 2);
    CHECK_NEAR(d.cld.mean, cld, 1e-6);
    CHECK_NEAR((d.cld_of[0] + d.cld_of[1]) / 2, cld, 1e-6);
    CHECK_NEAR(d.cld_spread, fabs(d.cld_of[0] - d.cld_of[1]), 1e-12);
    CHECK_NEAR(d.im1.mean, im1, 1e-4 * im1);
    CHECK_NEAR(d.faint, dscm_faint_share(results, sizeof results), 0);
    for (int t = 0; t < DSCM_TRAITS; t++) /* noise fills all rows: its height does not vary */
        CHECK(t == DSCM_TRAIT_HEIGHT ? isnan(d.traits[t]) : fabs(d.traits[t]) <= 1);
    CHECK(d.precision >= 0 && d.precision <= 1 && d.recall >= 0 && d.recall <= 1);
    dscm_judges_free(judges);
}

static void missing_judges_are_named(void)
{
    dscm_judges *judges = NULL;
    dscm_error err = {0};
    dscm_judged d;
    dscm_real_figures about;
    REQUIRE(dscm_judges_open(&judges, bundle, true, 16, NULL) == DSCM_OK);
    REQUIRE(dscm_judges_set_real(judges, real, labels, COUNT, &about, NULL) == DSCM_OK);
    REQUIRE(dscm_judges_run(judges, &d, results, targets, COUNT, 4, 1, NULL) == DSCM_OK);
    CHECK_INT(d.calls.classifiers, 1);
    CHECK(isnan(d.cld.mean) && isnan(d.cld_spread) && isnan(d.im1.mean));
    dscm_judges_free(judges);
    bundle->selection.classifiers_count = 0;
    CHECK(dscm_judges_open(&judges, bundle, true, 16, &err) == DSCM_E_UNKNOWN);
    CHECK_HAS(err.message, "the bundle has no selection judges");
    bundle->selection.classifiers_count = 1;
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"figures_found_again", figures_found_again},
                                      {"missing_judges_are_named", missing_judges_are_named}};
    dscm_error err = {0};
    make_images();
    if (!open_all(&err)) {
        printf("%s\n", err.message);
        return 1;
    }
    int status = test_main(argc, argv, cases, TEST_COUNT(cases));
    dscm_session_free(session);
    dscm_bundle_free(bundle);
    for (size_t i = 0; i < TEST_COUNT(more); i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, more[i]);
        unlink(path);
    }
    two_parents_remove(dir);
    return status;
}
