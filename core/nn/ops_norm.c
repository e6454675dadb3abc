/* Group normalisation fused with scale-shift and activation (Wu & He 2018; Dhariwal & Nichol 2021),
 * and activation alone. */
#include <math.h>
#include <string.h>

#include "core/nn/graph_internal.h"

/* out = act(u * (1 + scale) + shift) with u = (x - mean) * rstd * gamma + beta, which is
 * out = act(x * gain + offset) with one gain and offset per row and channel.
 *
 * A task is one row or, when rows are fewer than threads, a slice of its channels: groups do not
 * depend on each other, so a slice goes through all of its passes alone. */
typedef struct norm_job {
    dscm_exec *x;
    const node_op *op;
    size_t pixels, c, groups, slices;
    const float *in, *gamma, *beta, *emb;
    size_t ldi, emb_step; /* emb_step 0: one condition for all rows */
    float *stats;         /* aux: (rows, 2, groups) mean, rstd */
    float *out;
    size_t ldo;
    size_t worker_floats;
    /* backward */
    const float *dout;
    float *dx;
    size_t ldd;
    bool add;
    float *sums; /* (rows, 2, c): Σdy, Σdy(x - mean) */
} norm_job;

/* A task's part of a row: channels first .. first + c - 1, and its vectors of c channels. */
typedef struct norm_slice {
    size_t row, first, c, group, groups;
    const float *in; /* first channel of the row */
    float *sum, *squares;
    float *gain, *offset, *mean, *rstd, *p, *q, *r;
    double *total, *total_squares;
    float *dy; /* (pixels, c) */
} norm_slice;

#define VECTORS 13 /* floats per channel of a slice's vectors; doubles count twice */

static size_t worker_floats(size_t pixels, size_t c, bool backward)
{
    size_t floats = VECTORS * c + (backward ? pixels * c : 0);
    return dscm_arena_round(floats * sizeof(float)) / sizeof(float);
}

static size_t norm_aux(const dscm_exec *x, const node_op *op)
{
    return x->batch_max * 2 * op->groups * sizeof(float);
}

static size_t norm_scratch(const dscm_exec *x, const node_op *op)
{
    const node_tensor *t = tensor_of(x, op->out);
    size_t floats = worker_floats(t->h * t->w, t->c, x->mode != DSCM_EXEC_INFER) *
                    (size_t)dscm_team_size(x->team);
    return (floats + x->batch_max * 2 * t->c) * sizeof(float);
}

/* Slices of a row: whole groups and whole vectors. */
static size_t slices_of(size_t rows, size_t c, size_t groups, int threads)
{
    size_t slices = (size_t)threads / rows;
    while (slices > 1 && (groups % slices || c / slices % (DSCM_ALIGN / sizeof(float)))) slices--;
    return slices ? slices : 1;
}

static norm_job job_of(dscm_exec *x, const node_op *op)
{
    size_t pixels = pixels_of(x, op->out), c = tensor_of(x, op->out)->c, rows = rows_of(x, op->out);
    int threads = dscm_team_size(x->team);
    norm_job job = {.x = x,
                    .op = op,
                    .pixels = pixels,
                    .c = c,
                    .groups = op->groups,
                    .slices = slices_of(rows, c, op->groups, threads),
                    .in = x->data[op->in[0]],
                    .gamma = param_of(x, op->w),
                    .beta = param_of(x, op->b),
                    .emb = op->in[1] >= 0 ? x->data[op->in[1]] : NULL,
                    .ldi = ld_of(x, op->in[0]),
                    .emb_step = x->conditions > 1 ? 2 * c : 0,
                    .stats = x->aux[op_index(x, op)],
                    .out = x->data[op->out],
                    .ldo = ld_of(x, op->out),
                    .worker_floats = worker_floats(pixels, c, x->mode != DSCM_EXEC_INFER)};
    job.sums = (float *)x->scratch + job.worker_floats * (size_t)threads;
    return job;
}

static norm_slice slice_of(const norm_job *job, size_t index, int worker)
{
    size_t row = index / job->slices, part = index % job->slices, c = job->c / job->slices;
    norm_slice s = {.row = row,
                    .first = part * c,
                    .c = c,
                    .group = part * (job->groups / job->slices),
                    .groups = job->groups / job->slices,
                    .in = job->in + row * job->pixels * job->ldi + part * c};
    double *doubles =
        (double *)(void *)((float *)job->x->scratch + (size_t)worker * job->worker_floats);
    s.total = doubles;
    s.total_squares = doubles + c;
    float **const vectors[] = {&s.sum,  &s.squares, &s.gain, &s.offset, &s.mean,
                               &s.rstd, &s.p,       &s.q,    &s.r,      &s.dy};
    float *at = (float *)(void *)(doubles + 2 * c);
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++, at += c) *vectors[i] = at;
    return s;
}

