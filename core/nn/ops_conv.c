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

static void run(dscm_exec *x, const node_op *op, dscm_conv_pass pass, dscm_conv_args *a)
{
    size_t i = op_index(x, op);
    const dscm_param_view *stored = &x->weights->stored[i];
    a->stored = stored->data;
    a->type = stored->type;
    if (!stored->data) a->packed = x->weights->packed[pass][i];
    a->batch = rows_of(x, op->out);
    a->scratch = x->scratch;
    a->team = x->team;
    dscm_conv_run(&x->weights->plans[i], pass, a);
}

/* out = conv(x) + b [+ residual] */
static void conv_forward(dscm_exec *x, const node_op *op)
{
    int in = op->in[0], r = op->in[1];
    dscm_conv_args a = {.out = x->data[op->out],
                        .ldo = ld_of(x, op->out),
                        .in = x->data[in],
                        .ldi = ld_of(x, in),
                        .bias = param_of(x, op->b),
                        .residual = r >= 0 ? x->data[r] : NULL,
                        .ldr = r >= 0 ? ld_of(x, r) : 0};
    run(x, op, DSCM_CONV_FORWARD, &a);
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
    /* dx += convᵀ(dout) */
    dscm_conv_args a = {.in = dout, .ldi = ldo, .ldo = ld_of(x, op->in[0])};
    a.out = grad_to(x, op->in[0], &a.add);
    if (a.out) run(x, op, DSCM_CONV_INPUT_GRAD, &a);
}

const op_class dscm_op_conv_class = {.forward = conv_forward,
                                     .backward = conv_backward,
                                     .reads_param = 1u,
                                     .scratch_bytes = conv_scratch};
