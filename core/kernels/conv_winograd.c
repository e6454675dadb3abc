/* Winograd convolution F(4x4,3x3), Lavin & Gray 2016: 4x4 outputs from 6x6 inputs with 36 products
 * instead of 144. Tiles of the whole batch form one list that is worked through in blocks; within a
 * block each of the 36 positions is one matrix product over channels. */
#include <string.h>

#include "core/base/memory.h"
#include "core/kernels/conv_internal.h"

#define POINTS 36
#define BLOCK_BYTES                                                                                \
    ((size_t)512 << 10) /* transformed tiles of a block: stay in the second-level cache */
#define TILES_MAX  ((size_t)112)
#define TILES_STEP ((size_t)14) /* rows of the widest register tile */

static size_t columns_of(const dscm_conv_kernels *k, size_t c)
{
    return (c + k->block - 1) / k->block * k->block;
}

size_t dscm_conv_winograd_floats(const dscm_conv_kernels *k, const conv_view *v)
{
    return POINTS * v->in_c * columns_of(k, v->out_c);
}

void dscm_conv_winograd_pack(const dscm_conv *plan, dscm_conv_pass pass, float *packed,
                             const float *w)
{
    const dscm_conv_kernels *k = dscm_conv_kernels_of(plan->isa);
    conv_view v = dscm_conv_view(&plan->shape, pass);
    conv_weights from = dscm_conv_weights(&plan->shape, pass, w);
    size_t columns = columns_of(k, v.out_c);
    float taps[9 * DSCM_CONV_BLOCK_MAX] = {0}; /* (9, block): the kernels of a block of outputs */
    /* U = G g Gᵀ, stored (36, out blocks, in, block) */
    for (size_t first = 0; first < v.out_c; first += k->block) {
        size_t count = v.out_c - first < k->block ? v.out_c - first : k->block;
        if (count < k->block) memset(taps, 0, sizeof taps);
        for (size_t i = 0; i < v.in_c; i++) {
            const float *at = from.w + first * from.out_step + i * from.in_step;
            for (size_t o = 0; o < count; o++, at += from.out_step)
                for (size_t t = 0; t < 9; t++)
                    taps[t * k->block + o] = at[from.reversed ? 8 - t : t];
            k->winograd_weights(packed + (first / k->block * v.in_c + i) * k->block,
                                v.in_c * columns, taps);
        }
    }
}

/* ---- blocks of tiles ----------------------------------------------------------------------------
 */
typedef struct tiling {
    size_t rows, columns; /* tiles of one image */
    size_t total;         /* tiles of the batch */
    size_t block;         /* tiles of a block */
    size_t blocks;
} tiling;

static tiling tile_up(size_t h, size_t w, size_t batch, size_t in_c, size_t out_c, int threads)
{
    tiling t = {.rows = (h + 3) / 4, .columns = (w + 3) / 4};
    t.total = batch * t.rows * t.columns;
    size_t fit = BLOCK_BYTES / (POINTS * (in_c + out_c) * sizeof(float)) / TILES_STEP * TILES_STEP;
    /* Where the weights outgrow the cache, a block must be long enough to pay for reading them. */
    if (POINTS * in_c * out_c * sizeof(float) > 2 * BLOCK_BYTES) fit = TILES_MAX;
    if (fit < TILES_STEP) fit = TILES_STEP;
    if (fit > TILES_MAX) fit = TILES_MAX;
    size_t share = (t.total + (size_t)threads - 1) / (size_t)threads;
    if (fit > share) fit = share;
    t.blocks = (t.total + fit - 1) / fit;
    t.block = (t.total + t.blocks - 1) / t.blocks; /* even blocks */
    return t;
}

static dscm_tile tile_at(const tiling *t, size_t index, size_t h, size_t w, size_t ld,
                         size_t channels, int margin)
{
    size_t in_image = index % (t->rows * t->columns);
    return (dscm_tile){.h = h,
                       .w = w,
                       .ld = ld,
                       .y = (ptrdiff_t)(in_image / t->columns * 4) - margin,
                       .x = (ptrdiff_t)(in_image % t->columns * 4) - margin,
                       .channels = channels};
}

