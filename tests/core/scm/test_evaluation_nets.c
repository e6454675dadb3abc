/* Networks that judge: those that do not fit the image, the labels or each other are refused when a
 * bundle is loaded, not met when it is used. */
#include <math.h>

#include "core/bundle/bundle.h"
#include "tests/core/scm/two_parents.h"

static char dir[64];

static json_t *write_autoencoder(const char *file, bool deep)
{
    dscm_error err = {0};
    dscm_net *net = NULL;
    dscm_net_config c = dscm_net_config_defaults(DSCM_ARCH_AUTOENCODER);
    c.image_size = SIDE;
    c.deep = deep;
    if (dscm_net_open(&net, &c, &err) != DSCM_OK) return NULL;
    float *values = dscm_alloc(net->params.floats, sizeof *values, "test", &err);
    dscm_params_init(&net->params, values, 4);
    return save_network(net, values, dir, file);
}

static const char *const files[] = {"score.safetensors",     "shape.safetensors",
                                    "thickness.safetensors", "three.safetensors",
                                    "four.safetensors",      "plain.safetensors",
                                    "deep.safetensors",      "residual.safetensors",
                                    "flat.safetensors",      NULL};
static json_t *manifest, *three, *four, *plain, *deep, *residual, *flat; /* of the last files */

/* Opens the bundle with this object as its "evaluation" (NULL: without); gives it up. The error, ""
 * for none. */
static const char *open_with(json_t *evaluation)
{
    static dscm_error err;
    dscm_bundle *bundle = NULL;
    err = (dscm_error){0};
    if (evaluation) json_object_set_new(manifest, "evaluation", evaluation);
    if (dscm_manifest_write(manifest, dir, files, 0, &err) == DSCM_OK &&
        dscm_bundle_open(&bundle, dir, &err) == DSCM_OK)
        CHECK_INT(dscm_bundle_describe(bundle)->has_oracle,
                  json_object_get(evaluation, "oracle") != NULL);
    dscm_bundle_free(bundle);
    json_object_del(manifest, "evaluation");
    return err.message;
}

/* The entry with one key of its configuration set to another value. */
static json_t *with(const json_t *entry, const char *key, int value)
{
    json_t *copy = json_deep_copy(entry);
    json_object_set_new(json_object_get(copy, "config"), key, json_integer(value));
    return copy;
}

static void outputs_are_the_labels(void)
{
    CHECK_STR(open_with(json_pack("{s:s, s:O, s:[O, O]}", "variable", "shape", "oracle", three,
                                  "ensemble", three, three)),
              "");
    CHECK_HAS(open_with(json_pack("{s:s, s:O}", "variable", "shape", "oracle", four)),
              "oracle: has 4 outputs for 3 labels");
    CHECK_HAS(open_with(json_pack("{s:s, s:[O, O]}", "variable", "shape", "ensemble", three, four)),
              "ensemble: has 4 outputs for 3 labels");
    CHECK_HAS(open_with(json_pack("{s:s, s:O}", "variable", "thickness", "oracle", three)),
              "variable \"thickness\" is no cause of the image with labels");
}

static void images_have_one_size(void)
{
    CHECK_HAS(open_with(json_pack("{s:s, s:o}", "variable", "shape", "oracle",
                                  with(three, "image_size", 16))),
              "oracle: takes 16x16x1, the image is 8x8x1");
    CHECK_HAS(open_with(json_pack("{s:s, s:o}", "variable", "shape", "autoencoder",
                                  with(plain, "image_size", 4))),
              "autoencoder: takes 4x4x1, the image is 8x8x1");
    CHECK_HAS(open_with(json_pack("{s:s, s:[O, O, o]}", "variable", "shape", "class_autoencoders",
                                  deep, deep, with(deep, "image_size", 16))),
              "class_autoencoders: takes 16x16x1");
}

static void autoencoders_are_of_their_kind(void)
{
    CHECK_STR(open_with(json_pack("{s:s, s:O, s:[O, O, O]}", "variable", "shape", "autoencoder",
                                  plain, "class_autoencoders", deep, deep, deep)),
              "");
    CHECK_HAS(open_with(json_pack("{s:s, s:O}", "variable", "shape", "autoencoder", deep)),
              "autoencoder: is one of a class");
    CHECK_HAS(open_with(json_pack("{s:s, s:O}", "variable", "shape", "baseline_autoencoder", deep)),
              "baseline_autoencoder: is one of a class");
    CHECK_STR(
        open_with(json_pack("{s:s, s:O}", "variable", "shape", "baseline_autoencoder", plain)), "");
    CHECK_HAS(open_with(json_pack("{s:s, s:[O, O, O]}", "variable", "shape", "class_autoencoders",
                                  deep, plain, deep)),
              "label 1 is of another kind");
}

