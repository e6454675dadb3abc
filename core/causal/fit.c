/* Maximum likelihood of the mechanisms of a causal model. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/causal/internal.h"

#define RIDGE 1e-6 /* of the least squares that training starts from, per row */

dscm_causal_options dscm_causal_defaults(void)
{
    return (dscm_causal_options){.epochs = 40,
                                 .batch = 256,
                                 .hidden = 16,
                                 .bins = 8,
                                 .rate = 0.003,
                                 .held_out = 0.1,
                                 .seed = 1};
}

/* One mechanism's training. */
typedef struct fit {
    dscm_causal *model;
    dscm_causal_node *node;
    int index;
    const double *values;            /* (rows, nodes) */
    uint32_t *order;                 /* (rows) training rows first, held-out ones behind */
    size_t train, rows, count;       /* count: parameters of network and spline */
    double *p, *m, *v, *grad, *best; /* (count) */
} fit;

static const double *row_at(const fit *f, size_t k)
{
    return f->values + (size_t)f->order[k] * f->model->count;
}

static void load(fit *f, const double *p)
{
    size_t n = causal_net_count(&f->node->net);
    memcpy(f->node->net.p, p, n * sizeof *p);
    if (f->node->curve.bins) memcpy(f->node->curve.p, p + n, (f->count - n) * sizeof *p);
}

static double mean_likelihood(const fit *f, size_t from, size_t to)
{
    double sum = 0;
    for (size_t k = from; k < to; k++)
        sum += dscm_causal_log_likelihood(f->model, f->index, row_at(f, k));
    return to > from ? sum / (double)(to - from) : (double)NAN;
}

/* Means and deviations of the continuous parents; labels stay 0 or 1. */
static void standardise(fit *f)
{
    dscm_causal_node *n = f->node;
    for (size_t p = 0, at = 0; p < n->parents_count; p++) {
        const dscm_causal_node *parent = &f->model->nodes[n->parents[p]];
        double sum = 0, squares = 0;
        if (parent->kind == DSCM_CATEGORICAL) {
            at += parent->labels_count;
            continue;
        }
        for (size_t k = 0; k < f->train; k++) {
            double v = row_at(f, k)[n->parents[p]];
            sum += v;
            squares += v * v;
        }
        n->mean[at] = sum / (double)f->train;
        double variance = squares / (double)f->train - n->mean[at] * n->mean[at];
        n->deviation[at++] = variance > 1e-12 ? sqrt(variance) : 1;
    }
}

/* Solves a (n, n) x = b in place by elimination with pivots; the solution is left in b. */
static void solve(double *a, double *b, size_t n)
{
    for (size_t c = 0; c < n; c++) {
        size_t pivot = c;
        for (size_t r = c + 1; r < n; r++)
            if (fabs(a[r * n + c]) > fabs(a[pivot * n + c])) pivot = r;
        for (size_t k = 0; k < n; k++) {
            double held = a[c * n + k];
            a[c * n + k] = a[pivot * n + k];
            a[pivot * n + k] = held;
        }
        double held = b[c];
        b[c] = b[pivot];
        b[pivot] = held;
        for (size_t r = 0; r < n; r++) {
            double share = r == c ? 0 : a[r * n + c] / a[c * n + c];
            for (size_t k = c; share != 0 && k < n; k++) a[r * n + k] -= share * a[c * n + k];
            b[r] -= share * b[c];
        }
    }
    for (size_t c = 0; c < n; c++) b[c] /= a[c * n + c];
}