static size_t image_of(const tiling *t, size_t index)
{
    return index / (t->rows * t->columns);
}

typedef struct block_job {
    const dscm_conv_kernels *k;
    const conv_view *v;
    const conv_args *a;
    tiling tiles;
    size_t floats; /* scratch of a thread */
} block_job;

static size_t block_floats(const conv_view *v, const tiling *t)
{
    return POINTS * t->block * (v->in_c + v->out_c);
}

size_t dscm_conv_winograd_scratch(const dscm_conv_kernels *k, const conv_view *v, size_t batch,
                                  int threads)
{
    (void)k;
    size_t most = 0; /* a smaller batch may be cut into other blocks: take the largest */
    for (size_t b = batch; b >= 1; b /= 2) {
        tiling t = tile_up(v->out_h, v->out_w, b, v->in_c, v->out_c, threads);
        if (t.block > most) most = t.block;
    }
    tiling t = {.block = most + TILES_STEP < TILES_MAX ? most + TILES_STEP : TILES_MAX};
    return dscm_arena_round(block_floats(v, &t) * sizeof(float)) * (size_t)threads;
}

static void run_block(void *arg, size_t index, int worker)
{
    const block_job *job = arg;
    const conv_view *v = job->v;
    const conv_args *a = job->a;
    const tiling *t = &job->tiles;
    size_t first = index * t->block;
    size_t count = t->total - first < t->block ? t->total - first : t->block;
    size_t in_step = count * v->in_c, out_step = count * v->out_c;
    float *data = (float *)a->scratch + (size_t)worker * job->floats,
          *products = data + POINTS * in_step;
    for (size_t i = 0; i < count; i++) {
        dscm_tile tile = tile_at(t, first + i, v->in_h, v->in_w, a->ldi, v->in_c, 1);
        const float *image = a->in + image_of(t, first + i) * v->in_h * v->in_w * a->ldi;
        job->k->winograd_input(data + i * v->in_c, in_step, image, &tile);
    }
    for (size_t p = 0; p < POINTS; p++) {
        dscm_multiply m = {.out = products + p * out_step,
                           .ldo = v->out_c,
                           .in = data + p * in_step,
                           .in_step = v->in_c,
                           .segs = 1,
                           .k = v->in_c,
                           .w = a->packed + p * v->in_c * columns_of(job->k, v->out_c),
                           .pixels = count,
                           .cols = v->out_c};
        job->k->multiply(&m);
    }
    for (size_t i = 0; i < count; i++) {
        dscm_tile tile = tile_at(t, first + i, v->out_h, v->out_w, a->ldo, v->out_c, 0);
        size_t pixel = image_of(t, first + i) * v->out_h * v->out_w;
        job->k->winograd_output(a->out + pixel * a->ldo, products + i * v->out_c, out_step, &tile,
                                a->bias, a->residual ? a->residual + pixel * a->ldr : NULL, a->ldr,
                                a->add);
    }
}

void dscm_conv_winograd_run(const dscm_conv_kernels *k, const conv_view *v, const conv_args *a)
{
    int threads = dscm_team_size(a->team);
    block_job job = {.k = k,
                     .v = v,
                     .a = a,
                     .tiles = tile_up(v->out_h, v->out_w, a->batch, v->in_c, v->out_c, threads)};
    job.floats = dscm_arena_round(block_floats(v, &job.tiles) * sizeof(float)) / sizeof(float);
    dscm_team_run(a->team, job.tiles.blocks, run_block, &job);
}

/* ---- weight gradient: dg = Gᵀ [Σ_tiles (Bᵀ d B) ⊙ (A dY Aᵀ)] G ----------------------------------
 */
#define GRAD_TILES                                                                                 \
    ((size_t)64) /* tiles of a block: long sums, so that accumulators are revisited rarely */

