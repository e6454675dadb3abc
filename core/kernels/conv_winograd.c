/* Winograd convolution F(4x4,3x3), Lavin & Gray 2016: 4x4 outputs from 6x6 inputs with 36 products
 * instead of 144. Tiles of the whole batch form one list that is worked through in blocks; within a
 * block each of the 36 positions is one matrix product over channels. */
#include <string.h>

#include "core/base/memory.h"
#include "core/kernels/conv_internal.h"

#define POINTS    DSCM_WINOGRAD_POINTS
#define LINE      DSCM_WINOGRAD_LINE
#define TILE      DSCM_WINOGRAD_TILE
#define MINUS_ONE ((size_t)3) /* number of that point on its line */
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
    return 9 * v->in_c * columns_of(k, v->out_c);
}

/* ---- tiles ----
 *
 * An axis of n outputs is cut into full tiles of 4 and perhaps one smaller at the end, which
 * multiplies at fewer points. Tiles are listed for the whole batch in the order (small, full),
 * (full, full), (full, small), (small, small) of rows x columns: then those that need a point are
 * consecutive. */
typedef struct axis {
    size_t full, small; /* tiles of 4; outputs of the small tile, 0: none */
} axis;

enum { SMALL_FULL, FULL_FULL, FULL_SMALL, SMALL_SMALL, TILE_CLASSES };

typedef struct tiling {
    axis y, x;
    size_t counts[TILE_CLASSES]; /* tiles of a class in one image */
    size_t ends[TILE_CLASSES];   /* in the list of the batch */
    size_t total;
    bool doubled;         /* see skips */
    size_t block, blocks; /* tiles of a block */
    size_t groups;        /* parts into which the output columns are cut */
} tiling;

static tiling tile_up(size_t h, size_t w, size_t batch, bool doubled)
{
    tiling t = {
        .y = {h / TILE, h % TILE}, .x = {w / TILE, w % TILE}, .doubled = doubled, .groups = 1};
    t.counts[SMALL_FULL] = t.y.small ? t.x.full : 0;
    t.counts[FULL_FULL] = t.y.full * t.x.full;
    t.counts[FULL_SMALL] = t.x.small ? t.y.full : 0;
    t.counts[SMALL_SMALL] = t.y.small && t.x.small;
    for (int c = 0; c < TILE_CLASSES; c++) t.ends[c] = t.total += batch * t.counts[c];
    return t;
}

/* The tile of a place in the list, and its image. */
static dscm_tile tile_at(const tiling *t, size_t index, size_t *image)
{
    int c = 0;
    while (index >= t->ends[c]) c++;
    if (c) index -= t->ends[c - 1];
    *image = index / t->counts[c];
    index %= t->counts[c];
    bool small_y = c == SMALL_FULL || c == SMALL_SMALL;
    bool small_x = c == FULL_SMALL || c == SMALL_SMALL;
    size_t columns = small_x ? 1 : t->x.full;
    return (dscm_tile){.y = TILE * (small_y ? t->y.full : index / columns),
                       .x = TILE * (small_x ? t->x.full : index % columns),
                       .rows = small_y ? (int)t->y.small : TILE,
                       .columns = small_x ? (int)t->x.small : TILE};
}

/* Does the small tile of an axis multiply at point i? */
static bool reaches(const axis *a, size_t i)
{
    return i < a->small + 2;
}

/* Is nothing multiplied at point p? A line of doubled pixels has the factor 1 + z and vanishes at
 * z = -1; in an input gradient what that point gives to one of two pixels it takes from the other.
 * 11 of the 36 products are left out. */
static bool skips(const tiling *t, size_t p)
{
    return t->doubled && (p / LINE == MINUS_ONE || p % LINE == MINUS_ONE);
}

/* The tiles of a block, [*from, *to) counted from its first, that multiply at point p. */
static void tiles_of_point(const tiling *t, size_t p, size_t first, size_t count, size_t *from,
                           size_t *to)
{
    bool y = reaches(&t->y, p / LINE), x = reaches(&t->x, p % LINE);
    size_t low = y ? 0 : t->ends[SMALL_FULL];
    size_t high = y && x ? t->total : x ? t->ends[FULL_SMALL] : t->ends[FULL_FULL];
    *from = low < first ? 0 : low - first < count ? low - first : count;
    *to = high < first ? 0 : high - first < count ? high - first : count;
    if (*to < *from) *to = *from;
}

