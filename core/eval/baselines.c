#include "core/eval/baselines.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/data/idx.h"

/* ---- probes ---- */
dscm_code dscm_probe_open(dscm_probe *out, const dscm_net *net, const dscm_weights *weights,
                          const char *output, size_t batch, dscm_error *err)
{
    *out = (dscm_probe){.x = net->x, .t = net->t, .batch = batch};
    out->out = dscm_graph_find(net->graph, output);
    assert(out->out >= 0);
    const char *const outputs[] = {output, NULL};
    dscm_exec_options options = {.mode = DSCM_EXEC_INPUT_GRAD, .batch = batch, .outputs = outputs};
    size_t h, w, c;
    dscm_graph_dims(net->graph, net->x, &h, &w, &c);
    out->pixels = h * w * c;
    dscm_graph_dims(net->graph, out->out, &h, &w, &c);
    out->width = h * w * c;
    return dscm_exec_open(&out->exec, net->graph, weights, &options, err);
}

void dscm_probe_close(dscm_probe *probe)
{
    dscm_exec_free(probe->exec);
    *probe = (dscm_probe){0};
}

const float *dscm_probe_forward(dscm_probe *probe, const float *images, size_t count)
{
    assert(count <= probe->batch);
    memcpy(dscm_exec_data(probe->exec, probe->x), images, count * probe->pixels * sizeof *images);
    if (probe->t >= 0) *dscm_exec_data(probe->exec, probe->t) = 0;
    dscm_exec_forward(probe->exec, count, 1);
    return dscm_exec_data(probe->exec, probe->out);
}

const float *dscm_probe_backward(dscm_probe *probe, const float *dout, size_t count)
{
    memcpy(dscm_exec_grad(probe->exec, probe->out), dout, count * probe->width * sizeof *dout);
    dscm_exec_backward(probe->exec);
    return dscm_exec_grad(probe->exec, probe->x);
}

/* ---- shared pieces ---- */
static float clampf(float v, float low, float high)
{
    return v < low ? low : v > high ? high : v;
}

