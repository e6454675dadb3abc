/* A small network under test: random inputs and parameters, loss = sum of output * weight, and the
 * comparison of every gradient with central differences along directions near the gradient (where
 * the signal stands clear of float rounding) plus a random part (so that no element hides). */
#ifndef DSCM_TESTS_CORE_NN_GRADCHECK_H
#define DSCM_TESTS_CORE_NN_GRADCHECK_H

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/kernels/gemm.h"
#include "core/nn/graph.h"
#include "tests/harness.h"

#define RIG_INPUTS 4

typedef struct rig {
    dscm_params params;
    dscm_graph *graph; /* owned unless `borrowed` */
    bool borrowed;
    const dscm_params *table;
    dscm_tensor in[RIG_INPUTS], out;
    bool has_grad[RIG_INPUTS];
    int inputs;
    size_t every; /* check this share of the parameters one by one (1/every); all are checked at
                     once as well */
    size_t batch, conditions;
    const char *const *outputs; /* to compute, NULL: all; each but `out` needs a gradient written */
    float *values;
    dscm_weights *weights;
    dscm_exec *exec;
    float *weight; /* of the output elements in the loss */
    uint64_t drop_seed;
    float step; /* of differences; 0: .01. Less where ReLU and max have many kinks, within which no
                   difference is a slope */
    double tolerance; /* of a slope; 0: .01 */
} rig;

static inline size_t rig_count(const rig *r, dscm_tensor t, size_t rows)
{
    size_t h, w, c;
    dscm_graph_dims(r->graph, t, &h, &w, &c);
    return rows * h * w * c;
}

static inline void rig_noise(float *to, size_t count, uint64_t stream, float scale)
{
    dscm_rng rng = dscm_rng_make(test_seed, stream);
    dscm_rng_normal(&rng, to, count);
    for (size_t i = 0; i < count; i++) to[i] *= scale;
}

static inline float *rig_floats(size_t count)
{
    float *p = dscm_alloc(count, sizeof *p, "test", NULL);
    if (!p) abort();
    return p;
}

static inline void rig_start(rig *r, size_t batch, size_t conditions)
{
    *r = (rig){.batch = batch, .conditions = conditions, .every = 1};
    r->table = &r->params;
    if (dscm_graph_open(&r->graph, &r->params, NULL) != DSCM_OK) abort();
}

static inline dscm_tensor rig_image(rig *r, size_t h, size_t w, size_t c)
{
    char name[8];
    snprintf(name, sizeof name, "x%d", r->inputs);
    r->has_grad[r->inputs] = true;
    return r->in[r->inputs++] = dscm_graph_image(r->graph, name, h, w, c);
}

static inline dscm_tensor rig_condition(rig *r, size_t c)
{
    char name[8];
    snprintf(name, sizeof name, "c%d", r->inputs);
    return r->in[r->inputs++] = dscm_graph_condition(r->graph, name, c);
}

static inline void rig_forward(rig *r)
{
    dscm_exec_seed_dropout(r->exec, r->drop_seed, 5);
    dscm_exec_forward(r->exec, r->batch, r->conditions);
}

/* Opens weights and executor, fills everything with noise, runs forward once. */
static inline void rig_open(rig *r, dscm_isa isa, dscm_exec_mode mode, dscm_team *team)
{
    dscm_error err = {0};
    size_t floats = r->table->floats;
    r->values = rig_floats(floats + 1);
    rig_noise(r->values, floats, 3, 0.3f);
    for (size_t p = 0; p < r->table->count; p++) /* gains near one keep the signal alive */
        for (size_t i = 0; i < r->table->items[p].count; i++)
            if (r->table->items[p].init == DSCM_INIT_ONE)
                r->values[r->table->items[p].offset + i] += 1;
    if (dscm_weights_open(&r->weights, r->graph, r->values, isa, mode, &err)) abort();
    dscm_exec_options o = {.mode = mode, .batch = r->batch, .team = team, .outputs = r->outputs};
    if (dscm_exec_open(&r->exec, r->graph, r->weights, &o, &err)) abort();
    for (int k = 0; k < r->inputs; k++) {
        size_t rows = r->has_grad[k] ? r->batch : r->conditions;
        rig_noise(dscm_exec_data(r->exec, r->in[k]), rig_count(r, r->in[k], rows), 10 + (uint64_t)k,
                  1);
    }
    size_t count = rig_count(r, r->out, r->batch);
    r->weight = rig_floats(count);
    rig_noise(r->weight, count, 4, 1);
    rig_forward(r);
}

static inline void rig_close(rig *r)
{
    dscm_exec_free(r->exec);
    dscm_weights_free(r->weights);
    dscm_free(r->values);
    dscm_free(r->weight);
    if (r->borrowed) return;
    dscm_graph_free(r->graph);
    dscm_params_free(&r->params);
}

static inline double rig_loss(rig *r)
{
    rig_forward(r);
    const float *out = dscm_exec_data(r->exec, r->out);
    double sum = 0;
    for (size_t i = 0; i < rig_count(r, r->out, r->batch); i++)
        sum += (double)out[i] * (double)r->weight[i];
    return sum;
}

