/* Direct convolution: a band of the padded image is copied, then every output row is one matrix
 * product of kernel rows (3 x Ci consecutive floats) with packed weights. */
#include <string.h>

#include "core/base/memory.h"
#include "core/kernels/conv_internal.h"

#define WIDE_BYTES ((size_t)4 << 20)
#define NARROW_MAX 4 /* out channels up to which dot products beat padded columns */
/* Padded input of a band: stays in the second-level cache. */
#define BAND_FLOATS ((size_t)48 << 10)

static bool narrow(const conv_view *v)
{
    return v->out_c <= NARROW_MAX;
}

size_t dscm_conv_direct_block(const dscm_conv_kernels *k, const conv_view *v)
{
    return narrow(v) ? 1 : k->block;
}

size_t dscm_conv_direct_floats(const dscm_conv_kernels *k, const conv_view *v)
{
    size_t block = dscm_conv_direct_block(k, v), columns = (v->out_c + block - 1) / block * block;
    return columns * v->in_c * (size_t)(v->kernel * v->kernel);
}

/* ---- bands ---- */
typedef struct band_job {
    const dscm_conv_kernels *k;
    const conv_view *v;
    const dscm_conv_args *a;
    size_t rows;   /* output rows of a band */
    size_t bands;  /* per image */
    size_t width;  /* padded columns */
    size_t floats; /* scratch of a thread */
} band_job;

static size_t padded_width(const conv_view *v)
{
    return (v->out_w - 1) * v->stride + (size_t)v->kernel;
}

static size_t band_rows(const conv_view *v)
{
    size_t line = padded_width(v) * v->in_c * v->stride;
    size_t rows = BAND_FLOATS / line;
    return rows < 4 ? 4 : rows > v->out_h ? v->out_h : rows;
}

static size_t band_floats(const conv_view *v)
{
    size_t lines = (band_rows(v) - 1) * v->stride + (size_t)v->kernel;
    return lines * padded_width(v) * v->in_c;
}

static size_t patch_floats(const conv_view *v)
{
    return DSCM_CONV_FEW_PIXELS * v->in_c * (size_t)(v->kernel * v->kernel);
}

static bool few_pixels(const conv_view *v)
{
    return v->out_h * v->out_w <= DSCM_CONV_FEW_PIXELS;
}

/* Weights that outgrow the caches: each must be fetched once per image, not once per row. */
static bool wide(const conv_view *v)
{
    return v->kernel == 3 && v->dilate == 1 && !few_pixels(v) && !narrow(v) &&
           9 * v->in_c * v->out_c * sizeof(float) > WIDE_BYTES;
}

static size_t padded_lines(const conv_view *v)
{
    return (v->out_h - 1) * v->stride + (size_t)v->kernel;
}

static size_t worker_floats(const conv_view *v)
{
    size_t floats = few_pixels(v) ? patch_floats(v) : band_floats(v);
    return dscm_arena_round(floats * sizeof(float)) / sizeof(float);
}

#define WIDE_CHUNK ((size_t)64) /* input channels: three taps of a block in first-level cache */

size_t dscm_conv_direct_chunk(const conv_view *v)
{
    return wide(v) && v->in_c > WIDE_CHUNK ? WIDE_CHUNK : v->in_c;
}

bool dscm_conv_direct_passes(const conv_view *v)
{
    return !narrow(v) && (wide(v) || (v->kernel == 1 && v->stride == 1 && v->dilate == 1));
}

size_t dscm_conv_direct_part(const dscm_conv_kernels *k, const conv_view *v)
{
    size_t floats = dscm_conv_direct_chunk(v) * k->block * (size_t)(v->kernel * v->kernel);
    return dscm_arena_round(floats * sizeof(float)) / sizeof(float);
}

/* Padded pixels of a wide image lie an odd number of cache lines apart: the same channel of the
 * pixels of a tile must not fall into one set of the cache. */
static size_t wide_step(const conv_view *v)
{
    size_t line = DSCM_ALIGN / sizeof(float);
    return ((v->in_c + line - 1) / line | 1) * line;
}

size_t dscm_conv_direct_scratch(const conv_view *v, int threads)
{
    if (wide(v)) return padded_lines(v) * padded_width(v) * wide_step(v) * sizeof(float);
    return worker_floats(v) * sizeof(float) * (size_t)threads;
}

