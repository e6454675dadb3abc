/* Convolution with an optional residual; a linear layer is one of a single pixel. */
#include "core/nn/graph_internal.h"

static size_t conv_scratch(const dscm_exec *x, const node_op *op)
{
    const dscm_conv *plan = &x->weights->plans[op_index(x, op)];
    int threads = dscm_team_size(x->team);
    size_t most = dscm_conv_scratch_bytes(plan, DSCM_CONV_FORWARD, x->batch_max, threads);
    for (int pass = DSCM_CONV_INPUT_GRAD; pass <= (int)x->mode; pass++) {
        size_t bytes = dscm_conv_scratch_bytes(plan, (dscm_conv_pass)pass, x->batch_max, threads);
        if (bytes > most) most = bytes;
    }
    return most;
}

/* out = conv(x) + b [+ residual] */
static void conv_forward(dscm_exec *x, const node_op *op)
{
    size_t i = op_index(x, op);
    int residual = op->in[1];
    dscm_conv_forward(&x->weights->plans[i], x->data[op->out], ld_of(x, op->out),
                      x->data[op->in[0]], ld_of(x, op->in[0]), x->weights->packed[0][i],
                      param_of(x, op->b), residual >= 0 ? x->data[residual] : NULL,
                      residual >= 0 ? ld_of(x, residual) : 0, rows_of(x, op->out), x->scratch,
                      x->team);
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
        dscm_lines_accumulate(dresidual, ld_of(x, op->in[1]), dout, ldo,
                              rows * pixels_of(x, op->out), tensor_of(x, op->out)->c, add);
    float *dw = param_grad_of(x, op->w);
    if (dw)
        dscm_conv_weight_grad(plan, dw, param_grad_of(x, op->b), dout, ldo, x->data[op->in[0]],
                              ld_of(x, op->in[0]), rows, x->scratch, x->team);
    float *din = grad_to(x, op->in[0], &add);
    if (din)
        dscm_conv_input_grad(plan, din, ld_of(x, op->in[0]), dout, ldo, x->weights->packed[1][i],
                             add, rows, x->scratch, x->team);
}

const op_class dscm_op_conv_class = {.forward = conv_forward,
                                     .backward = conv_backward,
                                     .reads_param = 1u,
                                     .scratch_bytes = conv_scratch};
