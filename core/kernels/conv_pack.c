/* Packing of convolution weights: from (Co,Ci,K,K), as checkpoints store them, to the forms that
 * the kernels read. A block of output channels is independent of the others, so a team may share
 * them; weights may be stored in 16 bits. */
#include <assert.h>
#include <string.h>

#include "core/kernels/conv_internal.h"
#include "core/kernels/simd/pack_simd.h"

#define CHUNK    16 /* input channels that are gathered at a time */
#define TAPS_MAX 9

typedef struct pack_job {
    const dscm_conv_kernels *k;
    const dscm_pack_kernels *p;
    conv_view v;
    size_t taps, out_step, in_step; /* of a weight: see conv_weights */
    bool reversed;
    const unsigned char *w;
    dscm_store type;
    size_t block;
    float *winograd, *direct; /* where they are wanted, or NULL */
} pack_job;

static const unsigned char *weight_at(const pack_job *j, size_t out, size_t in)
{
    size_t width = j->type == DSCM_STORE_F32 ? 4 : 2;
    return j->w + (out * j->out_step + in * j->in_step) * width;
}

/* tile (ins, taps, block) = the weights between inputs first_in.. and outputs first_out.. */
static void gather(const pack_job *j, float *tile, size_t first_out, size_t outs, size_t first_in,
                   size_t ins)
{
    float rows[DSCM_CONV_BLOCK_MAX * CHUNK * TAPS_MAX];
    size_t taps = j->taps, run = ins * taps;
    if (outs < j->block) memset(tile, 0, run * j->block * sizeof *tile);
    if (j->in_step == taps) { /* the inputs of an output follow each other */
        for (size_t o = 0; o < outs; o++)
            j->p->widen(rows + o * run, weight_at(j, first_out + o, first_in), run, j->type);
        j->p->transpose(tile, j->block, rows, run, outs, run);
        return;
    }
    for (size_t i = 0; i < ins; i++, tile += taps * j->block) { /* the outputs of an input do */
        j->p->widen(rows, weight_at(j, first_out, first_in + i), outs * taps, j->type);
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

static void pack_block(void *arg, size_t index, int worker)
{
    const pack_job *j = arg;
    float tile[DSCM_CONV_BLOCK_MAX * CHUNK * TAPS_MAX];
    size_t in_c = j->v.in_c, taps = j->taps, block = j->block, first = index * block;
    size_t outs = j->v.out_c - first < block ? j->v.out_c - first : block;
    (void)worker;
    for (size_t i = 0; i < in_c; i += CHUNK) {
        size_t ins = in_c - i < CHUNK ? in_c - i : CHUNK;
        gather(j, tile, first, outs, i, ins);
        for (size_t n = 0; n < ins; n++) {
            float *lines = tile + n * taps * block; /* (taps, block) */
            if (j->reversed) reverse_taps(lines, taps, block);
            if (j->winograd) /* (out blocks, in, taps, block) */
                memcpy(j->winograd + (index * in_c + i + n) * taps * block, lines,
                       taps * block * sizeof *lines);
            for (size_t t = 0; j->direct && t < taps; t++) /* (out blocks, taps, in, block) */
                memcpy(j->direct + ((index * taps + t) * in_c + i + n) * block, lines + t * block,
                       block * sizeof *lines);
        }
    }
}

static void pack_blocks(pack_job *j, size_t block, dscm_team *team)
{
    size_t blocks = (j->v.out_c + block - 1) / block;
    j->block = block;
    dscm_team_run(team, blocks, pack_block, j);
}

void dscm_conv_pack_from(const dscm_conv *plan, dscm_conv_pass pass, float *packed, const void *w,
                         dscm_store type, dscm_team *team)
{
    const dscm_conv_shape *s = &plan->shape;
    const dscm_conv_kernels *k = dscm_conv_kernels_of(plan->isa);
    conv_weights from = dscm_conv_weights(s, pass, NULL);
    pack_job job = {.k = k,
                    .p = dscm_pack_kernels_of(plan->isa),
                    .v = dscm_conv_view(s, pass),
                    .taps = (size_t)(s->kernel * s->kernel),
                    .out_step = from.out_step,
                    .in_step = from.in_step,
                    .reversed = from.reversed,
                    .w = w,
                    .type = type};
    assert(pass != DSCM_CONV_WEIGHT_GRAD);
    if (plan->algo[pass] == DSCM_CONV_PLAIN) {
        job.p->widen(packed, w, s->ci * s->co * job.taps, type);
        return;
    }
    if (plan->algo[pass] == DSCM_CONV_WINOGRAD) {
        job.winograd = packed;
        pack_blocks(&job, k->block, team);
        return;
    }
    job.direct = packed;
    pack_blocks(&job, dscm_conv_direct_block(k, &job.v), team);
}

void dscm_conv_pack(const dscm_conv *plan, dscm_conv_pass pass, float *packed, const float *w)
{
    dscm_conv_pack_from(plan, pass, packed, w, DSCM_STORE_F32, NULL);
}
