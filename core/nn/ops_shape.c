/* Operations that move, join or resample pixels. */
#include <string.h>

#include "core/nn/graph_internal.h"

/* Where a tensor's row starts. */
static const float *row_in(const dscm_exec *x, int t, size_t row)
{
    return x->data[t] + row * pixels_of(x, t) * ld_of(x, t);
}

/* ---- add ---- */
static void add_forward(dscm_exec *x, const node_op *op)
{
    int a = op->in[0], b = op->in[1], out = op->out;
    size_t c = tensor_of(x, out)->c, pixels = pixels_of(x, out), ldb = ld_of(x, b);
    bool spread = pixels_of(x, b) != pixels;
    for (size_t r = 0; r < rows_of(x, out); r++) {
        const float *pa = row_in(x, a, r), *pb = row_in(x, b, rows_of(x, b) == 1 ? 0 : r);
        float *po = x->data[out] + r * pixels * ld_of(x, out);
        for (size_t p = 0; p < pixels; p++)
            x->kernels->add(po + p * ld_of(x, out), pa + p * ld_of(x, a),
                            pb + (spread ? 0 : p * ldb), c);
    }
}

static void add_backward(dscm_exec *x, const node_op *op)
{
    size_t c = tensor_of(x, op->out)->c, pixels = pixels_of(x, op->out), rows = rows_of(x, op->out);
    size_t ldo = ld_of(x, op->out);
    const float *dout = x->grad[op->out];
    bool add;
    float *da = grad_to(x, op->in[0], &add);
    if (da) dscm_lines_accumulate(x, da, ld_of(x, op->in[0]), dout, ldo, rows * pixels, c, add);
    float *db = grad_to(x, op->in[1], &add);
    if (!db) return;
    size_t ldb = ld_of(x, op->in[1]), rows_b = rows_of(x, op->in[1]);
    if (pixels_of(x, op->in[1]) == pixels && rows_b == rows) {
        dscm_lines_accumulate(x, db, ldb, dout, ldo, rows * pixels, c, add);
        return;
    }
    if (!add)
        memset(db, 0, rows_b * c * sizeof *db); /* db sums over the pixels (and rows) it served */
    for (size_t r = 0; r < rows; r++)
        for (size_t p = 0; p < pixels; p++)
            dscm_lines_accumulate(x, db + (rows_b == 1 ? 0 : r * c), c,
                                  dout + (r * pixels + p) * ldo, ldo, 1, c, true);
}

const op_class dscm_op_add_class = {.forward = add_forward, .backward = add_backward};

/* ---- concat: inputs that live inside the buffer cost nothing ---- */
static void concat_forward(dscm_exec *x, const node_op *op)
{
    size_t at = 0;
    for (int k = 0; k < 2; k++) {
        const node_tensor *t = tensor_of(x, op->in[k]);
        if (t->view_of != op->out)
            dscm_lines_accumulate(x, x->data[op->out] + at, ld_of(x, op->out), x->data[op->in[k]],
                                  ld_of(x, op->in[k]), rows_of(x, op->out) * pixels_of(x, op->out),
                                  t->c, false);
        at += t->c;
    }
}

static void concat_backward(dscm_exec *x, const node_op *op)
{
    size_t at = 0;
    for (int k = 0; k < 2; k++) {
        const node_tensor *t = tensor_of(x, op->in[k]);
        bool add;
        float *dx = grad_to(x, op->in[k], &add);
        if (dx && t->view_of != op->out)
            dscm_lines_accumulate(x, dx, ld_of(x, op->in[k]), x->grad[op->out] + at,
                                  ld_of(x, op->out), rows_of(x, op->out) * pixels_of(x, op->out),
                                  t->c, add);
        at += t->c;
    }
}

const op_class dscm_op_concat_class = {.forward = concat_forward, .backward = concat_backward};

/* ---- resampling by two ---- */
/* Between a small image and one of twice its size; an odd last line of the large one is left alone.
 * A task is a line of the small image. */
typedef struct resample {
    const dscm_exec *x;
    size_t rows, h, w, c; /* of the small image */
    size_t big_h, big_w;
    const float *from;
    float *to;
    size_t ld_from, ld_to;
    float weight;
    bool add;
} resample;

static resample resample_of(const dscm_exec *x, int small, int big)
{
    const node_tensor *s = tensor_of(x, small), *b = tensor_of(x, big);
    return (resample){.x = x,
                      .rows = rows_of(x, small),
                      .h = s->h,
                      .w = s->w,
                      .c = s->c,
                      .big_h = b->h,
                      .big_w = b->w,
                      .weight = 1};
}