/* Least squares of the logit on the features: shift, and one scale. */
static dscm_code start_continuous(fit *f, dscm_error *err)
{
    dscm_causal_node *n = f->node;
    size_t nf = n->net.features, size = nf + 1;
    double x[CAUSAL_FEATURES_MAX + 1], squares = 0;
    double *a = dscm_alloc(size * size, sizeof *a, n->name, err);
    double *b = dscm_alloc(size, sizeof *b, n->name, err);
    if (!a || !b) {
        dscm_free(a);
        dscm_free(b);
        return DSCM_E_MEMORY;
    }
    for (size_t k = 0; k < f->train; k++) {
        double y = causal_logit(n, row_at(f, k)[f->index]);
        x[0] = 1;
        causal_features(x + 1, f->model, n, row_at(f, k));
        for (size_t i = 0; i < size; i++) {
            for (size_t j = 0; j < size; j++) a[i * size + j] += x[i] * x[j];
            b[i] += x[i] * y;
        }
    }
    for (size_t i = 0; i < size; i++) a[i * size + i] += RIDGE * (double)f->train;
    solve(a, b, size);
    for (size_t k = 0; k < f->train; k++) {
        double e = causal_logit(n, row_at(f, k)[f->index]) - b[0];
        causal_features(x, f->model, n, row_at(f, k));
        for (size_t i = 0; i < nf; i++) e -= b[i + 1] * x[i];
        squares += e * e;
    }
    f->p[0] = b[0];
    f->p[1] = 0.5 * log(squares / (double)f->train + 1e-12);
    memcpy(f->p + 2, b + 1, nf * sizeof *b);
    dscm_free(a);
    dscm_free(b);
    return DSCM_OK;
}

/* Log frequencies, each label seen half a time more. */
static void start_categorical(fit *f)
{
    size_t labels = f->node->labels_count, seen[DSCM_CAUSAL_LABELS_MAX] = {0};
    for (size_t k = 0; k < f->train; k++) seen[(size_t)row_at(f, k)[f->index]]++;
    for (size_t i = 0; i < labels; i++)
        f->p[i] = log(((double)seen[i] + 0.5) / ((double)f->train + 0.5 * (double)labels));
}

/* Small random weights of the inner layer; what it adds starts at 0. */
static void start_hidden(fit *f, dscm_rng *rng)
{
    const causal_net *n = &f->node->net;
    double *inner = f->p + n->outputs * (1 + n->features);
    for (size_t i = 0; i < n->hidden * n->features; i++) {
        float z;
        dscm_rng_normal(rng, &z, 1);
        inner[i] = (double)z / sqrt((double)n->features);
    }
}

/* Gradient of the negative log likelihood of one row, added. */
static void add_gradient(fit *f, const double *row, const causal_knots *knots, causal_knots *dknots)
{
    dscm_causal_node *n = f->node;
    double x[CAUSAL_FEATURES_MAX], h[CAUSAL_HIDDEN_MAX], out[DSCM_CAUSAL_LABELS_MAX];
    double dout[DSCM_CAUSAL_LABELS_MAX];
    causal_features(x, f->model, n, row);
    causal_net_forward(out, h, &n->net, x);
    if (n->kind == DSCM_CATEGORICAL) {
        double most = out[0], sum = 0;
        for (size_t k = 1; k < n->labels_count; k++) most = fmax(most, out[k]);
        for (size_t k = 0; k < n->labels_count; k++) sum += dout[k] = exp(out[k] - most);
        for (size_t k = 0; k < n->labels_count; k++)
            dout[k] = dout[k] / sum - ((double)k == row[f->index]);
    } else {
        bool limited = fabs(out[1]) > CAUSAL_LOG_SCALE;
        if (limited) out[1] = copysign(CAUSAL_LOG_SCALE, out[1]);
        double scale = exp(out[1]), s = (causal_logit(n, row[f->index]) - out[0]) / scale;
        double ds = causal_spline_backward(dknots, knots, s);
        dout[0] = -ds / scale;              /* s = (y - m) / scale */
        dout[1] = limited ? 0 : 1 - ds * s; /* + log scale */
    }
    causal_net_backward(f->grad, dout, h, &n->net, x);
}

static void train_step(fit *f, size_t from, size_t to, size_t step, double rate)
{
    causal_knots knots, dknots;
    memset(&dknots, 0, sizeof dknots);
    memset(f->grad, 0, f->count * sizeof *f->grad);
    causal_spline_knots(&knots, &f->node->curve);
    for (size_t k = from; k < to; k++) add_gradient(f, row_at(f, k), &knots, &dknots);
    causal_spline_chain(f->grad + causal_net_count(&f->node->net), &dknots, &f->node->curve);
    for (size_t i = 0; i < f->count; i++) f->grad[i] /= (double)(to - from);
    causal_adam(f->p, f->m, f->v, f->grad, f->count, step, rate);
    load(f, f->p);
}

