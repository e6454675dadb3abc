/* Convolution with an optional residual; a linear layer is one of a single pixel. */
#include "core/nn/graph_internal.h"

static size_t conv_scratch(const dscm_exec *x, const node_op *op)
{
    size_t i = op_index(x, op), most = 0;
    const dscm_conv *plan = &x->weights->plans[i];
    int threads = dscm_team_size(x->team);
    for (int p = DSCM_CONV_FORWARD; p <= (int)x->mode; p++) {
        dscm_conv_pass pass = (dscm_conv_pass)p;
        size_t bytes = x->weights->stored[i].data
                           ? dscm_conv_stored_bytes(plan, pass, x->batch_max, threads)
                           : dscm_conv_scratch_bytes(plan, pass, x->batch_max, threads);
        if (bytes > most) most = bytes;
    }
    return most;
}

/* out = conv(x) + b [+ residual] */
static void conv_forward(dscm_exec *x, const node_op *op)
{
    size_t i = op_index(x, op), ldo = ld_of(x, op->out), ldi = ld_of(x, op->in[0]);
    int r = op->in[1];
    const dscm_conv *plan = &x->weights->plans[i];
    const dscm_param_view *stored = &x->weights->stored[i];
    float *out = x->data[op->out], *residual = r >= 0 ? x->data[r] : NULL;
    const float *in = x->data[op->in[0]], *bias = param_of(x, op->b);
    size_t ldr = r >= 0 ? ld_of(x, r) : 0, rows = rows_of(x, op->out);
    if (stored->data)
        dscm_conv_forward_stored(plan, out, ldo, in, ldi, stored->data, stored->type, bias,
                                 residual, ldr, rows, x->scratch, x->team);
    else
        dscm_conv_forward(plan, out, ldo, in, ldi, x->weights->packed[DSCM_CONV_FORWARD][i], bias,
                          residual, ldr, rows, x->scratch, x->team);
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
    const dscm_param_view *stored = &x->weights->stored[i];
    size_t ldi = ld_of(x, op->in[0]);
    if (din && stored->data)
        dscm_conv_input_grad_stored(plan, din, ldi, dout, ldo, stored->data, stored->type, add,
                                    rows, x->scratch, x->team);
    else if (din)
        dscm_conv_input_grad(plan, din, ldi, dout, ldo, x->weights->packed[DSCM_CONV_INPUT_GRAD][i],
                             add, rows, x->scratch, x->team);
}

const op_class dscm_op_conv_class = {.forward = conv_forward,
                                     .backward = conv_backward,
                                     .reads_param = 1u,
                                     .scratch_bytes = conv_scratch};
