/* Observing and scoring: what predictor, oracle, VAE and autoencoders say about images. */
#include "core/scm/score.h"

#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/models/gaussian.h"
#include "core/scm/walks.h"

#define CHANGED 0.05 /* of the pixel range */
#define IM_EPS  1e-7

/* ---- formulas ---- */
double dscm_gaussian_kl(const float *ma, const float *la, const float *mb, const float *lb,
                        size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double gap = (double)ma[i] - (double)mb[i], a = (double)la[i], b = (double)lb[i];
        sum += 0.5 * (b - a + exp(a - b) + gap * gap * exp(-b) - 1);
    }
    return sum > 0 ? sum : 0;
}

double dscm_cld(double minimality, double departure)
{
    return log(exp(minimality) + exp(departure));
}

static double squared_gap(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum;
}

double dscm_im1(const float *x, const float *by_target, const float *by_factual, size_t n)
{
    return squared_gap(x, by_target, n) / (squared_gap(x, by_factual, n) + IM_EPS);
}

double dscm_im2(const float *x, const float *by_target, const float *by_all, size_t n)
{
    double size = 0;
    for (size_t i = 0; i < n; i++) size += fabs((double)x[i]);
    return squared_gap(by_target, by_all, n) / (size + IM_EPS);
}

dscm_scores dscm_scores_of_pixels(const float *factual, const float *counterfactual, size_t pixels,
                                  size_t channels)
{
    const double nan = (double)NAN;
    double sum = 0, squares = 0, size = (double)(pixels * channels);
    size_t changed = 0;
    for (size_t p = 0; p < pixels; p++) {
        double most = 0;
        for (size_t k = p * channels; k < (p + 1) * channels; k++) {
            double d = 127.5 * fabs((double)factual[k] - (double)counterfactual[k]);
            sum += d;
            squares += d * d;
            most = fmax(most, d);
        }
        changed += most > CHANGED * 255;
    }
    return (dscm_scores){.probability_before = nan,
                         .probability_after = nan,
                         .oracle_label = -1,
                         .l1 = sum / size,
                         .l2 = sqrt(squares / size),
                         .changed_share = (double)changed / (double)pixels,
                         .cld = nan,
                         .cld_minimality = nan,
                         .cld_departure = nan,
                         .cld_spread = nan,
                         .im1 = nan,
                         .im2 = nan,
                         .cld_percentile = nan,
                         .im1_percentile = nan,
                         .im2_percentile = nan};
}

void dscm_light_blur(float *out, const float *in, size_t h, size_t w, size_t c)
{
    static const float weight[3] = {0.25f, 0.5f, 0.25f};
    for (size_t i = 0; i < h * w * c; i++) {
        size_t y = i / c / w, x = i / c % w, k = i % c;
        float sum = 0;
        for (int n = 0; n < 9; n++) {
            size_t yy = y + (size_t)(n / 3), xx = x + (size_t)(n % 3);
            yy = yy == 0 ? 0 : yy > h ? h - 1 : yy - 1;
            xx = xx == 0 ? 0 : xx > w ? w - 1 : xx - 1;
            sum += weight[n / 3] * weight[n % 3] * in[(yy * w + xx) * c + k];
        }
        out[i] = sum;
    }
}

/* ---- observing ---- */
static void softmax_row(float *out, const float *logits, size_t n)
{
    float top = logits[0], sum = 0;
    for (size_t k = 1; k < n; k++) top = fmaxf(top, logits[k]);
    for (size_t k = 0; k < n; k++) sum += out[k] = expf(logits[k] - top);
    for (size_t k = 0; k < n; k++) out[k] /= sum;
}

/* Output rows of a network over `count` images, a pass at a time. */
static void run_rows(dscm_session *s, dscm_exec *exec, const dscm_net *net, const float *images,
                     size_t count, float *out, size_t width)
{
    for (size_t b = 0; b < count; b += s->batch_max) {
        size_t n = count - b < s->batch_max ? count - b : s->batch_max;
        memcpy(dscm_exec_data(exec, net->x), images + b * s->size, n * s->size * sizeof *images);
        if (net->t >= 0) *dscm_exec_data(exec, net->t) = 0;
        dscm_exec_forward(exec, n, 1);
        memcpy(out + b * width, dscm_exec_data(exec, net->out), n * width * sizeof *out);
    }
}