static void shuffle(fit *f, dscm_rng *rng)
{
    for (size_t i = f->train; i > 1; i--) {
        size_t j = dscm_rng_below(rng, (uint32_t)i);
        uint32_t held = f->order[i - 1];
        f->order[i - 1] = f->order[j];
        f->order[j] = held;
    }
}

/* Keeps the parameters of the best held-out likelihood. */
static void train(fit *f, const dscm_causal_options *o, dscm_rng *rng, dscm_causal_report *r)
{
    size_t step = 0, steps = o->epochs * ((f->train + o->batch - 1) / o->batch);
    double quarter = r->start;
    memcpy(f->best, f->p, f->count * sizeof *f->p);
    r->held_out = r->start;
    for (size_t e = 1; e <= o->epochs; e++) {
        shuffle(f, rng);
        for (size_t from = 0; from < f->train; from += o->batch) {
            size_t to = from + o->batch < f->train ? from + o->batch : f->train;
            double phase = (double)step++ / (double)steps; /* the rate falls along a cosine */
            train_step(f, from, to, step, o->rate * 0.5 * (1 + cos(3.14159265358979 * phase)));
        }
        double held = mean_likelihood(f, f->train, f->rows);
        if (held > r->held_out) {
            r->held_out = held;
            r->best = e;
            memcpy(f->best, f->p, f->count * sizeof *f->p);
        }
        if (e <= o->epochs - o->epochs / 4) quarter = r->held_out;
    }
    r->epochs = o->epochs;
    r->converged = r->held_out - quarter < 1e-3;
    load(f, f->best);
}

/* ---- calibration on the rows that were held out ---- */

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static dscm_code calibrate_continuous(const fit *f, dscm_causal_report *r, dscm_error *err)
{
    size_t n = f->rows - f->train;
    double *u = dscm_alloc(n, sizeof *u, "calibration", err);
    if (!u) return DSCM_E_MEMORY;
    for (size_t k = 0; k < n; k++) {
        double z = dscm_causal_noise(f->model, f->index, row_at(f, f->train + k));
        u[k] = 0.5 * erfc(-z * 0.70710678118654752);
        size_t bin = (size_t)(u[k] * 10);
        r->bins[bin > 9 ? 9 : bin] += 1 / (double)n;
    }
    qsort(u, n, sizeof *u, compare_double);
    for (size_t k = 0; k < n; k++) {
        double low = u[k] - (double)k / (double)n, high = (double)(k + 1) / (double)n - u[k];
        r->calibration = fmax(r->calibration, fmax(low, high));
    }
    dscm_free(u);
    return DSCM_OK;
}

static void calibrate_categorical(const fit *f, dscm_causal_report *r)
{
    size_t n = f->rows - f->train, seen[10] = {0};
    double sure[10] = {0}, right[10] = {0}, row[DSCM_CAUSAL_NODES_MAX];
    for (size_t k = f->train; k < f->rows; k++) {
        size_t best = 0;
        double most = -1;
        memcpy(row, row_at(f, k), f->model->count * sizeof *row);
        for (size_t label = 0; label < f->node->labels_count; label++) {
            row[f->index] = (double)label;
            double p = exp(dscm_causal_log_likelihood(f->model, f->index, row));
            if (p > most) most = p, best = label;
        }
        size_t bin = most < 1 ? (size_t)(most * 10) : 9;
        seen[bin]++;
        sure[bin] += most;
        right[bin] += (double)best == row_at(f, k)[f->index];
    }
    for (int b = 0; b < 10; b++) {
        r->bins[b] = seen[b] ? right[b] / (double)seen[b] : (double)NAN;
        r->calibration += fabs(sure[b] - right[b]) / (double)n;
    }
}

/* What is written must be read again. */
static dscm_code check_numbers(const dscm_causal_node *n, dscm_error *err)
{
    const struct {
        const double *values;
        size_t count;
    } parts[] = {{n->net.p, causal_net_count(&n->net)},
                 {n->curve.p, causal_spline_count(&n->curve)},
                 {n->mean, n->net.features},
                 {n->deviation, n->net.features}};
    for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++)
        for (size_t i = 0; i < parts[k].count; i++)
            if (!(fabs(parts[k].values[i]) < CAUSAL_NUMBER_MAX))
                return dscm_fail(err, DSCM_E_INVALID,
                                 "%s: its mechanism became %g, beyond %g; give its column and its "
                                 "parents' in units that make numbers nearer to 1",
                                 n->name, parts[k].values[i], CAUSAL_NUMBER_MAX);
    return DSCM_OK;
}