/* ---- blocks of tiles ---- */
/* Most tiles of a block: as many as keep their transforms in cache. */
static size_t tiles_that_fit(const conv_view *v)
{
    size_t fit = BLOCK_BYTES / (POINTS * (v->in_c + v->out_c) * sizeof(float));
    fit = fit / TILES_STEP * TILES_STEP;
    /* Where the weights outgrow the cache, a block must be long enough to pay for reading them. */
    if (POINTS * v->in_c * v->out_c * sizeof(float) > 2 * BLOCK_BYTES) fit = TILES_MAX;
    return fit < TILES_STEP ? TILES_STEP : fit > TILES_MAX ? TILES_MAX : fit;
}

/* Cuts the work into even blocks; for a team with few tiles into groups of columns instead, so that
 * each worker reads a part of the weights only. */
static void cut_up(tiling *t, const dscm_conv_kernels *k, const conv_view *v, int threads)
{
    size_t workers = (size_t)threads, columns = (v->out_c + k->block - 1) / k->block;
    size_t fit = tiles_that_fit(v), share = (t->total + workers - 1) / workers;
    if (t->total < workers * TILES_STEP)
        t->groups = columns < workers ? columns : workers;
    else if (fit > share)
        fit = share;
    t->blocks = (t->total + fit - 1) / fit;
    t->block = (t->total + t->blocks - 1) / t->blocks;
}

typedef struct block_job {
    const dscm_conv_kernels *k;
    const conv_view *v;
    const dscm_conv_args *a;
    const conv_packer *packer;
    tiling tiles;
    float *workers;        /* scratch of the workers, `floats` for each */
    size_t floats, blocks; /* blocks of columns */
    float *shared;         /* (36, blocks, in, block) transformed weights, or NULL: see below */
    size_t shared_step;
} block_job;

/* Floats from a point's tiles to the next point's: an odd number of cache lines, since the 36
 * addresses of a tile must not fall into the same set of the first-level cache. */
static size_t point_step(size_t tiles, size_t channels)
{
    size_t line = DSCM_ALIGN / sizeof(float);
    return ((tiles * channels + line - 1) / line | 1) * line;
}

static size_t block_floats(const conv_view *v, size_t tiles)
{
    return POINTS * (point_step(tiles, v->in_c) + point_step(tiles, v->out_c));
}

/* ---- weights ----
 *
 * They stay as 9 floats per pair of channels and are transformed in every call: 36 floats per pair
 * would be read from far caches or memory, and that takes longer. Where all tiles are one block, a
 * worker transforms one block of columns, uses it up and goes on with the next, within its
 * second-level cache. Several blocks of tiles share what is transformed before them. */
static size_t chunk_floats(const dscm_conv_kernels *k, const conv_view *v)
{
    return POINTS * point_step(v->in_c, k->block);
}

static size_t shared_floats(const dscm_conv_kernels *k, const conv_view *v)
{
    return POINTS * point_step(v->in_c, columns_of(k, v->out_c));
}

#define SHARE_INPUTS ((size_t)32) /* that are transformed at a time */

/* The weights (ins, 9, block) of a block of columns, packed into `part` if they are not. */
static const float *taps_of(const block_job *job, float *part, size_t index, size_t first_in,
                            size_t ins)
{
    if (job->a->packed)
        return job->a->packed + (index * job->v->in_c + first_in) * 9 * job->k->block;
    dscm_conv_pack_inputs(job->packer, part, index, first_in, ins);
    return part;
}

#define TAPS_AHEAD ((size_t)4) /* inputs */

/* Asks for taps before they are needed, also those behind the end of a part, where the next begins:
 * they come from far caches or memory, since everything else of a pass was used after them. */
static void prefetch_taps(const float *taps, size_t count)
{
    for (size_t i = 0; i < count; i += DSCM_ALIGN / sizeof *taps)
        __builtin_prefetch((const char *)taps + i * sizeof *taps);
}

/* u (36, in, block), a point `step` after the last: weights of block `index` of the columns and of
 * inputs from..to-1. */