dscm_code dscm_observe(dscm_session *s, int variable, float *out, const float *images, size_t count,
                       dscm_error *err)
{
    const dscm_bundle *b = s->bundle;
    int e = dscm_bundle_edge(b, variable, b->info.image);
    if (e < 0)
        return dscm_fail(err, DSCM_E_UNKNOWN, "%s: no predictor sees it in the image",
                         b->infos[variable].name);
    const dscm_net *net = b->edges[e].predictor.net;
    size_t width = net->config.out_channels;
    run_rows(s, s->predictors[e], net, images, count, out, width);
    for (size_t i = 0; i < count; i++) {
        if (b->infos[variable].kind == DSCM_CATEGORICAL) {
            softmax_row(out + i * width, out + i * width, width);
        } else {
            dscm_gaussian g = dscm_gaussian_head(&net->config, out + i * 2);
            out[i * 2] = (float)g.mean;
            out[i * 2 + 1] = (float)exp(g.log_variance);
        }
    }
    return DSCM_OK;
}

/* What most of the panel's classifiers call an image; of equally many the one that the first of them
 * names. probabilities: (classifiers, labels) of each image, `stride` floats apart. */
static int majority(const float *probabilities, size_t classifiers, size_t stride, size_t labels)
{
    size_t votes[BUNDLE_JUDGES_MAX] = {0}, best = 0;
    int called[BUNDLE_JUDGES_MAX] = {0};
    for (size_t c = 0; c < classifiers; c++) {
        const float *p = probabilities + c * stride;
        for (size_t k = 1; k < labels; k++)
            if (p[k] > p[called[c]]) called[c] = (int)k;
        for (size_t d = 0; d <= c; d++) votes[d] += called[d] == called[c];
    }
    for (size_t c = 1; c < classifiers; c++)
        if (votes[c] > votes[best]) best = c;
    return called[best];
}

static void divide(float *logits, size_t count, double by)
{
    for (size_t i = 0; i < count; i++) logits[i] = (float)((double)logits[i] / by);
}

static void observe_net(dscm_session *s, dscm_exec *exec, const bundle_net *n, double temperature,
                        const float *images, size_t count, float *out)
{
    size_t width = n->net->config.out_channels;
    run_rows(s, exec, n->net, images, count, out, width);
    divide(out, count * width, temperature);
    for (size_t i = 0; i < count; i++) softmax_row(out + i * width, out + i * width, width);
}

dscm_code dscm_observe_oracle(dscm_session *s, int variable, float *out, const float *images,
                              size_t count, dscm_error *err)
{
    const bundle_judges *j = &s->bundle->panel;
    if (!j->classifiers_count || variable != s->bundle->info.scored)
        return dscm_fail(err, DSCM_E_UNKNOWN, "%s: the model carries no oracle for it",
                         s->bundle->infos[variable].name);
    observe_net(s, s->classifiers[0], &j->classifiers[0], 1, images, count, out);
    return DSCM_OK;
}

dscm_code dscm_observe_acceptance(dscm_session *s, int variable, size_t net, float *out,
                                  const float *images, size_t count, dscm_error *err)
{
    const dscm_bundle *b = s->bundle;
    if (net >= b->info.acceptance_count || variable != b->info.scored)
        return dscm_fail(err, DSCM_E_UNKNOWN, "%s: the model has %zu acceptance nets for it",
                         b->infos[variable].name,
                         variable == b->info.scored ? b->info.acceptance_count : 0);
    observe_net(s, s->acceptance[net], &b->acceptance[net].net, b->acceptance[net].temperature,
                images, count, out);
    return DSCM_OK;
}

/* ---- one pass of scores ---- */
typedef struct score_job {
    dscm_session *s;
    const float *factual, *counterfactual;
    const int *targets, *factuals;
    int variable;
    size_t count, labels;
    const float *known;      /* (count, labels) what the predictor sees in factual, or NULL */
    float *seen;             /* (count, labels) receives what it sees in the others, or NULL */
    float *before, *after;   /* (batch, labels) */
    float *votes;            /* (classifiers, batch, labels) */
    float *code_x, *code_cf; /* per VAE (batch, 2, latent): mu, log variance */
    float *unit;             /* (batch, size): counterfactuals on [0,1] */
    float *all;              /* (batch, size): all-class autoencoder */
    float *by_target, *by_factual; /* (batch, size) */
} score_job;

