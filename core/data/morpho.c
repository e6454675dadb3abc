#include "core/data/morpho.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/data/skeleton.h"

#define SIDE_MAX     64
#define MEASURE      4  /* enlargement for measuring */
#define RENDER       16 /* and for drawing */
#define TAPS_MAX     22 /* of half a Gaussian of sigma 16/3, cut at 4 sigma */
#define LANES        16 /* doubles at a time: enough independent sums to hide their latency */
#define FIRST_NEEDED 6  /* reading at 16 d + 7.5 needs 16 d + 6 … 16 d + 9 */

/* Results must not depend on the machine in their last bit: an 8-bit level is cut off, not rounded.
 * So sums are taken in one order, lane by lane, and products are not contracted. */
typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));

struct dscm_morpho {
    size_t h, w;
    dscm_skeleton fine, coarse; /* at RENDER and MEASURE */
    double *large;              /* (16 h, 16 w) */
    double *other;              /* (16 h, 16 w) */
    double *line;               /* (16 w + 2 TAPS_MAX + LANES) */
    uint8_t *levels;            /* (16 h, 16 w) */
    uint8_t *small;             /* (h, w) */
};

/* Half of a normalised Gaussian, from the middle outwards. */
typedef struct gauss {
    int radius;
    double weights[TAPS_MAX];
} gauss;

static gauss gauss_of(int scale)
{
    double sigma = scale / 3.0, all[2 * TAPS_MAX], part[8] = {0}, sum;
    gauss g = {.radius = (int)(4 * sigma + 0.5)};
    int count = 2 * g.radius + 1, i;
    for (i = 0; i < count; i++) {
        double x = i - g.radius;
        all[i] = exp(-0.5 / (sigma * sigma) * (x * x));
    }
    /* numpy's order of a sum of fewer than 128 numbers */
    for (i = 0; i + 8 <= count; i += 8)
        for (int k = 0; k < 8; k++) part[k] += all[i + k];
    sum = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
    for (; i < count; i++) sum += all[i];
    for (i = 0; i <= g.radius; i++) g.weights[i] = all[g.radius + i] / sum;
    return g;
}

dscm_code dscm_morpho_open(dscm_morpho **out, size_t h, size_t w, dscm_error *err)
{
    *out = NULL;
    if (!h || !w || h > SIDE_MAX || w > SIDE_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "morphometry of %zux%zu images: sides must be in 1..%d",
                         h, w, SIDE_MAX);
    dscm_morpho *m = dscm_alloc(1, sizeof *m, "morphometry", err);
    if (!m) return DSCM_E_MEMORY;
    size_t pixels = h * w * RENDER * RENDER;
    m->h = h;
    m->w = w;
    m->large = dscm_alloc(pixels + LANES, sizeof *m->large, "morphometry", err);
    m->other = dscm_alloc(pixels + LANES, sizeof *m->other, "morphometry", err);
    m->line = dscm_alloc(RENDER * w + 2 * TAPS_MAX + LANES, sizeof *m->line, "morphometry", err);
    m->levels = dscm_alloc(pixels, 1, "morphometry", err);
    m->small = dscm_alloc(h * w, 1, "morphometry", err);
    dscm_code code =
        m->large && m->other && m->line && m->levels && m->small ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = dscm_skeleton_open(&m->fine, RENDER * h, RENDER * w, err);
    if (code == DSCM_OK) code = dscm_skeleton_open(&m->coarse, MEASURE * h, MEASURE * w, err);
    if (code == DSCM_OK)
        *out = m;
    else
        dscm_morpho_free(m);
    return code;
}

void dscm_morpho_free(dscm_morpho *m)
{
    if (!m) return;
    dscm_skeleton_close(&m->fine);
    dscm_skeleton_close(&m->coarse);
    dscm_free(m->large);
    dscm_free(m->other);
    dscm_free(m->line);
    dscm_free(m->levels);
    dscm_free(m->small);
    dscm_free(m);
}

/* ---- resampling ---- */

