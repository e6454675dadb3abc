#include "core/image/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void dscm_picture_free(dscm_picture *picture)
{
    free(picture->pixels);
    *picture = (dscm_picture){0};
}

/* Means over [o, o + 1) * in_size / out_size of rows of `inner` values: out (out_size, inner). */
static void average_axis(float *out, size_t out_size, const float *in, size_t in_size, size_t inner)
{
    double ratio = (double)in_size / (double)out_size;
    for (size_t o = 0; o < out_size; o++) {
        double from = (double)o * ratio, to = from + ratio;
        float *row = out + o * inner;
        memset(row, 0, inner * sizeof(*row));
        for (size_t i = (size_t)from; i < in_size && (double)i < to; i++) {
            double low = fmax(from, (double)i), high = fmin(to, (double)i + 1);
            float weight = (float)(fmax(high - low, 0) / ratio);
            for (size_t k = 0; k < inner; k++) row[k] += weight * in[i * inner + k];
        }
    }
}

dscm_code dscm_resize_area(uint8_t *out, size_t oh, size_t ow, const dscm_picture *in,
                           dscm_error *err)
{
    /* Rows first into (in->h, ow, C), one line at a time, then columns into (oh, ow, C). */
    float *line = malloc(in->w * in->c * sizeof(*line));
    float *narrow = malloc(in->h * ow * in->c * sizeof(*narrow));
    float *result = malloc(oh * ow * in->c * sizeof(*result));
    dscm_code code = DSCM_OK;
    if (line && narrow && result) {
        for (size_t y = 0; y < in->h; y++) {
            for (size_t k = 0; k < in->w * in->c; k++) line[k] = in->pixels[y * in->w * in->c + k];
            average_axis(narrow + y * ow * in->c, ow, line, in->w, in->c);
        }
        average_axis(result, oh, narrow, in->h, ow * in->c);
        for (size_t k = 0; k < oh * ow * in->c; k++)
            out[k] = (uint8_t)fminf(fmaxf(roundf(result[k]), 0), 255);
    } else {
        code = dscm_fail(err, DSCM_E_MEMORY, "no memory to resize an image");
    }
    free(line);
    free(narrow);
    free(result);
    return code;
}

dscm_code dscm_resize_fit(uint8_t *out, size_t oh, size_t ow, const dscm_picture *in,
                          uint8_t background, dscm_error *err)
{
    double ratio = fmin((double)oh / (double)in->h, (double)ow / (double)in->w);
    size_t h = (size_t)fmax(1, round((double)in->h * ratio));
    size_t w = (size_t)fmax(1, round((double)in->w * ratio));
    if (h > oh) h = oh;
    if (w > ow) w = ow;
    uint8_t *part = malloc(h * w * in->c);
    if (!part) return dscm_fail(err, DSCM_E_MEMORY, "no memory to resize an image");
    dscm_code code = dscm_resize_area(part, h, w, in, err);
    memset(out, background, oh * ow * in->c);
    size_t top = (oh - h) / 2, left = (ow - w) / 2;
    for (size_t y = 0; y < h && !code; y++)
        memcpy(out + ((top + y) * ow + left) * in->c, part + y * w * in->c, w * in->c);
    free(part);
    return code;
}

dscm_code dscm_resize_crop(uint8_t *out, size_t oh, size_t ow, const dscm_picture *in,
                           dscm_error *err)
{
    double ratio = fmin((double)in->h / (double)oh, (double)in->w / (double)ow);
    dscm_picture part = {.h = (size_t)fmax(1, round((double)oh * ratio)),
                         .w = (size_t)fmax(1, round((double)ow * ratio)),
                         .c = in->c};
    if (part.h > in->h) part.h = in->h;
    if (part.w > in->w) part.w = in->w;
    size_t top = (in->h - part.h) / 2, left = (in->w - part.w) / 2;
    part.pixels = malloc(part.h * part.w * part.c);
    if (!part.pixels) return dscm_fail(err, DSCM_E_MEMORY, "no memory to resize an image");
    for (size_t y = 0; y < part.h; y++)
        memcpy(part.pixels + y * part.w * part.c, in->pixels + ((top + y) * in->w + left) * in->c,
               part.w * part.c);
    dscm_code code = dscm_resize_area(out, oh, ow, &part, err);
    dscm_picture_free(&part);
    return code;
}
