#include "core/eval/distribution.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/rng.h"

#define FAINT_LOW  3
#define FAINT_HIGH 40

/* ---- precision and recall ---- */
static double squared(const float *a, const float *b, size_t width)
{
    double sum = 0;
    for (size_t i = 0; i < width; i++) {
        double gap = (double)a[i] - (double)b[i];
        sum += gap * gap;
    }
    return sum;
}

/* Keeps the k smallest distances, ascending. */
static void keep_nearest(double *nearest, size_t k, double d)
{
    if (d >= nearest[k - 1]) return;
    size_t at = k - 1;
    for (; at > 0 && nearest[at - 1] > d; at--) nearest[at] = nearest[at - 1];
    nearest[at] = d;
}

/* Squared distance of each row to its k-th nearest other row of the same class; infinite where a
 * class has too few: such balls are left out. nearest: (k). */
static void radii(double *out, double *nearest, const dscm_feature_set *s, size_t k)
{
    for (size_t i = 0; i < s->count; i++) {
        const float *row = s->rows + i * s->width;
        for (size_t n = 0; n < k; n++) nearest[n] = INFINITY;
        for (size_t j = 0; j < s->count; j++)
            if (j != i && s->labels[j] == s->labels[i])
                keep_nearest(nearest, k, squared(row, s->rows + j * s->width, s->width));
        out[i] = nearest[k - 1];
    }
}

/* Share of points within the balls of their class; points of classes without balls do not count. */
static double share_within(const dscm_feature_set *points, const dscm_feature_set *centres,
                           const double *radius)
{
    size_t asked = 0, within = 0;
    for (size_t i = 0; i < points->count; i++) {
        const float *row = points->rows + i * points->width;
        bool balls = false, found = false;
        for (size_t c = 0; !found && c < centres->count; c++) {
            if (centres->labels[c] != points->labels[i] || isinf(radius[c])) continue;
            double d = squared(row, centres->rows + c * centres->width, centres->width);
            balls = true;
            found = d > 0 && d <= radius[c];
        }
        asked += balls;
        within += found;
    }
    return asked ? (double)within / (double)asked : (double)NAN;
}

dscm_code dscm_precision_recall(double *precision, double *recall, const dscm_feature_set *results,
                                const dscm_feature_set *real, size_t k, dscm_error *err)
{
    *precision = *recall = (double)NAN;
    size_t most = results->count > real->count ? results->count : real->count;
    double *radius = dscm_alloc(most + k, sizeof *radius, "precision and recall", err);
    if (!radius) return DSCM_E_MEMORY;
    radii(radius, radius + most, real, k);
    *precision = share_within(results, real, radius);
    radii(radius, radius + most, results, k);
    *recall = share_within(real, results, radius);
    dscm_free(radius);
    return DSCM_OK;
}

/* ---- Fréchet distance of halves ---- */
static void shuffle(size_t *order, size_t count, dscm_rng *rng)
{
    for (size_t i = count; i > 1; i--) {
        size_t other = dscm_rng_below(rng, (uint32_t)i), kept = order[i - 1];
        order[i - 1] = order[other];
        order[other] = kept;
    }
}

static void gather(float *out, const float *rows, const size_t *order, size_t count, size_t width)
{
    for (size_t i = 0; i < count; i++)
        memcpy(out + i * width, rows + order[i] * width, width * sizeof *rows);
}

static void sum_up(dscm_interval *out, double *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += values[i];
    dscm_sort_values(values, count);
    *out = (dscm_interval){sum / (double)count, dscm_quantile_sorted(values, count, 0.025),
                           dscm_quantile_sorted(values, count, 0.975), count};
}

typedef struct halving {
    size_t *order;          /* (items) */
    float *mine, *others;   /* (half, width) */
    double *results, *real; /* (halvings) */
} halving;

static dscm_code halve(halving *h, const float *results, const float *real, size_t items,
                       size_t half, size_t width, size_t halvings, uint64_t seed, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    for (size_t i = 0; i < items; i++) h->order[i] = i;
    for (size_t r = 0; code == DSCM_OK && r < halvings; r++) {
        dscm_rng rng = dscm_rng_make(seed, r);
        shuffle(h->order, items, &rng);
        gather(h->others, real, h->order + half, half, width);
        gather(h->mine, results, h->order, half, width);
        code = dscm_frechet_distance(&h->results[r], h->mine, half, h->others, half, width, err);
        gather(h->mine, real, h->order, half, width);
        if (code == DSCM_OK)
            code = dscm_frechet_distance(&h->real[r], h->mine, half, h->others, half, width, err);
    }
    return code;
}

dscm_code dscm_frechet_halved(dscm_frechet_halves *out, const float *results, const float *real,
                              size_t items, size_t width, size_t most, size_t halvings,
                              uint64_t seed, dscm_error *err)
{
    size_t half = items / 2 < most ? items / 2 : most;
    const dscm_interval none = {(double)NAN, (double)NAN, (double)NAN, 0};
    *out = (dscm_frechet_halves){.results = none, .real = none, .half = half};
    if (halvings < 1 || halvings > 1000)
        return dscm_fail(err, DSCM_E_INVALID, "Fréchet distance: %zu halvings is not in 1..1000",
                         halvings);
    if (half < 2 * width) return DSCM_OK;
    halving h = {.order = dscm_alloc(items, sizeof *h.order, "halves", err),
                 .mine = dscm_alloc(2 * half * width, sizeof *h.mine, "halves", err),
                 .results = dscm_alloc(2 * halvings, sizeof *h.results, "halves", err)};
    dscm_code code = h.order && h.mine && h.results ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) {
        h.others = h.mine + half * width;
        h.real = h.results + halvings;
        code = halve(&h, results, real, items, half, width, halvings, seed, err);
    }
    if (code == DSCM_OK) {
        sum_up(&out->results, h.results, halvings);
        sum_up(&out->real, h.real, halvings);
    }
    dscm_free(h.order);
    dscm_free(h.mine);
    dscm_free(h.results);
    return code;
}

double dscm_faint_share(const uint8_t *pixels, size_t bytes)
{
    size_t faint = 0;
    for (size_t i = 0; i < bytes; i++) faint += pixels[i] >= FAINT_LOW && pixels[i] <= FAINT_HIGH;
    return bytes ? (double)faint / (double)bytes : (double)NAN;
}