/* Catmull-Rom between f[1] and f[2]. */
static double cubic(double x, const double f[4])
{
    return f[1] + 0.5 * x *
                      (f[2] - f[0] +
                       x * (2.0 * f[0] - 5.0 * f[1] + 4.0 * f[2] - f[3] +
                            x * (3.0 * (f[1] - f[2]) + f[3] - f[0])));
}

/* Index mirrored at the border: without repeating the edge (… 2 1 0 1 2 …), or with it. */
static size_t mirror(long i, size_t n, bool repeat)
{
    long last = (long)n - 1;
    if (!last) return 0;
    while (i < 0 || i > last) {
        if (i < 0) i = repeat ? -i - 1 : -i;
        if (i > last) i = repeat ? 2 * last + 1 - i : 2 * last - i;
    }
    return (size_t)i;
}

static double clamp(double v, double low, double high)
{
    return v < low ? low : v > high ? high : v;
}

static void range_of(const uint8_t *v, size_t count, uint8_t *low, uint8_t *high)
{
    *low = *high = v[0];
    for (size_t i = 1; i < count; i++) {
        if (v[i] < *low) *low = v[i];
        if (v[i] > *high) *high = v[i];
    }
}

/* Rows or columns where the enlarged image can be other than 0: `from` … `to` - 1. */
typedef struct extent {
    size_t from, to;
} extent;

static extent extent_of(const uint8_t *pixels, size_t n, size_t step, size_t across,
                        size_t across_step, int scale, size_t reach)
{
    size_t first = n, last = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < across; j++)
            if (pixels[i * step + j * across_step]) {
                if (first == n) first = i;
                last = i;
            }
    if (first == n) return (extent){0, 0};
    size_t low = first * (size_t)scale, margin = 2 * (size_t)scale + reach;
    size_t high = (last + 1) * (size_t)scale + margin, all = n * (size_t)scale;
    return (extent){low > margin ? low - margin : 0, high < all ? high : all};
}

/* large (s h, s w) = pixels / 255 between pixels, limited to their range. */
static void interpolate(dscm_morpho *m, const uint8_t *pixels, int scale, uint8_t low, uint8_t high)
{
    size_t s = (size_t)scale, wide = s * m->w;
    double *rows = m->other; /* (h, s w) */
    for (size_t y = 0; y < m->h; y++)
        for (size_t x = 0; x < wide; x++) {
            double at = ((double)x + 0.5) / scale - 0.5, f[4];
            long left = (long)floor(at);
            for (long k = 0; k < 4; k++)
                f[k] = pixels[y * m->w + mirror(left - 1 + k, m->w, false)] / 255.0;
            rows[y * wide + x] = cubic(at - (double)left, f);
        }
    for (size_t y = 0; y < s * m->h; y++) {
        double at = ((double)y + 0.5) / scale - 0.5;
        long top = (long)floor(at);
        const double *in[4];
        for (long k = 0; k < 4; k++) in[k] = rows + mirror(top - 1 + k, m->h, false) * wide;
        for (size_t x = 0; x < wide; x++) {
            const double f[4] = {in[0][x], in[1][x], in[2][x], in[3][x]};
            m->large[y * wide + x] =
                clamp(cubic(at - (double)top, f), (double)low / 255.0, (double)high / 255.0);
        }
    }
}

/* One row of the vertical pass: out[x] for x in the extent, of rows `in` (n, wide). */
static void smooth_column(double *out, const double *in, size_t n, size_t wide, size_t y, extent e,
                          const gauss *g)
{
    const double *middle = in + y * wide, *a[TAPS_MAX], *b[TAPS_MAX];
    for (int k = 1; k <= g->radius; k++) {
        a[k] = in + mirror((long)y - k, n, true) * wide;
        b[k] = in + mirror((long)y + k, n, true) * wide;
    }
    for (size_t x = e.from; x < e.to; x += LANES) { /* up to LANES - 1 behind the extent */
        lanes sum, p, q;
        memcpy(&sum, middle + x, sizeof sum);
        sum *= g->weights[0];
        for (int k = g->radius; k > 0; k--) {
            memcpy(&p, a[k] + x, sizeof p);
            memcpy(&q, b[k] + x, sizeof q);
            sum += (p + q) * g->weights[k];
        }
        memcpy(out + x, &sum, sizeof sum);
    }
}

