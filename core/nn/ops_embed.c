/* Embeddings of time and label, the draw of a VAE, and dropout. */
#include <math.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/nn/graph_internal.h"

/* f_i = exp(-ln(10000) i / half), (cos(t f), sin(t f)): Ho et al. 2020 with cos first, as published
 * checkpoints have it. */
static void time_forward(dscm_exec *x, const node_op *op)
{
    size_t c = tensor_of(x, op->out)->c, half = c / 2;
    for (size_t r = 0; r < rows_of(x, op->out); r++) {
        float t = x->data[op->in[0]][r], *out = x->data[op->out] + r * c;
        if (c % 2) out[c - 1] = 0;
        for (size_t i = 0; i < half; i++) {
            float f = expf((float)(-log(10000.0)) * (float)i / (float)half);
            out[i] = cosf(t * f);
            out[half + i] = sinf(t * f);
        }
    }
}

static void no_backward(dscm_exec *x, const node_op *op)
{
    (void)x;
    (void)op;
}

const op_class dscm_op_time_class = {.forward = time_forward, .backward = no_backward};

static void label_forward(dscm_exec *x, const node_op *op)
{
    size_t c = tensor_of(x, op->out)->c;
    for (size_t r = 0; r < rows_of(x, op->out); r++) {
        float label = x->data[op->in[0]][r], *out = x->data[op->out] + r * c;
        if (label < 0)
            memset(out, 0, c * sizeof *out);
        else
            memcpy(out, param_of(x, op->w) + (size_t)label * c, c * sizeof *out);
    }
}

static void label_backward(dscm_exec *x, const node_op *op)
{
    size_t c = tensor_of(x, op->out)->c;
    float *dw = param_grad_of(x, op->w);
    for (size_t r = 0; dw && r < rows_of(x, op->out); r++)
        if (x->data[op->in[0]][r] >= 0)
            dscm_lines_accumulate(x, dw + (size_t)x->data[op->in[0]][r] * c, c,
                                  x->grad[op->out] + r * c, c, 1, c, true);
}

const op_class dscm_op_label_class = {
    .forward = label_forward, .backward = label_backward, .reads = 1u};

/* z = mu + exp(logvar/2) * noise (Kingma & Welling 2014) */
static void reparam_forward(dscm_exec *x, const node_op *op)
{
    size_t n = rows_of(x, op->out) * pixels_of(x, op->out) * tensor_of(x, op->out)->c;
    const float *mu = x->data[op->in[0]], *logvar = x->data[op->in[1]], *noise = x->data[op->in[2]];
    for (size_t i = 0; i < n; i++) x->data[op->out][i] = mu[i] + expf(0.5f * logvar[i]) * noise[i];
}

static void reparam_backward(dscm_exec *x, const node_op *op)
{
    size_t n = rows_of(x, op->out) * pixels_of(x, op->out) * tensor_of(x, op->out)->c;
    const float *logvar = x->data[op->in[1]], *noise = x->data[op->in[2]], *dz = x->grad[op->out];
    bool add;
    float *dmu = grad_to(x, op->in[0], &add);
    if (dmu) dscm_lines_accumulate(x, dmu, n, dz, n, 1, n, add);
    float *dlogvar = grad_to(x, op->in[1], &add);
    for (size_t i = 0; dlogvar && i < n; i++) {
        float d = dz[i] * 0.5f * expf(0.5f * logvar[i]) * noise[i];
        dlogvar[i] = add ? dlogvar[i] + d : d;
    }
    float *dnoise = grad_to(x, op->in[2], &add);
    for (size_t i = 0; dnoise && i < n; i++) {
        float d = dz[i] * expf(0.5f * logvar[i]);
        dnoise[i] = add ? dnoise[i] + d : d;
    }
}

const op_class dscm_op_reparam_class = {
    .forward = reparam_forward, .backward = reparam_backward, .reads = 6u};

/* ---- dropout: a mask byte per element, drawn per sample, drawn again in backward ---- */
static void dropout_row(const dscm_exec *x, const node_op *op, size_t row, float *to, size_t ld_to,
                        const float *from, size_t ld_from, bool add)
{
    size_t c = tensor_of(x, op->out)->c, n = pixels_of(x, op->out) * c;
    uint32_t threshold = (uint32_t)lrintf(op->rate * 256), word = 0;
    float keep = 256.0f / (256.0f - (float)threshold);
    dscm_rng rng = dscm_rng_make(x->dropout_seed + op_index(x, op) * 0x9E3779B97F4A7C15u,
                                 x->dropout_sample + row);
    for (size_t i = 0; i < n; i++, word >>= 8) {
        if (i % 4 == 0) word = dscm_rng_u32(&rng);
        float v = (word & 255) < threshold ? 0 : from[i / c * ld_from + i % c] * keep;
        float *at = to + i / c * ld_to + i % c;
        *at = add ? *at + v : v;
    }
}

static void dropout_forward(dscm_exec *x, const node_op *op)
{
    size_t ldi = ld_of(x, op->in[0]), ldo = ld_of(x, op->out), pixels = pixels_of(x, op->out);
    size_t rows = rows_of(x, op->out);
    if (x->mode != DSCM_EXEC_PARAM_GRAD || !x->dropout_seed) {
        dscm_lines_accumulate(x, x->data[op->out], ldo, x->data[op->in[0]], ldi, rows * pixels,
                              tensor_of(x, op->out)->c, false);
        return;
    }
    for (size_t r = 0; r < rows; r++)
        dropout_row(x, op, r, x->data[op->out] + r * pixels * ldo, ldo,
                    x->data[op->in[0]] + r * pixels * ldi, ldi, false);
}

static void dropout_backward(dscm_exec *x, const node_op *op)
{
    size_t ldi = ld_of(x, op->in[0]), ldo = ld_of(x, op->out), pixels = pixels_of(x, op->out);
    size_t rows = rows_of(x, op->out);
    bool add;
    float *dx = grad_to(x, op->in[0], &add);
    if (!dx) return;
    if (x->mode != DSCM_EXEC_PARAM_GRAD || !x->dropout_seed) {
        dscm_lines_accumulate(x, dx, ldi, x->grad[op->out], ldo, rows * pixels,
                              tensor_of(x, op->out)->c, add);
        return;
    }
    for (size_t r = 0; r < rows; r++)
        dropout_row(x, op, r, dx + r * pixels * ldi, ldi, x->grad[op->out] + r * pixels * ldo, ldo,
                    add);
}

const op_class dscm_op_dropout_class = {.forward = dropout_forward, .backward = dropout_backward};