/* Lines y0.. of the zero-padded image, its pixels `step` floats apart. */
static void fill_band(float *pad, size_t step, const conv_view *v, const float *image, size_t ld,
                      ptrdiff_t y0, size_t lines, size_t width)
{
    ptrdiff_t margin = v->kernel / 2;
    size_t bytes = v->in_c * sizeof *pad;
    for (size_t l = 0; l < lines; l++) {
        ptrdiff_t y = y0 + (ptrdiff_t)l - margin;
        bool blank = y < 0 || y >= (ptrdiff_t)v->in_h;
        const float *line = blank ? NULL : image + (size_t)y * v->in_w * ld;
        for (size_t x = 0; x < width; x++, pad += step) {
            ptrdiff_t ix = (ptrdiff_t)x - margin;
            if (blank || ix < 0 || ix >= (ptrdiff_t)v->in_w)
                memset(pad, 0, bytes);
            else
                memcpy(pad, line + (size_t)ix * ld, bytes);
        }
    }
}

static void multiply(const band_job *job, const dscm_multiply *m)
{
    if (narrow(job->v))
        job->k->multiply_narrow(m);
    else
        job->k->multiply(m);
}

static void run_band(void *arg, size_t index, int worker)
{
    const band_job *job = arg;
    const conv_view *v = job->v;
    const dscm_conv_args *a = job->a;
    size_t b = index / job->bands, first = index % job->bands * job->rows;
    size_t rows = v->out_h - first < job->rows ? v->out_h - first : job->rows;
    float *pad = (float *)a->scratch + (size_t)worker * job->floats;
    fill_band(pad, v->in_c, v, a->in + b * v->in_h * v->in_w * a->ldi, a->ldi,
              (ptrdiff_t)(first * v->stride), (rows - 1) * v->stride + (size_t)v->kernel,
              job->width);
    for (size_t y = 0; y < rows; y++) {
        size_t pixel = (b * v->out_h + first + y) * v->out_w;
        dscm_multiply m = {.out = a->out + pixel * a->ldo,
                           .ldo = a->ldo,
                           .in = pad + y * v->stride * job->width * v->in_c,
                           .in_step = v->stride * v->in_c,
                           .seg_step = job->width * v->in_c,
                           .segs = (size_t)v->kernel,
                           .k = (size_t)v->kernel * v->in_c,
                           .w = a->packed,
                           .pixels = v->out_w,
                           .cols = v->out_c,
                           .bias = a->bias,
                           .residual = a->residual ? a->residual + pixel * a->ldr : NULL,
                           .ldr = a->ldr,
                           .add = a->add};
        multiply(job, &m);
    }
}

/* ---- patches: small images, where a row is too short for a register tile ---- */
/* The K x K x Ci inputs of output pixel `p` of the batch, zeros outside the image. */
static void fill_patch(float *patch, const conv_view *v, const dscm_conv_args *a, size_t p)
{
    size_t b = p / (v->out_h * v->out_w), y = p / v->out_w % v->out_h, x = p % v->out_w;
    const float *image = a->in + b * v->in_h * v->in_w * a->ldi;
    ptrdiff_t margin = v->kernel / 2;
    size_t bytes = v->in_c * sizeof *patch;
    for (ptrdiff_t ky = 0; ky < v->kernel; ky++)
        for (ptrdiff_t kx = 0; kx < v->kernel; kx++, patch += v->in_c) {
            ptrdiff_t iy = (ptrdiff_t)(y * v->stride) + ky - margin;
            ptrdiff_t ix = (ptrdiff_t)(x * v->stride) + kx - margin;
            bool inside = iy >= 0 && ix >= 0 && iy < (ptrdiff_t)v->in_h && ix < (ptrdiff_t)v->in_w;
            if (inside)
                memcpy(patch, image + ((size_t)iy * v->in_w + (size_t)ix) * a->ldi, bytes);
            else
                memset(patch, 0, bytes);
        }
}

static void run_patches(void *arg, size_t index, int worker)
{
    const band_job *job = arg;
    const conv_view *v = job->v;
    const dscm_conv_args *a = job->a;
    size_t taps = (size_t)(v->kernel * v->kernel), total = a->batch * v->out_h * v->out_w;
    size_t first = index * DSCM_CONV_FEW_PIXELS;
    size_t count = total - first < DSCM_CONV_FEW_PIXELS ? total - first : DSCM_CONV_FEW_PIXELS;
    float *patches = (float *)a->scratch + (size_t)worker * job->floats;
    for (size_t p = 0; p < count; p++) fill_patch(patches + p * taps * v->in_c, v, a, first + p);
    dscm_multiply m = {.out = a->out + first * a->ldo,
                       .ldo = a->ldo,
                       .in = patches,
                       .in_step = taps * v->in_c,
                       .segs = 1,
                       .k = taps * v->in_c,
                       .w = a->packed,
                       .pixels = count,
                       .cols = v->out_c,
                       .bias = a->bias,
                       .residual = a->residual ? a->residual + first * a->ldr : NULL,
                       .ldr = a->ldr,
                       .add = a->add};
    multiply(job, &m);
}