/* Codes (count, 2, latent: mu, then log variance) of images (count, size) by a VAE; count is at most the batch of its
 * executor. */
static void encode(dscm_exec *exec, const dscm_net *net, float *codes, const float *images,
                   size_t count, size_t size)
{
    size_t latent = net->config.latent;
    memcpy(dscm_exec_data(exec, net->x), images, count * size * sizeof *images);
    dscm_exec_forward(exec, count, 1);
    const float *mu = dscm_exec_data(exec, dscm_graph_find(net->graph, "mu"));
    const float *logvar = dscm_exec_data(exec, dscm_graph_find(net->graph, "logvar"));
    for (size_t i = 0; i < count; i++) {
        memcpy(codes + 2 * i * latent, mu + i * latent, latent * sizeof *mu);
        memcpy(codes + (2 * i + 1) * latent, logvar + i * latent, latent * sizeof *mu);
    }
}

double dscm_cld_of_codes(const dscm_cld_pool *pool, const float *factual,
                         const float *counterfactual, int label, int target, double *minimality,
                         double *departure)
{
    size_t n = pool->latent, targets = 0, nearer = 0, factuals = 0, farther = 0;
    double div = dscm_gaussian_kl(counterfactual, counterfactual + n, factual, factual + n, n);
    *minimality = *departure = (double)NAN;
    for (size_t p = 0; p < pool->count; p++) {
        bool is_target = pool->labels[p] == target, is_factual = pool->labels[p] == label;
        if (!is_target && !is_factual) continue;
        double d =
            dscm_gaussian_kl(pool->mu + p * n, pool->logvar + p * n, factual, factual + n, n);
        targets += is_target;
        nearer += is_target && d <= div;
        factuals += is_factual;
        farther += is_factual && d >= div;
    }
    if (!targets || !factuals) return (double)NAN;
    *minimality = (double)nearer / (double)targets;
    *departure = (double)farther / (double)factuals;
    return dscm_cld(*minimality, *departure);
}

dscm_code scm_weigh(dscm_session *s, weighing *out, const float *factual,
                    const float *counterfactual, int label, int target, dscm_error *err)
{
    const bundle_vae *v = s->bundle->search.vaes;
    const dscm_net *net = v->net.net;
    size_t latent = net->config.latent;
    const dscm_cld_pool pool = {v->mu, v->logvar, v->labels, v->count, latent};
    float *codes = dscm_alloc(4 * latent, sizeof *codes, "codes", err);
    if (!codes) return DSCM_E_MEMORY;
    encode(s->search_vae, net, codes, factual, 1, s->size);
    encode(s->search_vae, net, codes + 2 * latent, counterfactual, 1, s->size);
    out->cld = dscm_cld_of_codes(&pool, codes, codes + 2 * latent, label, target, &out->minimality,
                                 &out->departure);
    dscm_free(codes);
    return DSCM_OK;
}

/* Means over the panel's VAEs, and the spread of the CLD: the largest less the smallest. */
static void cld_scores(const score_job *j, dscm_scores *out)
{
    const bundle_judges *panel = &j->s->bundle->panel;
    double n = (double)panel->vaes_count;
    for (size_t i = 0; i < j->count; i++) {
        double sum = 0, near = 0, away = 0, low = INFINITY, high = -INFINITY;
        const float *x = j->code_x, *cf = j->code_cf;
        for (size_t v = 0; v < panel->vaes_count; v++) {
            const bundle_vae *vae = &panel->vaes[v];
            size_t latent = vae->net.net->config.latent;
            const dscm_cld_pool pool = {vae->mu, vae->logvar, vae->labels, vae->count, latent};
            double minimality, departure;
            double cld = dscm_cld_of_codes(&pool, x + 2 * i * latent, cf + 2 * i * latent,
                                           j->factuals[i], j->targets[i], &minimality, &departure);
            sum += cld;
            near += minimality;
            away += departure;
            low = fmin(low, cld);
            high = fmax(high, cld);
            x += 2 * j->s->batch_max * latent;
            cf += 2 * j->s->batch_max * latent;
        }
        out[i].cld = sum / n;
        out[i].cld_minimality = near / n;
        out[i].cld_departure = away / n;
        out[i].cld_spread = high - low;
    }
}

