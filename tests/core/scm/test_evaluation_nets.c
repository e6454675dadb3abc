/* Networks that judge: those that do not fit the image, the labels or each other are refused when a
 * bundle is loaded, not met when it is used. */
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

static const char *const files[] = {
    "score.safetensors", "shape.safetensors", "thickness.safetensors", "three.safetensors",
    "four.safetensors",  "plain.safetensors", "deep.safetensors",      NULL};
static json_t *manifest, *three, *four, *plain, *deep; /* entries of the last four files */

/* Opens the bundle with this object as its "evaluation" (NULL: without); gives it up. The error, ""
 * for none. */
static const char *open_with(json_t *evaluation)
{
    static dscm_error err;
    dscm_bundle *bundle = NULL;
    err = (dscm_error){0};
    if (evaluation) json_object_set_new(manifest, "evaluation", evaluation);
    if (dscm_manifest_write(manifest, dir, files, &err) == DSCM_OK &&
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
        {"no_cause_goes_unseen", no_cause_goes_unseen}};
    if (!two_parents_write(dir)) return 1;
    manifest = two_parents_manifest(dir);
    three = write_network(dir, "three.safetensors", DSCM_ARCH_CNN, 3, 5);
    four = write_network(dir, "four.safetensors", DSCM_ARCH_CNN, 4, 6);
    plain = write_autoencoder("plain.safetensors", false);
    deep = write_autoencoder("deep.safetensors", true);
    int status = manifest && three && four && plain && deep
                     ? test_main(argc, argv, cases, TEST_COUNT(cases))
                     : 1;
    json_t *const owned[] = {manifest, three, four, plain, deep};
    for (size_t i = 0; i < TEST_COUNT(owned); i++) json_decref(owned[i]);
    for (int i = 3; files[i]; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    two_parents_remove(dir);
    return status;
}