/* ---- format 2 ---- */
/* Opens the bundle with further objects of the manifest; gives them up. */
static const char *open_with_judges(json_t *more, dscm_bundle **bundle)
{
    static dscm_error err;
    const char *key;
    json_t *value;
    err = (dscm_error){0};
    json_object_set_new(manifest, "evaluation", json_pack("{s:s}", "variable", "shape"));
    json_object_update(manifest, more);
    *bundle = NULL;
    if (dscm_manifest_write(manifest, dir, files, 0, &err) == DSCM_OK &&
        dscm_bundle_open(bundle, dir, &err) != DSCM_OK)
        CHECK(*bundle == NULL);
    json_object_foreach(more, key, value) json_object_del(manifest, key);
    json_object_del(manifest, "evaluation");
    json_decref(more);
    return err.message;
}

static const char *refused(json_t *more)
{
    dscm_bundle *bundle;
    const char *message = open_with_judges(more, &bundle);
    dscm_bundle_free(bundle);
    return message;
}

static void panel_takes_every_architecture(void)
{
    dscm_bundle *bundle;
    const char *message =
        open_with_judges(json_pack("{s:{s:[O, O], s:[{s:O}], s:O, s:[O, O, O]}, s:[{s:O, s:f}]}",
                                   "panel", "classifiers", three, residual, "vaes", "network", flat,
                                   "autoencoder", plain, "class_autoencoders", deep, deep, deep,
                                   "acceptance", "network", residual, "temperature", 2.0),
                         &bundle);
    CHECK_STR(message, "");
    REQUIRE(bundle);
    const dscm_bundle_info *info = dscm_bundle_describe(bundle);
    CHECK_INT(info->format, 2);
    CHECK(info->has_panel && info->has_oracle && info->has_im);
    CHECK(!info->has_cld); /* no reference images */
    CHECK(!info->quantiles.known);
    CHECK_INT((int)info->acceptance_count, 1);
    dscm_session *session = NULL;
    REQUIRE(dscm_session_open(&session, bundle, 2, 1, NULL) == DSCM_OK);
    /* The panel's second classifier and the acceptance net are one file: the one is the other at
     * temperature 1, log p = log softmax(z) up to a constant that the temperature divides. */
    float images[2 * SIDE * SIDE], soft[6], sharp[6];
    for (size_t i = 0; i < 2 * SIDE * SIDE; i++) images[i] = (float)(i * 37 % 64) / 32 - 1;
    REQUIRE(dscm_observe_acceptance(session, bundle->info.scored, 0, soft, images, 2, NULL) ==
            DSCM_OK);
    bundle->acceptance[0].temperature = 1;
    REQUIRE(dscm_observe_acceptance(session, bundle->info.scored, 0, sharp, images, 2, NULL) ==
            DSCM_OK);
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 1; k < 3; k++)
            CHECK_NEAR(log((double)soft[3 * i + k] / (double)soft[3 * i]),
                       log((double)sharp[3 * i + k] / (double)sharp[3 * i]) / 2, 1e-5);
    dscm_error err = {0};
    CHECK(dscm_observe_acceptance(session, bundle->info.scored, 1, soft, images, 2, &err) ==
          DSCM_E_UNKNOWN);
    CHECK_HAS(err.message, "has 1 acceptance nets");
    dscm_session_free(session);
    dscm_bundle_free(bundle);
}

static void panel_mistakes_are_named(void)
{
    CHECK_HAS(refused(json_pack("{s:{s:[O, O]}}", "panel", "classifiers", three, four)),
              "panel: has 4 outputs for 3 labels");
    CHECK_HAS(refused(json_pack("{s:{s:[O]}}", "panel", "classifiers", flat)),
              "panel: arch must be cnn or plain_cnn or resnet");
    CHECK_HAS(refused(json_pack("{s:{s:[{s:O}]}}", "panel", "vaes", "network", three)),
              "panel: arch must be vae or mlp_vae");
    CHECK_HAS(refused(json_pack("{s:{s:[]}}", "selection", "classifiers")),
              "selection: \"classifiers\" must be a list of 1..8 networks");
    CHECK_HAS(refused(json_pack("{s:{s:O}}", "panel", "oracle", three)),
              "panel: unknown key \"oracle\"");
    CHECK_HAS(refused(json_pack("{s:{s:O}}", "panel", "", three)), "panel: unknown key \"\"");
    CHECK_HAS(
        refused(json_pack("{s:[{s:O, s:i}]}", "acceptance", "network", three, "temperature", 0)),
        "acceptance: \"temperature\" must be a number in 0.01..100");
    CHECK_HAS(
        refused(json_pack("{s:{s:{s:f, s:f}, s:{s:f, s:f}}}", "quantiles", "noise_only", "low", 0.1,
                          "high", 2.0, "denoising_loss", "low", 0.5, "high", 0.25)),
        "quantiles: denoising_loss: \"high\" must be a number in 0.5..");
    json_t *bounds = json_pack("{s:f, s:f}", "low", 0.5, "high", 1.0);
    CHECK_HAS(refused(json_pack("{s:{s:O, s:O, s:O, s:s, s:O}}", "quantiles", "noise_only", bounds,
                                "denoising_loss", bounds, "contrast", bounds, "references",
                                "three.safetensors", "likeness_centred", bounds)),
              "quantiles: likeness");
    CHECK_HAS(refused(json_pack("{s:{s:O, s:O, s:O, s:i, s:O, s:O}}", "quantiles", "noise_only",
                                bounds, "denoising_loss", bounds, "contrast", bounds, "references",
                                3, "likeness", bounds, "likeness_centred", bounds)),
              "\"references\"");
    json_decref(bounds);
    CHECK_HAS(open_with(json_pack("{s:s, s:O}", "variable", "shape", "selection", three)),
              "unknown key \"selection\"");
}

