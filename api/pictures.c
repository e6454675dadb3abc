#include "api/pictures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/image.h"
#include "core/base/clock.h"

/* Takes `png`. */
static dscm_code add_file(dscm_result *result, const char *name, uint8_t *png, size_t size,
                          dscm_error *err)
{
    dscm_image_file *grown =
        realloc(result->files, (result->files_count + 1) * sizeof(*result->files));
    if (!grown) {
        free(png);
        return dscm_fail(err, DSCM_E_MEMORY, "no memory for the files of a result");
    }
    result->files = grown;
    dscm_image_file *file = &grown[result->files_count++];
    *file = (dscm_image_file){.png = png, .size = size};
    snprintf(file->name, sizeof(file->name), "%s", name);
    return DSCM_OK;
}

static dscm_code add_image(dscm_result *result, const char *name, const float *pixels,
                           dscm_error *err)
{
    const dscm_variable *image = &result->info->variables[result->info->image];
    uint8_t *png;
    size_t size;
    dscm_code code =
        dscm_image_encode_float(&png, &size, pixels, image->h, image->w, image->c, err);
    return code ? code : add_file(result, name, png, size, err);
}

static dscm_code add_difference(dscm_result *result, const char *name, const float *a,
                                const float *b, dscm_error *err)
{
    const dscm_variable *image = &result->info->variables[result->info->image];
    uint8_t *png;
    size_t size;
    dscm_code code =
        dscm_image_encode_difference(&png, &size, a, b, image->h, image->w, image->c, err);
    return code ? code : add_file(result, name, png, size, err);
}

static dscm_code add_uncertainty(dscm_result *result, const char *name, const float *deviation,
                                 dscm_error *err)
{
    const dscm_variable *image = &result->info->variables[result->info->image];
    uint8_t *png;
    size_t size;
    dscm_code code = dscm_image_encode_uncertainty(&png, &size, deviation, image->h, image->w, err);
    return code ? code : add_file(result, name, png, size, err);
}

/* The frames of counterfactual k side by side: one picture of (H, frames * W). */
static dscm_code add_trajectory(dscm_result *result, const char *name, size_t k, dscm_error *err)
{
    const dscm_variable *image = &result->info->variables[result->info->image];
    size_t h = image->h, w = image->w, c = image->c, n = result->frames_count, size;
    if (n == 0) return DSCM_OK;
    uint8_t *strip = malloc(n * h * w * c), *png;
    if (!strip) return dscm_fail(err, DSCM_E_MEMORY, "no memory for a trajectory");
    for (size_t f = 0; f < n; f++)
        for (size_t y = 0; y < h; y++)
            memcpy(strip + (y * n + f) * w * c,
                   result->frames + ((f * result->count + k) * h + y) * w * c, w * c);
    dscm_code code = dscm_image_encode(&png, &size, strip, h, n * w, c, err);
    free(strip);
    return code ? code : add_file(result, name, png, size, err);
}

static dscm_code render(dscm_result *result, const dscm_abduction *from, dscm_error *err)
{
    bool samples = result->work == DSCM_WORK_SAMPLE;
    unsigned wanted = samples ? DSCM_WANT_COUNTERFACTUAL : result->wanted;
    dscm_code code = DSCM_OK;
    char name[40];
    if (wanted & DSCM_WANT_FACTUAL) code = add_image(result, "factual", from->image, err);
    if (!code && (wanted & DSCM_WANT_RECONSTRUCTION))
        code = add_image(result, "reconstruction", from->reconstruction, err);
    for (size_t k = 0; !code && k < result->count; k++) {
        const float *image = result->counterfactuals[k].image;
        snprintf(name, sizeof(name), samples ? "sample-%zu" : "counterfactual-%zu", k);
        if (wanted & DSCM_WANT_COUNTERFACTUAL) code = add_image(result, name, image, err);
        snprintf(name, sizeof(name), "difference-%zu", k);
        if (!code && (wanted & DSCM_WANT_DIFFERENCE))
            code = add_difference(result, name, from->image, image, err);
        snprintf(name, sizeof(name), "uncertainty-%zu", k);
        if (!code && result->counterfactuals[k].uncertainty)
            code = add_uncertainty(result, name, result->counterfactuals[k].uncertainty, err);
        snprintf(name, sizeof(name), "trajectory-%zu", k);
        if (!code && (wanted & DSCM_WANT_TRAJECTORY)) code = add_trajectory(result, name, k, err);
    }
    return code;
}

dscm_code dscm_result_render(dscm_result *result, const dscm_abduction *abduction, dscm_error *err)
{
    double start = dscm_clock_s();
    dscm_code code = render(result, abduction, err);
    result->times.encode = (dscm_clock_s() - start) * 1e3;
    return code;
}
