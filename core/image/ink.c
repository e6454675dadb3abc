#include "core/image/ink.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define INK_MIN   16          /* of 255: less is no ink when its extent is looked for */
#define INK_SIDE  (20.0 / 28) /* of the output's shorter side that the ink's longer side fills */
#define LINE_MEAN 170         /* ink's mean level weighted by itself below which lines are thin */
#define BROADEN   0.8         /* of a neighbour's level */

double dscm_border_level(const uint8_t *pixels, size_t h, size_t w)
{
    double sum = 0;
    size_t count = 0;
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++)
            if (y == 0 || y == h - 1 || x == 0 || x == w - 1) {
                sum += pixels[y * w + x];
                count++;
            }
    return count ? sum / (double)count : 0;
}

/* How much darker than the paper, stretched to 0..255. */
static void take_ink(uint8_t *ink, const uint8_t *pixels, size_t count, double paper)
{
    int darkest = 255;
    for (size_t i = 0; i < count; i++) darkest = pixels[i] < darkest ? pixels[i] : darkest;
    double top = 0.8 * paper - 0.2 * (paper - darkest);
    for (size_t i = 0; i < count; i++) {
        double level = 255 * (top - pixels[i]) / fmax(1, top - darkest);
        ink[i] = (uint8_t)lrint(fmin(fmax(level, 0), 255));
    }
}

typedef struct extent {
    double side, x, y; /* longer side of the bounding box; centre of mass; side 0: no ink */
} extent;

static extent measure(const uint8_t *ink, size_t h, size_t w)
{
    size_t left = w, right = 0, top = h, bottom = 0;
    double sum = 0, sx = 0, sy = 0;
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++) {
            double v = ink[y * w + x];
            if (v < INK_MIN) continue;
            left = x < left ? x : left, right = x > right ? x : right;
            top = y < top ? y : top, bottom = y > bottom ? y : bottom;
            sum += v, sx += v * ((double)x + 0.5), sy += v * ((double)y + 0.5);
        }
    if (sum <= 0) return (extent){0, 0, 0};
    size_t width = right - left + 1, height = bottom - top + 1;
    return (extent){(double)(width > height ? width : height), sx / sum, sy / sum};
}

/* Mean level of the square of side `size` at (x0,y0); outside there is no ink. */
static double area_mean(const uint8_t *ink, size_t h, size_t w, double x0, double y0, double size)
{
    double sum = 0, x1 = fmin((double)w, x0 + size), y1 = fmin((double)h, y0 + size);
    for (double y = fmax(0, floor(y0)); y < y1; y++) {
        double wy = fmin(y + 1, y0 + size) - fmax(y, y0);
        for (double x = fmax(0, floor(x0)); x < x1; x++)
            sum += wy * (fmin(x + 1, x0 + size) - fmax(x, x0)) * ink[(size_t)y * w + (size_t)x];
    }
    return sum / (size * size);
}

static bool is_thin(const uint8_t *levels, size_t count)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++) sum += levels[i], squares += levels[i] * levels[i];
    return squares < LINE_MEAN * sum;
}

/* Every pixel at least BROADEN of its brightest neighbour's level. spare: (h,w). */
static void broaden(uint8_t *levels, uint8_t *spare, size_t h, size_t w)
{
    memcpy(spare, levels, h * w);
    for (size_t y = 1; y + 1 < h; y++)
        for (size_t x = 1; x + 1 < w; x++) {
            size_t i = y * w + x;
            const uint8_t near[] = {spare[i - 1], spare[i + 1], spare[i - w], spare[i + w]};
            for (size_t k = 0; k < 4; k++) levels[i] = (uint8_t)fmax(levels[i], BROADEN * near[k]);
        }
}

/* The brightest pixel is white. */
static void stretch(uint8_t *levels, size_t count)
{
    unsigned most = 1;
    for (size_t i = 0; i < count; i++) most = levels[i] > most ? levels[i] : most;
    for (size_t i = 0; i < count; i++) levels[i] = (uint8_t)(levels[i] * 255u / most);
}

dscm_code dscm_ink_fit(uint8_t *out, size_t oh, size_t ow, const dscm_picture *in, double paper,
                       dscm_error *err)
{
    size_t count = in->h * in->w;
    if (in->c != 1)
        return dscm_fail(err, DSCM_E_INVALID, "ink: the picture has %zu channels", in->c);
    if (in->h == oh && in->w == ow) {
        for (size_t i = 0; i < count; i++) out[i] = (uint8_t)(255 - in->pixels[i]);
        return DSCM_OK;
    }
    uint8_t *ink = malloc(count + oh * ow);
    if (!ink) return dscm_fail(err, DSCM_E_MEMORY, "no memory for an image");
    take_ink(ink, in->pixels, count, paper);
    const extent e = measure(ink, in->h, in->w);
    memset(out, 0, oh * ow);
    double ratio = e.side / (INK_SIDE * (double)(oh < ow ? oh : ow)); /* input per output pixel */
    for (size_t y = 0; e.side > 0 && y < oh; y++)
        for (size_t x = 0; x < ow; x++)
            out[y * ow + x] =
                (uint8_t)lrint(area_mean(ink, in->h, in->w, e.x + ((double)x - ow / 2.0) * ratio,
                                         e.y + ((double)y - oh / 2.0) * ratio, ratio));
    if (is_thin(out, oh * ow)) broaden(out, ink + count, oh, ow);
    stretch(out, oh * ow);
    free(ink);
    return DSCM_OK;
}