/* ---- images of 3x3 pixels: the border would be two fifths of the products ---- */
static bool is_image3(const conv_view *v)
{
    return v->kernel == 3 && v->stride == 1 && v->out_h == 3 && v->out_w == 3 && !narrow(v);
}

/* A task is one image and one block of output channels, all images of a block after each other. */
static void run_image3(void *arg, size_t index, int worker)
{
    const band_job *job = arg;
    const conv_view *v = job->v;
    const dscm_conv_args *a = job->a;
    size_t first = index % a->batch * 9, c = index / a->batch * job->k->block;
    (void)worker;
    dscm_multiply m = {.out = a->out + first * a->ldo + c,
                       .ldo = a->ldo,
                       .in = a->in + first * a->ldi,
                       .in_step = a->ldi,
                       .k = v->in_c,
                       .w = a->packed + c * 9 * v->in_c,
                       .cols = v->out_c - c < job->k->block ? v->out_c - c : job->k->block,
                       .bias = a->bias ? a->bias + c : NULL,
                       .residual = a->residual ? a->residual + first * a->ldr + c : NULL,
                       .ldr = a->ldr,
                       .add = a->add};
    job->k->image3(&m);
}

/* ---- wide: the image is padded once; a task makes one block of output channels of all its pixels,
 * a chunk of the inputs at a time, so that the weights of a kernel row stay in the first-level cache
 * and each is fetched from memory once. ---- */
typedef struct wide_job {
    const dscm_conv_kernels *k;
    const conv_view *v;
    const dscm_conv_args *a;
    const conv_packer *packer;
    size_t image, width, step;
    float *pad, *parts; /* parts: of the workers, for weights that are packed on the way */
} wide_job;

static void wide_line(void *arg, size_t line, int worker)
{
    const wide_job *job = arg;
    const conv_view *v = job->v;
    const float *image = job->a->in + job->image * v->in_h * v->in_w * job->a->ldi;
    (void)worker;
    fill_band(job->pad + line * job->width * job->step, job->step, v, image, job->a->ldi,
              (ptrdiff_t)line, 1, job->width);
}

/* Adds what inputs first.. (k of them) give to a block of outputs; w (9, k, block). */
static void wide_chunk(const wide_job *job, size_t index, const float *w, size_t first, size_t k)
{
    const conv_view *v = job->v;
    const dscm_conv_args *a = job->a;
    size_t block = job->k->block, c = index * block;
    for (size_t ky = 0; ky < 3; ky++)
        for (size_t y = 0; y < v->out_h; y++) {
            size_t pixel = (job->image * v->out_h + y) * v->out_w;
            bool begins = ky == 0 && first == 0;
            dscm_multiply m = {
                .out = a->out + pixel * a->ldo + c,
                .ldo = a->ldo,
                .in = job->pad + (y * v->stride + ky) * job->width * job->step + first,
                .in_step = v->stride * job->step,
                .seg_step = job->step,
                .segs = 3,
                .k = k,
                .w = w + ky * 3 * k * block,
                .pixels = v->out_w,
                .cols = v->out_c - c < block ? v->out_c - c : block,
                .bias = begins && a->bias ? a->bias + c : NULL,
                .residual = begins && a->residual ? a->residual + pixel * a->ldr + c : NULL,
                .ldr = a->ldr,
                .add = !begins || a->add};
            job->k->multiply(&m);
        }
}

static void wide_columns(void *arg, size_t index, int worker)
{
    const wide_job *job = arg;
    size_t in_c = job->v->in_c, chunk = dscm_conv_direct_chunk(job->v);
    for (size_t i = 0; i < in_c; i += chunk) {
        size_t k = in_c - i < chunk ? in_c - i : chunk;
        const float *w;
        if (job->a->packed) {
            w = job->a->packed + (index * in_c + i) * 9 * job->k->block;
        } else {
            float *part = job->parts + (size_t)worker * dscm_conv_direct_part(job->k, job->v);
            dscm_conv_pack_part(job->packer, part, index, i, k);
            w = part;
        }
        wide_chunk(job, index, w, i, k);
    }
}

