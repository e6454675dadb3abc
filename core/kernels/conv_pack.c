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

/* tile (ins, taps, block) = the weights between inputs first_in.. and block `index` of the outputs.
 */
static void gather(const conv_packer *j, float *tile, size_t index, size_t first_in, size_t ins)
{
    size_t first_out = index * j->block, left = j->view.out_c - first_out;
    size_t outs = left < j->block ? left : j->block;
    float rows[DSCM_CONV_BLOCK_MAX * RUN_MAX];
    size_t taps = j->taps, run = ins * taps;
    if (outs < j->block) memset(tile, 0, run * j->block * sizeof *tile);
    if (j->in_step == taps) { /* the inputs of an output follow each other */
        for (size_t o = 0; o < outs; o++) {
            if (first_in + 2 * ins <= j->view.in_c)
                prefetch_run(j, first_out + o, first_in + ins, run);
            j->pack->widen(rows + o * run, weight_at(j, first_out + o, first_in), run, j->type);
        }
        j->pack->transpose(tile, j->block, rows, run, outs, run);
        return;
    }
    for (size_t i = 0; i < ins; i++, tile += taps * j->block) { /* the outputs of an input do */
        j->pack->widen(rows, weight_at(j, first_out, first_in + i), outs * taps, j->type);
        for (size_t t = 0; t < taps; t++)
            for (size_t o = 0; o < outs; o++) tile[t * j->block + o] = rows[o * taps + t];
    }
}

/* Turns the taps of one input round: an input gradient is a convolution with rotated kernels. */
static void reverse_taps(float *lines, size_t taps, size_t block)
{
    for (size_t a = 0, b = taps - 1; a < b; a++, b--)
        for (size_t o = 0; o < block; o++) {
            float held = lines[a * block + o];
            lines[a * block + o] = lines[b * block + o];
            lines[b * block + o] = held;
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

static size_t inputs_at_once(const conv_packer *j, size_t left)
{
    size_t most = RUN_MAX / j->taps;
    return left < most ? left : most;
}

void dscm_conv_pack_part(const conv_packer *j, float *to, size_t index, size_t first_in, size_t ins)
{
    float tile[DSCM_CONV_BLOCK_MAX * RUN_MAX];
    size_t taps = j->taps, block = j->block, some;
    for (size_t i = 0; i < ins; i += some) {
        some = inputs_at_once(j, ins - i);
        gather(j, taps == 1 ? to + i * block : tile, index, first_in + i, some);
        for (size_t n = 0; taps > 1 && n < some; n++) {
            float *lines = tile + n * taps * block; /* (taps, block) */
            if (j->reversed) reverse_taps(lines, taps, block);
            for (size_t t = 0; t < taps; t++)
                memcpy(to + (t * ins + i + n) * block, lines + t * block, block * sizeof *lines);
        }
    }
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
    size_t in_c = j->view.in_c, step = j->taps * j->block;
    (void)worker;
    for (size_t i = 0, some; i < in_c; i += some) {
        float *to = job->packed + (index * in_c + i) * step;
        some = inputs_at_once(j, in_c - i);
        gather(j, to, index, i, some);
        for (size_t n = 0; j->reversed && n < some; n++)
            reverse_taps(to + n * step, j->taps, j->block);
    }
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
