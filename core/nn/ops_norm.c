/* Group normalisation fused with scale-shift and activation (Wu & He 2018; Dhariwal & Nichol 2021),
 * and activation alone. */
#include <math.h>
#include <string.h>

#include "core/nn/graph_internal.h"

/* out = act(u * (1 + scale) + shift) with u = (x - mean) * rstd * gamma + beta, which is
 * out = act(x * gain + offset) with one gain and offset per row and channel. */
typedef struct norm_job {
    dscm_exec *x;
    const node_op *op;
    size_t pixels, c, groups, chunks;
    const float *in, *gamma, *beta, *emb;
    size_t ldi, emb_step; /* emb_step 0: one condition for all rows */
    float *stats;         /* aux: (rows, 2, groups) mean, rstd */
    float *out;
    size_t ldo;
    dscm_team *inner; /* team inside a row, when there are fewer rows than threads */
    size_t worker_floats;
    /* backward */
    const float *dout;
    float *dx;
    size_t ldd;
    bool add;
    float *sums; /* (rows, 2, c): Σdy, Σdy(x - mean) */
    /* of the row at hand, when `inner` splits it */
    const float *row_in, *row_dout;
    float *row_out, *row_dx, *row_scratch;
} norm_job;

/* Floats of one worker's scratch: vectors (8 x c), partial sums (chunks x 2 x c), dy (pixels x c).
 */
#define VECTORS 8

