#include "core/eval/identity.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "core/base/memory.h"

/* Correlations nearer than this are equal: a factual of more contrast is the same to ρ, but not to
 * the last bit. */
#define TIE       1e-12
#define SIZE_MOST ((size_t)1 << 23) /* size² · 255² fits in 64 bits with a sign */

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
    assert(set->size >= 1 && set->size <= SIZE_MOST && set->most >= 1);
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
static int64_t product(const uint8_t *a, const uint8_t *b, size_t n)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Sum of an image and n² times its variance. */
typedef struct moments {
    int64_t sum, spread;
} moments;

static moments moments_of(const uint8_t *a, size_t n)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i];
    return (moments){.sum = sum, .spread = (int64_t)n * product(a, a, n) - sum * sum};
}

/* ρ = (n Σab − Σa Σb) / √((n Σa² − (Σa)²) (n Σb² − (Σb)²)) */
static double correlation(const uint8_t *a, moments of_a, const uint8_t *b, moments of_b, size_t n)
{
    if (!of_a.spread || !of_b.spread) return 0;
    int64_t joint = (int64_t)n * product(a, b, n) - of_a.sum * of_b.sum;
    return (double)joint / sqrt((double)of_a.spread) / sqrt((double)of_b.spread);
}

/* rho: room for n. */
static double rank_in_group(const dscm_result_set *set, const size_t *group, size_t n, size_t own,
                            const moments *of_factuals, double *rho)
{
    const uint8_t *result = set->results + group[own] * set->size;
    moments of_result = moments_of(result, set->size);
    double ahead = 0;
    for (size_t j = 0; j < n; j++)
        rho[j] = correlation(result, of_result, set->factuals + group[j] * set->size,
                             of_factuals[j], set->size);
    for (size_t j = 0; j < n; j++) {
        double lead = rho[j] - rho[own];
        if (j != own) ahead += lead > TIE ? 1 : lead < -TIE ? 0 : 0.5;
    }
    return ahead / (double)(n - 1);
}

dscm_code dscm_identity_ranks(double *ranks, const dscm_result_set *set, dscm_error *err)
{
    groups g;
    dscm_code code = make_groups(&g, set, err);
    if (code != DSCM_OK) return code;
    moments *of_factuals = dscm_alloc(g.most, sizeof *of_factuals, "identity rank", err);
    double *rho = dscm_alloc(g.most, sizeof *rho, "identity rank", err);
    code = of_factuals && rho ? DSCM_OK : DSCM_E_MEMORY;
    for (size_t i = 0; i < set->count; i++) ranks[i] = (double)NAN;
    for (size_t t = 0; code == DSCM_OK && t < set->labels; t++) {
        const size_t *group = g.members + t * g.most;
        size_t n = g.counts[t];
        for (size_t j = 0; j < n; j++)
            of_factuals[j] = moments_of(set->factuals + group[j] * set->size, set->size);
        for (size_t i = 0; n > 1 && i < n; i++)
            ranks[group[i]] = rank_in_group(set, group, n, i, of_factuals, rho);
    }
    dscm_free(of_factuals);
    dscm_free(rho);
    free_groups(&g);
    return code;
}