static size_t chunk_pixels(const norm_job *job, size_t first)
{
    return job->pixels - first < NORM_CHUNK ? job->pixels - first : NORM_CHUNK;
}

static void clear_totals(norm_slice *s)
{
    memset(s->total, 0, 2 * s->c * sizeof *s->total);
}

/* Adds the float sums of a chunk to the totals. */
static void keep_sums(norm_slice *s)
{
    for (size_t c = 0; c < s->c; c++) {
        s->total[c] += (double)s->sum[c];
        s->total_squares[c] += (double)s->squares[c];
    }
}

/* gain, offset, mean and rstd from the statistics of the row. */
static void fill_vectors(const norm_job *job, norm_slice *s)
{
    const float *emb = job->emb ? job->emb + s->row * job->emb_step + s->first : NULL;
    const float *stats = job->stats + s->row * 2 * job->groups + s->group;
    const float *gamma = job->gamma + s->first, *beta = job->beta + s->first;
    size_t per_group = s->c / s->groups;
    for (size_t g = 0; g < s->groups; g++)
        for (size_t c = g * per_group; c < (g + 1) * per_group; c++) {
            float scale = emb ? 1 + emb[c] : 1, shift = emb ? emb[job->c + c] : 0;
            s->mean[c] = stats[g];
            s->rstd[c] = stats[job->groups + g];
            s->gain[c] = s->rstd[c] * gamma[c] * scale;
            s->offset[c] = (beta[c] - s->mean[c] * s->rstd[c] * gamma[c]) * scale + shift;
        }
}

/* ---- forward ---- */
static void find_statistics(const norm_job *job, norm_slice *s)
{
    float *stats = job->stats + s->row * 2 * job->groups + s->group;
    size_t per_group = s->c / s->groups;
    double pixels = (double)job->pixels, share = 1 / (pixels * (double)per_group);
    clear_totals(s);
    for (size_t p = 0; p < job->pixels; p += NORM_CHUNK) {
        memset(s->sum, 0, 2 * s->c * sizeof *s->sum);
        /* The first pixel is the pivot: sums of differences do not cancel when the mean is large.
         */
        job->x->kernels->moments(s->sum, s->squares, s->in + p * job->ldi, job->ldi, s->in,
                                 chunk_pixels(job, p), s->c);
        keep_sums(s);
    }
    for (size_t g = 0; g < s->groups; g++) {
        double mean = 0, squares = 0;
        for (size_t c = g * per_group; c < (g + 1) * per_group; c++)
            mean += (double)s->in[c] * pixels + s->total[c];
        mean *= share;
        for (size_t c = g * per_group; c < (g + 1) * per_group; c++) {
            double gap = mean - (double)s->in[c]; /* Σ (x - mean)² */
            squares += s->total_squares[c] - 2 * gap * s->total[c] + pixels * gap * gap;
        }
        if (squares < 0) squares = 0;
        stats[g] = (float)mean;
        stats[job->groups + g] = 1 / sqrtf((float)(squares * share) + NORM_EPS);
    }
}

static void norm_slice_forward(void *arg, size_t index, int worker)
{
    const norm_job *job = arg;
    norm_slice s = slice_of(job, index, worker);
    find_statistics(job, &s);
    fill_vectors(job, &s);
    job->x->kernels->affine(job->out + s.row * job->pixels * job->ldo + s.first, job->ldo, s.in,
                            job->ldi, s.gain, s.offset, job->op->act, job->pixels, s.c);
}

static void norm_forward(dscm_exec *x, const node_op *op)
{
    norm_job job = job_of(x, op);
    dscm_team_run(x->team, rows_of(x, op->out) * job.slices, norm_slice_forward, &job);
}

/* ---- backward ---- */
/* dx = gain·dy − rstd·m1 − rstd²·m2·(x − mean), m1 = mean over the group of g·dy, m2 = of
 * g·dy·(x − mean)·rstd, g = gamma·(1 + scale); written as p·dy + q·x + r per channel. */
static void find_coefficients(const norm_job *job, norm_slice *s)
{
    size_t per_group = s->c / s->groups;
    double share = 1 / ((double)job->pixels * (double)per_group);
    for (size_t g = 0; g < s->groups; g++) {
        size_t first = g * per_group;
        double m1 = 0, m2 = 0, rs = (double)s->rstd[first];
        for (size_t c = first; c < first + per_group; c++) {
            m1 += (double)s->gain[c] * s->total[c];              /* rstd·g·Σdy */
            m2 += (double)s->gain[c] * s->total_squares[c] * rs; /* rstd·g·Σdy·xhat */
        }
        m1 *= share;
        m2 *= rs * share;
        for (size_t c = first; c < first + per_group; c++) {
            s->p[c] = s->gain[c];
            s->q[c] = (float)-m2;
            s->r[c] = (float)(m2 * (double)s->mean[c] - m1);
        }
    }
}

