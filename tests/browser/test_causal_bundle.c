/* A bundle of random networks with two continuous causes, for the tests of the page:
 *
 *   thickness -> intensity; digit, thickness, intensity -> image        intensity = u + 20 thickness
 *
 * test_causal_bundle DIR writes it into the folder DIR, for tests/browser/run.py; without a folder
 * the program tests that such a bundle opens and that its intensity follows thickness. */
#include "tests/core/scm/two_parents.h"

enum { DIGIT, WIDTH, INTENSITY }; /* WIDTH: "thickness" */

static const char *const files[] = {"score.safetensors", "digit.safetensors",
                                    "thickness.safetensors", "intensity.safetensors", NULL};

static json_t *predictor(const char *dir, const char *file, size_t outputs, const float *bias,
                         uint64_t seed)
{
    two_parents_bias = bias;
    json_t *out = write_network(dir, file, DSCM_ARCH_ENCODER, outputs, seed);
    two_parents_bias = NULL;
    return out;
}

static bool write_bundle(const char *dir, dscm_error *err)
{
    static const float thickness[2] = {2.4f, -2}, intensity[2] = {150, 2};
    json_t *score = write_network(dir, files[0], DSCM_ARCH_UNET, 1, 1);
    json_t *digit = predictor(dir, files[1], 3, NULL, 2);
    json_t *thick = predictor(dir, files[2], 2, thickness, 3);
    json_t *light = predictor(dir, files[3], 2, intensity, 4);
    json_t *manifest = json_pack(
        "{s:s, s:s, s:s, s:s, s:{s:s, s:i, s:f},"
        " s:[{s:s, s:s, s:[s,s,s], s:[], s:{s:s}}, {s:s, s:s, s:f, s:f, s:[], s:{s:s}},"
        " {s:s, s:s, s:f, s:f, s:[s], s:{s:s, s:f, s:{s:f}}},"
        " {s:s, s:s, s:i, s:i, s:i, s:[s,s,s], s:{s:s, s:s, s:i, s:o}}],"
        " s:[{s:s, s:s, s:o}, {s:s, s:s, s:o}, {s:s, s:s, s:o}], s:[{s:s, s:i, s:f}]}",
        "name", "causal", "version", "1", "licence", "MIT", "provenance", "random weights",
        "defaults", "sampler", "residual", "steps", 4, "ratio", 0.9, "variables", /* */
        "name", "digit", "kind", "categorical", "labels", "0", "1", "2", "parents", "mechanism",
        "kind", "root", /* */
        "name", "thickness", "kind", "continuous", "min", 0.9, "max", 6.0, "parents", "mechanism",
        "kind", "root", /* */
        "name", "intensity", "kind", "continuous", "min", 60.0, "max", 255.0, "parents",
        "thickness", "mechanism", "kind", "additive", "bias", 100.0, "weights", "thickness",
        20.0, /* */
        "name", "image", "kind", "image", "height", SIDE, "width", SIDE, "channels", 1, "parents",
        "digit", "thickness", "intensity", "mechanism", "kind", "diffusion", "schedule", "cosine",
        "steps", 1000, "network", score, /* */
        "edges", "parent", "digit", "child", "image", "predictor", digit, "parent", "thickness",
        "child", "image", "predictor", thick, "parent", "intensity", "child", "image", "predictor",
        light, "calibration", "sampler", "residual", "steps", 4, "scale", 1.0);
    bool good = manifest && dscm_manifest_write(manifest, dir, files, 0, err) == DSCM_OK;
    json_decref(manifest);
    return good;
}

static void a_descendant_follows(void)
{
    char dir[] = "/tmp/diffscm-causal-bundle-XXXXXX", path[128];
    dscm_bundle *bundle = NULL;
    dscm_error err = {0};
    double value[4];
    const double factual[4] = {1, 2, 150, (double)NAN};
    const dscm_intervention set = {WIDTH, DSCM_DO, 4, (double)NAN};
    const dscm_query query = {.items = &set, .count = 1, .factual = factual};
    REQUIRE(mkdtemp(dir));
    CHECK(write_bundle(dir, &err));
    CHECK_INT(dscm_bundle_open(&bundle, dir, &err), DSCM_OK);
    if (bundle && dscm_query_values(bundle, &query, value, &err) == DSCM_OK) {
        CHECK_NEAR(value[DIGIT], 1, 0);
        CHECK_NEAR(value[WIDTH], 4, 0);
        CHECK_NEAR(value[INTENSITY], 150 + 20 * 2, 1e-9);
    } else {
        TEST_FAIL_("%s", err.message);
    }
    dscm_bundle_free(bundle);
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i] ? files[i] : "manifest.json");
        unlink(path);
    }
    rmdir(dir);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"a_descendant_follows", a_descendant_follows}};
    dscm_error err = {0};
    if (argc < 2 || argv[1][0] != '/') return test_main(argc, argv, cases, TEST_COUNT(cases));
    if (write_bundle(argv[1], &err)) return 0;
    fprintf(stderr, "%s: %s\n", argv[1], err.message);
    return 1;
}