static void transform_weights(const block_job *job, float *u, size_t step, size_t index,
                              size_t from, size_t to)
{
    float part[SHARE_INPUTS * 9 * DSCM_CONV_BLOCK_MAX];
    size_t block = job->k->block;
    for (size_t first = from, ins; first < to; first += ins) {
        ins = to - first < SHARE_INPUTS ? to - first : SHARE_INPUTS;
        const float *taps = taps_of(job, part, index, first, ins);
        for (size_t i = 0; i < ins; i++) {
            if (job->a->packed) prefetch_taps(taps + (i + TAPS_AHEAD) * 9 * block, 9 * block);
            job->k->winograd->weights(u + (first + i) * block, step, taps + i * 9 * block);
        }
    }
}

static void share_weights(void *arg, size_t index, int worker)
{
    const block_job *job = arg;
    size_t in_c = job->v->in_c, parts = (in_c + SHARE_INPUTS - 1) / SHARE_INPUTS;
    size_t block = index / parts, from = index % parts * SHARE_INPUTS;
    size_t to = from + SHARE_INPUTS < in_c ? from + SHARE_INPUTS : in_c;
    (void)worker;
    transform_weights(job, job->shared + block * in_c * job->k->block, job->shared_step, block,
                      from, to);
}

/* ---- a block of tiles ---- */
static void transform_inputs(const block_job *job, float *data, size_t step, size_t first,
                             size_t count)
{
    const conv_view *v = job->v;
    for (size_t i = 0; i < count; i++) {
        size_t image;
        dscm_tile tile = tile_at(&job->tiles, first + i, &image);
        tile.h = v->in_h;
        tile.w = v->in_w;
        tile.ld = job->a->ldi;
        tile.channels = v->in_c;
        job->k->winograd->input(data + i * v->in_c, step,
                                job->a->in + image * v->in_h * v->in_w * tile.ld, &tile);
    }
}

static void transform_outputs(const block_job *job, const float *products, size_t step,
                              size_t first, size_t count, size_t column, size_t columns)
{
    const conv_view *v = job->v;
    const dscm_conv_args *a = job->a;
    for (size_t i = 0; i < count; i++) {
        size_t image;
        dscm_tile tile = tile_at(&job->tiles, first + i, &image);
        tile.h = v->out_h;
        tile.w = v->out_w;
        tile.ld = a->ldo;
        tile.channels = columns;
        size_t pixel = image * v->out_h * v->out_w;
        job->k->winograd->output(a->out + pixel * a->ldo + column, products + i * columns, step,
                                 &tile, a->bias ? a->bias + column : NULL,
                                 a->residual ? a->residual + pixel * a->ldr + column : NULL, a->ldr,
                                 a->add);
    }
}

/* A block of tiles: how many, from which, and its transformed inputs. */
typedef struct tile_block {
    size_t first, count;
    const float *data;
    size_t data_step;
    float *products;
} tile_block;

/* Outputs column.. of a block; u holds the transformed weights of these columns. */
static void make_columns(const block_job *job, const tile_block *b, const float *u, size_t u_step,
                         size_t column, size_t columns)
{
    const conv_view *v = job->v;
    size_t step = point_step(b->count, columns);
    for (size_t p = 0; p < POINTS; p++) {
        size_t from, to;
        if (skips(&job->tiles, p)) {
            memset(b->products + p * step, 0, b->count * columns * sizeof(float));
            continue;
        }
        tiles_of_point(&job->tiles, p, b->first, b->count, &from, &to);
        dscm_multiply m = {.out = b->products + p * step + from * columns,
                           .ldo = columns,
                           .in = b->data + p * b->data_step + from * v->in_c,
                           .in_step = v->in_c,
                           .segs = 1,
                           .k = v->in_c,
                           .w = u + p * u_step,
                           .pixels = to - from,
                           .cols = columns};
        job->k->multiply(&m);
    }
    transform_outputs(job, b->products, step, b->first, b->count, column, columns);
}

static void run_block(void *arg, size_t index, int worker)
{
    const block_job *job = arg;
    const conv_view *v = job->v;
    const tiling *t = &job->tiles;
    size_t block = job->k->block, group = index % t->groups;
    size_t from = group * job->blocks / t->groups, to = (group + 1) * job->blocks / t->groups;
    float *data = job->workers + (size_t)worker * job->floats;
    tile_block b = {.first = index / t->groups * t->block, .data = data};
    b.count = t->total - b.first < t->block ? t->total - b.first : t->block;
    b.data_step = point_step(b.count, v->in_c);
    b.products = data + POINTS * b.data_step;
    transform_inputs(job, data, b.data_step, b.first, b.count);
    size_t chunk = job->shared ? to - from : 1;
    size_t step = job->shared ? job->shared_step : point_step(v->in_c, block);
    float *own = data + job->floats - chunk_floats(job->k, v);
    for (; from < to; from += chunk) {
        size_t count = to - from < chunk ? to - from : chunk, column = from * block;
        size_t last = column + count * block;
        float *u = job->shared ? job->shared + from * v->in_c * block : own;
        if (!job->shared) transform_weights(job, u, step, from, 0, v->in_c);
        make_columns(job, &b, u, step, column, (last < v->out_c ? last : v->out_c) - column);
    }
}