static void norm_slice_backward(void *arg, size_t index, int worker)
{
    const norm_job *job = arg;
    norm_slice s = slice_of(job, index, worker);
    const float *dout = job->dout + s.row * job->pixels * job->ldo + s.first;
    float *sums = job->sums + s.row * 2 * job->c + s.first;
    fill_vectors(job, &s);
    clear_totals(&s);
    for (size_t p = 0; p < job->pixels; p += NORM_CHUNK) {
        memset(s.sum, 0, 2 * s.c * sizeof *s.sum);
        job->x->kernels->affine_backward(s.dy + p * s.c, s.sum, s.squares, dout + p * job->ldo,
                                         job->ldo, s.in + p * job->ldi, job->ldi, s.gain, s.offset,
                                         s.mean, job->op->act, chunk_pixels(job, p), s.c);
        keep_sums(&s);
    }
    for (size_t c = 0; c < s.c; c++) {
        sums[c] = (float)s.total[c];
        sums[job->c + c] = (float)s.total_squares[c];
    }
    if (!job->dx) return;
    find_coefficients(job, &s);
    job->x->kernels->combine(job->dx + s.row * job->pixels * job->ldd + s.first, job->ldd, s.dy,
                             s.in, job->ldi, s.p, s.q, s.r, job->add, job->pixels, s.c);
}

/* dgamma, dbeta and the gradient of (scale, shift), summed over rows in their order. */
static void norm_param_grads(const norm_job *job, size_t rows, float *demb)
{
    float *dgamma = param_grad_of(job->x, job->op->w), *dbeta = param_grad_of(job->x, job->op->b);
    size_t per_group = job->c / job->groups;
    for (size_t row = 0; row < rows; row++) {
        const float *sums = job->sums + row * 2 * job->c;
        const float *emb = job->emb ? job->emb + row * job->emb_step : NULL;
        float *de = demb ? demb + row * job->emb_step : NULL;
        const float *rstd = job->stats + (row * 2 + 1) * job->groups;
        for (size_t c = 0, in_group = 0; c < job->c; c++, in_group++) {
            if (in_group == per_group) in_group = 0, rstd++;
            float dxhat = *rstd * sums[job->c + c], scale = emb ? 1 + emb[c] : 1;
            if (dgamma) dgamma[c] += scale * dxhat;
            if (dbeta) dbeta[c] += scale * sums[c];
            if (!de) continue;
            de[c] += job->gamma[c] * dxhat + job->beta[c] * sums[c];
            de[job->c + c] += sums[c];
        }
    }
}

static void norm_backward(dscm_exec *x, const node_op *op)
{
    norm_job job = job_of(x, op);
    size_t rows = rows_of(x, op->out);
    bool add;
    job.dout = x->grad[op->out];
    job.dx = grad_to(x, op->in[0], &job.add);
    job.ldd = ld_of(x, op->in[0]);
    dscm_team_run(x->team, rows * job.slices, norm_slice_backward, &job);
    float *demb = grad_to(x, op->in[1], &add);
    if (demb && !add) memset(demb, 0, x->conditions * 2 * job.c * sizeof *demb);
    if (demb || x->param_grads) norm_param_grads(&job, rows, demb);
}

const op_class dscm_op_norm_class = {.forward = norm_forward,
                                     .backward = norm_backward,
                                     .reads = 3u,
                                     .aux_bytes = norm_aux,
                                     .scratch_bytes = norm_scratch};

/* ---- activation ---- */
static void act_forward(dscm_exec *x, const node_op *op)
{
    size_t c = tensor_of(x, op->out)->c, pixels = rows_of(x, op->out) * pixels_of(x, op->out);
    size_t ldi = ld_of(x, op->in[0]), ldo = ld_of(x, op->out);
    bool dense = ldi == c && ldo == c;
    for (size_t p = 0; p < (dense ? 1 : pixels); p++)
        x->kernels->act(x->data[op->out] + p * ldo, x->data[op->in[0]] + p * ldi, op->act,
                        dense ? pixels * c : c);
}

static void act_backward(dscm_exec *x, const node_op *op)
{
    size_t c = tensor_of(x, op->out)->c, pixels = rows_of(x, op->out) * pixels_of(x, op->out);
    size_t ldi = ld_of(x, op->in[0]), ldo = ld_of(x, op->out);
    bool add, dense = ldi == c && ldo == c;
    float *dx = grad_to(x, op->in[0], &add);
    if (!dx) return;
    for (size_t p = 0; p < (dense ? 1 : pixels); p++)
        x->kernels->act_backward(dx + p * ldi, x->grad[op->out] + p * ldo,
                                 x->data[op->in[0]] + p * ldi, op->act, add,
                                 dense ? pixels * c : c);
}

const op_class dscm_op_act_class = {.forward = act_forward, .backward = act_backward, .reads = 1u};
