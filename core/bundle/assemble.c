#include "core/bundle/assemble.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/data/idx.h"
#include "core/io/file.h"
#include "core/io/json.h"
#include "core/io/sha256.h"
#include "core/io/tensors.h"
#include "core/models/config.h"

#define FILE_LIMIT ((size_t)8 << 30)

dscm_code dscm_network_settings(json_t **settings, const char *path, dscm_error *err)
{
    dscm_tensors *set = NULL;
    *settings = NULL;
    dscm_code code = dscm_tensors_open(&set, path, err);
    if (code != DSCM_OK) return code;
    const char *text = dscm_tensors_metadata(set, "settings");
    unsigned long mark = dscm_json_failures();
    json_t *object = text ? dscm_json_read(text, strlen(text), JSON_REJECT_DUPLICATES, NULL) : NULL;
    dscm_tensors_free(set);
    if (dscm_json_failures() != mark)
        return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", path);
    if (!json_is_object(json_object_get(object, "config"))) {
        json_decref(object);
        return dscm_fail(err, DSCM_E_FORMAT, "%s: no network written by diffscm train", path);
    }
    *settings = object;
    return DSCM_OK;
}

/* ---- the pool ---- */
typedef struct encoder {
    dscm_net *net;
    dscm_weights *weights;
    dscm_exec *exec;
} encoder;

#define ENCODER_BATCH ((size_t)16)

static dscm_code read_weights(encoder *e, const char *path, dscm_error *err)
{
    dscm_tensors *set = NULL;
    dscm_code code = dscm_tensors_open(&set, path, err);
    if (code != DSCM_OK) return code;
    float *values = dscm_alloc(e->net->params.floats, sizeof *values, "weights", err);
    code = values ? dscm_params_load(&e->net->params, values, set, NULL, err) : DSCM_E_MEMORY;
    if (code == DSCM_OK)
        code = dscm_weights_open(&e->weights, e->net->graph, values, dscm_cpu_best_isa(),
                                 DSCM_EXEC_INFER, err);
    dscm_free(values);
    dscm_tensors_free(set);
    return code;
}

static dscm_code open_encoder(encoder *e, const char *path, dscm_error *err)
{
    static const char *const outputs[] = {"mu", "logvar", NULL};
    dscm_exec_options options = {
        .mode = DSCM_EXEC_INFER, .batch = ENCODER_BATCH, .outputs = outputs};
    dscm_net_config config;
    json_t *settings;
    dscm_code code = dscm_network_settings(&settings, path, err);
    if (code != DSCM_OK) return code;
    code = dscm_net_config_parse(&config, json_object_get(settings, "config"), path, err);
    json_decref(settings);
    if (code == DSCM_OK && !dscm_arch_encodes(config.arch))
        code = dscm_fail(err, DSCM_E_MISMATCH, "%s: arch %s is no VAE", path,
                         dscm_arch_name(config.arch));
    if (code == DSCM_OK) code = dscm_net_open(&e->net, &config, err);
    if (code == DSCM_OK) code = read_weights(e, path, err);
    if (code == DSCM_OK) code = dscm_exec_open(&e->exec, e->net->graph, e->weights, &options, err);
    return code;
}

static void close_encoder(encoder *e)
{
    dscm_exec_free(e->exec);
    dscm_weights_free(e->weights);
    dscm_net_free(e->net);
}

static void encode(encoder *e, float *mu, float *logvar, const dscm_dataset *data, size_t count)
{
    size_t latent = e->net->config.latent, pixels = data->h * data->w * data->c;
    const dscm_graph *g = e->net->graph;
    for (size_t i = 0; i < count; i += ENCODER_BATCH) {
        size_t n = count - i < ENCODER_BATCH ? count - i : ENCODER_BATCH;
        dscm_pixels_to_float(dscm_exec_data(e->exec, e->net->x), data->pixels + i * pixels,
                             n * pixels);
        dscm_exec_forward(e->exec, n, 1);
        memcpy(mu + i * latent, dscm_exec_data(e->exec, dscm_graph_find(g, "mu")),
               n * latent * sizeof(float));
        memcpy(logvar + i * latent, dscm_exec_data(e->exec, dscm_graph_find(g, "logvar")),
               n * latent * sizeof(float));
    }
}

dscm_code dscm_pool_write(const char *path, const char *vae_path, const dscm_dataset *data,
                          size_t count, dscm_error *err)
{
    encoder e = {0};
    if (count > data->count) count = data->count;
    dscm_code code = open_encoder(&e, vae_path, err);
    if (code == DSCM_OK &&
        (e.net->config.image_size != data->h || e.net->config.in_channels != data->c))
        code = dscm_fail(err, DSCM_E_MISMATCH, "%s: takes %zux%zux%zu, the data has %zux%zux%zu",
                         vae_path, e.net->config.image_size, e.net->config.image_size,
                         e.net->config.in_channels, data->h, data->w, data->c);
    if (code != DSCM_OK) {
        close_encoder(&e);
        return code;
    }
    size_t latent = e.net->config.latent;
    const size_t dims[2] = {count, latent};
    float *block = dscm_alloc(count * (2 * latent + 1), sizeof *block, "pool", err);
    if (block) {
        float *mu = block, *logvar = mu + count * latent, *labels = logvar + count * latent;
        encode(&e, mu, logvar, data, count);
        for (size_t i = 0; i < count; i++) labels[i] = (float)data->labels[i];
        const dscm_tensor_out tensors[] = {
            {"mu", dims, 2, mu}, {"logvar", dims, 2, logvar}, {"labels", dims, 1, labels}};
        code = dscm_safetensors_write(path, tensors, 3, DSCM_F16, NULL, err);
    } else {
        code = DSCM_E_MEMORY;
    }
    dscm_free(block);
    close_encoder(&e);
    return code;
}

/* ---- the manifest ---- */
static dscm_code add_hash(json_t *hashes, const char *dir, const char *name, dscm_error *err)
{
    char path[4096], hex[65];
    unsigned char *bytes = NULL;
    size_t size = 0;
    int length = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (length < 0 || (size_t)length >= sizeof path)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", dir);
    dscm_code code = dscm_file_read(path, FILE_LIMIT, &bytes, &size, err);
    if (code != DSCM_OK) return code;
    dscm_sha256_hex(hex, bytes, size);
    dscm_free(bytes);
    if (json_object_set_new(hashes, name, json_string(hex)) != 0)
        return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", path);
    return DSCM_OK;
}

dscm_code dscm_manifest_write(json_t *manifest, const char *dir, const char *const *files,
                              unsigned long since, dscm_error *err)
{
    char path[4096];
    json_t *hashes = json_object();
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && files[i]; i++)
        code = add_hash(hashes, dir, files[i], err);
    if (code == DSCM_OK &&
        (json_object_set(manifest, "files", hashes) != 0 ||
         json_object_set_new(manifest, "format",
                             json_sprintf("%s%d", BUNDLE_FORMAT_STEM, BUNDLE_FORMAT)) != 0))
        code = dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", dir);
    json_decref(hashes);
    int length = snprintf(path, sizeof path, "%s/manifest.json", dir);
    if (code == DSCM_OK && (length < 0 || (size_t)length >= sizeof path))
        code = dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", dir);
    if (code != DSCM_OK) return code;
    char *text = dscm_json_write(manifest, JSON_INDENT(1) | JSON_REAL_PRECISION(9), since);
    if (!text) return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", path);
    const dscm_piece pieces[] = {{text, strlen(text)}, {"\n", 1}};
    code = dscm_file_replace(path, pieces, 2, err);
    free(text);
    return code;
}
