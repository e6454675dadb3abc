/* Inference in a causal model of a table: likelihood, abduction, sampling, prediction. */
#include "core/causal/model.h"

#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/causal/internal.h"

#define SHARE_MIN 1e-6 /* of the range: what is left at its ends */

size_t causal_features_count(const dscm_causal *m, const dscm_causal_node *n)
{
    size_t count = 0;
    for (size_t p = 0; p < n->parents_count; p++) {
        const dscm_causal_node *parent = &m->nodes[n->parents[p]];
        count += parent->kind == DSCM_CATEGORICAL ? parent->labels_count : 1;
    }
    return count;
}

void causal_features(double *f, const dscm_causal *m, const dscm_causal_node *n,
                     const double *values)
{
    size_t at = 0;
    for (size_t p = 0; p < n->parents_count; p++) {
        const dscm_causal_node *parent = &m->nodes[n->parents[p]];
        double v = values[n->parents[p]];
        if (parent->kind != DSCM_CATEGORICAL) {
            f[at] = (v - n->mean[at]) / n->deviation[at];
            at++;
            continue;
        }
        for (size_t k = 0; k < parent->labels_count; k++) f[at++] = (double)k == v;
    }
}

double causal_logit(const dscm_causal_node *n, double x)
{
    double share = (x - n->min) / (n->max - n->min);
    share = share < SHARE_MIN ? SHARE_MIN : share > 1 - SHARE_MIN ? 1 - SHARE_MIN : share;
    return log(share / (1 - share));
}

double causal_logit_slope(const dscm_causal_node *n, double x)
{
    double share = (x - n->min) / (n->max - n->min);
    share = share < SHARE_MIN ? SHARE_MIN : share > 1 - SHARE_MIN ? 1 - SHARE_MIN : share;
    return -log((n->max - n->min) * share * (1 - share));
}

dscm_code causal_node_open(dscm_causal *m, dscm_causal_node *n, size_t hidden, size_t bins,
                           dscm_error *err)
{
    size_t features = causal_features_count(m, n), labels = n->labels_count;
    bool categorical = n->kind == DSCM_CATEGORICAL;
    if (features > CAUSAL_FEATURES_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: its parents have more than %d labels", n->name,
                         CAUSAL_FEATURES_MAX);
    dscm_code code = causal_net_open(&n->net, features, hidden, categorical ? labels : 2, err);
    n->curve.bins = categorical ? 0 : bins;
    if (code == DSCM_OK && n->curve.bins)
        n->curve.p = dscm_alloc(causal_spline_count(&n->curve), sizeof(double), n->name, err);
    n->mean = dscm_alloc(features + 1, sizeof(double), n->name, err);
    n->deviation = dscm_alloc(features + 1, sizeof(double), n->name, err);
    if (code == DSCM_OK && (!n->mean || !n->deviation || (n->curve.bins && !n->curve.p)))
        code = DSCM_E_MEMORY;
    for (size_t i = 0; code == DSCM_OK && i < features; i++) n->deviation[i] = 1;
    n->known = code == DSCM_OK;
    return code;
}

/* ---- one node ---- */

typedef struct given {
    double out[DSCM_CAUSAL_LABELS_MAX]; /* shift and log scale, or normalised log probabilities */
    causal_knots knots;
} given;

/* The node's distribution given its parents' values. */
static void condition(given *g, const dscm_causal *m, const dscm_causal_node *n,
                      const double *values)
{
    double f[CAUSAL_FEATURES_MAX], h[CAUSAL_HIDDEN_MAX];
    causal_features(f, m, n, values);
    causal_net_forward(g->out, h, &n->net, f);
    if (n->kind != DSCM_CATEGORICAL) {
        double limit = CAUSAL_LOG_SCALE;
        g->out[1] = g->out[1] > limit ? limit : g->out[1] < -limit ? -limit : g->out[1];
        causal_spline_knots(&g->knots, &n->curve);
        return;
    }
    double most = g->out[0], sum = 0;
    for (size_t k = 1; k < n->labels_count; k++) most = fmax(most, g->out[k]);
    for (size_t k = 0; k < n->labels_count; k++) sum += exp(g->out[k] - most);
    for (size_t k = 0; k < n->labels_count; k++) g->out[k] -= most + log(sum);
}

