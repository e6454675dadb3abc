/* A bundle for tests with two parents: shape (3 labels) -> thickness (continuous, additive), and
 * both -> image (8x8 grey), with random networks. Written to a folder of its own.
 *
 * thickness = 2 + {0, 1, 3}[shape] + u. */
#ifndef DSCM_TESTS_CORE_SCM_TWO_PARENTS_H
#define DSCM_TESTS_CORE_SCM_TWO_PARENTS_H

#include <jansson.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/bundle/assemble.h"
#include "core/causal/model.h"
#include "core/diffscm.h"
#include "core/io/tensors.h"
#include "core/models/config.h"
#include "tests/harness.h"

enum { SHAPE, THICKNESS, IMAGE, VARIABLES, SIDE = 8, PIXELS = SIDE * SIDE, CODE = 4 };

/* Set before the bundle is written: factor on the predictors' last layer (random ones hardly see the
 * image; guidance follows it), and classes of the score network, 0 or 3. */
static float two_parents_sharpness = 1;
static size_t two_parents_classes = 0;
/* Or a score network that is told shape and thickness. */
static bool two_parents_conditional = false;
/* Added to the last bias of the next networks written, per output, or NULL: values that predictors
 * of numbers see in any image. */
static const float *two_parents_bias = NULL;
/* Or with two labels for thickness, thin and thick, which then has no parent. */
static bool two_parents_labelled = false;

/* Or with a VAE that searches weigh results by: deviation of its pool's codes; 0 is none. */
static float two_parents_weighed = 0;

/* Of thickness. */
static double two_parents_tolerance = 2, two_parents_result_bias = 0;

/* Or with this fitted model of both (borrowed): its labels and range, mechanisms "fitted". */
static const dscm_causal *two_parents_causal = NULL;

/* A manifest's entry of a network, {"config", "weights"}, whose file it writes; frees both. */
static json_t *save_network(dscm_net *net, float *values, const char *dir, const char *file)
{
    char path[512];
    dscm_error err = {0};
    snprintf(path, sizeof path, "%s/%s", dir, file);
    dscm_code code = dscm_params_save(&net->params, values, path, DSCM_F16, NULL, &err);
    json_t *entry = code == DSCM_OK
                        ? json_pack("{s:o, s:s}", "config", dscm_net_config_to_json(&net->config),
                                    "weights", file)
                        : NULL;
    dscm_free(values);
    dscm_net_free(net);
    return entry;
}

/* A network with its initial values, to be freed with it; NULL when it cannot be made. */
static float *open_network(dscm_net **net, const dscm_net_config *c, uint64_t seed)
{
    dscm_error err = {0};
    if (dscm_net_open(net, c, &err) != DSCM_OK) return NULL;
    float *values = dscm_alloc((*net)->params.floats, sizeof *values, "test", &err);
    dscm_params_init(&(*net)->params, values, seed);
    return values;
}

/* Trained networks start some layers at zero; these do not, so every parameter counts. */
static json_t *write_network(const char *dir, const char *file, dscm_arch arch, size_t outputs,
                             uint64_t seed)
{
    dscm_net *net = NULL;
    dscm_net_config c = dscm_net_config_defaults(arch);
    c.image_size = SIDE;
    c.in_channels = 1;
    c.out_channels = outputs;
    c.model_channels = 32;
    c.num_res_blocks = 1;
    c.levels = 2;
    c.channel_mult[0] = c.channel_mult[1] = 1;
    c.attention_count = 0;
    c.num_heads = 1;
    c.num_head_channels = 0;
    c.num_classes = arch == DSCM_ARCH_UNET ? two_parents_classes : 0;
    if (arch == DSCM_ARCH_UNET && two_parents_conditional) {
        c.parents_count = 2;
        c.parents[0] = (dscm_parent){.name = "shape", .classes = 3};
        c.parents[1] = (dscm_parent){.name = "thickness", .mean = 3, .std = 1.5};
        c.prediction = DSCM_PREDICT_V;
    }
    c.learn_sigma = false;
    c.dropout = 0;
    float *values = open_network(&net, &c, seed);
    if (!values) return NULL;
    dscm_rng rng = dscm_rng_make(seed, 1);
    for (size_t i = 0; i < net->params.count; i++) {
        const dscm_param *p = &net->params.items[i];
        if (p->init != DSCM_INIT_ZERO) continue;
        dscm_rng_normal(&rng, values + p->offset, p->count);
        for (size_t k = 0; k < p->count; k++) values[p->offset + k] *= 0.05f;
    }
    const dscm_param *last = &net->params.items[net->params.count - 2]; /* behind it its bias */
    for (size_t k = 0; arch == DSCM_ARCH_ENCODER && k < last->count; k++)
        values[last->offset + k] *= two_parents_sharpness;
    for (size_t k = 0; two_parents_bias && k < outputs; k++)
        values[last[1].offset + k] += two_parents_bias[k];
    return save_network(net, values, dir, file);
}