/* Reconstructions by a label's autoencoder of the images in `unit` that come from or go to it. */
static void reconstruct_class(const score_job *j, size_t label)
{
    const bundle_net *n = &j->s->bundle->panel.class_autoencoders[label];
    dscm_exec *exec = j->s->class_autoencoder;
    size_t picked[4096], count = 0, size = j->s->size;
    for (size_t i = 0; i < j->count; i++)
        if ((size_t)j->targets[i] == label || (size_t)j->factuals[i] == label) picked[count++] = i;
    if (!count) return;
    dscm_exec_use(exec, n->weights);
    for (size_t i = 0; i < count; i++)
        memcpy(dscm_exec_data(exec, n->net->x) + i * size, j->unit + picked[i] * size,
               size * sizeof(float));
    dscm_exec_forward(exec, count, 1);
    for (size_t i = 0; i < count; i++) {
        const float *row = dscm_exec_data(exec, n->net->out) + i * size;
        if ((size_t)j->targets[picked[i]] == label)
            memcpy(j->by_target + picked[i] * size, row, size * sizeof *row);
        if ((size_t)j->factuals[picked[i]] == label)
            memcpy(j->by_factual + picked[i] * size, row, size * sizeof *row);
    }
}

static void reconstruct_all(const score_job *j)
{
    const dscm_net *net = j->s->bundle->panel.autoencoder.net;
    for (size_t i = 0; i < j->count * j->s->size; i++) {
        float v = (j->counterfactual[i] + 1) / 2;
        j->unit[i] = v < 0 ? 0 : v > 1 ? 1 : v;
    }
    memcpy(dscm_exec_data(j->s->autoencoder, net->x), j->unit,
           j->count * j->s->size * sizeof(float));
    dscm_exec_forward(j->s->autoencoder, j->count, 1);
    memcpy(j->all, dscm_exec_data(j->s->autoencoder, net->out),
           j->count * j->s->size * sizeof(float));
    for (size_t label = 0; label < j->labels; label++) reconstruct_class(j, label);
}

/* Share of accepted values that are at least as large: 1 is the best of all, 0 the worst. */
static double percentile(const bundle_scale *scale, double value)
{
    size_t worse = 0;
    if (!scale->count || isnan(value)) return (double)NAN;
    for (size_t i = 0; i < scale->count; i++) worse += scale->values[i] >= value;
    return (double)worse / (double)scale->count;
}

static void finish_scores(const score_job *j, size_t i, dscm_scores *out)
{
    const dscm_bundle *b = j->s->bundle;
    const float *after = j->after + i * j->labels;
    size_t best = 0, size = j->s->size;
    for (size_t k = 1; k < j->labels; k++)
        if (after[k] > after[best]) best = k;
    out->valid = best == (size_t)j->targets[i];
    out->probability_before = (double)j->before[i * j->labels + (size_t)j->targets[i]];
    out->probability_after = (double)after[j->targets[i]];
    if (b->info.scored != j->variable) return;
    if (b->info.has_im) {
        const float *x = j->unit + i * size, *target = j->by_target + i * size;
        out->im1 = dscm_im1(x, target, j->by_factual + i * size, size);
        out->im2 = dscm_im2(x, target, j->all + i * size, size);
    }
    out->cld_percentile = percentile(&b->accepted_cld, out->cld);
    out->im1_percentile = percentile(&b->accepted_im1, out->im1);
    out->im2_percentile = percentile(&b->accepted_im2, out->im2);
}

