/* Packing of convolution weights: from (Co,Ci,K,K), as checkpoints store them, to the forms that
 * the kernels read. A block of output channels is independent of the others, so a team may share
 * them; weights may be stored in 16 bits. */
#include <assert.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/kernels/conv_internal.h"

#define RUN_MAX 144 /* weights of an output that are gathered at a time: 16 inputs of 9 taps */

static const unsigned char *weight_at(const conv_packer *j, size_t out, size_t in)
{
    size_t width = j->type == DSCM_STORE_F32 ? 4 : 2;
    return j->w + (out * j->out_step + in * j->in_step) * width;
}

/* Weights come from a mapped file in short pieces, one for each output: they are asked for a step
 * ahead. */
static void prefetch_run(const conv_packer *j, size_t out, size_t in, size_t run)
{
    const unsigned char *from = weight_at(j, out, in);
    size_t bytes = run * (j->type == DSCM_STORE_F32 ? 4 : 2);
    for (size_t b = 0; b < bytes; b += DSCM_ALIGN) __builtin_prefetch(from + b, 0, 2);
}

/* An input gradient turns the kernels round; where the forward pass strides, parities order them. */
static size_t tap_place(const conv_packer *j, size_t tap)
{
    if (j->view.dilate > 1) return dscm_conv_strided_place(j->view.kernel, tap);
    return j->reversed ? j->taps - 1 - tap : tap;
}

/* Where the taps of inputs that follow each other go, counted from the first input's place. */
typedef struct layout {
    size_t at[RUN_MAX];
    size_t in_step; /* floats between two inputs */
} layout;

static layout layout_of(const conv_packer *j, size_t tap_step, size_t in_step)
{
    layout l = {.in_step = in_step};
    for (size_t i = 0, n = 0; n + j->taps <= RUN_MAX; i++)
        for (size_t t = 0; t < j->taps; t++, n++)
            l.at[n] = i * in_step + tap_place(j, t) * tap_step;
    return l;
}

/* The weights between inputs first_in.. and block `index` of the outputs. */
static void pack_inputs(const conv_packer *j, float *to, const layout *l, size_t index,
                        size_t first_in, size_t ins)
{
    size_t first = index * j->block, left = j->view.out_c - first, most = RUN_MAX / j->taps;
    size_t outs = left < j->block ? left : j->block;
    for (size_t i = 0, some; i < ins; i += some, to += some * l->in_step) {
        some = ins - i < most ? ins - i : most;
        size_t run = some * j->taps;
        for (size_t n = 0; outs < j->block && n < run; n++)
            memset(to + l->at[n], 0, j->block * sizeof *to);
        const unsigned char *from = weight_at(j, first, first_in + i);
        if (j->in_step == j->taps) { /* the inputs of an output follow each other */
            for (size_t o = 0; o < outs && first_in + i + 2 * some <= j->view.in_c; o++)
                prefetch_run(j, first + o, first_in + i + some, run);
            j->pack->scatter(to, l->at, from, j->out_step, outs, run, j->type);
            continue;
        }
        for (size_t n = 0; n < some; n++) { /* the outputs of an input do */
            const unsigned char *line = weight_at(j, first, first_in + i + n);
            if (j->taps == 1)
                j->pack->widen(to + n * l->in_step, line, outs, j->type);
            else
                j->pack->scatter(to + n * l->in_step, l->at, line, j->taps, outs, j->taps, j->type);
        }
    }
}

conv_packer dscm_conv_packer(const dscm_conv *plan, dscm_conv_pass pass, const void *w,
                             dscm_store type)
{
    conv_weights from = dscm_conv_weights(&plan->shape, pass, NULL);
    conv_packer j = {.kernels = dscm_conv_kernels_of(plan->isa),
                     .pack = dscm_pack_kernels_of(plan->isa),
                     .view = dscm_conv_view(&plan->shape, pass),
                     .taps = (size_t)(plan->shape.kernel * plan->shape.kernel),
                     .out_step = from.out_step,
                     .in_step = from.in_step,
                     .reversed = from.reversed,
                     .w = w,
                     .type = type};
    j.block = plan->algo[pass] == DSCM_CONV_WINOGRAD ? j.kernels->block
                                                     : dscm_conv_direct_block(j.kernels, &j.view);
    return j;
}

void dscm_conv_pack_part(const conv_packer *j, float *to, size_t index, size_t first_in, size_t ins)
{
    layout l = layout_of(j, ins * j->block, j->block);
    pack_inputs(j, to, &l, index, first_in, ins);
}

void dscm_conv_pack_inputs(const conv_packer *j, float *to, size_t index, size_t first_in,
                           size_t ins)
{
    layout l = layout_of(j, j->block, j->taps * j->block);
    pack_inputs(j, to, &l, index, first_in, ins);
}

typedef struct pack_job {
    conv_packer from;
    size_t chunk;
    float *packed;
} pack_job;

static void pack_direct(void *arg, size_t index, int worker)
{
    const pack_job *job = arg;
    const conv_packer *j = &job->from;
    size_t in_c = j->view.in_c;
    (void)worker;
    for (size_t i = 0; i < in_c; i += job->chunk)
        dscm_conv_pack_part(j, job->packed + (index * in_c + i) * j->taps * j->block, index, i,
                            in_c - i < job->chunk ? in_c - i : job->chunk);
}

/* (out blocks, in, taps, block) */
static void pack_winograd(void *arg, size_t index, int worker)
{
    const pack_job *job = arg;
    const conv_packer *j = &job->from;
    size_t in_c = j->view.in_c;
    (void)worker;
    dscm_conv_pack_inputs(j, job->packed + index * in_c * j->taps * j->block, index, 0, in_c);
}

void dscm_conv_pack_from(const dscm_conv *plan, dscm_conv_pass pass, float *packed, const void *w,
                         dscm_store type, dscm_team *team)
{
    pack_job job = {.from = dscm_conv_packer(plan, pass, w, type), .packed = packed};
    const conv_packer *j = &job.from;
    size_t blocks = (j->view.out_c + j->block - 1) / j->block;
    assert(pass != DSCM_CONV_WEIGHT_GRAD);
    job.chunk = dscm_conv_direct_chunk(&j->view);
    if (plan->algo[pass] == DSCM_CONV_PLAIN)
        j->pack->widen(packed, w, plan->shape.ci * plan->shape.co * j->taps, type);
    else
        dscm_team_run(team, blocks,
                      plan->algo[pass] == DSCM_CONV_WINOGRAD ? pack_winograd : pack_direct, &job);
}

void dscm_conv_pack(const dscm_conv *plan, dscm_conv_pass pass, float *packed, const float *w)
{
    dscm_conv_pack_from(plan, pass, packed, w, DSCM_STORE_F32, NULL);
}
