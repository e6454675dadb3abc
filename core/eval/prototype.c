/* The prototype-guided search of Van Looveren & Klaise, see baselines.h. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/eval/baselines.h"

dscm_prototype_options dscm_prototype_defaults(void)
{
    return (dscm_prototype_options){.c = 1,
                                    .kappa = 0,
                                    .beta = 0.1,
                                    .gamma = 100,
                                    .theta = 100,
                                    .rate = 0.01,
                                    .iterations = 200,
                                    .searches = 3,
                                    .nearest = 5};
}

/* Everything a chunk of at most `batch` images needs; pixels on [0,1] unless said otherwise. */
typedef struct search {
    size_t batch, pixels, classes, code;
    float *x0;                  /* (batch, pixels) factual images */
    float *x;                   /* (batch, pixels) current iterate */
    float *y;                   /* (batch, pixels) FISTA's extrapolated point */
    float *input;               /* (batch, pixels) y on [-1,1] */
    float *grad;                /* (batch, pixels) of the smooth terms */
    float *dlogits;             /* (batch, classes) */
    float *dcode;               /* (batch, code) */
    float *drecon;              /* (batch, pixels) */
    float *proto;               /* (batch, code) */
    float *best;                /* (batch, pixels) cheapest flipped iterate */
    double *cost;               /* (batch) elastic-net cost of best, infinity without one */
    double *c, *c_low, *c_high; /* (batch) weight of the hinge and its bracket */
    int *flipped, *ever;        /* (batch) at this iterate; in this search */
} search;

static dscm_code search_open(search *s, const dscm_prototype_nets *nets, dscm_arena *arena,
                             dscm_error *err)
{
    size_t batch = nets->classifier->batch, pixels = nets->classifier->pixels;
    size_t classes = nets->classifier->width, code = nets->encoder->width;
    size_t floats = batch * (7 * pixels + classes + 2 * code), doubles = 4 * batch;
    size_t bytes = floats * sizeof(float) + doubles * sizeof(double) + 2 * batch * sizeof(int);
    dscm_code status = dscm_arena_open(arena, bytes + 16 * DSCM_ALIGN, err);
    if (status != DSCM_OK) return status;
    size_t image_bytes = batch * pixels * sizeof(float);
    *s = (search){.batch = batch, .pixels = pixels, .classes = classes, .code = code};
    float **const images[] = {&s->x0, &s->x, &s->y, &s->input, &s->grad, &s->drecon, &s->best};
    for (size_t i = 0; i < sizeof images / sizeof images[0]; i++)
        *images[i] = dscm_arena_take(arena, image_bytes);
    s->dlogits = dscm_arena_take(arena, batch * classes * sizeof(float));
    s->dcode = dscm_arena_take(arena, batch * code * sizeof(float));
    s->proto = dscm_arena_take(arena, batch * code * sizeof(float));
    double **const weights[] = {&s->cost, &s->c, &s->c_low, &s->c_high};
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++)
        *weights[i] = dscm_arena_take(arena, batch * sizeof(double));
    s->flipped = dscm_arena_take(arena, batch * sizeof(int));
    s->ever = dscm_arena_take(arena, batch * sizeof(int));
    return DSCM_OK;
}

/* proto = mean of the `nearest` pool codes of class `target` to `code`, by insertion into a short
 * list. */
static void find_prototype(float *proto, const float *code, int target, size_t width,
                           const dscm_prototype_nets *nets, size_t nearest)
{
    enum { NEAREST_MAX = 32 };
    double near[NEAREST_MAX];
    size_t index[NEAREST_MAX] = {0}, found = 0;
    if (nearest > NEAREST_MAX) nearest = NEAREST_MAX;
    for (size_t i = 0; i < nets->codes_count; i++) {
        if (nets->labels[i] != target) continue;
        double d = 0;
        for (size_t k = 0; k < width; k++) {
            double gap = (double)code[k] - nets->codes[i * width + k];
            d += gap * gap;
        }
        if (found == nearest && d >= near[found - 1]) continue;
        size_t at = found < nearest ? found++ : found - 1;
        for (; at > 0 && near[at - 1] > d; at--) {
            near[at] = near[at - 1];
            index[at] = index[at - 1];
        }
        near[at] = d;
        index[at] = i;
    }
    for (size_t k = 0; k < width; k++) {
        float sum = 0;
        for (size_t j = 0; j < found; j++) sum += nets->codes[index[j] * width + k];
        proto[k] = found ? sum / (float)found : code[k];
    }
}

static void to_signed(float *out, const float *in, size_t count)
{
    for (size_t i = 0; i < count; i++) out[i] = 2 * in[i] - 1;
}

/* Hinge max(max_{k != target} z_k - z_target + kappa, 0) of logits: gradient in dlogits. Remembers
 * whether y is past it. */
static void hinge_gradient(search *s, const float *logits, const int *targets, size_t count,
                           const dscm_prototype_options *o)
{
    for (size_t b = 0; b < count; b++) {
        const float *row = logits + b * s->classes;
        float *d = s->dlogits + b * s->classes;
        size_t target = (size_t)targets[b], rival = target == 0 ? 1 : 0;
        for (size_t k = 0; k < s->classes; k++)
            if (k != target && row[k] > row[rival]) rival = k;
        memset(d, 0, s->classes * sizeof *d);
        s->flipped[b] = (double)row[target] > (double)row[rival] + o->kappa;
        if (s->flipped[b]) continue;
        d[rival] = (float)s->c[b];
        d[target] = -(float)s->c[b];
    }
}