static dscm_code score_pass(score_job *j, dscm_scores *out, dscm_error *err)
{
    const dscm_bundle *b = j->s->bundle;
    bool scored = b->info.scored == j->variable;
    size_t row_bytes = j->count * j->labels * sizeof(float);
    dscm_code code = DSCM_OK;
    if (j->known)
        memcpy(j->before, j->known, row_bytes);
    else
        code = dscm_observe(j->s, j->variable, j->before, j->factual, j->count, err);
    if (code == DSCM_OK)
        code = dscm_observe(j->s, j->variable, j->after, j->counterfactual, j->count, err);
    if (code != DSCM_OK) return code;
    if (j->seen) memcpy(j->seen, j->after, row_bytes);
    if (scored && b->info.has_cld) {
        float *x = j->code_x, *cf = j->code_cf;
        for (size_t v = 0; v < b->panel.vaes_count; v++) {
            const dscm_net *net = b->panel.vaes[v].net.net;
            encode(j->s->vaes[v], net, x, j->factual, j->count, j->s->size);
            encode(j->s->vaes[v], net, cf, j->counterfactual, j->count, j->s->size);
            x += 2 * j->s->batch_max * net->config.latent;
            cf += 2 * j->s->batch_max * net->config.latent;
        }
    }
    if (scored && b->info.has_im) reconstruct_all(j);
    for (size_t i = 0; i < j->count; i++) {
        size_t at = i * j->s->size, channels = j->s->image->info.c;
        out[i] = dscm_scores_of_pixels(j->factual + at, j->counterfactual + at,
                                       j->s->size / channels, channels);
    }
    if (scored && b->info.has_cld) cld_scores(j, out);
    for (size_t i = 0; i < j->count; i++) finish_scores(j, i, &out[i]);
    if (!scored) return DSCM_OK;
    size_t classifiers = b->panel.classifiers_count, stride = j->s->batch_max * j->labels;
    for (size_t c = 0; c < classifiers; c++)
        observe_net(j->s, j->s->classifiers[c], &b->panel.classifiers[c], 1, j->counterfactual,
                    j->count, j->votes + c * stride);
    for (size_t i = 0; classifiers && i < j->count; i++)
        out[i].oracle_label = majority(j->votes + i * j->labels, classifiers, stride, j->labels);
    return code;
}

dscm_code dscm_score(dscm_session *s, dscm_scores *out, const float *factual,
                     const float *counterfactual, int variable, const int *targets,
                     const int *factuals, size_t count, dscm_error *err)
{
    return dscm_score_seen(s, out, factual, counterfactual, variable, targets, factuals, count,
                           &(dscm_seen){.before = NULL}, err);
}

dscm_code dscm_score_seen(dscm_session *s, dscm_scores *out, const float *factual,
                          const float *counterfactual, int variable, const int *targets,
                          const int *factuals, size_t count, const dscm_seen *seen, dscm_error *err)
{
    const dscm_bundle *b = s->bundle;
    const dscm_variable *v = &b->infos[variable];
    if (v->kind != DSCM_CATEGORICAL)
        return dscm_fail(err, DSCM_E_INVALID, "%s: only categorical variables are scored", v->name);
    for (size_t i = 0; i < count; i++)
        if (targets[i] < 0 || (size_t)targets[i] >= v->labels_count || factuals[i] < 0 ||
            (size_t)factuals[i] >= v->labels_count)
            return dscm_fail(err, DSCM_E_INVALID, "%s: label index out of 0..%zu", v->name,
                             v->labels_count - 1);
    size_t code_floats = 0, n = s->batch_max, votes = b->panel.classifiers_count * v->labels_count;
    for (size_t i = 0; i < b->panel.vaes_count; i++)
        code_floats += 2 * b->panel.vaes[i].net.net->config.latent;
    size_t floats = n * (2 * v->labels_count + votes + 2 * code_floats + 4 * s->size);
    float *memory = dscm_alloc(floats, sizeof *memory, "scores", err);
    if (!memory) return DSCM_E_MEMORY;
    score_job j = {.s = s, .variable = variable, .labels = v->labels_count};
    j.before = memory;
    j.after = j.before + n * v->labels_count;
    j.votes = j.after + n * v->labels_count;
    j.code_x = j.votes + n * votes;
    j.code_cf = j.code_x + n * code_floats;
    j.unit = j.code_cf + n * code_floats;
    j.all = j.unit + n * s->size;
    j.by_target = j.all + n * s->size;
    j.by_factual = j.by_target + n * s->size;
    dscm_code code = DSCM_OK;
    for (size_t first = 0; code == DSCM_OK && first < count; first += n) {
        j.count = count - first < n ? count - first : n;
        j.factual = factual + first * s->size;
        j.counterfactual = counterfactual + first * s->size;
        j.targets = targets + first;
        j.factuals = factuals + first;
        j.known = seen->before ? seen->before + first * j.labels : NULL;
        j.seen = seen->after ? seen->after + first * j.labels : NULL;
        code = score_pass(&j, out + first, err);
    }
    dscm_free(memory);
    return code;
}