static void quantiles_are_told(void)
{
    dscm_bundle *bundle;
    CHECK_STR(
        open_with_judges(json_pack("{s:{s:{s:f, s:f}, s:{s:f, s:f}, s:{s:f, s:f}}}", "quantiles",
                                   "noise_only", "low", 0.1, "high", 2.0, "denoising_loss", "low",
                                   0.25, "high", 0.5, "contrast", "low", 20.0, "high", 90.0),
                         &bundle),
        "");
    REQUIRE(bundle);
    const dscm_quantiles *q = &dscm_bundle_describe(bundle)->quantiles;
    CHECK(q->known);
    CHECK_NEAR(q->noise_only.low, 0.1, 0);
    CHECK_NEAR(q->noise_only.high, 2, 0);
    CHECK_NEAR(q->loss.low, 0.25, 0);
    CHECK_NEAR(q->loss.high, 0.5, 0);
    CHECK_NEAR(q->contrast.low, 20, 0);
    CHECK_NEAR(q->contrast.high, 90, 0);
    dscm_bundle_free(bundle);
}

/* The format that a manifest claims, with an object of the second one or without. */
static const char *open_format(const char *format, bool panel)
{
    static dscm_error err;
    char path[512];
    dscm_bundle *bundle = NULL;
    err = (dscm_error){0};
    if (dscm_manifest_write(manifest, dir, files, 0, &err) != DSCM_OK) return err.message;
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    json_t *copy = json_load_file(path, 0, NULL);
    json_object_set_new(copy, "format", json_string(format));
    json_object_set_new(copy, "evaluation",
                        json_pack("{s:s, s:O}", "variable", "shape", "oracle", three));
    if (panel) json_object_set_new(copy, "panel", json_object());
    json_dump_file(copy, path, 0);
    json_decref(copy);
    if (dscm_bundle_open(&bundle, dir, &err) == DSCM_OK) {
        const dscm_bundle_info *info = dscm_bundle_describe(bundle);
        CHECK_INT(info->format, 1);
        CHECK(info->has_oracle && !info->has_panel && !info->acceptance_count);
    }
    dscm_bundle_free(bundle);
    return err.message;
}

static void first_format_is_read(void)
{
    CHECK_STR(open_format("diffscm-bundle-1", false), "");
    CHECK_HAS(open_format("diffscm-bundle-1", true), "\"panel\" needs format diffscm-bundle-2");
    CHECK_HAS(open_format("diffscm-bundle-3", false),
              "format \"diffscm-bundle-3\" is not one of diffscm-bundle-1 to 2");
}

/* Every cause of the image is seen by a predictor. */
static void no_cause_goes_unseen(void)
{
    json_t *edges = json_object_get(manifest, "edges"), *last = json_array_get(edges, 1);
    json_incref(last);
    json_array_remove(edges, 1);
    CHECK_HAS(open_with(NULL), "edge thickness -> image is missing");
    json_array_append_new(edges, last);
    CHECK_STR(open_with(NULL), "");
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"outputs_are_the_labels", outputs_are_the_labels},
        {"images_have_one_size", images_have_one_size},
        {"autoencoders_are_of_their_kind", autoencoders_are_of_their_kind},
        {"panel_takes_every_architecture", panel_takes_every_architecture},
        {"panel_mistakes_are_named", panel_mistakes_are_named},
        {"quantiles_are_told", quantiles_are_told},
        {"first_format_is_read", first_format_is_read},
        {"no_cause_goes_unseen", no_cause_goes_unseen}};
    if (!two_parents_write(dir)) return 1;
    manifest = two_parents_manifest(dir);
    three = write_network(dir, "three.safetensors", DSCM_ARCH_CNN, 3, 5);
    four = write_network(dir, "four.safetensors", DSCM_ARCH_CNN, 4, 6);
    plain = write_autoencoder("plain.safetensors", false);
    deep = write_autoencoder("deep.safetensors", true);
    residual = write_network(dir, "residual.safetensors", DSCM_ARCH_RESNET, 3, 7);
    flat = write_network(dir, "flat.safetensors", DSCM_ARCH_MLP_VAE, 1, 8);
    int status = manifest && three && four && plain && deep && residual && flat
                     ? test_main(argc, argv, cases, TEST_COUNT(cases))
                     : 1;
    json_t *const owned[] = {manifest, three, four, plain, deep, residual, flat};
    for (size_t i = 0; i < TEST_COUNT(owned); i++) json_decref(owned[i]);
    for (int i = 3; files[i]; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    two_parents_remove(dir);
    return status;
}
