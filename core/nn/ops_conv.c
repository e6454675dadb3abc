/* Convolution with an optional residual; a linear layer is one of a single pixel. */
#include "core/nn/graph_internal.h"

/* Bytes of the weights of a pass where they are packed only for the call. */
static size_t passing_bytes(const dscm_exec *x, size_t op, dscm_conv_pass pass)
{
    if (!x->weights->stored[op].data || pass == DSCM_CONV_WEIGHT_GRAD) return 0;
    return dscm_arena_round(dscm_conv_packed_floats(&x->weights->plans[op], pass) * sizeof(float));
}

static size_t conv_scratch(const dscm_exec *x, const node_op *op)
{
    size_t i = op_index(x, op), most = 0;
    int threads = dscm_team_size(x->team);
    for (int p = DSCM_CONV_FORWARD; p <= (int)x->mode; p++) {
        dscm_conv_pass pass = (dscm_conv_pass)p;
        size_t bytes = dscm_conv_scratch_bytes(&x->weights->plans[i], pass, x->batch_max, threads) +
                       passing_bytes(x, i, pass);
        if (bytes > most) most = bytes;
    }
    return most;
}

/* Weights of a pass: packed for good, or now, at the beginning of the scratch. */
static const float *weights_of(const dscm_exec *x, size_t op, dscm_conv_pass pass)
{
    const dscm_weights *w = x->weights;
    const dscm_param_view *from = &w->stored[op];
    if (!from->data) return w->packed[pass][op];
    dscm_conv_pack_from(&w->plans[op], pass, x->scratch, from->data, from->type, x->team);
    return x->scratch;
}

static void *scratch_of(const dscm_exec *x, size_t op, dscm_conv_pass pass)
{
    return (unsigned char *)x->scratch + passing_bytes(x, op, pass);
}

/* out = conv(x) + b [+ residual] */
static void conv_forward(dscm_exec *x, const node_op *op)
{
    size_t i = op_index(x, op);
    int residual = op->in[1];
    dscm_conv_forward(&x->weights->plans[i], x->data[op->out], ld_of(x, op->out),
                      x->data[op->in[0]], ld_of(x, op->in[0]), weights_of(x, i, DSCM_CONV_FORWARD),
                      param_of(x, op->b), residual >= 0 ? x->data[residual] : NULL,
                      residual >= 0 ? ld_of(x, residual) : 0, rows_of(x, op->out),
                      scratch_of(x, i, DSCM_CONV_FORWARD), x->team);
}

static void conv_backward(dscm_exec *x, const node_op *op)
{
    size_t i = op_index(x, op), rows = rows_of(x, op->out);
    const dscm_conv *plan = &x->weights->plans[i];
    const float *dout = x->grad[op->out];
    size_t ldo = ld_of(x, op->out);
    bool add;
    /* out = … + residual:  dresidual += dout */
    float *dresidual = grad_to(x, op->in[1], &add);
    if (dresidual)
        dscm_lines_accumulate(x, dresidual, ld_of(x, op->in[1]), dout, ldo,
                              rows * pixels_of(x, op->out), tensor_of(x, op->out)->c, add);
    if (x->sums[i])
        dscm_conv_weight_grad(plan, x->sums[i], param_grad_of(x, op->b), dout, ldo,
                              x->data[op->in[0]], ld_of(x, op->in[0]), rows, x->scratch, x->team);
    float *din = grad_to(x, op->in[0], &add);
    if (din)
        dscm_conv_input_grad(plan, din, ld_of(x, op->in[0]), dout, ldo,
                             weights_of(x, i, DSCM_CONV_INPUT_GRAD), add, rows,
                             scratch_of(x, i, DSCM_CONV_INPUT_GRAD), x->team);
}

const op_class dscm_op_conv_class = {.forward = conv_forward,
                                     .backward = conv_backward,
                                     .reads_param = 1u,
                                     .scratch_bytes = conv_scratch};