/* One row of the horizontal pass, in place. */
static void smooth_row(dscm_morpho *m, double *row, size_t wide, extent e, const gauss *g)
{
    double *line = m->line + TAPS_MAX;
    memcpy(line, row, wide * sizeof *row);
    for (long k = 1; k <= g->radius; k++) {
        line[-k] = row[mirror(-k, wide, true)];
        line[(long)wide - 1 + k] = row[mirror((long)wide - 1 + k, wide, true)];
    }
    for (size_t x = e.from; x < e.to; x += LANES) {
        lanes sum, p, q;
        memcpy(&sum, line + x, sizeof sum);
        sum *= g->weights[0];
        for (int k = g->radius; k > 0; k--) {
            memcpy(&p, line + x - k, sizeof p);
            memcpy(&q, line + x + k, sizeof q);
            sum += (p + q) * g->weights[k];
        }
        size_t n = e.to - x < LANES ? e.to - x : LANES;
        memcpy(row + x, &sum, n * sizeof *row);
    }
}

/* levels (s h, s w): the image enlarged and smoothed. */
static void enlarge(dscm_morpho *m, const uint8_t *pixels, int scale)
{
    size_t s = (size_t)scale, tall = s * m->h, wide = s * m->w;
    uint8_t low, high;
    gauss g = gauss_of(scale);
    range_of(pixels, m->h * m->w, &low, &high);
    size_t reach = (size_t)g.radius;
    extent rows = extent_of(pixels, m->h, m->w, m->w, 1, scale, reach);
    extent columns = extent_of(pixels, m->w, 1, m->h, m->w, scale, reach);
    columns.from -= columns.from % LANES;
    interpolate(m, pixels, scale, low, high);
    memset(m->levels, 0, tall * wide);
    for (size_t y = rows.from; y < rows.to; y++) {
        double *row = m->other + y * wide;
        memset(row, 0, wide * sizeof *row);
        smooth_column(row, m->large, tall, wide, y, columns, &g);
        smooth_row(m, row, wide, columns, &g);
        for (size_t x = columns.from; x < columns.to; x++)
            m->levels[y * wide + x] = (uint8_t)(255 * row[x]);
    }
}

static void cut(dscm_skeleton *s, const uint8_t *levels)
{
    uint8_t low, high;
    range_of(levels, s->h * s->w, &low, &high);
    double middle = low + 0.5 * (high - low);
    for (size_t y = 0; y < s->h; y++)
        for (size_t x = 0; x < s->w; x++)
            s->pixels[(y + 1) * (s->w + 2) + x + 1] = levels[y * s->w + x] >= middle;
}

/* small (h, w): the binary image smoothed and reduced 16-fold. Only those of its pixels are
 * smoothed that are read: four in sixteen, each way. */
static void reduce(dscm_morpho *m)
{
    size_t tall = RENDER * m->h, wide = RENDER * m->w;
    gauss g = gauss_of(RENDER);
    double low = INFINITY, high = -INFINITY;
    for (size_t y = 0; y < tall; y++)
        for (size_t x = 0; x < wide; x++)
            m->large[y * wide + x] = m->fine.pixels[(y + 1) * (wide + 2) + x + 1];
    for (size_t d = 0; d < m->h; d++)
        for (size_t k = 0; k < 4; k++) {
            size_t y = RENDER * d + FIRST_NEEDED + k;
            double *row = m->other + y * wide;
            smooth_column(row, m->large, tall, wide, y, (extent){0, wide}, &g);
            smooth_row(m, row, wide, (extent){0, wide}, &g);
            for (size_t x = 0; x < wide; x++) {
                if (row[x] < low) low = row[x];
                if (row[x] > high) high = row[x];
            }
        }
    for (size_t y = 0; y < m->h; y++)
        for (size_t x = 0; x < m->w; x++) {
            double f[4], row[4];
            for (size_t k = 0; k < 4; k++) {
                const double *in = m->other + (RENDER * y + FIRST_NEEDED + k) * wide;
                memcpy(row, in + RENDER * x + FIRST_NEEDED, sizeof row);
                f[k] = cubic(0.5, row);
            }
            m->small[y * m->w + x] = (uint8_t)(255 * clamp(cubic(0.5, f), low, high));
        }
}