/* A VAE with codes of CODE numbers, or an autoencoder (deep: of a class). */
static inline json_t *write_coder(const char *dir, const char *file, dscm_arch arch, bool deep,
                                  uint64_t seed)
{
    dscm_net *net = NULL;
    dscm_net_config c = dscm_net_config_defaults(arch);
    c.image_size = SIDE;
    c.in_channels = 1;
    c.latent = CODE;
    c.deep = deep;
    float *values = open_network(&net, &c, seed);
    if (!values) return NULL;
    return save_network(net, values, dir, file);
}

/* Random codes of images of three classes in turn, with this deviation. */
static inline bool write_pool(const char *dir, const char *file, size_t count, float deviation)
{
    char path[512];
    float *mu = dscm_alloc(count * (2 * CODE + 1), sizeof *mu, "test", NULL);
    if (!mu) return false;
    float *logvar = mu + count * CODE, *classes = logvar + count * CODE;
    dscm_rng rng = dscm_rng_make(5, 5);
    dscm_rng_normal(&rng, mu, 2 * count * CODE);
    for (size_t i = 0; i < 2 * count * CODE; i++) mu[i] *= deviation;
    for (size_t i = 0; i < count; i++) classes[i] = (float)(i % 3);
    const size_t dims[2] = {count, CODE};
    const dscm_tensor_out tensors[] = {
        {"mu", dims, 2, mu}, {"logvar", dims, 2, logvar}, {"labels", dims, 1, classes}};
    snprintf(path, sizeof path, "%s/%s", dir, file);
    bool ok = dscm_safetensors_write(path, tensors, 3, DSCM_F32, NULL, NULL) == DSCM_OK;
    dscm_free(mu);
    return ok;
}

static json_t *two_parents_manifest(const char *dir)
{
    json_t *score = write_network(dir, "score.safetensors", DSCM_ARCH_UNET, 1, 1);
    json_t *shape = write_network(dir, "shape.safetensors", DSCM_ARCH_ENCODER, 3, 2);
    json_t *thick = write_network(dir, "thickness.safetensors", DSCM_ARCH_ENCODER, 2, 3);
    json_t *variables =
        json_pack("[{s:s, s:s, s:[s,s,s], s:[], s:{s:s}},"
                  " {s:s, s:s, s:f, s:f, s:f, s:[s], s:{s:s, s:f, s:{s:[f,f,f]}}},"
                  " {s:s, s:s, s:i, s:i, s:i, s:[s,s], s:{s:s, s:s, s:i, s:o}}]",
                  "name", "shape", "kind", "categorical", "labels", "disc", "ring", "bar",
                  "parents", "mechanism", "kind", "root", /* */
                  "name", "thickness", "kind", "continuous", "min", 0.0, "max", 10.0, "tolerance",
                  two_parents_tolerance, "parents", "shape", "mechanism", "kind", "additive",
                  "bias", 2.0, "weights", "shape", 0.0, 1.0, 3.0, /* */
                  "name", "image", "kind", "image", "height", SIDE, "width", SIDE, "channels", 1,
                  "parents", "shape", "thickness", "mechanism", "kind", "diffusion", "schedule",
                  "cosine", "steps", 1000, "network", score);
    json_object_set_new(json_array_get(variables, THICKNESS), "result_bias",
                        json_real(two_parents_result_bias));
    if (two_parents_labelled)
        json_array_set_new(variables, THICKNESS,
                           json_pack("{s:s, s:s, s:[s,s], s:[], s:{s:s}}", "name", "thickness",
                                     "kind", "categorical", "labels", "thin", "thick", "parents",
                                     "mechanism", "kind", "root"));
    return json_pack("{s:s, s:s, s:s, s:s, s:{s:s, s:i, s:f}, s:o,"
                     " s:[{s:s, s:s, s:o}, {s:s, s:s, s:o}], s:[{s:s, s:i, s:f}]}",
                     "name", "two-parents", "version", "1", "licence", "MIT", "provenance",
                     "random weights", "defaults", "sampler", "residual", "steps", 4, "ratio", 0.9,
                     "variables", variables, "edges", "parent", "shape", "child", "image",
                     "predictor", shape, "parent", "thickness", "child", "image", "predictor",
                     thick, "calibration", "sampler", "residual", "steps", 4, "scale", 6.0);
}

