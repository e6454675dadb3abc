/* diffscm calibrate: measures, on images that trained no network, what verdicts and outcomes are
 * decided by; `diffscm bundle --measured` puts it into the bundle. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/json_file.h"
#include "cli/model.h"
#include "core/base/memory.h"
#include "core/bundle/bundle.h"
#include "core/data/idx.h"
#include "core/eval/baselines.h"
#include "core/eval/calibrate.h"
#include "core/eval/stats.h"
#include "core/image/blocks.h"
#include "core/image/ink.h"
#include "core/io/file.h"
#include "core/io/tensors.h"

#define REFERENCES_MAX 2000
#define MARGIN         0.05 /* bounds are that much wider than what was seen: new images go farther */
#define UNLIKE         0.003 /* share of real images less like the nearest reference than the bound */

typedef struct calibration_job {
    cli_model m;
    const char *data_dir, *split, *references, *out;
    size_t limit, familiarity_limit;
    double outside; /* share of real images outside each pair of bounds */
    dscm_dataset data;
    dscm_session *session;
    float *images; /* (data.count, size) */
    int *labels;
} calibration_job;

/* ---- temperatures ---- */
static dscm_code fit_net(const calibration_job *j, const bundle_net *n, dscm_temperature *out,
                         dscm_error *err)
{
    dscm_probe probe;
    size_t size = cli_image_size(&j->m), batch = j->m.batch, count = j->data.count;
    dscm_code code = dscm_probe_open(&probe, n->net, n->weights, "out", batch, err);
    if (code != DSCM_OK) return code;
    float *logits = dscm_alloc(count * probe.width, sizeof *logits, "logits", err);
    for (size_t b = 0; logits && b < count; b += batch) {
        size_t part = count - b < batch ? count - b : batch;
        memcpy(logits + b * probe.width, dscm_probe_forward(&probe, j->images + b * size, part),
               part * probe.width * sizeof *logits);
    }
    code = logits ? dscm_temperature_fit(out, logits, j->labels, count, probe.width, err)
                  : DSCM_E_MEMORY;
    dscm_free(logits);
    dscm_probe_close(&probe);
    return code;
}

static dscm_code fit_temperatures(const calibration_job *j, json_t *measured, dscm_error *err)
{
    const dscm_bundle *b = j->m.bundle;
    json_t *list = json_array();
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < b->info.acceptance_count; i++) {
        dscm_temperature t;
        code = fit_net(j, &b->acceptance[i].net, &t, err);
        if (code != DSCM_OK) break;
        json_array_append_new(list, json_real(t.temperature));
        printf("acceptance net %zu: temperature %.3f, mean negative log-likelihood %.4f -> %.4f\n",
               i, t.temperature, t.before, t.after);
    }
    json_object_set_new(measured, "temperatures", list);
    return code;
}

/* ---- familiarity ---- */
/* Puts two-sided bounds of `count` values, which are sorted, into `all`; a share of them is outside. A value that is
 * not finite has no place in bounds. */
static dscm_code add_bounds(json_t *all, const char *key, double outside, const char *what,
                            double *values, size_t count, dscm_error *err)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return dscm_fail(err, DSCM_E_FORMAT,
                             "%s of image %zu is not a finite number: the score network's weights "
                             "are not usable",
                             what, i);
    count = dscm_sort_values(values, count);
    double low = dscm_quantile_sorted(values, count, outside / 2),
           high = dscm_quantile_sorted(values, count, 1 - outside / 2);
    printf("%s: %.4g..%.4g, median %.4g (%zu images, %g outside)\n", what, low, high,
           dscm_quantile_sorted(values, count, 0.5), count, outside);
    json_t *bounds =
        json_pack("{s:f, s:f}", "low", low * (1 - MARGIN), "high", high * (1 + MARGIN));
    return json_object_set_new(all, key, bounds)
               ? dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", what)
               : DSCM_OK;
}