static double value_of(const dscm_causal_node *n, const given *g, double noise)
{
    double y = g->out[0] + exp(g->out[1]) * causal_spline_inverse(&g->knots, noise);
    return n->min + (n->max - n->min) / (1 + exp(-y));
}

static double noise_of(const dscm_causal_node *n, const given *g, double x, double *log_slope)
{
    double s = (causal_logit(n, x) - g->out[0]) / exp(g->out[1]);
    return causal_spline_forward(&g->knots, s, log_slope);
}

double dscm_causal_noise(const dscm_causal *m, int node, const double *values)
{
    given g;
    double slope;
    condition(&g, m, &m->nodes[node], values);
    return noise_of(&m->nodes[node], &g, values[node], &slope);
}

double dscm_causal_value(const dscm_causal *m, int node, const double *values, double noise)
{
    given g;
    condition(&g, m, &m->nodes[node], values);
    return value_of(&m->nodes[node], &g, noise);
}

double dscm_causal_log_likelihood(const dscm_causal *m, int node, const double *values)
{
    given g;
    const dscm_causal_node *n = &m->nodes[node];
    condition(&g, m, n, values);
    if (n->kind == DSCM_CATEGORICAL) return g.out[(size_t)values[node]];
    double slope, z = noise_of(n, &g, values[node], &slope);
    return -0.5 * z * z - 0.918938533204672742 + slope - g.out[1] +
           causal_logit_slope(n, values[node]);
}

/* ---- Gumbel noise ---- */

static double gumbel(dscm_rng *rng)
{
    double u = ((double)dscm_rng_u32(rng) + 0.5) * 0x1p-32;
    return -log(-log(u));
}

/* g (labels) given that argmax(logp + g) = label: the largest sum is a Gumbel variable of its own
 * (logp is normalised), the others are cut off below it. */
static void gumbel_posterior(double *g, const double *logp, size_t labels, size_t label,
                             dscm_rng *rng)
{
    double top = gumbel(rng);
    for (size_t k = 0; k < labels; k++) {
        double sum = k == label ? top : -log(exp(-top) + exp(-logp[k] - gumbel(rng)));
        g[k] = sum - logp[k];
    }
}

static double choose(const double *logp, const double *g, size_t labels)
{
    size_t best = 0;
    for (size_t k = 1; k < labels; k++)
        if (logp[k] + g[k] > logp[best] + g[best]) best = k;
    return (double)best;
}

void dscm_causal_sample(const dscm_causal *m, dscm_rng *rng, double *out)
{
    for (size_t i = 0; i < m->count; i++) {
        const dscm_causal_node *n = &m->nodes[i];
        double noise[DSCM_CAUSAL_LABELS_MAX];
        given g;
        out[i] = (double)NAN;
        if ((int)i == m->image) continue;
        condition(&g, m, n, out);
        if (n->kind == DSCM_CATEGORICAL) {
            for (size_t k = 0; k < n->labels_count; k++) noise[k] = gumbel(rng);
            out[i] = choose(g.out, noise, n->labels_count);
        } else {
            float z;
            dscm_rng_normal(rng, &z, 1);
            out[i] = value_of(n, &g, (double)z);
        }
    }
}

/* ---- abduct, act, predict ---- */