/* grad of the smooth terms at y: hinge, |δ|², reconstruction and prototype terms. */
static void smooth_gradient(search *s, const int *targets, size_t count,
                            const dscm_prototype_nets *nets, const dscm_prototype_options *o)
{
    size_t n = count * s->pixels;
    to_signed(s->input, s->y, n);
    hinge_gradient(s, dscm_probe_forward(nets->classifier, s->input, count), targets, count, o);
    const float *g = dscm_probe_backward(nets->classifier, s->dlogits, count);
    for (size_t i = 0; i < n; i++) s->grad[i] = 2 * g[i] + 2 * (s->y[i] - s->x0[i]);

    /* gamma·|y - AE(y)|²: with r = y - AE(y), the gradient is 2 gamma (r - J_AEᵀ r). */
    const float *recon = dscm_probe_forward(nets->autoencoder, s->y, count);
    float scale = (float)(2 * o->gamma);
    for (size_t i = 0; i < n; i++) s->drecon[i] = scale * (s->y[i] - recon[i]);
    g = dscm_probe_backward(nets->autoencoder, s->drecon, count);
    for (size_t i = 0; i < n; i++) s->grad[i] += s->drecon[i] - g[i];

    /* theta·|ENC(y) - proto|² */
    const float *code = dscm_probe_forward(nets->encoder, s->y, count);
    scale = (float)(2 * o->theta);
    for (size_t i = 0; i < count * s->code; i++) s->dcode[i] = scale * (code[i] - s->proto[i]);
    g = dscm_probe_backward(nets->encoder, s->dcode, count);
    for (size_t i = 0; i < n; i++) s->grad[i] += g[i];
}

static void keep_if_cheaper(search *s, size_t b, const dscm_prototype_options *o)
{
    double cost = 0;
    const float *y = s->y + b * s->pixels, *x0 = s->x0 + b * s->pixels;
    for (size_t i = 0; i < s->pixels; i++) {
        double d = fabs((double)y[i] - x0[i]);
        cost += o->beta * d + d * d;
    }
    if (cost >= s->cost[b]) return;
    s->cost[b] = cost;
    memcpy(s->best + b * s->pixels, y, s->pixels * sizeof *y);
}

/* One FISTA run (Beck & Teboulle 2009) for a chunk at its present weights c. */
static void fista(search *s, const int *targets, size_t count, const dscm_prototype_nets *nets,
                  const dscm_prototype_options *o)
{
    size_t n = count * s->pixels;
    memset(s->ever, 0, count * sizeof *s->ever);
    memcpy(s->x, s->x0, n * sizeof(float));
    memcpy(s->y, s->x0, n * sizeof(float));
    for (size_t it = 0; it < o->iterations; it++) {
        smooth_gradient(s, targets, count, nets, o);
        for (size_t b = 0; b < count; b++)
            if (s->flipped[b]) {
                s->ever[b] = 1;
                keep_if_cheaper(s, b, o);
            }
        float rate = (float)(o->rate * sqrt(1 - (double)it / (double)o->iterations));
        float shrink = rate * (float)o->beta, momentum = (float)it / ((float)it + 3);
        for (size_t i = 0; i < n; i++) {
            float d = s->y[i] - rate * s->grad[i] - s->x0[i];
            d = d > shrink ? d - shrink : d < -shrink ? d + shrink : 0;
            float next = s->x0[i] + d;
            next = next < 0 ? 0 : next > 1 ? 1 : next;
            float ahead = next + momentum * (next - s->x[i]);
            s->y[i] = ahead < 0 ? 0 : ahead > 1 ? 1 : ahead;
            s->x[i] = next;
        }
    }
}

static void prototype_chunk(search *s, float *out, const float *images, const int *targets,
                            size_t count, const dscm_prototype_nets *nets,
                            const dscm_prototype_options *o)
{
    size_t n = count * s->pixels;
    for (size_t i = 0; i < n; i++) s->x0[i] = (images[i] + 1) / 2;
    const float *code = dscm_probe_forward(nets->encoder, s->x0, count);
    for (size_t b = 0; b < count; b++) {
        find_prototype(s->proto + b * s->code, code + b * s->code, targets[b], s->code, nets,
                       o->nearest);
        s->cost[b] = INFINITY;
        s->c[b] = o->c;
        s->c_low[b] = 0;
        s->c_high[b] = INFINITY;
    }
    memcpy(s->best, s->x0, n * sizeof(float));
    for (size_t round = 0; round < o->searches; round++) {
        fista(s, targets, count, nets, o);
        for (size_t b = 0; b < count; b++) {
            if (s->ever[b])
                s->c_high[b] = s->c[b];
            else
                s->c_low[b] = s->c[b];
            s->c[b] = isinf(s->c_high[b]) ? 10 * s->c[b] : (s->c_low[b] + s->c_high[b]) / 2;
            /* never flipped: the last iterate is the answer, and it counts as invalid */
            if (isinf(s->cost[b]))
                memcpy(s->best + b * s->pixels, s->x + b * s->pixels, s->pixels * sizeof(float));
        }
    }
    to_signed(out, s->best, n);
}

dscm_code dscm_baseline_prototype(float *out, const float *images, const int *targets, size_t count,
                                  const dscm_prototype_nets *nets,
                                  const dscm_prototype_options *options, dscm_error *err)
{
    size_t batch = nets->classifier->batch, pixels = nets->classifier->pixels;
    assert(nets->autoencoder->batch >= batch && nets->encoder->batch >= batch);
    search s;
    dscm_arena arena;
    dscm_code code = search_open(&s, nets, &arena, err);
    if (code != DSCM_OK) return code;
    for (size_t b = 0; b < count; b += batch) {
        size_t part = count - b < batch ? count - b : batch;
        prototype_chunk(&s, out + b * pixels, images + b * pixels, targets + b, part, nets,
                        options);
    }
    dscm_arena_close(&arena);
    return DSCM_OK;
}