static void run_wide(const dscm_conv_kernels *k, const conv_view *v, const dscm_conv_args *a,
                     const conv_packer *packer)
{
    wide_job job = {.k = k,
                    .v = v,
                    .a = a,
                    .packer = packer,
                    .width = padded_width(v),
                    .step = wide_step(v),
                    .pad = a->scratch};
    job.parts = job.pad + padded_lines(v) * job.width * job.step;
    for (job.image = 0; job.image < a->batch; job.image++) {
        dscm_team_run(a->team, padded_lines(v), wide_line, &job);
        dscm_team_run(a->team, (v->out_c + k->block - 1) / k->block, wide_columns, &job);
    }
}

void dscm_conv_direct_run(const dscm_conv_kernels *k, const conv_view *v, const dscm_conv_args *a,
                          const conv_packer *packer)
{
    band_job job = {.k = k, .v = v, .a = a, .floats = worker_floats(v)};
    if (is_image3(v)) {
        dscm_team_run(a->team, a->batch * ((v->out_c + k->block - 1) / k->block), run_image3, &job);
        return;
    }
    if (few_pixels(v)) {
        size_t pixels = a->batch * v->out_h * v->out_w;
        dscm_team_run(a->team, (pixels + DSCM_CONV_FEW_PIXELS - 1) / DSCM_CONV_FEW_PIXELS,
                      run_patches, &job);
        return;
    }
    if (wide(v)) {
        run_wide(k, v, a, packer);
        return;
    }
    size_t share = (a->batch * v->out_h + (size_t)dscm_team_size(a->team) - 1) /
                   (size_t)dscm_team_size(a->team);
    job.rows = band_rows(v) < share ? band_rows(v) : share;
    job.bands = (v->out_h + job.rows - 1) / job.rows;
    job.width = padded_width(v);
    dscm_team_run(a->team, a->batch * job.bands, run_band, &job);
}

/* ---- 1x1 ---- */
#define POINTWISE_PIXELS ((size_t)112) /* pixels of a task: a multiple of every register tile */
/* Packing a block of weights for so many pixels costs little beside using them. */
#define STORED_PIXELS  ((size_t)1024)
#define SHARED_WEIGHTS ((size_t)65536) /* beyond, each worker takes a part of the columns */

typedef struct pointwise_job {
    const dscm_conv_kernels *k;
    const conv_view *v;
    const dscm_conv_args *a;
    const conv_packer *packer;
    size_t pixels, parts;  /* of all images; ranges of pixels */
    size_t blocks, groups; /* of columns; ranges of blocks */
} pointwise_job;

static void pointwise_columns(const pointwise_job *job, const float *w, size_t part, size_t first,
                              size_t last)
{
    const dscm_conv_args *a = job->a;
    size_t pixel = part * job->pixels / job->parts, end = (part + 1) * job->pixels / job->parts;
    size_t c = first * job->k->block, stop = last * job->k->block;
    if (stop > job->v->out_c) stop = job->v->out_c;
    dscm_multiply m = {.out = a->out + pixel * a->ldo + c,
                       .ldo = a->ldo,
                       .in = a->in + pixel * a->ldi,
                       .in_step = a->ldi,
                       .segs = 1,
                       .k = job->v->in_c,
                       .w = w,
                       .pixels = end - pixel,
                       .cols = stop - c,
                       .bias = a->bias ? a->bias + c : NULL,
                       .residual = a->residual ? a->residual + pixel * a->ldr + c : NULL,
                       .ldr = a->ldr,
                       .add = a->add};
    if (narrow(job->v))
        job->k->multiply_narrow(&m);
    else
        job->k->multiply(&m);
}

static void run_pixels(void *arg, size_t index, int worker)
{
    const pointwise_job *job = arg;
    size_t part = index / job->groups, group = index % job->groups;
    size_t first = group * job->blocks / job->groups;
    size_t last = (group + 1) * job->blocks / job->groups;
    if (job->a->packed) {
        pointwise_columns(job, job->a->packed + first * job->v->in_c * job->k->block, part, first,
                          last);
        return;
    }
    float *w = (float *)job->a->scratch + (size_t)worker * dscm_conv_direct_part(job->k, job->v);
    for (; first < last; first++) {
        dscm_conv_pack_part(job->packer, w, first, 0, job->v->in_c);
        pointwise_columns(job, w, part, first, first + 1);
    }
}