/* Sets what is acted on; acted (nodes). */
static dscm_code act(const dscm_causal *m, const double *factual, const dscm_intervention *acts,
                     size_t count, double *value, bool *acted, dscm_error *err)
{
    for (size_t a = 0; a < count; a++) {
        int v = acts[a].variable;
        const dscm_causal_node *n = &m->nodes[v];
        double to = acts[a].action == DSCM_DO      ? acts[a].value
                    : acts[a].action == DSCM_SHIFT ? factual[v] + acts[a].value
                                                   : factual[v];
        bool fits = n->kind == DSCM_CATEGORICAL
                        ? to >= 0 && to < (double)n->labels_count && to == floor(to)
                        : to >= n->min && to <= n->max;
        if (v == m->image)
            return dscm_fail(err, DSCM_E_INVALID, "%s: an image cannot be set to a value", n->name);
        if (!fits && n->kind == DSCM_CATEGORICAL)
            return dscm_fail(err, DSCM_E_INVALID, "%s: %g is not a label; allowed are 0..%zu",
                             n->name, to, n->labels_count - 1);
        if (!fits)
            return dscm_fail(err, DSCM_E_INVALID, "%s: %g is not in %g..%g", n->name, to, n->min,
                             n->max);
        value[v] = to;
        acted[v] = true;
    }
    return DSCM_OK;
}

/* One particle, in topological order; *drew: a categorical noise was drawn. */
static void push(const dscm_causal *m, const double *factual, const bool *acted, dscm_rng *rng,
                 double *value, bool *drew)
{
    for (size_t i = 0; i < m->count; i++) {
        const dscm_causal_node *n = &m->nodes[i];
        bool moved = false;
        given before, after;
        if (acted[i] || (int)i == m->image) continue;
        value[i] = factual[i];
        for (size_t p = 0; p < n->parents_count; p++)
            moved = moved || value[n->parents[p]] != factual[n->parents[p]];
        if (!moved) continue;
        condition(&before, m, n, factual);
        condition(&after, m, n, value);
        if (n->kind == DSCM_CATEGORICAL) {
            double noise[DSCM_CAUSAL_LABELS_MAX];
            gumbel_posterior(noise, before.out, n->labels_count, (size_t)factual[i], rng);
            value[i] = choose(after.out, noise, n->labels_count);
            *drew = true;
        } else {
            double slope, noise = noise_of(n, &before, factual[i], &slope);
            value[i] = value_of(n, &after, noise);
        }
    }
}

dscm_code dscm_causal_predict(const dscm_causal *m, const double *factual,
                              const dscm_intervention *acts, size_t count, uint64_t seed,
                              double *out, double *probabilities, dscm_error *err)
{
    enum { LABELS = DSCM_CAUSAL_LABELS_MAX };
    bool acted[DSCM_CAUSAL_NODES_MAX] = {false}, drew = false;
    double value[DSCM_CAUSAL_NODES_MAX], sum[DSCM_CAUSAL_NODES_MAX] = {0};
    uint16_t votes[DSCM_CAUSAL_NODES_MAX][LABELS];
    size_t particles = 0;
    memset(votes, 0, sizeof votes);
    memcpy(value, factual, m->count * sizeof *value);
    dscm_code code = act(m, factual, acts, count, value, acted, err);
    if (code != DSCM_OK) return code;
    do {
        dscm_rng rng = dscm_rng_make(seed, particles);
        push(m, factual, acted, &rng, value, &drew);
        for (size_t i = 0; i < m->count; i++) {
            sum[i] += value[i];
            if (m->nodes[i].kind == DSCM_CATEGORICAL) votes[i][(size_t)value[i]]++;
        }
        particles++;
    } while (drew && particles < DSCM_CAUSAL_PARTICLES);
    for (size_t i = 0; i < m->count; i++) {
        size_t best = 0;
        bool categorical = m->nodes[i].kind == DSCM_CATEGORICAL;
        for (size_t k = 0; categorical && k < m->nodes[i].labels_count; k++) {
            if (votes[i][k] > votes[i][best]) best = k;
            if (probabilities)
                probabilities[i * LABELS + k] = (double)votes[i][k] / (double)particles;
        }
        out[i] = categorical      ? (double)best
                 : particles == 1 ? value[i]
                                  : sum[i] / (double)particles;
    }
    return DSCM_OK;
}