static size_t big_pixel(const resample *r, size_t row, size_t y, size_t xx)
{
    return (row * r->big_h + y) * r->big_w + xx;
}

/* to = weight * from at all four places, or +=. */
static void spread_line(void *arg, size_t line, int worker)
{
    const resample *r = arg;
    float *to = r->to + big_pixel(r, line / r->h, 2 * (line % r->h), 0) * r->ld_to;
    const float *from = r->from + line * r->w * r->ld_from;
    (void)worker;
    r->x->kernels->spread(to, to + r->big_w * r->ld_to, r->ld_to, from, r->ld_from, r->weight,
                          r->add, r->w, r->c);
}

/* to = weight * sum of the four places, or +=. */
static void gather_line(void *arg, size_t line, int worker)
{
    const resample *r = arg;
    const float *from = r->from + big_pixel(r, line / r->h, 2 * (line % r->h), 0) * r->ld_from;
    float *to = r->to + line * r->w * r->ld_to;
    (void)worker;
    r->x->kernels->gather(to, r->ld_to, from, from + r->big_w * r->ld_from, r->ld_from, r->weight,
                          r->add, r->w, r->c);
}

static void spread(resample *r, float *big, size_t ldb, const float *small, size_t lds)
{
    r->to = big;
    r->ld_to = ldb;
    r->from = small;
    r->ld_from = lds;
    dscm_team_run(r->x->team, r->rows * r->h, spread_line, r);
}

static void gather(resample *r, float *small, size_t lds, const float *big, size_t ldb)
{
    r->to = small;
    r->ld_to = lds;
    r->from = big;
    r->ld_from = ldb;
    dscm_team_run(r->x->team, r->rows * r->h, gather_line, r);
}

/* Zeroes the odd last row and column of the large image, which pooling does not read. */
static void zero_rest(const resample *r, float *big, size_t ldb)
{
    for (size_t row = 0; row < r->rows; row++)
        for (size_t y = 0; y < r->big_h; y++)
            for (size_t xx = y < 2 * r->h ? 2 * r->w : 0; xx < r->big_w; xx++)
                memset(big + big_pixel(r, row, y, xx) * ldb, 0, r->c * sizeof *big);
}

static void upsample_forward(dscm_exec *x, const node_op *op)
{
    resample r = resample_of(x, op->in[0], op->out);
    spread(&r, x->data[op->out], ld_of(x, op->out), x->data[op->in[0]], ld_of(x, op->in[0]));
}

static void upsample_backward(dscm_exec *x, const node_op *op)
{
    resample r = resample_of(x, op->in[0], op->out);
    float *dx = grad_to(x, op->in[0], &r.add);
    if (dx) gather(&r, dx, ld_of(x, op->in[0]), x->grad[op->out], ld_of(x, op->out));
}

const op_class dscm_op_upsample_class = {.forward = upsample_forward,
                                         .backward = upsample_backward};

static void avgpool_forward(dscm_exec *x, const node_op *op)
{
    resample r = resample_of(x, op->out, op->in[0]);
    r.weight = 0.25f;
    gather(&r, x->data[op->out], ld_of(x, op->out), x->data[op->in[0]], ld_of(x, op->in[0]));
}

static void avgpool_backward(dscm_exec *x, const node_op *op)
{
    resample r = resample_of(x, op->out, op->in[0]);
    float *dx = grad_to(x, op->in[0], &r.add);
    if (!dx) return;
    r.weight = 0.25f;
    spread(&r, dx, ld_of(x, op->in[0]), x->grad[op->out], ld_of(x, op->out));
    if (!r.add) zero_rest(&r, dx, ld_of(x, op->in[0]));
}

const op_class dscm_op_avgpool_class = {.forward = avgpool_forward, .backward = avgpool_backward};

/* Place of the largest of four, the first of equals: 0..3 in reading order. */
static size_t argmax(const float *a, size_t right, size_t below)
{
    size_t best = 0;
    const size_t at[4] = {0, right, below, below + right};
    for (size_t k = 1; k < 4; k++)
        if (a[at[k]] > a[at[best]]) best = k;
    return at[best];
}

