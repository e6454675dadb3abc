/* Self-attention over pixels, and the token pool of the encoder. */
#include <math.h>
#include <string.h>

#include "core/kernels/attention.h"
#include "core/kernels/gemm.h"
#include "core/nn/graph_internal.h"

#define PART_QUERIES ((size_t)56)

typedef struct attention_job {
    dscm_exec *x;
    const node_op *op;
    size_t n, ch, heads, ldi, ldo;
    size_t parts; /* of the queries of a head, for a team with few heads */
    size_t worker_bytes;
    bool add;
    float *dqkv;
} attention_job;

/* Of a worker: what a head needs forward; for backward scores (n,n) and their gradient (n,n). */
static size_t worker_bytes(const dscm_exec *x, size_t n, size_t ch)
{
    size_t forward = dscm_attention_scratch(x->weights->isa, n, ch);
    size_t backward = dscm_arena_round(2 * n * n * sizeof(float));
    return x->mode == DSCM_EXEC_INFER || forward > backward ? forward : backward;
}

static size_t attention_scratch(const dscm_exec *x, const node_op *op)
{
    const node_tensor *t = tensor_of(x, op->out);
    return worker_bytes(x, t->h * t->w, t->c / op->heads) * (size_t)dscm_team_size(x->team);
}

/* Channel of part (0 q, 1 k, 2 v) of a head. Legacy order splits heads first: h·3ch + part·ch; the
 * new order splits q, k, v first: part·H·ch + h·ch. */
static size_t part_at(const attention_job *job, size_t head, size_t part)
{
    return job->op->new_order ? (part * job->heads + head) * job->ch : (head * 3 + part) * job->ch;
}

static float *scratch_of(const attention_job *job, int worker)
{
    return (float *)((unsigned char *)job->x->scratch + (size_t)worker * job->worker_bytes);
}

static void attend(void *arg, size_t index, int worker)
{
    const attention_job *job = arg;
    size_t n = job->n, part = index % job->parts, head = index / job->parts % job->heads;
    size_t row = index / job->parts / job->heads;
    size_t first = part * n / job->parts, last = (part + 1) * n / job->parts;
    const float *qkv = job->x->data[job->op->in[0]] + row * n * job->ldi;
    dscm_attention_rows(job->x->weights->isa,
                        job->x->data[job->op->out] + row * n * job->ldo + head * job->ch, job->ldo,
                        qkv + part_at(job, head, 0), qkv + part_at(job, head, 1),
                        qkv + part_at(job, head, 2), job->ldi, n, job->ch,
                        1 / sqrtf((float)job->ch), first, last - first, scratch_of(job, worker));
}

static void attend_backward(void *arg, size_t index, int worker)
{
    const attention_job *job = arg;
    size_t row = index / job->heads, head = index % job->heads, n = job->n, ch = job->ch;
    float *s = scratch_of(job, worker), *ds = s + n * n, scale = 1 / sqrtf((float)ch);
    const float *qkv = job->x->data[job->op->in[0]] + row * n * job->ldi;
    const float *dout = job->x->grad[job->op->out] + row * n * job->ldo + head * ch;
    float *dqkv = job->dqkv + row * n * job->ldi, beta = job->add ? 1 : 0;
    size_t q = part_at(job, head, 0), k = part_at(job, head, 1), v = part_at(job, head, 2);
    /* S = softmax(q kᵀ / √ch)   (n,n), again: keeping n x n per head and layer costs more than it
     * saves */
    dscm_gemm(false, true, n, n, ch, 1, qkv + q, job->ldi, qkv + k, job->ldi, 0, s, n);
    job->x->kernels->softmax(s, n, scale, n, n);
    /* dv = Sᵀ · dout;  dS = dout · vᵀ;  d(q kᵀ) = softmax'(dS) / √ch;  dq = dS · k;  dk = dSᵀ · q
     */
    dscm_gemm(true, false, n, ch, n, 1, s, n, dout, job->ldo, beta, dqkv + v, job->ldi);
    dscm_gemm(false, true, n, n, ch, 1, dout, job->ldo, qkv + v, job->ldi, 0, ds, n);
    job->x->kernels->softmax_backward(ds, s, scale, n, n);
    dscm_gemm(false, false, n, ch, n, 1, ds, n, qkv + k, job->ldi, beta, dqkv + q, job->ldi);
    dscm_gemm(true, false, n, ch, n, 1, ds, n, qkv + q, job->ldi, beta, dqkv + k, job->ldi);
}

