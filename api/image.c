#include "api/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/image/check.h"
#include "core/image/ink.h"
#include "core/image/jpeg.h"
#include "core/image/png.h"
#include "core/image/resize.h"

dscm_picture_limits dscm_image_limits(const dscm_variable *image, size_t side_max)
{
    size_t area = image ? 256 * image->h * image->w : 0;
    return (dscm_picture_limits){.side = side_max ? side_max : DSCM_IMAGE_SIDE_MAX,
                                 .pixels = area < DSCM_IMAGE_PIXELS ? DSCM_IMAGE_PIXELS : area};
}

/* Greyscale models have a black background; behind transparent photographs it is white. */
static uint8_t background_of(const dscm_variable *image)
{
    return image->c == 1 ? 0 : 255;
}

static dscm_code decode(dscm_picture *out, const dscm_variable *image, const void *bytes,
                        size_t size, const dscm_picture_limits *limits, dscm_error *err)
{
    if (dscm_png_is(bytes, size))
        return dscm_png_decode(out, bytes, size, image->c, background_of(image), limits, err);
    return dscm_jpeg_decode(out, bytes, size, image->c, image->h > image->w ? image->h : image->w,
                            limits, err);
}

/* Adds what an error says to the problem. */
static void report(dscm_problem *problem, const char *pointer, const dscm_error *err)
{
    if (err->code == DSCM_E_FORMAT || err->code == DSCM_E_LIMIT)
        dscm_problem_add(
            problem,
            err->code == DSCM_E_LIMIT ? DSCM_PROBLEM_IMAGE_TOO_LARGE : DSCM_PROBLEM_NOT_AN_IMAGE,
            pointer, "%c%s.", err->message[0] == 't' ? 'T' : err->message[0], err->message + 1);
    else if (err->code)
        dscm_problem_from_error(problem, err);
}

static void wrong_size(const dscm_variable *image, size_t h, size_t w, const char *pointer,
                       dscm_problem *problem)
{
    dscm_problem_add(problem, DSCM_PROBLEM_IMAGE_SIZE, pointer,
                     "The image has %zux%zu pixels, the model takes %zux%zu, and resize is false.",
                     w, h, image->w, image->h);
}

bool dscm_image_check(const dscm_variable *image, const void *bytes, size_t size, size_t side_max,
                      bool resize, const char *pointer, size_t *pixels, dscm_problem *problem)
{
    dscm_error err = {0};
    size_t h, w;
    if (pixels) *pixels = 0;
    dscm_picture_limits limits = dscm_image_limits(image, side_max);
    if (dscm_picture_check(bytes, size, &limits, &h, &w, &err) != DSCM_OK) {
        report(problem, pointer, &err);
        return false;
    }
    if (pixels) *pixels = h * w;
    /* An orientation may exchange the sides: decoding looks again. */
    if (resize || (h == image->h && w == image->w) || (w == image->h && h == image->w)) return true;
    wrong_size(image, h, w, pointer, problem);
    return false;
}

/* Pixels of the model's size from the picture, which is used up. */
static uint8_t *fit(const dscm_variable *image, dscm_picture *picture, bool *inverted,
                    dscm_error *err)
{
    double border = image->dark_ground && picture->c == 1
                        ? dscm_border_level(picture->pixels, picture->h, picture->w)
                        : 0;
    *inverted = border > DSCM_PAPER_MIN;
    if (!*inverted && picture->h == image->h && picture->w == image->w) {
        uint8_t *same = picture->pixels;
        picture->pixels = NULL;
        return same;
    }
    uint8_t *out = malloc(image->h * image->w * image->c);
    if (!out) {
        (void)dscm_fail(err, DSCM_E_MEMORY, "no memory for an image");
        return NULL;
    }
    dscm_code code = *inverted       ? dscm_ink_fit(out, image->h, image->w, picture, border, err)
                     : image->c == 1 ? dscm_resize_fit(out, image->h, image->w, picture,
                                                       background_of(image), err)
                                     : dscm_resize_crop(out, image->h, image->w, picture, err);
    if (!code) return out;
    free(out);
    return NULL;
}

