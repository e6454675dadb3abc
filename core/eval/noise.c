#include "core/eval/noise.h"

#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/scm/session.h"

/* ---- the probe ---- */
/* In place: the lower triangle becomes L of a = L L^T. The matrix is positive definite. */
static void factor(double *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = a[i * n + j];
            for (size_t k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
            a[i * n + j] = i == j ? sqrt(sum) : sum / a[j * n + j];
        }
}

/* In place: b becomes the solution of L L^T x = b. */
static void solve(const double *l, size_t n, double *b)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) b[i] -= l[i * n + k] * b[k];
        b[i] /= l[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
        for (size_t k = i + 1; k < n; k++) b[i] -= l[k * n + i] * b[k];
        b[i] /= l[i * n + i];
    }
}

/* One is added for the intercept. */
static double product(const float *a, const float *b, size_t size)
{
    double sum = 1;
    for (size_t i = 0; i < size; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

dscm_code dscm_noise_probe(double *out, const float *x, const int *labels, size_t count,
                           size_t size, size_t labels_count, dscm_error *err)
{
    size_t even = (count + 1) / 2, odd = count / 2, right = 0;
    if (count < 4)
        return dscm_fail(err, DSCM_E_INVALID, "%zu images: a probe needs at least 4", count);
    double *a = dscm_alloc(even * even, sizeof *a, "probe", err);
    double *weights = dscm_alloc(even * labels_count, sizeof *weights, "probe", err);
    double penalty = 0;
    dscm_code code = a && weights ? DSCM_OK : DSCM_E_MEMORY;
    for (size_t i = 0; !code && i < even; i++) {
        const float *row = x + 2 * i * size;
        for (size_t j = 0; j <= i; j++) a[i * even + j] = product(row, x + 2 * j * size, size);
        penalty += a[i * even + i] / (double)even;
        for (size_t k = 0; k < labels_count; k++)
            weights[k * even + i] = (size_t)labels[2 * i] == k;
    }
    for (size_t i = 0; !code && i < even; i++) a[i * even + i] += penalty;
    if (!code) factor(a, even);
    for (size_t k = 0; !code && k < labels_count; k++) solve(a, even, weights + k * even);
    for (size_t i = 0; !code && i < odd; i++) {
        double best = -INFINITY;
        size_t named = 0;
        for (size_t k = 0; k < labels_count; k++) {
            double score = 0;
            for (size_t j = 0; j < even; j++)
                score +=
                    weights[k * even + j] * product(x + (2 * i + 1) * size, x + 2 * j * size, size);
            if (score > best) best = score, named = k;
        }
        right += named == (size_t)labels[2 * i + 1];
    }
    *out = (double)right / (double)odd;
    dscm_free(a);
    dscm_free(weights);
    return code;
}

/* ---- one setting ---- */
typedef struct study {
    dscm_session *session;
    const dscm_noise_data *data;
    dscm_options options;
    size_t size;
    float *own, *other;      /* (count, size) */
    double *errors;          /* (count) */
    dscm_query *queries;     /* (count) */
    dscm_intervention *acts; /* (count) */
    size_t *donors;          /* (count): whose noise is borrowed; the item itself where nobody's */
} study;

static double mean_of(const double *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += values[i];
    return sum / (double)count;
}

static void moments(dscm_noise_row *out, const float *x, size_t count)
{
    double mean = 0, second = 0, fourth = 0, n = (double)count;
    for (size_t i = 0; i < count; i++) mean += (double)x[i] / n;
    for (size_t i = 0; i < count; i++) {
        double square = ((double)x[i] - mean) * ((double)x[i] - mean);
        second += square / n;
        fourth += square * square / n;
    }
    out->mean = mean;
    out->deviation = sqrt(second);
    out->kurtosis = fourth / (second * second) - 3;
}

static dscm_code reconstruct(study *s, dscm_noise_row *out, const dscm_latent *latent,
                             dscm_error *err)
{
    const dscm_noise_data *d = s->data;
    for (size_t i = 0; i < d->count; i++) s->queries[i] = (dscm_query){.count = 0};
    dscm_code code = dscm_predict(s->session, s->own, latent, s->queries, &s->options, NULL, err);
    if (code != DSCM_OK) return code;
    dscm_images_round(s->own, d->count * s->size);
    out->full = dscm_images_l1(s->own, d->images, d->count * s->size);
    code = dscm_noise_only_error(s->session, s->errors, latent, d->images, NULL, err);
    if (code == DSCM_OK) out->noise_only = mean_of(s->errors, d->count);
    return code;
}

/* The next image of the same label, round in a ring. */
static void choose_donors(study *s)
{
    const dscm_noise_data *d = s->data;
    for (size_t i = 0; i < d->count; i++) {
        s->donors[i] = i;
        for (size_t k = 1; k < d->count && s->donors[i] == i; k++) {
            size_t j = (i + k) % d->count;
            if (d->labels[j] == d->labels[i]) s->donors[i] = j;
        }
    }
}

/* Counterfactuals of item i and of its donor, both towards the item's target: own noise, borrowed noise
 * with own stored terms, and the donor's. */
static dscm_code borrow(study *s, dscm_noise_row *out, const dscm_latent *latent, dscm_error *err)
{
    const dscm_noise_data *d = s->data;
    size_t n = d->count, asked = 0, follows = 0;
    dscm_latent *swapped = NULL, *donor = NULL;
    float *donors_own = dscm_alloc(n, s->size * sizeof *donors_own, "counterfactuals", err);
    dscm_code code = donors_own ? DSCM_OK : DSCM_E_MEMORY;
    size_t *self = dscm_alloc(n, sizeof *self, "counterfactuals", err);
    if (!self) code = DSCM_E_MEMORY;
    choose_donors(s);
    for (size_t i = 0; code == DSCM_OK && i < n; i++) {
        self[i] = i;
        s->acts[i] = (dscm_intervention){d->variable, DSCM_DO, d->targets[i], 1};
        s->queries[i] = (dscm_query){.items = &s->acts[i], .count = 1};
    }
    if (code == DSCM_OK) code = dscm_latent_select(&swapped, latent, self, n, err);
    if (code == DSCM_OK) code = dscm_latent_select(&donor, latent, s->donors, n, err);
    for (size_t i = 0; code == DSCM_OK && i < n; i++)
        memcpy(swapped->x + i * s->size, donor->x + i * s->size, s->size * sizeof(float));
    if (code == DSCM_OK)
        code = dscm_predict(s->session, s->own, latent, s->queries, &s->options, NULL, err);
    if (code == DSCM_OK)
        code = dscm_predict(s->session, s->other, swapped, s->queries, &s->options, NULL, err);
    if (code == DSCM_OK)
        code = dscm_predict(s->session, donors_own, donor, s->queries, &s->options, NULL, err);
    for (size_t i = 0; code == DSCM_OK && i < n; i++) {
        if (s->donors[i] == i) continue;
        const float *made = s->other + i * s->size;
        asked++;
        follows += dscm_images_l1(made, donors_own + i * s->size, s->size) <
                   dscm_images_l1(made, s->own + i * s->size, s->size);
    }
    out->follows = asked ? (double)follows / (double)asked : (double)NAN;
    dscm_latent_free(swapped);
    dscm_latent_free(donor);
    dscm_free(donors_own);
    dscm_free(self);
    return code;
}

dscm_code dscm_noise_measure(dscm_noise_row *out, dscm_session *session, const dscm_bundle *bundle,
                             const dscm_noise_data *data, const dscm_options *options,
                             dscm_error *err)
{
    const dscm_bundle_info *info = dscm_bundle_describe(bundle);
    size_t n = data->count, labels = info->variables[data->variable].labels_count;
    dscm_latent *latent = NULL;
    study s = {.session = session,
               .data = data,
               .options = *options,
               .size = session->size,
               .own = dscm_alloc(n, session->size * sizeof(float), "study", err),
               .other = dscm_alloc(n, session->size * sizeof(float), "study", err),
               .errors = dscm_alloc(n, sizeof(double), "study", err),
               .queries = dscm_alloc(n, sizeof(dscm_query), "study", err),
               .acts = dscm_alloc(n, sizeof(dscm_intervention), "study", err),
               .donors = dscm_alloc(n, sizeof(size_t), "study", err)};
    bool there = s.own && s.other && s.errors && s.queries && s.acts && s.donors;
    dscm_code code = there ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK)
        code =
            dscm_abduct_given(session, &latent, data->images, data->factual, n, options, NULL, err);
    if (code == DSCM_OK) {
        moments(out, latent->x, n * s.size);
        code = dscm_noise_probe(&out->probe, latent->x, data->labels, n, s.size, labels, err);
    }
    if (code == DSCM_OK) code = reconstruct(&s, out, latent, err);
    if (code == DSCM_OK) code = borrow(&s, out, latent, err);
    dscm_latent_free(latent);
    dscm_free(s.own);
    dscm_free(s.other);
    dscm_free(s.errors);
    dscm_free(s.queries);
    dscm_free(s.acts);
    dscm_free(s.donors);
    return code;
}
