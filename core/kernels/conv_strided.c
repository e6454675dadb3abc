/* The input gradient of a convolution of stride 2. Of the kernel's taps only those of the right
 * parity reach a pixel of the input: with 3x3 one where row and column are even, two where one of
 * them is odd, four where both are. Each of the four kinds is a small convolution of its own that
 * writes every second pixel of every second row, so nothing is multiplied with the zeros between
 * the gradients of the outputs. */
#include <string.h>

#include "core/base/memory.h"
#include "core/kernels/conv_internal.h"

/* Padded gradients of a band: stay in the second-level cache. */
#define BAND_FLOATS ((size_t)32 << 10)

/* Taps of a kernel of 3 along an axis by the parity of the input's pixel: an even one meets tap 1
 * of the output at half its place, an odd one tap 2 of that output and tap 0 of the next. Kernels
 * of 1 have their only tap at even pixels. */
static size_t taps_of(int kernel, size_t parity)
{
    if (kernel == 1) return 1 - parity;
    return 1 + parity;
}

size_t dscm_conv_strided_place(int kernel, size_t tap)
{
    static const size_t place[9] = {8, 4, 7, 2, 0, 1, 6, 3, 5};
    return kernel == 1 ? 0 : place[tap];
}

typedef struct strided_job {
    const dscm_conv_kernels *k;
    const conv_view *v;
    const dscm_conv_args *a;
    size_t rows;  /* lines of output gradients of a band */
    size_t bands; /* per image */
    size_t floats;
} strided_job;

static size_t line_floats(const conv_view *v)
{
    return (v->in_w + 1) * v->in_c;
}

static size_t band_rows(const conv_view *v)
{
    size_t rows = BAND_FLOATS / line_floats(v);
    return rows < 2 ? 2 : rows > v->in_h ? v->in_h : rows;
}

static size_t band_floats(const conv_view *v)
{
    size_t floats = (band_rows(v) + 1) * line_floats(v);
    return dscm_arena_round(floats * sizeof(float)) / sizeof(float);
}

size_t dscm_conv_strided_scratch(const conv_view *v, int threads)
{
    return band_floats(v) * sizeof(float) * (size_t)threads;
}

/* Lines first.. of an image of gradients, each with a pixel of zeros behind it; zeros below. */
static void fill_band(float *pad, const conv_view *v, const float *image, size_t ld, size_t first,
                      size_t lines)
{
    for (size_t y = first; y < first + lines; y++) {
        for (size_t x = 0; x < v->in_w; x++, pad += v->in_c) {
            if (y < v->in_h)
                memcpy(pad, image + (y * v->in_w + x) * ld, v->in_c * sizeof *pad);
            else
                memset(pad, 0, v->in_c * sizeof *pad);
        }
        memset(pad, 0, v->in_c * sizeof *pad);
        pad += v->in_c;
    }
}

/* Input pixels of one parity (py,px) that a band reaches, columns c.. of a block; w: its taps. */
static void run_parity(const strided_job *job, const float *pad, size_t image, size_t first,
                       size_t rows, size_t py, size_t px, size_t c, const float *w)
{
    const conv_view *v = job->v;
    const dscm_conv_args *a = job->a;
    size_t block = dscm_conv_direct_block(job->k, v);
    for (size_t i = 0; i < rows; i++) {
        size_t y = 2 * (first + i) + py, pixel = (image * v->out_h + y) * v->out_w + px;
        if (y >= v->out_h || px >= v->out_w) return;
        dscm_multiply m = {.out = a->out + pixel * a->ldo + c,
                           .ldo = 2 * a->ldo,
                           .in = pad + i * line_floats(v),
                           .in_step = v->in_c,
                           .seg_step = line_floats(v),
                           .segs = taps_of(v->kernel, py),
                           .k = taps_of(v->kernel, px) * v->in_c,
                           .w = w,
                           .pixels = (v->out_w - px + 1) / 2,
                           .cols = v->out_c - c < block ? v->out_c - c : block,
                           .bias = a->bias ? a->bias + c : NULL,
                           .residual = a->residual ? a->residual + pixel * a->ldr + c : NULL,
                           .ldr = 2 * a->ldr,
                           .add = a->add};
        if (block == 1)
            job->k->multiply_narrow(&m);
        else
            job->k->multiply(&m);
    }
}

static void run_band(void *arg, size_t index, int worker)
{
    const strided_job *job = arg;
    const conv_view *v = job->v;
    size_t image = index / job->bands, first = index % job->bands * job->rows;
    size_t rows = v->in_h - first < job->rows ? v->in_h - first : job->rows;
    float *pad = (float *)job->a->scratch + (size_t)worker * job->floats;
    size_t block = dscm_conv_direct_block(job->k, v);
    const float *w = job->a->packed;
    fill_band(pad, v, job->a->in + image * v->in_h * v->in_w * job->a->ldi, job->a->ldi, first,
              rows + 1);
    for (size_t c = 0; c < v->out_c; c += block)
        for (size_t parity = 0; parity < 4; parity++) {
            size_t py = parity / 2, px = parity % 2;
            run_parity(job, pad, image, first, rows, py, px, c, w);
            w += taps_of(v->kernel, py) * taps_of(v->kernel, px) * v->in_c * block;
        }
}

void dscm_conv_strided_run(const dscm_conv_kernels *k, const conv_view *v, const dscm_conv_args *a)
{
    size_t threads = (size_t)dscm_team_size(a->team);
    size_t share = (a->batch * v->in_h + threads - 1) / threads;
    strided_job job = {.k = k, .v = v, .a = a, .floats = band_floats(v)};
    job.rows = band_rows(v) < share ? band_rows(v) : share;
    job.bands = (v->in_h + job.rows - 1) / job.rows;
    dscm_team_run(a->team, a->batch * job.bands, run_band, &job);
}