/* ---- measuring ---- */

static double median_of_bright(const uint8_t *pixels, size_t count)
{
    size_t histogram[256] = {0}, bright = 0, seen = 0;
    uint8_t low, high;
    range_of(pixels, count, &low, &high);
    double middle = low + 0.5 * (high - low);
    for (size_t i = 0; i < count; i++)
        if (pixels[i] >= middle) histogram[pixels[i]]++, bright++;
    int below = -1;
    for (int v = 0; v < 256; v++) {
        seen += histogram[v];
        if (below < 0 && seen >= (bright + 1) / 2) below = v;
        if (seen >= bright / 2 + 1) return 0.5 * (below + v);
    }
    return 0;
}

static double slant_of(const uint8_t *levels, size_t h, size_t w)
{
    double mass = 0, mx = 0, my = 0, u11 = 0, u02 = 0;
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++) {
            double v = levels[y * w + x];
            mass += v;
            mx += v * (double)x;
            my += v * (double)y;
        }
    if (mass == 0) return 0;
    mx /= mass;
    my /= mass;
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++) {
            double v = levels[y * w + x], dy = (double)y - my;
            u11 += v * ((double)x - mx) * dy;
            u02 += v * dy * dy;
        }
    return u02 > 0 ? atan(-u11 / u02) : 0;
}

void dscm_morpho_measure(dscm_morpho *m, const uint8_t *pixels, dscm_morphometry *out)
{
    enlarge(m, pixels, MEASURE);
    cut(&m->coarse, m->levels);
    out->thickness = dscm_skeleton_thickness(&m->coarse) / MEASURE;
    out->intensity = median_of_bright(pixels, m->h * m->w);
    out->slant = slant_of(m->levels, MEASURE * m->h, MEASURE * m->w);
}

/* ---- drawing ---- */

void dscm_morpho_render(dscm_morpho *m, uint8_t *out, const uint8_t *source, double thickness,
                        double intensity)
{
    size_t count = m->h * m->w;
    enlarge(m, source, RENDER);
    cut(&m->fine, m->levels);
    double now = dscm_skeleton_thickness(&m->fine) / RENDER, delta = thickness - now;
    if (now == 0) {
        memset(out, 0, count);
        return;
    }
    dscm_skeleton_dilate(&m->fine, (size_t)(RENDER * fabs(delta) / 2), delta >= 0);
    reduce(m);
    double factor = intensity / median_of_bright(m->small, count);
    for (size_t i = 0; i < count; i++)
        out[i] = m->small[i] ? (uint8_t)clamp(m->small[i] * factor, 0, 255) : 0;
}

/* ---- the causal model ---- */

double dscm_morpho_intensity(double thickness, double noise)
{
    return 64 + 191 / (1 + exp(-(2 * thickness - 5 + 0.5 * noise)));
}

double dscm_morpho_noise(double thickness, double intensity)
{
    double share = (intensity - 64) / 191;
    return (log(share / (1 - share)) - 2 * thickness + 5) / 0.5;
}

void dscm_morpho_draw(dscm_rng *rng, int digit, bool confounded, double *thickness,
                      double *intensity)
{
    float noise[2];
    double t = 0.5;
    for (int k = 0; k < 10; k++) /* Gamma(10) is the sum of ten exponentials */
        t -= log(1 - (double)dscm_rng_uniform(rng)) / 5;
    dscm_rng_normal(rng, noise, 2);
    if (confounded) t = clamp(1 + 0.3 * digit + 0.3 * (double)noise[1], 0.9, 5.5);
    *thickness = (double)(float)t;
    *intensity = (double)(float)dscm_morpho_intensity(*thickness, (double)noise[0]);
}
