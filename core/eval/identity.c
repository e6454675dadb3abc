#include "core/eval/identity.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "core/base/memory.h"

/* Correlations nearer than this are equal: a factual of more contrast is the same to ρ, but not to
 * the last bit. */
#define TIE       1e-12
#define SIZE_MOST ((size_t)1 << 23)
#define MOST_MOST ((size_t)4000) /* (most · 255)² · size fits in 64 bits with a sign */

/* ---- groups ---- */
typedef struct groups {
    size_t *members; /* (labels, most) items in ascending order */
    size_t *counts;  /* (labels) */
    size_t most;
} groups;

static void free_groups(groups *g)
{
    dscm_free(g->members);
    dscm_free(g->counts);
}

static dscm_code make_groups(groups *g, const dscm_result_set *set, dscm_error *err)
{
    assert(set->size >= 1 && set->size <= SIZE_MOST && set->most >= 1 && set->most <= MOST_MOST);
    *g = (groups){.most = set->most < set->count ? set->most : set->count};
    g->counts = dscm_alloc(set->labels, sizeof *g->counts, "items by target", err);
    g->members = dscm_alloc(set->labels * g->most, sizeof *g->members, "items by target", err);
    if (!g->counts || !g->members) {
        free_groups(g);
        return DSCM_E_MEMORY;
    }
    for (size_t i = 0; i < set->count; i++) {
        size_t t = (size_t)set->targets[i];
        assert(t < set->labels);
        if (g->counts[t] < g->most) g->members[t * g->most + g->counts[t]++] = i;
    }
    return DSCM_OK;
}

/* ---- diversity ---- */
static uint64_t gap(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += (uint64_t)abs(a[i] - b[i]);
    return sum;
}

dscm_code dscm_diversity(double *out, const dscm_result_set *set, dscm_error *err)
{
    groups g;
    uint64_t sum = 0, pairs = 0;
    dscm_code code = make_groups(&g, set, err);
    if (code != DSCM_OK) return code;
    for (size_t t = 0; t < set->labels; t++) {
        const size_t *group = g.members + t * g.most;
        for (size_t i = 1; i < g.counts[t]; i++)
            for (size_t j = 0; j < i; j++, pairs++)
                sum += gap(set->results + group[i] * set->size, set->results + group[j] * set->size,
                           set->size);
    }
    *out = pairs ? (double)sum / ((double)pairs * (double)set->size) : (double)NAN;
    free_groups(&g);
    return DSCM_OK;
}

/* ---- identity rank ---- */
/* n times what sets each image of a group of n apart from its mean, and the moments over pixels that
 * a correlation needs. Whole numbers, so sums are exact in any order. */
typedef struct centred {
    int32_t *pixels; /* (most, size) */
    int64_t *sums;   /* (most) */
    double *spreads; /* (most) size² times the variance */
} centred;

static dscm_code centred_open(centred *c, size_t most, size_t size, dscm_error *err)
{
    c->pixels = dscm_alloc(most * size, sizeof *c->pixels, "identity rank", err);
    c->sums = dscm_alloc(most, sizeof *c->sums, "identity rank", err);
    c->spreads = dscm_alloc(most, sizeof *c->spreads, "identity rank", err);
    return c->pixels && c->sums && c->spreads ? DSCM_OK : DSCM_E_MEMORY;
}

static void centred_close(centred *c)
{
    dscm_free(c->pixels);
    dscm_free(c->sums);
    dscm_free(c->spreads);
}

static int64_t product(const int32_t *a, const int32_t *b, size_t size)
{
    int64_t sum = 0;
    for (size_t p = 0; p < size; p++) sum += (int64_t)a[p] * b[p];
    return sum;
}

static void centre(centred *c, const uint8_t *images, const size_t *group, size_t n, size_t size)
{
    for (size_t p = 0; p < size; p++) {
        int32_t all = 0;
        for (size_t j = 0; j < n; j++) all += images[group[j] * size + p];
        for (size_t j = 0; j < n; j++)
            c->pixels[j * size + p] = (int32_t)n * images[group[j] * size + p] - all;
    }
    for (size_t j = 0; j < n; j++) {
        const int32_t *own = c->pixels + j * size;
        c->sums[j] = 0;
        for (size_t p = 0; p < size; p++) c->sums[j] += own[p];
        double sum = (double)c->sums[j];
        c->spreads[j] = (double)size * (double)product(own, own, size) - sum * sum;
    }
}

/* ρ = (s Σab − Σa Σb) / √((s Σa² − (Σa)²) (s Σb² − (Σb)²)) over s pixels. */
static double correlation(const centred *a, size_t i, const centred *b, size_t j, size_t size)
{
    if (a->spreads[i] <= 0 || b->spreads[j] <= 0) return 0;
    double joint =
        (double)size * (double)product(a->pixels + i * size, b->pixels + j * size, size) -
        (double)a->sums[i] * (double)b->sums[j];
    return joint / sqrt(a->spreads[i]) / sqrt(b->spreads[j]);
}

/* rho: room for n. */
static double rank_in_group(const centred *results, const centred *factuals, size_t own, size_t n,
                            size_t size, double *rho)
{
    double ahead = 0;
    for (size_t j = 0; j < n; j++) rho[j] = correlation(results, own, factuals, j, size);
    for (size_t j = 0; j < n; j++) {
        double lead = rho[j] - rho[own];
        if (j != own) ahead += lead > TIE ? 1 : lead < -TIE ? 0 : 0.5;
    }
    return ahead / (double)(n - 1);
}

dscm_code dscm_identity_ranks(double *ranks, const dscm_result_set *set, dscm_error *err)
{
    groups g;
    centred results = {NULL}, factuals = {NULL};
    dscm_code code = make_groups(&g, set, err);
    if (code != DSCM_OK) return code;
    double *rho = dscm_alloc(g.most, sizeof *rho, "identity rank", err);
    code = rho ? centred_open(&results, g.most, set->size, err) : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = centred_open(&factuals, g.most, set->size, err);
    for (size_t i = 0; i < set->count; i++) ranks[i] = (double)NAN;
    for (size_t t = 0; code == DSCM_OK && t < set->labels; t++) {
        const size_t *group = g.members + t * g.most;
        size_t n = g.counts[t];
        if (n < 2) continue;
        centre(&results, set->results, group, n, set->size);
        centre(&factuals, set->factuals, group, n, set->size);
        for (size_t i = 0; i < n; i++)
            ranks[group[i]] = rank_in_group(&results, &factuals, i, n, set->size, rho);
    }
    dscm_free(rho);
    centred_close(&results);
    centred_close(&factuals);
    free_groups(&g);
    return code;
}
