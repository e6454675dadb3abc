#include "core/nn/optim.h"

#include <math.h>

#define PIECE     ((size_t)16384) /* parameters of a task */
#define PIECES(n) (((n) + PIECE - 1) / PIECE)
#define NORM_MAX  8192

typedef struct step_job {
    const dscm_adamw *o;
    dscm_adamw_state *s;
    float *const *grads;
    size_t shards;
    float rate, bias1, bias2, ema, scale;
    double
        norms[NORM_MAX]; /* per piece: summed in order, so the result does not depend on threads */
} step_job;

static void sum_piece(void *arg, size_t piece, int worker)
{
    step_job *job = arg;
    size_t first = piece * PIECE, last = first + PIECE;
    if (last > job->s->floats) last = job->s->floats;
    double norm = 0;
    (void)worker;
    for (size_t k = 1; k < job->shards; k++)
        for (size_t i = first; i < last; i++) job->grads[0][i] += job->grads[k][i];
    for (size_t i = first; i < last; i++)
        norm += (double)job->grads[0][i] * (double)job->grads[0][i];
    job->norms[piece % NORM_MAX] += norm;
}

static void update_piece(void *arg, size_t piece, int worker)
{
    const step_job *job = arg;
    const dscm_adamw *o = job->o;
    size_t first = piece * PIECE, last = first + PIECE;
    if (last > job->s->floats) last = job->s->floats;
    float *restrict w = job->s->values, *restrict e = job->s->ema, *restrict m = job->s->m;
    float *restrict v = job->s->v;
    const float *restrict grad = job->grads[0];
    float b1 = (float)o->beta1, b2 = (float)o->beta2, eps = (float)o->eps;
    float decay = 1 - job->rate * (float)o->weight_decay;
    (void)worker;
    for (size_t i = first; i < last; i++) {
        float g = grad[i] * job->scale;
        m[i] = b1 * m[i] + (1 - b1) * g;
        v[i] = b2 * v[i] + (1 - b2) * g * g;
        w[i] = w[i] * decay - job->rate * (m[i] * job->bias1) / (sqrtf(v[i] * job->bias2) + eps);
        e[i] += (1 - job->ema) * (w[i] - e[i]);
    }
}

double dscm_adamw_step(const dscm_adamw *o, dscm_adamw_state *s, float *const *grads, size_t shards,
                       size_t step, dscm_team *team)
{
    double n = (double)step;
    step_job job = {.o = o,
                    .s = s,
                    .grads = grads,
                    .shards = shards,
                    .rate = (float)o->rate,
                    .bias1 = (float)(1 / (1 - pow(o->beta1, n))),
                    .bias2 = (float)(1 / (1 - pow(o->beta2, n))),
                    .ema = (float)fmin(o->ema_decay, (1 + n) / (10 + n)),
                    .scale = 1};
    dscm_team_run(team, PIECES(s->floats), sum_piece, &job);
    double norm = 0;
    for (size_t i = 0; i < NORM_MAX; i++) norm += job.norms[i];
    norm = sqrt(norm);
    if (o->clip > 0 && norm > o->clip) job.scale = (float)(o->clip / norm);
    dscm_team_run(team, PIECES(s->floats), update_piece, &job);
    return norm;
}
