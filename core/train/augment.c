#include "core/train/augment.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define KNOTS 5 /* along each side of a bend */

static float within(dscm_rng *rng, float limit)
{
    return limit * (2 * dscm_rng_uniform(rng) - 1);
}

static float clampf(float v, float low, float high)
{
    return v < low ? low : v > high ? high : v;
}

/* All channels at a place between pixels, bilinearly. */
static void sample(float *x, const dscm_picture *p, float sy, float sx)
{
    float fy = floorf(sy), fx = floorf(sx), wy = sy - fy, wx = sx - fx;
    for (size_t k = 0; k < p->c; k++) {
        float sum = 0;
        for (int n = 0; n < 4; n++) {
            ptrdiff_t y = (ptrdiff_t)fy + n / 2, xx = (ptrdiff_t)fx + n % 2;
            if (y < 0 || xx < 0 || y >= (ptrdiff_t)p->h || xx >= (ptrdiff_t)p->w) continue;
            sum += (n / 2 ? wy : 1 - wy) * (n % 2 ? wx : 1 - wx) *
                   (float)p->pixels[((size_t)y * p->w + (size_t)xx) * p->c + k];
        }
        x[k] = sum / 127.5f - 1;
    }
}

/* ---- bends ---- */
/* The two knots around pixel `at` of `size`, and how far it is on the way between them, eased so
 * that a bend has no kink at a knot. */
static size_t knot_before(size_t at, size_t size, float *way)
{
    float place = size > 1 ? (float)at * (KNOTS - 1) / (float)(size - 1) : 0;
    size_t knot = (size_t)place < KNOTS - 2 ? (size_t)place : KNOTS - 2;
    float f = place - (float)knot;
    *way = f * f * (3 - 2 * f);
    return knot;
}

static float bent(const float *field, size_t ky, size_t kx, float wy, float wx)
{
    const float *f = field + ky * KNOTS + kx;
    return (1 - wy) * ((1 - wx) * f[0] + wx * f[1]) +
           wy * ((1 - wx) * f[KNOTS] + wx * f[KNOTS + 1]);
}

/* ---- strokes ---- */
/* Brightest (or darkest) value of a 3x3 neighbourhood. */
static float extreme(const float *x, const dscm_picture *p, size_t at, size_t k, bool brightest)
{
    size_t row = at / p->w, column = at % p->w;
    float found = x[at * p->c + k];
    for (size_t y = row ? row - 1 : 0; y <= row + 1 && y < p->h; y++)
        for (size_t c = column ? column - 1 : 0; c <= column + 1 && c < p->w; c++) {
            float v = x[(y * p->w + c) * p->c + k];
            if (brightest ? v > found : v < found) found = v;
        }
    return found;
}

/* Part of the way to the picture grown (amount > 0) or thinned by a pixel on every side. */
static void stroked(float *x, const dscm_picture *p, float amount, float *scratch)
{
    memcpy(scratch, x, p->h * p->w * p->c * sizeof *x);
    for (size_t i = 0; i < p->h * p->w; i++)
        for (size_t k = 0; k < p->c; k++) {
            float own = scratch[i * p->c + k];
            x[i * p->c + k] = own + fabsf(amount) * (extreme(scratch, p, i, k, amount > 0) - own);
        }
}

void dscm_augment_picture(float *x, const dscm_picture *p, const dscm_augmentation *m,
                          dscm_rng *rng, float *scratch)
{
    float angle = within(rng, m->angle), scale = 1 + within(rng, m->scale);
    float dx = within(rng, m->shift), dy = within(rng, m->shift);
    float shear = m->shear > 0 ? within(rng, m->shear) : 0;
    float stretch = m->stretch > 0 ? 1 + within(rng, m->stretch) : 1;
    float field[2][KNOTS * KNOTS] = {{0}};
    if (m->bend > 0) dscm_rng_normal(rng, field[0], 2 * KNOTS * KNOTS);
    float stroke = m->stroke > 0 ? within(rng, m->stroke) : 0;
    float a = cosf(angle) * scale, b = sinf(angle) * scale;
    float cy = (float)(p->h - 1) / 2, cx = (float)(p->w - 1) / 2;
    for (size_t i = 0; i < p->h * p->w; i++) {
        float v = (float)(i / p->w) - cy, u = ((float)(i % p->w) - cx) * stretch + shear * v;
        float sy = a * v + b * u + cy + dy, sx = a * u - b * v + cx + dx;
        if (m->bend > 0) {
            float wy, wx;
            size_t ky = knot_before(i / p->w, p->h, &wy), kx = knot_before(i % p->w, p->w, &wx);
            sy += m->bend * bent(field[0], ky, kx, wy, wx);
            sx += m->bend * bent(field[1], ky, kx, wy, wx);
        }
        sample(x + i * p->c, p, sy, sx);
    }
    if (stroke != 0) stroked(x, p, stroke, scratch);
}

/* ---- upright ---- */
/* Spreads of a digit of MNIST, in parts of the picture's side, which others are brought to. */
#define UPRIGHT_HEIGHT 0.2f
#define UPRIGHT_WIDTH  0.14f

typedef struct moments {
    double mass, x, y, xx, xy, yy; /* brightness; its centre; its covariance */
} moments;

static moments moments_of(const dscm_picture *p)
{
    moments m = {0};
    for (size_t i = 0; i < p->h * p->w * p->c; i++) {
        double value = p->pixels[i], y = (double)(i / p->c / p->w), x = (double)(i / p->c % p->w);
        m.mass += value;
        m.x += value * x;
        m.y += value * y;
        m.xx += value * x * x;
        m.xy += value * x * y;
        m.yy += value * y * y;
    }
    if (!(m.mass > 0)) return m;
    m.x /= m.mass;
    m.y /= m.mass;
    m.xx = m.xx / m.mass - m.x * m.x;
    m.xy = m.xy / m.mass - m.x * m.y;
    m.yy = m.yy / m.mass - m.y * m.y;
    return m;
}

void dscm_deskew_picture(float *x, const dscm_picture *p)
{
    moments m = moments_of(p);
    float middle_y = (float)(p->h - 1) / 2, middle_x = (float)(p->w - 1) / 2;
    float cy = m.mass > 0 ? (float)m.y : middle_y, cx = m.mass > 0 ? (float)m.x : middle_x;
    float lean = 0, tall = 1, wide = 1;
    if (m.yy > 0.25) { /* half a pixel: a dot or a lying line leans nowhere */
        lean = clampf((float)(m.xy / m.yy), -1.5f, 1.5f);
        tall = clampf((float)sqrt(m.yy) / (UPRIGHT_HEIGHT * (float)p->h), 0.5f, 2);
        double across = m.xx - 2 * (double)lean * m.xy + (double)(lean * lean) * m.yy;
        wide = clampf((float)sqrt(fmax(across, 0)) / (UPRIGHT_WIDTH * (float)p->w), 0.75f, 1.4f);
    }
    for (size_t i = 0; i < p->h * p->w; i++) {
        float v = tall * ((float)(i / p->w) - middle_y);
        float u = wide * ((float)(i % p->w) - middle_x) + lean * v;
        sample(x + i * p->c, p, cy + v, cx + u);
    }
}