void dscm_conv_pointwise_run(const dscm_conv_kernels *k, const conv_view *v,
                             const dscm_conv_args *a, const conv_packer *packer)
{
    pointwise_job job = {.k = k,
                         .v = v,
                         .a = a,
                         .packer = packer,
                         .pixels = a->batch * v->out_h * v->out_w,
                         .blocks = (v->out_c + k->block - 1) / k->block,
                         .groups = 1};
    size_t threads = (size_t)dscm_team_size(a->team);
    size_t most = a->packed ? POINTWISE_PIXELS : STORED_PIXELS;
    job.parts = (job.pixels + most - 1) / most;
    if (!a->packed)
        job.groups = job.blocks;
    else if (v->in_c * v->out_c > SHARED_WEIGHTS)
        job.groups = job.blocks < threads ? job.blocks : threads;
    else /* even shares */
        job.parts = (job.parts + threads - 1) / threads * threads;
    if (job.parts > job.pixels) job.parts = job.pixels;
    dscm_team_run(a->team, job.parts * job.groups, run_pixels, &job);
}

/* ---- weight gradient ---- */
typedef struct tap_job {
    const dscm_conv *plan;
    const float *dout, *in;
    size_t ldo, ldi, batch;
    float *acc; /* (taps, Ci, Co), or (taps, Co, Ci) where Co is less */
} tap_job;

/* Outputs 0..n-1 of one axis whose tap k reads inside 0..size-1: [*first, *last). */
static void tap_range(size_t *first, size_t *last, size_t size, size_t n, int k, int margin,
                      int stride)
{
    size_t f = k < margin ? (size_t)((margin - k + stride - 1) / stride) : 0, l = n;
    while (l > f && (ptrdiff_t)((l - 1) * (size_t)stride) + k - margin >= (ptrdiff_t)size) l--;
    *first = f;
    *last = l > f ? l : f;
}

static void run_tap(void *arg, size_t tap, int worker)
{
    const tap_job *job = arg;
    const dscm_conv_shape *s = &job->plan->shape;
    size_t ho = dscm_conv_out_h(s), wo = dscm_conv_out_w(s), stride = (size_t)s->stride;
    int ky = (int)tap / s->kernel, kx = (int)tap % s->kernel, margin = s->kernel / 2;
    size_t y0, y1, x0, x1;
    (void)worker;
    tap_range(&y0, &y1, s->h, ho, ky, margin, s->stride);
    tap_range(&x0, &x1, s->w, wo, kx, margin, s->stride);
    if (y1 <= y0 || x1 <= x0) return;
    bool swap = s->co < s->ci; /* the accumulators of a tap are then (Co, Ci) */
    for (size_t b = 0; b < job->batch; b++) {
        size_t iy = y0 * stride + (size_t)ky - (size_t)margin;
        size_t ix = x0 * stride + (size_t)kx - (size_t)margin;
        dscm_outer m = {.acc = job->acc + tap * s->ci * s->co,
                        .ldacc = s->co,
                        .a = job->in + ((b * s->h + iy) * s->w + ix) * job->ldi,
                        .a_line = stride * s->w * job->ldi,
                        .a_step = stride * job->ldi,
                        .b = job->dout + ((b * ho + y0) * wo + x0) * job->ldo,
                        .b_line = wo * job->ldo,
                        .b_step = job->ldo,
                        .lines = y1 - y0,
                        .pixels = x1 - x0,
                        .rows = s->ci,
                        .cols = s->co};
        if (swap)
            m = (dscm_outer){.acc = m.acc,
                             .ldacc = s->ci,
                             .a = m.b,
                             .a_line = m.b_line,
                             .a_step = m.b_step,
                             .b = m.a,
                             .b_line = m.a_line,
                             .b_step = m.a_step,
                             .lines = m.lines,
                             .pixels = m.pixels,
                             .rows = s->co,
                             .cols = s->ci};
        dscm_conv_kernels_of(job->plan->isa)->outer(&m);
    }
}

void dscm_conv_direct_weight_grad(const dscm_conv *plan, float *sums, const float *dout, size_t ldo,
                                  const float *in, size_t ldi, size_t batch, dscm_team *team)
{
    size_t taps = (size_t)(plan->shape.kernel * plan->shape.kernel);
    tap_job job = {
        .plan = plan, .dout = dout, .in = in, .ldo = ldo, .ldi = ldi, .batch = batch, .acc = sums};
    dscm_team_run(team, taps, run_tap, &job);
}

void dscm_conv_direct_grad_finish(const dscm_conv_shape *s, float *dw, const float *sums)
{
    size_t taps = (size_t)(s->kernel * s->kernel);
    size_t out_step = s->co < s->ci ? s->ci : 1, in_step = s->co < s->ci ? 1 : s->co;
    for (size_t o = 0; o < s->co; o++)
        for (size_t i = 0; i < s->ci; i++)
            for (size_t t = 0; t < taps; t++)
                *dw++ += sums[t * s->ci * s->co + o * out_step + i * in_step];
}
