#include "core/nn/optim.h"

#include <math.h>

#include "core/kernels/simd/nn_simd.h"

#define PIECE      ((size_t)16384) /* parameters of a task at least */
#define PIECES_MAX ((size_t)8192)

typedef struct step_job {
    const dscm_nn_kernels *kernels;
    dscm_adamw_state *s;
    float *const *grads;
    size_t shards;
    size_t piece, pieces;     /* parameters of a task; tasks */
    dscm_adamw_run run;       /* coefficients; the pieces bring the arrays */
    double norms[PIECES_MAX]; /* summed in order, so the result does not depend on threads */
} step_job;

static size_t piece_size(const step_job *job, size_t piece)
{
    size_t left = job->s->floats - piece * job->piece;
    return left < job->piece ? left : job->piece;
}

static void sum_piece(void *arg, size_t piece, int worker)
{
    step_job *job = arg;
    size_t first = piece * job->piece, count = piece_size(job, piece);
    float *sum = job->grads[0] + first;
    (void)worker;
    for (size_t k = 1; k < job->shards; k++)
        job->kernels->add(sum, sum, job->grads[k] + first, count);
    job->norms[piece] = job->kernels->squares(sum, count);
}

static void update_piece(void *arg, size_t piece, int worker)
{
    const step_job *job = arg;
    size_t first = piece * job->piece;
    dscm_adamw_run run = job->run;
    (void)worker;
    run.w = job->s->values + first;
    run.ema = job->s->ema + first;
    run.m = job->s->m + first;
    run.v = job->s->v + first;
    run.grad = job->grads[0] + first;
    run.count = piece_size(job, piece);
    job->kernels->adamw(&run);
}

double dscm_adamw_step(const dscm_adamw *o, dscm_adamw_state *s, float *const *grads, size_t shards,
                       size_t step, dscm_team *team)
{
    double n = (double)step;
    size_t least = (s->floats + PIECES_MAX - 1) / PIECES_MAX;
    step_job job = {.kernels = dscm_nn_kernels_of(o->isa),
                    .s = s,
                    .grads = grads,
                    .shards = shards,
                    .run = {.scale = 1,
                            .beta1 = (float)o->beta1,
                            .beta2 = (float)o->beta2,
                            .bias1 = (float)(1 / (1 - pow(o->beta1, n))),
                            .bias2 = (float)(1 / (1 - pow(o->beta2, n))),
                            .rate = (float)o->rate,
                            .eps = (float)o->eps,
                            .decay = (float)(1 - o->rate * o->weight_decay),
                            .follow = (float)(1 - fmin(o->ema_decay, (1 + n) / (10 + n)))}};
    job.piece = least > PIECE ? least : PIECE;
    job.pieces = (s->floats + job.piece - 1) / job.piece;
    dscm_team_run(team, job.pieces, sum_piece, &job);
    double norm = 0;
    for (size_t i = 0; i < job.pieces; i++) norm += job.norms[i];
    norm = sqrt(norm);
    if (!isfinite(norm)) return norm;
    if (o->clip > 0 && norm > o->clip) job.run.scale = (float)(o->clip / norm);
    dscm_team_run(team, job.pieces, update_piece, &job);
    return norm;
}