/* The variables become those of the fitted model, which has the same names and order. */
static inline void two_parents_fit(json_t *manifest)
{
    json_t *variables = json_object_get(manifest, "variables");
    for (int i = 0; i < IMAGE; i++) {
        const dscm_causal_node *n = &two_parents_causal->nodes[i];
        json_t *v = json_array_get(variables, (size_t)i), *labels = json_array();
        json_object_set_new(v, "mechanism", json_pack("{s:s}", "kind", "fitted"));
        for (size_t k = 0; k < n->labels_count; k++)
            json_array_append_new(labels, json_string(n->labels[k]));
        if (n->kind == DSCM_CATEGORICAL) json_object_set(v, "labels", labels);
        json_decref(labels);
        if (n->kind != DSCM_CONTINUOUS) continue;
        json_object_set_new(v, "min", json_real(n->min));
        json_object_set_new(v, "max", json_real(n->max));
    }
    json_object_set_new(manifest, "causal", dscm_causal_json(two_parents_causal));
}

static const char *const two_parents_files[] = {"score.safetensors", "shape.safetensors",
                                                "thickness.safetensors", NULL};

/* Of two_parents_weighed. */
static const char *const two_parents_search[] = {"search-vae.safetensors", "pool.safetensors"};

/* Writes the bundle into a new folder below /tmp; `dir` holds its name, for two_parents_remove. */
static bool two_parents_write(char dir[64])
{
    dscm_error err = {0};
    strcpy(dir, "/tmp/diffscm-two-parents-XXXXXX");
    if (!mkdtemp(dir)) return false;
    json_t *manifest = two_parents_manifest(dir);
    if (manifest && two_parents_causal) two_parents_fit(manifest);
    const char *files[8];
    size_t count = 0;
    for (; two_parents_files[count]; count++) files[count] = two_parents_files[count];
    if (manifest && two_parents_weighed > 0) {
        for (size_t i = 0; i < 2; i++) files[count++] = two_parents_search[i];
        write_pool(dir, files[count - 1], 60, two_parents_weighed);
        json_t *vae = write_coder(dir, files[count - 2], DSCM_ARCH_MLP_VAE, false, 13);
        json_object_set_new(manifest, "evaluation", json_pack("{s:s}", "variable", "shape"));
        json_object_set_new(
            manifest, "search",
            json_pack("{s:[{s:o, s:s}]}", "vaes", "network", vae, "pool", files[count - 1]));
        json_object_set_new(manifest, "format", json_string(BUNDLE_FORMAT_STEM "2"));
    }
    files[count] = NULL;
    bool ok = manifest && dscm_manifest_write(manifest, dir, files, 0, &err) == DSCM_OK;
    json_decref(manifest);
    return ok;
}

/* The bundle, written and opened, with a session of one thread; false with a message in err. */
static inline bool two_parents_open(char dir[64], dscm_bundle **bundle, dscm_session **session,
                                    size_t batch, dscm_error *err)
{
    return two_parents_write(dir) && dscm_bundle_open(bundle, dir, err) == DSCM_OK &&
           dscm_session_open(session, *bundle, batch, 1, err) == DSCM_OK;
}

/* Random images, inside the range of values. */
static inline void two_parents_images(float *out, size_t count, uint64_t stream)
{
    dscm_rng rng = dscm_rng_make(9, stream);
    dscm_rng_normal(&rng, out, count * PIXELS);
    for (size_t i = 0; i < count * PIXELS; i++) out[i] = tanhf(out[i]);
}

static void two_parents_remove(const char *dir)
{
    char path[512];
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    unlink(path);
    for (int i = 0; two_parents_files[i]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, two_parents_files[i]);
        unlink(path);
    }
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, two_parents_search[i]);
        unlink(path);
    }
    rmdir(dir);
}

/* A test program of cases on one open bundle: opens it, runs them, removes it. The exit status. */
static inline int two_parents_main(const char *program, char *dir, dscm_bundle **bundle,
                                   dscm_session **session, size_t batch, int argc, char **argv,
                                   const test_case *cases, size_t count)
{
    dscm_error err = {0};
    if (!two_parents_open(dir, bundle, session, batch, &err)) {
        printf("set-up: %s\n%s 0 passed, 1 failed, 0 skipped\n", err.message, program);
        return 1;
    }
    int status = test_main(argc, argv, cases, count);
    dscm_session_free(*session);
    dscm_bundle_free(*bundle);
    two_parents_remove(dir);
    return status;
}

#endif