static dscm_code measure_familiarity(const calibration_job *j, json_t *measured, dscm_error *err)
{
    size_t count = j->data.count < j->familiarity_limit ? j->data.count : j->familiarity_limit;
    size_t size = cli_image_size(&j->m), batch = j->m.batch;
    if (!count) return DSCM_OK;
    double *loss = dscm_alloc(4 * count, sizeof *loss, "familiarity", err), *error, *contrast,
           *border;
    cli_progress progress;
    if (!loss) return DSCM_E_MEMORY;
    error = loss + count;
    contrast = error + count;
    border = contrast + count;
    for (size_t i = 0; i < count; i++) {
        contrast[i] = dscm_contrast(j->images + i * size, size);
        border[i] = dscm_border_level(j->data.pixels + i * size, j->data.h, j->data.w);
    }
    dscm_code code = DSCM_OK;
    cli_progress_start(&progress, "familiarity", "images", (double)count);
    for (size_t b = 0; code == DSCM_OK && b < count; b += batch) {
        size_t n = count - b < batch ? count - b : batch;
        const float *images = j->images + b * size;
        dscm_latent *latent = NULL;
        code = dscm_denoising_loss(j->session, loss + b, images, n, err);
        if (code == DSCM_OK)
            code = dscm_abduct(j->session, &latent, images, n, &j->m.options, NULL, err);
        if (code == DSCM_OK)
            code = dscm_noise_only_error(j->session, error + b, latent, images, NULL, err);
        dscm_latent_free(latent);
        cli_progress_show(&progress, (double)(b + n), NULL);
    }
    cli_progress_end(&progress);
    json_t *all = json_object();
    if (code == DSCM_OK)
        code = add_bounds(all, "noise_only", j->outside, "noise-only error, 0..255", error, count,
                          err);
    if (code == DSCM_OK)
        code = add_bounds(all, "denoising_loss", j->outside, "denoising loss", loss, count, err);
    if (code == DSCM_OK)
        code = add_bounds(all, "contrast", 0, "contrast, 0..255", contrast, count, err);
    if (code == DSCM_OK && j->data.c == 1)
        code = add_bounds(all, "border", 0, "border, 0..255", border, count, err);
    if (code == DSCM_OK && json_object_set(measured, "quantiles", all))
        code = dscm_fail(err, DSCM_E_MEMORY, "bounds: out of memory");
    json_decref(all);
    dscm_free(loss);
    return code;
}

/* ---- likeness ---- */
/* Evenly spaced, since files of folders come class by class. */
static dscm_code read_references(const calibration_job *j, float **out, size_t *count,
                                 dscm_error *err)
{
    dscm_dataset data;
    dscm_code code = dscm_dataset_open(&data, j->data_dir, j->references, err);
    if (code != DSCM_OK) return code;
    size_t n = data.count < REFERENCES_MAX ? data.count : REFERENCES_MAX;
    if (data.h != j->data.h || data.w != j->data.w || data.c != j->data.c)
        code =
            dscm_fail(err, DSCM_E_MISMATCH, "%s: images are not those of the model", j->references);
    else if (!n)
        code = dscm_fail(err, DSCM_E_INVALID, "--references %s: no images", j->references);
    else if (!(*out = dscm_alloc(n * DSCM_BLOCKS_FEATURES, sizeof **out, "references", err)))
        code = DSCM_E_MEMORY;
    for (size_t i = 0; code == DSCM_OK && i < n; i++)
        dscm_block_statistics(*out + i * DSCM_BLOCKS_FEATURES,
                              data.pixels + i * data.count / n * (data.h * data.w * data.c), data.h,
                              data.w, data.c);
    dscm_dataset_free(&data);
    *count = n;
    return code;
}

static json_t *lower_bound_of(const char *what, double *values, size_t count)
{
    count = dscm_sort_values(values, count);
    double low = dscm_quantile_sorted(values, count, UNLIKE);
    printf("%s: from %.4g, median %.4g (%zu images, %g below)\n", what, low,
           dscm_quantile_sorted(values, count, 0.5), count, UNLIKE);
    return json_pack("{s:f, s:f}", "low", low - MARGIN * (1 - low), "high", 1.0);
}

/* Beside the file of figures, in one of the same name with .safetensors, which `path` becomes. */
static dscm_code write_references(const calibration_job *j, const float *blocks, size_t count,
                                  char *path, size_t size, dscm_error *err)
{
    const char *dot = strrchr(j->out, '.'), *slash = strrchr(j->out, '/');
    size_t stem = dot && (!slash || dot > slash) ? (size_t)(dot - j->out) : strlen(j->out);
    int length = snprintf(path, size, "%.*s.safetensors", (int)stem, j->out);
    if (length < 0 || (size_t)length >= size)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", j->out);
    const size_t dims[2] = {count, DSCM_BLOCKS_FEATURES};
    const dscm_tensor_out tensor = {"blocks", dims, 2, blocks};
    return dscm_safetensors_write(path, &tensor, 1, DSCM_F16, NULL, err);
}