uint8_t *dscm_image_decode(const dscm_variable *image, const void *bytes, size_t size,
                           size_t side_max, bool resize, const char *pointer, bool *inverted,
                           dscm_problem *problem)
{
    dscm_error err = {0};
    dscm_picture picture = {0};
    dscm_picture_limits limits = dscm_image_limits(image, side_max);
    uint8_t *pixels = NULL;
    if (!dscm_image_check(image, bytes, size, side_max, resize, pointer, NULL, problem))
        return NULL;
    if (decode(&picture, image, bytes, size, &limits, &err) == DSCM_OK) {
        if (!resize && (picture.h != image->h || picture.w != image->w))
            wrong_size(image, picture.h, picture.w, pointer, problem);
        else
            pixels = fit(image, &picture, inverted, &err);
    }
    dscm_picture_free(&picture);
    report(problem, pointer, &err);
    return pixels;
}

dscm_code dscm_image_encode(uint8_t **png, size_t *size, const uint8_t *pixels, size_t h, size_t w,
                            size_t c, dscm_error *err)
{
    /* The encoder only reads; the struct serves both directions. */
    dscm_picture picture = {.h = h, .w = w, .c = c, .pixels = (uint8_t *)(uintptr_t)pixels};
    return dscm_png_encode(png, size, &picture, err);
}

static uint8_t *pixel_buffer(size_t h, size_t w, size_t c, dscm_error *err)
{
    uint8_t *pixels = malloc(h * w * c);
    if (!pixels) (void)dscm_fail(err, DSCM_E_MEMORY, "no memory for an image");
    return pixels;
}

dscm_code dscm_image_encode_float(uint8_t **png, size_t *size, const float *image, size_t h,
                                  size_t w, size_t c, dscm_error *err)
{
    *png = NULL;
    uint8_t *pixels = pixel_buffer(h, w, c, err);
    if (!pixels) return DSCM_E_MEMORY;
    for (size_t i = 0; i < h * w * c; i++)
        pixels[i] = (uint8_t)fminf(fmaxf(roundf((image[i] + 1) * 127.5f), 0), 255);
    dscm_code code = dscm_image_encode(png, size, pixels, h, w, c, err);
    free(pixels);
    return code;
}

dscm_code dscm_image_encode_uncertainty(uint8_t **png, size_t *size, const float *deviation,
                                        size_t h, size_t w, dscm_error *err)
{
    *png = NULL;
    uint8_t *pixels = pixel_buffer(h, w, 1, err);
    if (!pixels) return DSCM_E_MEMORY;
    for (size_t i = 0; i < h * w; i++)
        pixels[i] = (uint8_t)roundf(fminf(DSCM_UNCERTAINTY_GAIN * deviation[i], 255));
    dscm_code code = dscm_image_encode(png, size, pixels, h, w, 1, err);
    free(pixels);
    return code;
}

dscm_code dscm_image_encode_difference(uint8_t **png, size_t *size, const float *a, const float *b,
                                       size_t h, size_t w, size_t c, dscm_error *err)
{
    *png = NULL;
    uint8_t *pixels = pixel_buffer(h, w, 3, err);
    if (!pixels) return DSCM_E_MEMORY;
    for (size_t i = 0; i < h * w; i++) {
        float change = 0;
        for (size_t k = 0; k < c; k++) {
            float before = fminf(fmaxf(a[i * c + k], -1), 1);
            change += fminf(fmaxf(b[i * c + k], -1), 1) - before;
        }
        change = fminf(fmaxf(change / (float)c, -1), 1); /* half the range is full colour */
        uint8_t faded = (uint8_t)roundf(255 * (1 - fabsf(change)));
        pixels[3 * i] = change > 0 ? 255 : faded;
        pixels[3 * i + 1] = faded;
        pixels[3 * i + 2] = change < 0 ? 255 : faded;
    }
    dscm_code code = dscm_image_encode(png, size, pixels, h, w, 3, err);
    free(pixels);
    return code;
}