static attention_job attention_of(dscm_exec *x, const node_op *op)
{
    const node_tensor *t = tensor_of(x, op->out);
    size_t n = t->h * t->w, ch = t->c / op->heads;
    return (attention_job){.x = x,
                           .op = op,
                           .n = n,
                           .ch = ch,
                           .heads = op->heads,
                           .ldi = ld_of(x, op->in[0]),
                           .ldo = ld_of(x, op->out),
                           .parts = 1,
                           .worker_bytes = worker_bytes(x, n, ch)};
}

static void attention_forward(dscm_exec *x, const node_op *op)
{
    attention_job job = attention_of(x, op);
    size_t tasks = rows_of(x, op->out) * job.heads, threads = (size_t)dscm_team_size(x->team);
    size_t idle = (threads - tasks % threads) % threads; /* in the last round */
    /* A part packs the keys and values of its head again: worth it only for many queries. */
    if (8 * idle > tasks && job.n >= PART_QUERIES * threads) job.parts = threads;
    dscm_team_run(x->team, tasks * job.parts, attend, &job);
}

static void attention_backward(dscm_exec *x, const node_op *op)
{
    attention_job job = attention_of(x, op);
    job.dqkv = grad_to(x, op->in[0], &job.add);
    if (job.dqkv) dscm_team_run(x->team, rows_of(x, op->out) * job.heads, attend_backward, &job);
}

const op_class dscm_op_attention_class = {.forward = attention_forward,
                                          .backward = attention_backward,
                                          .reads = 1u,
                                          .scratch_bytes = attention_scratch};

/* ---- token pool: mean token first, then the pixels, plus position (C,HW+1) ---- */
static void tokens_forward(dscm_exec *x, const node_op *op)
{
    size_t n = pixels_of(x, op->in[0]), c = tensor_of(x, op->out)->c, ldi = ld_of(x, op->in[0]);
    const float *position = param_of(x, op->w);
    for (size_t r = 0; r < rows_of(x, op->out); r++) {
        const float *in = x->data[op->in[0]] + r * n * ldi;
        float *out = x->data[op->out] + r * (n + 1) * c;
        memset(out, 0, c * sizeof *out);
        for (size_t p = 0; p < n; p++)
            for (size_t i = 0; i < c; i++) out[i] += in[p * ldi + i] / (float)n;
        for (size_t i = 0; i < c; i++) out[i] += position[i * (n + 1)];
        for (size_t p = 0; p < n; p++)
            for (size_t i = 0; i < c; i++)
                out[(p + 1) * c + i] = in[p * ldi + i] + position[i * (n + 1) + p + 1];
    }
}

static void tokens_backward(dscm_exec *x, const node_op *op)
{
    size_t n = pixels_of(x, op->in[0]), c = tensor_of(x, op->out)->c, ldi = ld_of(x, op->in[0]);
    float *dposition = param_grad_of(x, op->w);
    bool add;
    float *dx = grad_to(x, op->in[0], &add);
    for (size_t r = 0; r < rows_of(x, op->out); r++) {
        const float *dout = x->grad[op->out] + r * (n + 1) * c;
        for (size_t p = 0; dposition && p <= n; p++)
            for (size_t i = 0; i < c; i++) dposition[i * (n + 1) + p] += dout[p * c + i];
        for (size_t p = 0; dx && p < n; p++)
            for (size_t i = 0; i < c; i++) {
                float d = dout[(p + 1) * c + i] + dout[i] / (float)n;
                float *to = dx + (r * n + p) * ldi + i;
                *to = add ? *to + d : d;
            }
    }
}

const op_class dscm_op_pool_tokens_class = {.forward = tokens_forward, .backward = tokens_backward};

static void first_token_forward(dscm_exec *x, const node_op *op)
{
    size_t n = pixels_of(x, op->in[0]), c = tensor_of(x, op->out)->c, ldi = ld_of(x, op->in[0]);
    for (size_t r = 0; r < rows_of(x, op->out); r++)
        memcpy(x->data[op->out] + r * c, x->data[op->in[0]] + r * n * ldi, c * sizeof(float));
}

static void first_token_backward(dscm_exec *x, const node_op *op)
{
    size_t n = pixels_of(x, op->in[0]), c = tensor_of(x, op->out)->c, ldi = ld_of(x, op->in[0]);
    bool add;
    float *dx = grad_to(x, op->in[0], &add);
    if (!dx) return;
    for (size_t r = 0; r < rows_of(x, op->out); r++, dx += n * ldi) {
        for (size_t p = 0; p < n && !add; p++) memset(dx + p * ldi, 0, c * sizeof *dx);
        for (size_t i = 0; i < c; i++) dx[i] += x->grad[op->out][r * c + i];
    }
}

const op_class dscm_op_first_token_class = {.forward = first_token_forward,
                                            .backward = first_token_backward};