static dscm_code fit_node(fit *f, const dscm_causal_options *o, dscm_causal_report *r,
                          dscm_error *err)
{
    dscm_causal_node *n = f->node;
    bool categorical = n->kind == DSCM_CATEGORICAL;
    dscm_rng rng = dscm_rng_make(o->seed, 1 + (uint64_t)f->index);
    dscm_code code = causal_node_open(f->model, n, n->parents_count ? o->hidden : 0, o->bins, err);
    if (code != DSCM_OK) return code;
    f->count = causal_net_count(&n->net) + causal_spline_count(&n->curve);
    f->p = dscm_alloc(5 * f->count, sizeof *f->p, n->name, err);
    if (!f->p) return DSCM_E_MEMORY;
    f->m = f->p + f->count;
    f->v = f->m + f->count;
    f->grad = f->v + f->count;
    f->best = f->grad + f->count;
    standardise(f);
    start_hidden(f, &rng);
    if (categorical)
        start_categorical(f);
    else
        code = start_continuous(f, err);
    load(f, f->p);
    r->start = mean_likelihood(f, f->train, f->rows);
    r->held_out = r->start;
    r->held_out_rows = f->rows - f->train;
    r->converged = true; /* a table of frequencies is the maximum already */
    if (code == DSCM_OK && !(categorical && !n->parents_count)) train(f, o, &rng, r);
    r->train = mean_likelihood(f, 0, f->train);
    if (code == DSCM_OK && categorical) calibrate_categorical(f, r);
    if (code == DSCM_OK && !categorical) code = calibrate_continuous(f, r, err);
    if (code == DSCM_OK) code = check_numbers(n, err);
    dscm_free(f->p);
    return code;
}

static dscm_code check_options(const dscm_causal_options *o, size_t rows, dscm_error *err)
{
    if (rows < 20)
        return dscm_fail(err, DSCM_E_INVALID, "mechanisms: %zu rows; at least 20 are needed", rows);
    if (o->hidden > CAUSAL_HIDDEN_MAX || o->bins > CAUSAL_BINS_MAX || o->bins == 1 || !o->batch)
        return dscm_fail(err, DSCM_E_INVALID,
                         "mechanisms: hidden must be in 0..%d, bins in 2..%d or 0, batch over 0",
                         CAUSAL_HIDDEN_MAX, CAUSAL_BINS_MAX);
    if (!(o->held_out >= 0.01 && o->held_out <= 0.5))
        return dscm_fail(err, DSCM_E_INVALID, "mechanisms: held_out: %g is not in .01..0.5",
                         o->held_out);
    return DSCM_OK;
}

dscm_code dscm_causal_fit(dscm_causal *m, const double *values, size_t rows,
                          const dscm_causal_options *o, dscm_causal_report *reports,
                          dscm_error *err)
{
    dscm_rng rng = dscm_rng_make(o->seed, 0);
    dscm_code code = check_options(o, rows, err);
    if (code != DSCM_OK) return code;
    uint32_t *order = dscm_alloc(rows, sizeof *order, "mechanisms", err);
    if (!order) return DSCM_E_MEMORY;
    size_t held = (size_t)ceil(o->held_out * (double)rows);
    for (size_t i = 0; code == DSCM_OK && i < m->count; i++) {
        dscm_causal_report report = {0};
        if ((int)i == m->image || m->nodes[i].known) continue;
        dscm_rng_permute(&rng, order, (uint32_t)rows);
        fit f = {.model = m,
                 .node = &m->nodes[i],
                 .index = (int)i,
                 .values = values,
                 .order = order,
                 .train = rows - held,
                 .rows = rows};
        code = fit_node(&f, o, &report, err);
        if (reports) reports[i] = report;
    }
    dscm_free(order);
    return code;
}