/* Floats of a worker, for blocks of `tiles`; with `own` it transforms weights for itself. */
static size_t worker_floats(const dscm_conv_kernels *k, const conv_view *v, size_t tiles, bool own)
{
    size_t floats = block_floats(v, tiles) + (own ? chunk_floats(k, v) : 0);
    return dscm_arena_round(floats * sizeof(float)) / sizeof(float);
}

size_t dscm_conv_winograd_scratch(const dscm_conv_kernels *k, const conv_view *v, size_t batch,
                                  int threads)
{
    tiling t = tile_up(v->out_h, v->out_w, batch, v->doubled);
    cut_up(&t, k, v, threads);
    /* No block is longer than what fits, nor than the list: so it is for every smaller batch. */
    size_t fit = tiles_that_fit(v), most = t.total < fit ? t.total : fit;
    size_t own = worker_floats(k, v, most, true) * (size_t)threads;
    size_t shared = worker_floats(k, v, most, false) * (size_t)threads + shared_floats(k, v);
    return (t.blocks > 1 && shared > own ? shared : own) * sizeof(float);
}

void dscm_conv_winograd_run(const dscm_conv_kernels *k, const conv_view *v, const dscm_conv_args *a,
                            const conv_packer *packer)
{
    block_job job = {.k = k,
                     .v = v,
                     .a = a,
                     .packer = packer,
                     .tiles = tile_up(v->out_h, v->out_w, a->batch, v->doubled),
                     .workers = a->scratch,
                     .blocks = columns_of(k, v->out_c) / k->block};
    cut_up(&job.tiles, k, v, dscm_team_size(a->team));
    bool own = job.tiles.blocks == 1;
    job.floats = worker_floats(k, v, job.tiles.block, own);
    if (!own) {
        job.shared = job.workers + job.floats * (size_t)dscm_team_size(a->team);
        job.shared_step = point_step(v->in_c, columns_of(k, v->out_c));
        size_t parts = (v->in_c + SHARE_INPUTS - 1) / SHARE_INPUTS;
        dscm_team_run(a->team, job.blocks * parts, share_weights, &job);
    }
    dscm_team_run(a->team, job.tiles.blocks * job.tiles.groups, run_block, &job);
}

/* ---- weight gradient: dg = Gᵀ [Σ_tiles (Bᵀ d B) ⊙ (A dY Aᵀ)] G ----
 *
 * A third of the points at a time, so that the transforms of many tiles stay in the second-level
 * cache: the accumulators come from farther away and must not be visited for few tiles. */
#define PAIRS       DSCM_WINOGRAD_PAIRS
#define PAIR_POINTS (2 * LINE)
#define GRAD_BYTES  ((size_t)320 << 10) /* transformed tiles of a block, of a pair's points */
#define GRAD_LEAST  ((size_t)32)        /* tiles of a block */
#define GRAD_MOST   ((size_t)128)
/* At point (1,1) the transform of a tile's output gradients is their sum. */
#define SUM_PAIR  1
#define SUM_INDEX 1

typedef struct grad_job {
    const dscm_conv_kernels *k;
    const dscm_conv_shape *s;
    const float *dout, *in;
    size_t ldo, ldi;
    tiling tiles;
    int pair;
    size_t first, count; /* of the block at hand */
    float *data, *grads; /* (12, count, Ci), (12, count, Co) */
    size_t data_step, grads_step;
    float *acc; /* (36, Ci, Co) */
} grad_job;

/* Most tiles of a block. */
static size_t grad_tiles(const dscm_conv_shape *s)
{
    size_t fit = GRAD_BYTES / (PAIR_POINTS * (s->ci + s->co) * sizeof(float));
    return fit < GRAD_LEAST ? GRAD_LEAST : fit > GRAD_MOST ? GRAD_MOST : fit;
}