static dscm_code measure_likeness(const calibration_job *j, json_t *measured, dscm_error *err)
{
    float *references = NULL, blocks[DSCM_BLOCKS_FEATURES];
    size_t known = 0, count = j->data.count, size = cli_image_size(&j->m);
    char path[4096];
    if (!j->references) return DSCM_OK;
    double *plain = dscm_alloc(2 * count, sizeof *plain, "likeness", err), *centred;
    dscm_code code = plain ? read_references(j, &references, &known, err) : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = write_references(j, references, known, path, sizeof path, err);
    for (size_t i = 0; code == DSCM_OK && i < count; i++) {
        dscm_block_statistics(blocks, j->data.pixels + i * size, j->data.h, j->data.w, j->data.c);
        dscm_likeness like = dscm_likeness_of(blocks, references, known);
        plain[i] = like.plain;
        plain[count + i] = like.centred;
    }
    if (code == DSCM_OK) {
        centred = plain + count;
        json_t *quantiles = json_incref(json_object_get(measured, "quantiles"));
        if (!quantiles) quantiles = json_object();
        json_object_set_new(quantiles, "likeness", lower_bound_of("likeness", plain, count));
        json_object_set_new(quantiles, "likeness_centred",
                            lower_bound_of("likeness, centred", centred, count));
        const char *slash = strrchr(path, '/');
        json_object_set_new(quantiles, "references", json_string(slash ? slash + 1 : path));
        json_object_set_new(measured, "quantiles", quantiles);
    }
    dscm_free(plain);
    dscm_free(references);
    return code;
}

/* ---- the whole ---- */
static dscm_code open_job(calibration_job *j, dscm_error *err)
{
    dscm_code code = cli_model_open(&j->m, err);
    if (code == DSCM_OK) code = dscm_dataset_open(&j->data, j->data_dir, j->split, err);
    if (code != DSCM_OK) return code;
    const dscm_variable *image = &j->m.info->variables[j->m.info->image];
    size_t size = cli_image_size(&j->m);
    if (j->data.h != image->h || j->data.w != image->w || j->data.c != image->c)
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: images are not those of the model", j->split);
    if (j->data.count > j->limit) j->data.count = j->limit;
    j->images = dscm_alloc(j->data.count * size, sizeof *j->images, "images", err);
    j->labels = dscm_alloc(j->data.count, sizeof *j->labels, "labels", err);
    if (!j->images || !j->labels) return DSCM_E_MEMORY;
    dscm_pixels_to_float(j->images, j->data.pixels, j->data.count * size);
    for (size_t i = 0; i < j->data.count; i++) j->labels[i] = j->data.labels[i];
    return dscm_session_open(&j->session, j->m.bundle, j->m.batch, (int)j->m.threads, err);
}

static dscm_code run_calibration(calibration_job *j, dscm_error *err)
{
    json_t *measured = json_object();
    dscm_code code = open_job(j, err);
    if (code == DSCM_OK && j->m.info->acceptance_count) code = fit_temperatures(j, measured, err);
    if (code == DSCM_OK) code = measure_familiarity(j, measured, err);
    if (code == DSCM_OK) code = measure_likeness(j, measured, err);
    if (code == DSCM_OK)
        code = cli_json_write(j->out, json_incref(measured),
                              JSON_INDENT(1) | JSON_REAL_PRECISION(6), err);
    json_decref(measured);
    dscm_session_free(j->session);
    dscm_free(j->images);
    dscm_free(j->labels);
    dscm_dataset_free(&j->data);
    cli_model_close(&j->m);
    return code;
}

int cmd_calibrate(int argc, char **argv)
{
    calibration_job j = {.m = CLI_MODEL_DEFAULTS,
                         .split = "train[45000:50000]",
                         .limit = 1000000,
                         .familiarity_limit = 2000,
                         .outside = 0.002};
    const cli_option options[] = {
        {"data", OPT_TEXT, &j.data_dir, 0, 0, "DIR",
         "IDX files <split>-images-idx3-ubyte[.gz] and labels"},
        {"split", OPT_TEXT, &j.split, 0, 0, "NAME",
         "images that trained no network (train[45000:50000])"},
        {"limit", OPT_SIZE, &j.limit, 10, 1e9, "N", "the first N of them (all)"},
        {"familiarity-limit", OPT_SIZE, &j.familiarity_limit, 0, 1e9, "N",
         "of these the first N for noise-only error, denoising loss and contrast (2000); 0: none"},
        {"outside", OPT_REAL, &j.outside, 0, 0.5, "SHARE",
         "of real images outside each pair of bounds, half on either side (0.002); none are "
         "outside those of contrast and border"},
        {"references", OPT_TEXT, &j.references, 0, 0, "SPLIT",
         "training images, of which 2000, evenly spaced, say what pictures of this kind look like: "
         "also "
         "measures likeness to them (none)"},
        {"out", OPT_TEXT, &j.out, 0, 0, "FILE",
         "what bundle --measured takes (JSON); references go into a file of that name beside it"},
        CLI_MODEL_OPTIONS(j.m),
        {.name = NULL}};
    option_list rest = {.count = 0};
    int exit_code =
        cli_parse(argc, argv, "calibrate --data DIR --out FILE [options]", options, &rest);
    if (exit_code >= 0) return exit_code;
    if (!j.data_dir || !j.out || rest.count)
        return cli_usage(argv[0], "--data and --out are needed, and nothing but options");
    dscm_error err = {0};
    return run_calibration(&j, &err) == DSCM_OK ? EXIT_DONE : cli_fail(argv[0], &err);
}