/* probabilities = softmax(logits), one row. */
static void softmax(float *probabilities, const float *logits, size_t classes)
{
    float top = logits[0], sum = 0;
    for (size_t k = 1; k < classes; k++) top = fmaxf(top, logits[k]);
    for (size_t k = 0; k < classes; k++) sum += probabilities[k] = expf(logits[k] - top);
    for (size_t k = 0; k < classes; k++) probabilities[k] /= sum;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- projected gradient descent ---- */
dscm_pgd_options dscm_pgd_defaults(void)
{
    return (dscm_pgd_options){.radius = 0.8, .step = 0.08, .iterations = 40};
}

static void pgd_chunk(float *out, const float *images, const int *targets, size_t count,
                      dscm_probe *classifier, const dscm_pgd_options *options, float *dlogits)
{
    size_t classes = classifier->width, pixels = classifier->pixels;
    float radius = (float)options->radius, step = (float)options->step;
    memcpy(out, images, count * pixels * sizeof *out);
    for (size_t it = 0; it < options->iterations; it++) {
        const float *logits = dscm_probe_forward(classifier, out, count);
        for (size_t b = 0; b < count; b++) { /* d log p(target) = onehot - softmax */
            float *row = dlogits + b * classes;
            softmax(row, logits + b * classes, classes);
            for (size_t k = 0; k < classes; k++) row[k] = -row[k];
            row[targets[b]] += 1;
        }
        const float *grad = dscm_probe_backward(classifier, dlogits, count);
        for (size_t i = 0; i < count * pixels; i++) {
            float moved = out[i] + (grad[i] > 0 ? step : grad[i] < 0 ? -step : 0);
            moved = clampf(moved, images[i] - radius, images[i] + radius);
            out[i] = clampf(moved, -1, 1);
        }
    }
}

dscm_code dscm_baseline_pgd(float *out, const float *images, const int *targets, size_t count,
                            dscm_probe *classifier, const dscm_pgd_options *options,
                            dscm_error *err)
{
    float *dlogits = dscm_alloc(classifier->batch * classifier->width, sizeof(float), "PGD", err);
    if (!dlogits) return DSCM_E_MEMORY;
    for (size_t b = 0; b < count; b += classifier->batch)
        pgd_chunk(out + b * classifier->pixels, images + b * classifier->pixels, targets + b,
                  smaller(classifier->batch, count - b), classifier, options, dlogits);
    dscm_free(dlogits);
    return DSCM_OK;
}

/* ---- greedy pixels on an ensemble ---- */
dscm_greedy_options dscm_greedy_defaults(void)
{
    return (dscm_greedy_options){.delta = 0.4, .visits = 5, .iterations = 700, .confidence = 0.99};
}

typedef struct greedy_scratch {
    float *mean;     /* (batch, classes) ensemble probabilities */
    float *dlogits;  /* (batch, classes) */
    float *grad;     /* (batch, pixels) of the summed cross-entropies */
    uint8_t *visits; /* (batch, pixels) */
} greedy_scratch;

/* Mean probabilities and summed cross-entropy gradients of the ensemble at `x`. */
static void ensemble_gradient(greedy_scratch *s, const float *x, const int *targets, size_t count,
                              dscm_probe *const *ensemble, size_t members)
{
    size_t classes = ensemble[0]->width, pixels = ensemble[0]->pixels;
    memset(s->mean, 0, count * classes * sizeof *s->mean);
    memset(s->grad, 0, count * pixels * sizeof *s->grad);
    for (size_t m = 0; m < members; m++) {
        const float *logits = dscm_probe_forward(ensemble[m], x, count);
        for (size_t b = 0; b < count; b++) {
            float *row = s->dlogits + b * classes;
            softmax(row, logits + b * classes, classes);
            for (size_t k = 0; k < classes; k++)
                s->mean[b * classes + k] += row[k] / (float)members;
            row[targets[b]] -= 1; /* d CE = softmax - onehot */
        }
        const float *grad = dscm_probe_backward(ensemble[m], s->dlogits, count);
        for (size_t i = 0; i < count * pixels; i++) s->grad[i] += grad[i];
    }
}

/* Moves the pixel with the largest gradient that may still move; false when none can. */
static bool greedy_move(float *x, const float *grad, uint8_t *visits, size_t pixels,
                        const dscm_greedy_options *options)
{
    size_t best = pixels;
    float most = 0;
    for (size_t i = 0; i < pixels; i++) {
        bool stuck = (grad[i] > 0 && x[i] <= -1) || (grad[i] < 0 && x[i] >= 1);
        if (stuck || visits[i] >= options->visits || fabsf(grad[i]) <= most) continue;
        most = fabsf(grad[i]);
        best = i;
    }
    if (best == pixels) return false;
    float delta = (float)options->delta;
    x[best] = clampf(x[best] - (grad[best] > 0 ? delta : -delta), -1, 1);
    visits[best]++;
    return true;
}

static void greedy_chunk(float *out, const float *images, const int *targets, size_t count,
                         dscm_probe *const *ensemble, size_t members,
                         const dscm_greedy_options *options, greedy_scratch *s)
{
    size_t classes = ensemble[0]->width, pixels = ensemble[0]->pixels;
    memcpy(out, images, count * pixels * sizeof *out);
    memset(s->visits, 0, count * pixels);
    for (size_t it = 0; it < options->iterations; it++) {
        ensemble_gradient(s, out, targets, count, ensemble, members);
        size_t moving = 0;
        for (size_t b = 0; b < count; b++) {
            if (s->mean[b * classes + (size_t)targets[b]] >= options->confidence) continue;
            moving += greedy_move(out + b * pixels, s->grad + b * pixels, s->visits + b * pixels,
                                  pixels, options);
        }
        if (!moving) return;
    }
}

dscm_code dscm_baseline_greedy(float *out, const float *images, const int *targets, size_t count,
                               dscm_probe *const *ensemble, size_t members,
                               const dscm_greedy_options *options, dscm_error *err)
{
    assert(members >= 1 && options->visits <= UINT8_MAX);
    size_t batch = ensemble[0]->batch, classes = ensemble[0]->width, pixels = ensemble[0]->pixels;
    greedy_scratch s = {.mean = dscm_alloc(batch * classes, sizeof(float), "greedy search", err),
                        .dlogits = dscm_alloc(batch * classes, sizeof(float), "greedy search", err),
                        .grad = dscm_alloc(batch * pixels, sizeof(float), "greedy search", err),
                        .visits = dscm_alloc(batch * pixels, 1, "greedy search", err)};
    dscm_code code = DSCM_E_MEMORY;
    if (s.mean && s.dlogits && s.grad && s.visits) {
        for (size_t b = 0; b < count; b += batch)
            greedy_chunk(out + b * pixels, images + b * pixels, targets + b,
                         smaller(batch, count - b), ensemble, members, options, &s);
        code = DSCM_OK;
    }
    dscm_free(s.mean);
    dscm_free(s.dlogits);
    dscm_free(s.grad);
    dscm_free(s.visits);
    return code;
}

/* ---- real images ---- */
static double squared_distance(const float *image, const uint8_t *pixels, size_t width,
                               double limit)
{
    double sum = 0;
    for (size_t i = 0; i < width; i++) {
        double gap = ((double)image[i] + 1) * 127.5 - pixels[i];
        sum += gap * gap;
        if (i % 64 == 63 && sum >= limit) return sum;
    }
    return sum;
}

static size_t nearest_in_pool(const float *image, int target, const dscm_pool_view *pool)
{
    size_t best = 0;
    double least = INFINITY;
    for (size_t i = 0; i < pool->n; i++) {
        if (pool->labels[i] != target) continue;
        double d = squared_distance(image, pool->pixels + i * pool->width, pool->width, least);
        if (d < least) {
            least = d;
            best = i;
        }
    }
    return best;
}

static size_t random_in_pool(int target, const dscm_pool_view *pool, size_t members, uint64_t seed,
                             uint64_t stream)
{
    dscm_rng rng = dscm_rng_make(seed, stream);
    size_t skip = dscm_rng_below(&rng, (uint32_t)members);
    for (size_t i = 0; i < pool->n; i++)
        if (pool->labels[i] == target && skip-- == 0) return i;
    return 0; /* not reached: members counts the class */
}

dscm_code dscm_baseline_real(float *out, const float *images, const int *targets, size_t count,
                             const dscm_pool_view *pool, bool nearest, uint64_t seed,
                             uint64_t first_stream, dscm_error *err)
{
    size_t members[256] = {0};
    for (size_t i = 0; i < pool->n; i++) members[pool->labels[i]]++;
    for (size_t b = 0; b < count; b++) {
        if (targets[b] < 0 || targets[b] > 255 || !members[targets[b]])
            return dscm_fail(err, DSCM_E_INVALID, "target %d: the pool has no image of that class",
                             targets[b]);
        size_t found =
            nearest ? nearest_in_pool(images + b * pool->width, targets[b], pool)
                    : random_in_pool(targets[b], pool, members[targets[b]], seed, first_stream + b);
        dscm_pixels_to_float(out + b * pool->width, pool->pixels + found * pool->width,
                             pool->width);
    }
    return DSCM_OK;
}