size_t dscm_conv_winograd_grad_scratch(const dscm_conv_shape *s)
{
    size_t tiles = grad_tiles(s);
    return PAIR_POINTS * (point_step(tiles, s->ci) + point_step(tiles, s->co)) * sizeof(float);
}

static void grad_transform(void *arg, size_t i, int worker)
{
    const grad_job *job = arg;
    const dscm_conv_shape *s = job->s;
    size_t image;
    dscm_tile tile = tile_at(&job->tiles, job->first + i, &image);
    (void)worker;
    image *= s->h * s->w;
    tile.h = s->h;
    tile.w = s->w;
    tile.ld = job->ldi;
    tile.channels = s->ci;
    job->k->winograd->input_pair(job->data + i * s->ci, job->data_step, job->in + image * job->ldi,
                                 &tile, job->pair);
    tile.ld = job->ldo;
    tile.channels = s->co;
    job->k->winograd->output_grad_pair(job->grads + i * s->co, job->grads_step,
                                       job->dout + image * job->ldo, &tile, job->pair);
}

static void grad_point(void *arg, size_t i, int worker)
{
    const grad_job *job = arg;
    const dscm_conv_shape *s = job->s;
    (void)worker;
    size_t p = LINE * (size_t)DSCM_WINOGRAD_PAIR_LINE(job->pair, (int)(i / LINE)) + i % LINE;
    size_t from, to;
    tiles_of_point(&job->tiles, p, job->first, job->count, &from, &to);
    dscm_outer m = {.acc = job->acc + p * s->ci * s->co,
                    .ldacc = s->co,
                    .a = job->data + i * job->data_step + from * s->ci,
                    .a_step = s->ci,
                    .b = job->grads + i * job->grads_step + from * s->co,
                    .b_step = s->co,
                    .lines = 1,
                    .pixels = to - from,
                    .rows = s->ci,
                    .cols = s->co};
    if (to > from && !skips(&job->tiles, p)) job->k->outer(&m);
}

void dscm_conv_winograd_weight_grad(const dscm_conv *plan, float *sums, float *db,
                                    const float *dout, size_t ldo, const float *in, size_t ldi,
                                    size_t batch, void *scratch, dscm_team *team)
{
    const dscm_conv_shape *s = &plan->shape;
    grad_job job = {.k = dscm_conv_kernels_of(plan->isa),
                    .s = s,
                    .dout = dout,
                    .in = in,
                    .ldo = ldo,
                    .ldi = ldi,
                    .tiles = tile_up(s->h, s->w, batch, s->doubled),
                    .data = scratch,
                    .acc = sums};
    size_t total = job.tiles.total, most = grad_tiles(s), blocks = (total + most - 1) / most;
    job.data_step = point_step(most, s->ci);
    job.grads_step = point_step(most, s->co);
    job.grads = job.data + PAIR_POINTS * job.data_step;
    for (size_t b = 0; b < blocks; b++) {
        job.first = b * total / blocks;
        job.count = (b + 1) * total / blocks - job.first;
        for (job.pair = 0; job.pair < PAIRS; job.pair++) {
            dscm_team_run(team, job.count, grad_transform, &job);
            dscm_team_run(team, PAIR_POINTS, grad_point, &job);
            if (db && job.pair == SUM_PAIR)
                job.k->column_sums(db, job.grads + SUM_INDEX * job.grads_step, s->co, job.count,
                                   s->co);
        }
    }
}

/* dw += Gᵀ M G. A vector of outputs at a time, so that each is written in one line. */
void dscm_conv_winograd_grad_finish(const dscm_conv *plan, float *dw, const float *sums)
{
    const dscm_conv_shape *s = &plan->shape;
    const dscm_conv_kernels *k = dscm_conv_kernels_of(plan->isa);
    float taps[9 * DSCM_CONV_BLOCK_MAX];
    for (size_t first = 0; first < s->co; first += k->vector)
        for (size_t i = 0; i < s->ci; i++) {
            k->winograd->weight_grad(taps, sums + i * s->co + first, s->ci * s->co);
            float *at = dw + (first * s->ci + i) * 9;
            for (size_t o = 0; o < k->vector; o++, at += 9 * s->ci)
                for (size_t t = 0; t < 9; t++) at[t] += taps[t * k->vector + o];
        }
}