static size_t worker_floats(size_t pixels, size_t c, bool backward)
{
    size_t chunks = (pixels + NORM_CHUNK - 1) / NORM_CHUNK;
    size_t floats = (VECTORS + 2 * chunks) * c + (backward ? pixels * c : 0);
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

static norm_job job_of(dscm_exec *x, const node_op *op)
{
    size_t pixels = pixels_of(x, op->out), c = tensor_of(x, op->out)->c, rows = rows_of(x, op->out);
    norm_job job = {.x = x,
                    .op = op,
                    .pixels = pixels,
                    .c = c,
                    .groups = op->groups,
                    .chunks = (pixels + NORM_CHUNK - 1) / NORM_CHUNK,
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
    if (rows < (size_t)dscm_team_size(x->team)) job.inner = x->team;
    job.sums = (float *)x->scratch + job.worker_floats * (size_t)dscm_team_size(x->team);
    return job;
}

static size_t chunk_pixels(const norm_job *job, size_t chunk)
{
    size_t rest = job->pixels - chunk * NORM_CHUNK;
    return rest < NORM_CHUNK ? rest : NORM_CHUNK;
}

static float *partial_of(const norm_job *job, size_t chunk)
{
    return job->row_scratch + (VECTORS + 2 * chunk) * job->c;
}

/* Rows are spread over the team, or the chunks of each row when rows are few. */
static void run_rows(norm_job *job, size_t rows, void (*row)(void *, size_t, int))
{
    if (job->inner) {
        for (size_t r = 0; r < rows; r++) row(job, r, 0);
    } else {
        dscm_team_run(job->x->team, rows, row, job);
    }
}

/* gain (c), offset (c), mean (c) and rstd (c) of a row from its statistics. */
static void row_vectors(const norm_job *job, size_t row, float *gain, float *offset, float *mean,
                        float *rstd)
{
    const float *emb = job->emb ? job->emb + row * job->emb_step : NULL;
    const float *stats = job->stats + row * 2 * job->groups;
    size_t per_group = job->c / job->groups;
    for (size_t g = 0; g < job->groups; g++)
        for (size_t c = g * per_group; c < (g + 1) * per_group; c++) {
            float scale = emb ? 1 + emb[c] : 1, shift = emb ? emb[job->c + c] : 0;
            mean[c] = stats[g];
            rstd[c] = stats[job->groups + g];
            gain[c] = rstd[c] * job->gamma[c] * scale;
            offset[c] = (job->beta[c] - mean[c] * rstd[c] * job->gamma[c]) * scale + shift;
        }
}

/* ---- forward ------------------------------------------------------------------------------------
 */
static void moments_chunk(void *arg, size_t chunk, int worker)
{
    const norm_job *job = arg;
    float *partial = partial_of(job, chunk);
    (void)worker;
    memset(partial, 0, 2 * job->c * sizeof *partial);
    /* The first pixel is the pivot: sums of differences do not cancel when the mean is large. */
    job->x->kernels->moments(partial, partial + job->c, job->row_in + chunk * NORM_CHUNK * job->ldi,
                             job->ldi, job->row_in, chunk_pixels(job, chunk), job->c);
}

static void affine_chunk(void *arg, size_t chunk, int worker)
{
    const norm_job *job = arg;
    size_t first = chunk * NORM_CHUNK;
    (void)worker;
    job->x->kernels->affine(job->row_out + first * job->ldo, job->ldo,
                            job->row_in + first * job->ldi, job->ldi, job->row_scratch,
                            job->row_scratch + job->c, job->op->act, chunk_pixels(job, chunk),
                            job->c);
}

static void row_statistics(const norm_job *job, size_t row)
{
    size_t per_group = job->c / job->groups;
    double pixels = (double)job->pixels, share = 1 / (pixels * (double)per_group);
    for (size_t g = 0; g < job->groups; g++) {
        double mean = 0, squares = 0;
        for (size_t c = g * per_group; c < (g + 1) * per_group; c++) {
            double sum = 0;
            for (size_t k = 0; k < job->chunks; k++) sum += partial_of(job, k)[c];
            mean += (double)job->row_in[c] * pixels + sum;
        }
        mean *= share;
        for (size_t c = g * per_group; c < (g + 1) * per_group; c++) {
            double sum = 0, square = 0, gap = mean - (double)job->row_in[c];
            for (size_t k = 0; k < job->chunks; k++) {
                sum += partial_of(job, k)[c];
                square += partial_of(job, k)[job->c + c];
            }
            squares += square - 2 * gap * sum + pixels * gap * gap; /* Σ (x - mean)² */
        }
        if (squares < 0) squares = 0;
        job->stats[row * 2 * job->groups + g] = (float)mean;
        job->stats[(row * 2 + 1) * job->groups + g] =
            1 / sqrtf((float)(squares * share) + NORM_EPS);
    }
}

static void norm_row(void *arg, size_t row, int worker)
{
    norm_job job = *(const norm_job *)arg;
    job.row_in = job.in + row * job.pixels * job.ldi;
    job.row_out = job.out + row * job.pixels * job.ldo;
    job.row_scratch = (float *)job.x->scratch + (size_t)worker * job.worker_floats;
    float *v = job.row_scratch;
    dscm_team_run(job.inner, job.chunks, moments_chunk, &job);
    row_statistics(&job, row);
    row_vectors(&job, row, v, v + job.c, v + 2 * job.c, v + 3 * job.c);
    dscm_team_run(job.inner, job.chunks, affine_chunk, &job);
}

static void norm_forward(dscm_exec *x, const node_op *op)
{
    norm_job job = job_of(x, op);
    run_rows(&job, rows_of(x, op->out), norm_row);
}

/* ---- backward -----------------------------------------------------------------------------------
 */
static void dy_chunk(void *arg, size_t chunk, int worker)
{
    const norm_job *job = arg;
    size_t first = chunk * NORM_CHUNK;
    float *v = job->row_scratch, *partial = partial_of(job, chunk);
    float *dy = partial_of(job, job->chunks) + first * job->c;
    (void)worker;
    memset(partial, 0, 2 * job->c * sizeof *partial);
    job->x->kernels->affine_backward(
        dy, partial, partial + job->c, job->row_dout + first * job->ldo, job->ldo,
        job->row_in + first * job->ldi, job->ldi, v, v + job->c, v + 2 * job->c, job->op->act,
        chunk_pixels(job, chunk), job->c);
}

static void dx_chunk(void *arg, size_t chunk, int worker)
{
    const norm_job *job = arg;
    size_t first = chunk * NORM_CHUNK;
    const float *v = job->row_scratch, *dy = partial_of(job, job->chunks) + first * job->c;
    (void)worker;
    job->x->kernels->combine(
        job->row_dx + first * job->ldd, job->ldd, dy, job->row_in + first * job->ldi, job->ldi,
        v + 4 * job->c, v + 5 * job->c, v + 6 * job->c, job->add, chunk_pixels(job, chunk), job->c);
}

/* dx = gain·dy − rstd·m1 − rstd²·m2·(x − mean), m1 = mean over the group of g·dy, m2 = of
 * g·dy·(x − mean)·rstd, g = gamma·(1 + scale); written as p·dy + q·x + r per channel. */
static void row_coefficients(const norm_job *job, const float *sums)
{
    float *v = job->row_scratch;
    const float *gain = v, *mean = v + 2 * job->c, *rstd = v + 3 * job->c;
    float *p = v + 4 * job->c, *q = v + 5 * job->c, *r = v + 6 * job->c;
    size_t per_group = job->c / job->groups;
    double n = (double)job->pixels * (double)per_group;
    for (size_t g = 0; g < job->groups; g++) {
        size_t first = g * per_group;
        double m1 = 0, m2 = 0, rs = rstd[first];
        for (size_t c = first; c < first + per_group; c++) {
            m1 += (double)gain[c] * sums[c];               /* rstd·g·Σdy */
            m2 += (double)gain[c] * sums[job->c + c] * rs; /* rstd·g·Σdy·xhat */
        }
        for (size_t c = first; c < first + per_group; c++) {
            p[c] = gain[c];
            q[c] = (float)(-rs * m2 / n);
            r[c] = (float)(-m1 / n + rs * m2 / n * (double)mean[c]);
        }
    }
}

static void norm_row_backward(void *arg, size_t row, int worker)
{
    norm_job job = *(const norm_job *)arg;
    job.row_in = job.in + row * job.pixels * job.ldi;
    job.row_dout = job.dout + row * job.pixels * job.ldo;
    job.row_scratch = (float *)job.x->scratch + (size_t)worker * job.worker_floats;
    float *v = job.row_scratch, *sums = job.sums + row * 2 * job.c;
    row_vectors(&job, row, v, v + job.c, v + 2 * job.c, v + 3 * job.c);
    dscm_team_run(job.inner, job.chunks, dy_chunk, &job);
    memset(sums, 0, 2 * job.c * sizeof *sums);
    for (size_t k = 0; k < job.chunks; k++)
        for (size_t c = 0; c < 2 * job.c; c++) sums[c] += partial_of(&job, k)[c];
    if (!job.dx) return;
    job.row_dx = job.dx + row * job.pixels * job.ldd;
    row_coefficients(&job, sums);
    dscm_team_run(job.inner, job.chunks, dx_chunk, &job);
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
        for (size_t c = 0; c < job->c; c++) {
            float rstd = job->stats[(row * 2 + 1) * job->groups + c / per_group];
            float dxhat = rstd * sums[job->c + c], scale = emb ? 1 + emb[c] : 1;
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
    run_rows(&job, rows, norm_row_backward);
    float *demb = grad_to(x, op->in[1], &add);
    if (demb && !add) memset(demb, 0, x->conditions * 2 * job.c * sizeof *demb);
    if (demb || x->param_grads) norm_param_grads(&job, rows, demb);
}

const op_class dscm_op_norm_class = {.forward = norm_forward,
                                     .backward = norm_backward,
                                     .reads = 3u,
                                     .aux_bytes = norm_aux,
                                     .scratch_bytes = norm_scratch};

/* ---- activation ---------------------------------------------------------------------------------
 */
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