static void maxpool_forward(dscm_exec *x, const node_op *op)
{
    resample r = resample_of(x, op->out, op->in[0]);
    size_t ldi = ld_of(x, op->in[0]), ldo = ld_of(x, op->out);
    for (size_t p = 0; p < r.rows * r.h * r.w; p++) {
        size_t row = p / (r.h * r.w), y = p / r.w % r.h, xx = p % r.w;
        const float *in = x->data[op->in[0]] + big_pixel(&r, row, 2 * y, 2 * xx) * ldi;
        for (size_t i = 0; i < r.c; i++)
            x->data[op->out][p * ldo + i] = in[i + argmax(in + i, ldi, r.big_w * ldi)];
    }
}

static void maxpool_backward(dscm_exec *x, const node_op *op)
{
    resample r = resample_of(x, op->out, op->in[0]);
    size_t ldi = ld_of(x, op->in[0]), ldo = ld_of(x, op->out);
    bool add;
    float *dx = grad_to(x, op->in[0], &add);
    if (!dx) return;
    for (size_t p = 0; !add && p < r.rows * r.big_h * r.big_w; p++)
        memset(dx + p * ldi, 0, r.c * sizeof *dx);
    for (size_t p = 0; p < r.rows * r.h * r.w; p++) {
        size_t row = p / (r.h * r.w), y = p / r.w % r.h, xx = p % r.w;
        size_t at = big_pixel(&r, row, 2 * y, 2 * xx) * ldi;
        const float *in = x->data[op->in[0]] + at;
        for (size_t i = 0; i < r.c; i++)
            dx[at + i + argmax(in + i, ldi, r.big_w * ldi)] += x->grad[op->out][p * ldo + i];
    }
}

const op_class dscm_op_maxpool_class = {
    .forward = maxpool_forward, .backward = maxpool_backward, .reads = 1u};

/* ---- mean over pixels ---- */
static void mean_forward(dscm_exec *x, const node_op *op)
{
    size_t pixels = pixels_of(x, op->in[0]), c = tensor_of(x, op->out)->c,
           ldi = ld_of(x, op->in[0]);
    for (size_t r = 0; r < rows_of(x, op->out); r++) {
        float *out = x->data[op->out] + r * ld_of(x, op->out);
        memset(out, 0, c * sizeof *out);
        for (size_t p = 0; p < pixels; p++)
            dscm_lines_accumulate(x, out, c, x->data[op->in[0]] + (r * pixels + p) * ldi, ldi, 1, c,
                                  true);
        for (size_t i = 0; i < c; i++) out[i] /= (float)pixels;
    }
}

static void mean_backward(dscm_exec *x, const node_op *op)
{
    size_t pixels = pixels_of(x, op->in[0]), c = tensor_of(x, op->out)->c,
           ldi = ld_of(x, op->in[0]);
    bool add;
    float *dx = grad_to(x, op->in[0], &add);
    if (!dx) return;
    for (size_t p = 0; p < rows_of(x, op->out) * pixels; p++)
        for (size_t i = 0; i < c; i++) {
            float d = x->grad[op->out][p / pixels * ld_of(x, op->out) + i] / (float)pixels;
            dx[p * ldi + i] = add ? dx[p * ldi + i] + d : d;
        }
}

const op_class dscm_op_mean_class = {.forward = mean_forward, .backward = mean_backward};

/* ---- reshape: a copy, since buffers may have gaps ---- */
static void reshape_forward(dscm_exec *x, const node_op *op)
{
    const node_tensor *in = tensor_of(x, op->in[0]), *out = tensor_of(x, op->out);
    size_t rows = rows_of(x, op->out);
    if (in->c == ld_of(x, op->in[0]))
        dscm_lines_accumulate(x, x->data[op->out], ld_of(x, op->out), x->data[op->in[0]], out->c,
                              rows * out->h * out->w, out->c, false);
    else
        dscm_lines_accumulate(x, x->data[op->out], in->c, x->data[op->in[0]], ld_of(x, op->in[0]),
                              rows * in->h * in->w, in->c, false);
}

static void reshape_backward(dscm_exec *x, const node_op *op)
{
    const node_tensor *in = tensor_of(x, op->in[0]), *out = tensor_of(x, op->out);
    size_t rows = rows_of(x, op->out);
    bool add;
    float *dx = grad_to(x, op->in[0], &add);
    if (!dx) return;
    if (in->c == ld_of(x, op->in[0]))
        dscm_lines_accumulate(x, dx, out->c, x->grad[op->out], ld_of(x, op->out),
                              rows * out->h * out->w, out->c, add);
    else
        dscm_lines_accumulate(x, dx, ld_of(x, op->in[0]), x->grad[op->out], in->c,
                              rows * in->h * in->w, in->c, add);
}

const op_class dscm_op_reshape_class = {.forward = reshape_forward, .backward = reshape_backward};