typedef struct grad_job {
    const dscm_conv_kernels *k;
    const dscm_conv_shape *s;
    const float *dout, *in;
    size_t ldo, ldi;
    tiling tiles;
    size_t first, count; /* of the block at hand */
    float *data, *grads; /* (36, count, Ci), (36, count, Co) */
    float *acc;          /* (36, Ci, Co) */
} grad_job;

size_t dscm_conv_winograd_grad_scratch(const dscm_conv_kernels *k, const dscm_conv_shape *s,
                                       size_t batch)
{
    (void)k;
    (void)batch;
    return POINTS * (s->ci * s->co + GRAD_TILES * (s->ci + s->co)) * sizeof(float);
}

static void grad_transform(void *arg, size_t i, int worker)
{
    const grad_job *job = arg;
    const dscm_conv_shape *s = job->s;
    size_t index = job->first + i, image = image_of(&job->tiles, index) * s->h * s->w;
    (void)worker;
    dscm_tile tile = tile_at(&job->tiles, index, s->h, s->w, job->ldi, s->ci, 1);
    job->k->winograd_input(job->data + i * s->ci, job->count * s->ci, job->in + image * job->ldi,
                           &tile);
    tile = tile_at(&job->tiles, index, s->h, s->w, job->ldo, s->co, 0);
    job->k->winograd_output_grad(job->grads + i * s->co, job->count * s->co,
                                 job->dout + image * job->ldo, &tile);
}

static void grad_point(void *arg, size_t p, int worker)
{
    const grad_job *job = arg;
    const dscm_conv_shape *s = job->s;
    (void)worker;
    dscm_outer m = {.acc = job->acc + p * s->ci * s->co,
                    .ldacc = s->co,
                    .a = job->data + p * job->count * s->ci,
                    .a_step = s->ci,
                    .b = job->grads + p * job->count * s->co,
                    .b_step = s->co,
                    .lines = 1,
                    .pixels = job->count,
                    .rows = s->ci,
                    .cols = s->co};
    job->k->outer(&m);
}

/* dw += Gᵀ M G */
static void grad_finish(const grad_job *job, float *dw)
{
    const dscm_conv_shape *s = job->s;
    float taps[9 * DSCM_CONV_BLOCK_MAX];
    for (size_t i = 0; i < s->ci; i++)
        for (size_t first = 0; first < s->co; first += job->k->vector) {
            job->k->winograd_weight_grad(taps, job->acc + i * s->co + first, s->ci * s->co);
            float *at = dw + (first * s->ci + i) * 9;
            for (size_t o = 0; o < job->k->vector; o++, at += 9 * s->ci)
                for (size_t t = 0; t < 9; t++) at[t] += taps[t * job->k->vector + o];
        }
}

void dscm_conv_winograd_weight_grad(const dscm_conv *plan, float *dw, const float *dout, size_t ldo,
                                    const float *in, size_t ldi, size_t batch, void *scratch,
                                    dscm_team *team)
{
    const dscm_conv_shape *s = &plan->shape;
    grad_job job = {.k = dscm_conv_kernels_of(plan->isa),
                    .s = s,
                    .dout = dout,
                    .in = in,
                    .ldo = ldo,
                    .ldi = ldi,
                    .tiles = {.rows = (s->h + 3) / 4, .columns = (s->w + 3) / 4},
                    .acc = scratch};
    job.data = job.acc + POINTS * s->ci * s->co;
    size_t total = batch * job.tiles.rows * job.tiles.columns;
    memset(job.acc, 0, POINTS * s->ci * s->co * sizeof(float));
    for (job.first = 0; job.first < total; job.first += job.count) {
        job.count = total - job.first < GRAD_TILES ? total - job.first : GRAD_TILES;
        job.grads = job.data + POINTS * job.count * s->ci;
        dscm_team_run(team, job.count, grad_transform, &job);
        dscm_team_run(team, POINTS, grad_point, &job);
    }
    grad_finish(&job, dw);
}