static inline void rig_backward(rig *r)
{
    rig_forward(r);
    memcpy(dscm_exec_grad(r->exec, r->out), r->weight,
           rig_count(r, r->out, r->batch) * sizeof(float));
    dscm_exec_backward(r->exec);
}

/* Slope of the loss when `at` moves along `way`, from steps h and h/2 (Richardson). */
static inline double rig_slope(rig *r, float *at, const float *way, size_t count, bool is_param)
{
    float *old = rig_floats(count);
    double slope[2];
    memcpy(old, at, count * sizeof *old);
    for (int k = 0; k < 2; k++) {
        float h = (r->step > 0 ? r->step : 0.01f) * (k ? 1 : 2);
        double loss[2];
        for (int side = 0; side < 2; side++) {
            for (size_t i = 0; i < count; i++) at[i] = old[i] + (side ? -h : h) * way[i];
            if (is_param) dscm_weights_update(r->weights, r->values, NULL);
            loss[side] = rig_loss(r);
        }
        slope[k] = (loss[0] - loss[1]) / (2 * (double)h);
    }
    memcpy(at, old, count * sizeof *old);
    if (is_param) dscm_weights_update(r->weights, r->values, NULL);
    dscm_free(old);
    return (4 * slope[1] - slope[0]) / 3;
}

/* Sum of the absolute terms of the loss. */
static inline double rig_magnitude(rig *r)
{
    const float *out = dscm_exec_data(r->exec, r->out);
    double sum = 0;
    for (size_t i = 0; i < rig_count(r, r->out, r->batch); i++)
        sum += fabs((double)out[i] * (double)r->weight[i]);
    return sum;
}

static inline void rig_compare(rig *r, const char *what, const char *name, float *at,
                               const float *grad, size_t count, bool is_param)
{
    float *way = rig_floats(count);
    double size = 0, expected = 0;
    for (size_t i = 0; i < count; i++) size += (double)grad[i] * (double)grad[i];
    size = sqrt(size);
    rig_noise(way, count, 77, 0.3f / sqrtf((float)count));
    for (size_t i = 0; i < count; i++) {
        if (size > 0) way[i] += grad[i] / (float)size;
        expected += (double)grad[i] * (double)way[i];
    }
    double got = rig_slope(r, at, way, count, is_param);
    /* Float rounding of the loss, seen through the step. */
    double finer = r->step > 0 ? 0.01 / (double)r->step : 1;
    double noise = 1e-3 + 1.5e-4 * finer * rig_magnitude(r);
    if (!(fabs(got - expected) <= (r->tolerance > 0 ? r->tolerance : 1e-2) * size + noise))
        TEST_FAIL_("%s, %s: gradient gives slope %.6g, differences %.6g (size %.4g)", what, name,
                   expected, got, size);
    dscm_free(way);
}

/* Every gradient against differences; a second backward doubles parameter gradients and
 * repeats input gradients exactly. The rig is open in PARAM_GRAD mode. */
static inline void rig_check(rig *r, const char *what)
{
    size_t floats = r->table->floats;
    float *grads = rig_floats(floats + 1), *inputs[RIG_INPUTS] = {0};
    dscm_exec_zero_grads(r->exec);
    rig_backward(r);
    memcpy(grads, dscm_exec_param_grads(r->exec), floats * sizeof *grads);
    for (int k = 0; k < r->inputs; k++) {
        size_t count = rig_count(r, r->in[k], r->batch);
        if (!r->has_grad[k]) continue;
        inputs[k] = rig_floats(count);
        memcpy(inputs[k], dscm_exec_grad(r->exec, r->in[k]), count * sizeof(float));
    }
    rig_backward(r);
    size_t differ = 0;
    float most = 0;
    for (size_t i = 0; i < floats; i++) most = fmaxf(most, fabsf(grads[i]));
    for (size_t i = 0; i < floats; i++)
        differ += !(fabsf(dscm_exec_param_grads(r->exec)[i] - 2 * grads[i]) <= 1e-5f * most);
    if (differ) TEST_FAIL_("%s: %zu parameter gradients did not double", what, differ);
    for (int k = 0; k < r->inputs; k++) {
        size_t bytes = rig_count(r, r->in[k], r->batch) * sizeof(float);
        if (inputs[k] && memcmp(inputs[k], dscm_exec_grad(r->exec, r->in[k]), bytes) != 0)
            TEST_FAIL_("%s: a second backward changed the gradient of input %d", what, k);
    }
    if (floats) rig_compare(r, what, "all parameters", r->values, grads, floats, true);
    for (size_t p = 0; p < r->table->count; p += r->every) {
        const dscm_param *item = &r->table->items[p];
        rig_compare(r, what, item->name, r->values + item->offset, grads + item->offset,
                    item->count, true);
    }
    for (int k = 0; k < r->inputs; k++)
        if (inputs[k])
            rig_compare(r, what, "input", dscm_exec_data(r->exec, r->in[k]), inputs[k],
                        rig_count(r, r->in[k], r->batch), false);
    for (int k = 0; k < r->inputs; k++) dscm_free(inputs[k]);
    dscm_free(grads);
}

#endif
