/* The pictures of a result as PNG files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/image.h"
#include "api/run_internal.h"

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

static dscm_code add_image(run *r, dscm_result *result, const char *name, const float *image)
{
    uint8_t *png;
    size_t size;
    dscm_code code =
        dscm_image_encode_float(&png, &size, image, r->image->h, r->image->w, r->image->c, r->err);
    return code ? code : add_file(result, name, png, size, r->err);
}

static dscm_code add_difference(run *r, dscm_result *result, const char *name, const float *a,
                                const float *b)
{
    uint8_t *png;
    size_t size;
    dscm_code code = dscm_image_encode_difference(&png, &size, a, b, r->image->h, r->image->w,
                                                  r->image->c, r->err);
    return code ? code : add_file(result, name, png, size, r->err);
}

/* The kept frames of target k side by side: one picture of (H, frames * W). */
static dscm_code add_trajectory(run *r, dscm_result *result, const char *name, size_t k)
{
    size_t h = r->image->h, w = r->image->w, c = r->image->c, n = r->frames_count;
    if (n == 0) return DSCM_OK;
    uint8_t *strip = run_alloc(r, n * r->pixels, 1), *png;
    if (!strip) return DSCM_E_MEMORY;
    for (size_t f = 0; f < n; f++)
        for (size_t y = 0; y < h; y++)
            memcpy(strip + (y * n + f) * w * c,
                   r->frames + (f * r->total + k) * r->pixels + y * w * c, w * c);
    size_t size;
    dscm_code code = dscm_image_encode(&png, &size, strip, h, n * w, c, r->err);
    free(strip);
    return code ? code : add_file(result, name, png, size, r->err);
}

static dscm_code item_files(run *r, size_t i)
{
    dscm_result *result = r->items[i].result;
    bool samples = result->work == DSCM_WORK_SAMPLE;
    unsigned wanted = samples ? DSCM_WANT_COUNTERFACTUAL : result->wanted;
    const dscm_abduction *from = r->from[i];
    dscm_code code = DSCM_OK;
    char name[40];
    if (!samples && (wanted & DSCM_WANT_FACTUAL))
        code = add_image(r, result, "factual", from->image);
    if (!code && (wanted & DSCM_WANT_RECONSTRUCTION))
        code = add_image(r, result, "reconstruction", from->reconstruction);
    for (size_t k = 0; !code && k < result->count; k++) {
        const float *image = result->counterfactuals[k].image;
        snprintf(name, sizeof(name), samples ? "sample-%zu" : "counterfactual-%zu", k);
        if (wanted & DSCM_WANT_COUNTERFACTUAL) code = add_image(r, result, name, image);
        snprintf(name, sizeof(name), "difference-%zu", k);
        if (!code && (wanted & DSCM_WANT_DIFFERENCE))
            code = add_difference(r, result, name, from->image, image);
        snprintf(name, sizeof(name), "trajectory-%zu", k);
        if (!code && (wanted & DSCM_WANT_TRAJECTORY))
            code = add_trajectory(r, result, name, r->offsets[i] + k);
    }
    return code;
}

dscm_code run_files(run *r)
{
    double start = run_now_ms();
    for (size_t i = 0; i < r->count; i++) {
        dscm_code code = item_files(r, i);
        if (code) return code;
    }
    r->times.encode += run_now_ms() - start;
    return DSCM_OK;
}
