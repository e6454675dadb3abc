/* Sessions: one thread's executors and buffers, and the walk that drives them. */
#include "core/scm/session.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/models/gaussian.h"
#include "core/scm/estimates.h"

#define WALK_BUFFERS  6
#define SESSION_BYTES ((size_t)1 << 30) /* that a session takes where nobody grants more */

/* The executors of a session: which network, for what. */
typedef struct exec_place {
    const bundle_net *net;
    dscm_exec_mode mode;
    const char *const *outputs;
    dscm_exec **out;
} exec_place;

#define PLACES_MAX (BUNDLE_VARIABLES_MAX + 3 * BUNDLE_JUDGES_MAX + 4)

/* s may be NULL when the places are only measured. */
static size_t list_execs(const dscm_bundle *b, dscm_session *s, exec_place *list)
{
    static const char *const code_outputs[] = {"mu", "logvar", NULL};
    size_t count = 0;
    const bundle_judges *j = &b->panel;
    const exec_place fixed[] = {
        {&b->variables[b->info.image].score, DSCM_EXEC_INFER, NULL, s ? &s->score : NULL},
        {&j->autoencoder, DSCM_EXEC_INFER, NULL, s ? &s->autoencoder : NULL},
        {j->class_autoencoders, DSCM_EXEC_INFER, NULL, s ? &s->class_autoencoder : NULL}};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (fixed[i].net && fixed[i].net->net) list[count++] = fixed[i];
    for (size_t i = 0; i < j->classifiers_count; i++)
        list[count++] =
            (exec_place){&j->classifiers[i], DSCM_EXEC_INFER, NULL, s ? &s->classifiers[i] : NULL};
    for (size_t i = 0; i < j->vaes_count; i++)
        list[count++] =
            (exec_place){&j->vaes[i].net, DSCM_EXEC_INFER, code_outputs, s ? &s->vaes[i] : NULL};
    for (size_t i = 0; i < b->info.acceptance_count; i++)
        list[count++] = (exec_place){&b->acceptance[i].net, DSCM_EXEC_INFER, NULL,
                                     s ? &s->acceptance[i] : NULL};
    if (b->search.vaes_count)
        list[count++] = (exec_place){&b->search.vaes->net, DSCM_EXEC_INFER, code_outputs,
                                     s ? &s->search_vae : NULL};
    for (size_t e = 0; e < b->edges_count; e++)
        if (b->edges[e].child == b->info.image)
            list[count++] = (exec_place){&b->edges[e].predictor, DSCM_EXEC_INPUT_GRAD, NULL,
                                         s ? &s->predictors[e] : NULL};
    return count;
}

#define SMALL_PIXELS ((size_t)1024)

/* Rows of one pass of the score network: a guided image alone has two, told the factual and the targets, and of
 * small ones a pass of two is faster than two of one. */
static size_t rows_of(const dscm_bundle *b, size_t batch)
{
    const dscm_variable *v = &b->infos[b->info.image];
    return batch == 1 && dscm_bundle_conditions(b) && v->h * v->w <= SMALL_PIXELS ? 2 : batch;
}

static dscm_exec_options exec_options(const dscm_bundle *b, const exec_place *p, size_t batch,
                                      dscm_team *team)
{
    bool score = p->net == &b->variables[b->info.image].score;
    return (dscm_exec_options){.mode = p->mode,
                               .batch = score ? rows_of(b, batch) : batch,
                               .team = team,
                               .outputs = p->outputs};
}

static size_t walk_bytes(const dscm_bundle *b, size_t batch)
{
    const dscm_variable *v = &b->infos[b->info.image];
    return WALK_BUFFERS * dscm_arena_round(batch * v->h * v->w * v->c * sizeof(float));
}

static bool is_guide(const exec_place *p)
{
    return p->mode == DSCM_EXEC_INPUT_GRAD;
}

/* Small images leave a team of two waiting for each other after every layer: measured, it makes 1.5
 * times the speed of one thread. A thread for the score network and one for the predictors, whose
 * work is double for the gradient, is faster where the two take about the same time. */
#define APART_GAIN 1.5

static bool runs_apart(const dscm_bundle *b, size_t batch, int threads)
{
    const dscm_variable *v = &b->infos[b->info.image];
    exec_place list[PLACES_MAX];
    size_t count = list_execs(b, NULL, list);
    const dscm_net *score = b->variables[b->info.image].score.net;
    double one = score ? dscm_net_flops(score) : 0, other = 0;
    for (size_t i = 0; i < count; i++)
        if (is_guide(&list[i])) other += 2 * dscm_net_flops(list[i].net->net);
    return threads == 2 && batch == 1 && v->h * v->w <= SMALL_PIXELS &&
           APART_GAIN * fmax(one, other) < one + other;
}

/* Bytes of the executors' block, or, apart, of the score network's and of the predictors' block. */
typedef struct exec_blocks {
    size_t all, guides;
} exec_blocks;

static dscm_code measure_execs(const dscm_bundle *b, size_t batch, dscm_team *team,
                               exec_blocks *blocks, dscm_error *err)
{
    exec_place list[PLACES_MAX];
    size_t count = list_execs(b, NULL, list);
    bool apart = runs_apart(b, batch, dscm_team_size(team));
    dscm_code code = DSCM_OK;
    *blocks = (exec_blocks){0};
    for (size_t i = 0; i < count && code == DSCM_OK; i++) {
        size_t one = 0, *most = apart && is_guide(&list[i]) ? &blocks->guides : &blocks->all;
        dscm_exec_options o = exec_options(b, &list[i], batch, team);
        code = dscm_exec_measure(&one, list[i].net->net->graph, list[i].net->weights, &o, err);
        if (one > *most) *most = dscm_arena_round(one);
    }
    return code;
}

dscm_code dscm_session_measure(const dscm_bundle *bundle, size_t batch, int threads, size_t *bytes,
                               dscm_error *err)
{
    dscm_team *team = NULL;
    exec_blocks blocks = {0};
    dscm_code code = threads != 1 ? dscm_team_open(&team, threads, err) : DSCM_OK;
    if (code == DSCM_OK) code = measure_execs(bundle, batch, team, &blocks, err);
    *bytes = blocks.all + blocks.guides + walk_bytes(bundle, batch);
    dscm_team_free(team);
    return code;
}

/* What one session may take. */
static size_t budget_of(const dscm_bundle *b)
{
    const dscm_load_options *o = &b->options;
    size_t weights = b->info.bytes + b->info.mapped_bytes;
    if (!o->memory) return SESSION_BYTES;
    return o->memory > weights ? (o->memory - weights) / (size_t)o->sessions : 0;
}

/* Fewer images per pass until the executors' blocks fit. */
static dscm_code settle_batch(dscm_session *s, exec_blocks *blocks, dscm_error *err)
{
    for (;; s->batch_max = (s->batch_max + 1) / 2) {
        dscm_code code = measure_execs(s->bundle, s->batch_max, s->team, blocks, err);
        bool fits = blocks->all + blocks->guides + walk_bytes(s->bundle, s->batch_max) <=
                    budget_of(s->bundle);
        if (code != DSCM_OK || fits || s->batch_max == 1) return code;
    }
}

static dscm_code open_memory(dscm_session *s, dscm_error *err)
{
    exec_blocks blocks = {0};
    dscm_code code = settle_batch(s, &blocks, err);
    size_t walk = walk_bytes(s->bundle, s->batch_max);
    s->rows_max = rows_of(s->bundle, s->batch_max);
    if (code == DSCM_OK) code = dscm_arena_open(&s->arena, walk + blocks.all + blocks.guides, err);
    if (code != DSCM_OK) return code;
    s->apart = blocks.guides > 0;
    float **const buffers[WALK_BUFFERS] = {&s->walk.x,    &s->walk.pair, &s->walk.eps,
                                           &s->walk.grad, &s->walk.x0,   &s->walk.spare};
    for (int i = 0; i < WALK_BUFFERS; i++)
        *buffers[i] = dscm_arena_take(&s->arena, walk / WALK_BUFFERS);
    s->walk.size = s->size;
    s->walk.channels = s->image->info.c;
    exec_place list[PLACES_MAX];
    size_t count = list_execs(s->bundle, s, list);
    void *shared = dscm_arena_take(&s->arena, blocks.all);
    void *guides = s->apart ? dscm_arena_take(&s->arena, blocks.guides) : shared;
    for (size_t i = 0; i < count && code == DSCM_OK; i++) {
        dscm_exec_options o = exec_options(s->bundle, &list[i], s->batch_max, s->team);
        o.memory = is_guide(&list[i]) ? guides : shared;
        code = dscm_exec_open(list[i].out, list[i].net->net->graph, list[i].net->weights, &o, err);
    }
    return code;
}

dscm_code dscm_session_open(dscm_session **out, const dscm_bundle *bundle, size_t batch_max,
                            int threads, dscm_error *err)
{
    *out = NULL;
    assert(!bundle->options.describe);
    if (batch_max < 1 || batch_max > 4096)
        return dscm_fail(err, DSCM_E_INVALID, "batch: %zu is not in 1..4096", batch_max);
    dscm_session *s = dscm_alloc(1, sizeof *s, "session", err);
    if (!s) return DSCM_E_MEMORY;
    s->bundle = bundle;
    s->image = &bundle->variables[bundle->info.image];
    s->batch_max = batch_max;
    s->size = s->image->info.h * s->image->info.w * s->image->info.c;
    s->predictors = dscm_alloc(bundle->edges_count + 1, sizeof *s->predictors, "session", err);
    s->told =
        dscm_alloc(batch_max * dscm_bundle_conditions(bundle) + 1, sizeof *s->told, "session", err);
    s->rows = dscm_alloc(rows_of(bundle, batch_max), sizeof *s->rows, "session", err);
    dscm_code code = s->predictors && s->told && s->rows ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK && threads != 1) code = dscm_team_open(&s->team, threads, err);
    if (code == DSCM_OK) code = open_memory(s, err);
    if (code != DSCM_OK) {
        dscm_session_free(s);
        return code;
    }
    *out = s;
    return DSCM_OK;
}

void dscm_session_free(dscm_session *s)
{
    if (!s) return;
    for (size_t e = 0; s->predictors && e < s->bundle->edges_count; e++)
        dscm_exec_free(s->predictors[e]);
    dscm_exec_free(s->score);
    for (size_t i = 0; i < BUNDLE_JUDGES_MAX; i++) {
        dscm_exec_free(s->classifiers[i]);
        dscm_exec_free(s->vaes[i]);
        dscm_exec_free(s->acceptance[i]);
    }
    dscm_exec_free(s->autoencoder);
    dscm_exec_free(s->class_autoencoder);
    dscm_exec_free(s->search_vae);
    dscm_arena_close(&s->arena);
    dscm_team_free(s->team);
    dscm_free(s->predictors);
    dscm_free(s->told);
    dscm_free(s->rows);
    dscm_free(s);
}

size_t dscm_session_bytes(const dscm_session *s)
{
    return s->arena.size;
}

dscm_code dscm_session_path(const dscm_session *s, const dscm_options *o, dscm_path *out,
                            dscm_error *err)
{
    dscm_sampler sampler = DSCM_SAMPLER_OBELM;
    dscm_code code = dscm_sampler_parse(&sampler, o->sampler, err);
    if (code != DSCM_OK) return code;
    code =
        dscm_path_open(out, &s->image->schedule, sampler, o->steps, o->ratio, o->dynamic != 0, err);
    if (o->steps == s->bundle->defaults.steps) out->rounds = s->bundle->rounds;
    out->limit = s->image->limit;
    out->noise_limit = s->image->noise_limit;
    out->eta = s->image->eta;
    return code;
}

void dscm_session_load(dscm_session *s, const dscm_latent *l, size_t first, size_t n)
{
    memcpy(s->walk.x, l->x + first * s->size, n * s->size * sizeof(float));
    if (l->extras == 1)
        memcpy(s->walk.pair, l->extra + first * s->size, n * s->size * sizeof(float));
    /* Residuals stay in the latent: they are many, and each is read or written once. */
    s->walk.residual = l->extras > 1 ? l->extra + first * l->extras * s->size : NULL;
}

void dscm_session_store(const dscm_session *s, dscm_latent *l, size_t first, size_t n)
{
    memcpy(l->x + first * s->size, s->walk.x, n * s->size * sizeof(float));
    if (l->extras == 1)
        memcpy(l->extra + first * s->size, s->walk.pair, n * s->size * sizeof(float));
}

/* ---- the walk ---- */
typedef struct walker {
    dscm_session *s;
    const walk_call *call;
    bool guided_ahead; /* the estimate at hand has brought the walk's gradient with it */
} walker;

static dscm_code stopped(dscm_error *err)
{
    return dscm_fail(err, DSCM_E_CANCELED, "canceled within a step");
}

/* dlogits = scale * d log p(target) / d logits */
static void class_gradient(float *d, const float *logits, size_t classes, const guidance *g)
{
    float top = logits[0], sum = 0;
    for (size_t k = 1; k < classes; k++) top = fmaxf(top, logits[k]);
    for (size_t k = 0; k < classes; k++) sum += expf(logits[k] - top);
    for (size_t k = 0; k < classes; k++)
        d[k] = (float)g->scale * ((k == (size_t)g->target) - expf(logits[k] - top) / sum);
}

/* dout = scale * d log p(target) / d out, p normal: see gaussian.h */
static void gaussian_gradient(float *d, const float *out, const dscm_net_config *c,
                              const guidance *g)
{
    dscm_gaussian seen = dscm_gaussian_head(c, out);
    dscm_gaussian_nll(&seen, g->target, -g->scale, d);
}

static bool add_edge_gradient(dscm_session *s, const walk_call *call, size_t e, float *grad,
                              const float *x, double t, size_t batch)
{
    const bundle_edge *edge = &s->bundle->edges[e];
    const dscm_net *net = edge->predictor.net;
    dscm_exec *exec = s->predictors[e];
    size_t outputs = net->config.out_channels, edges = s->bundle->edges_count;
    memcpy(dscm_exec_data(exec, net->x), x, batch * s->size * sizeof *x);
    *dscm_exec_data(exec, net->t) = (float)t;
    if (!dscm_exec_forward(exec, batch, 1)) return false;
    const float *out = dscm_exec_data(exec, net->out);
    float *d = dscm_exec_grad(exec, net->out);
    for (size_t b = 0; b < batch; b++) {
        const guidance *g = &call->guided[b * edges + e];
        if (s->bundle->variables[edge->parent].info.kind == DSCM_CATEGORICAL)
            class_gradient(d + b * outputs, out + b * outputs, outputs, g);
        else
            gaussian_gradient(d + b * outputs, out + b * outputs, &net->config, g);
    }
    if (!dscm_exec_backward(exec)) return false;
    const float *dx = dscm_exec_grad(exec, net->x);
    for (size_t i = 0; i < batch * s->size; i++) grad[i] += dx[i];
    return true;
}

static bool edge_is_used(const walk_call *call, size_t edges, size_t e, size_t batch)
{
    for (size_t b = 0; b < batch; b++)
        if (call->guided[b * edges + e].scale != 0) return true;
    return false;
}

/* grad = sum over edges. False when the watch stopped it. */
static bool run_guides(const walker *w, float *grad, const float *x, double t, size_t batch)
{
    size_t edges = w->s->bundle->edges_count;
    memset(grad, 0, batch * w->s->size * sizeof *grad);
    for (size_t e = 0; e < edges; e++)
        if (w->s->predictors[e] && edge_is_used(w->call, edges, e, batch) &&
            !add_edge_gradient(w->s, w->call, e, grad, x, t, batch))
            return false;
    return true;
}

typedef struct apart_job {
    const walker *w;
    float *eps;
    const float *x;
    double t;
} apart_job;

static void run_one_of_two(void *arg, size_t index, int worker)
{
    const apart_job *job = arg;
    const walker *w = job->w;
    size_t batch = w->s->walk.batch;
    (void)worker;
    if (index == 0) /* neither is watched */
        (void)scm_estimate(w->s, w->call, job->eps, job->x, job->t, batch);
    else
        (void)run_guides(w, w->s->walk.grad, job->x, job->t, batch);
}

static void join_all(dscm_session *s, dscm_team *team)
{
    dscm_exec_join(s->score, team);
    for (size_t e = 0; e < s->bundle->edges_count; e++)
        if (s->predictors[e]) dscm_exec_join(s->predictors[e], team);
}

static void watch(dscm_session *s, const dscm_progress *progress)
{
    bool (*go)(void *arg) = progress ? progress->keep_going : NULL;
    void *arg = progress ? progress->arg : NULL;
    dscm_exec_watch(s->score, go, arg);
    for (size_t e = 0; e < s->bundle->edges_count; e++)
        if (s->predictors[e]) dscm_exec_watch(s->predictors[e], go, arg);
}

static dscm_code estimate(void *ctx, float *eps, const float *x, double t, size_t batch,
                          dscm_error *err)
{
    walker *w = ctx;
    const dscm_progress *progress = w->call->progress;
    w->guided_ahead = (w->s->apart || w->call->conditional) && w->s->walk.guided;
    if (w->guided_ahead && w->call->conditional)
        return scm_estimate_changes(w->s, w->call, eps, x, t, batch) ? DSCM_OK : stopped(err);
    if (!w->guided_ahead)
        return scm_estimate(w->s, w->call, eps, x, t, batch) ? DSCM_OK : stopped(err);
    /* The caller may be asked in its own thread only. */
    if (progress && progress->keep_going && !progress->keep_going(progress->arg))
        return stopped(err);
    apart_job job = {.w = w, .eps = eps, .x = x, .t = t};
    watch(w->s, NULL);
    join_all(w->s, NULL);
    dscm_team_run(w->s->team, 2, run_one_of_two, &job);
    join_all(w->s, w->s->team);
    watch(w->s, progress);
    return DSCM_OK;
}

static dscm_code guide(void *ctx, float *grad, const float *x, double t, size_t batch,
                       dscm_error *err)
{
    const walker *w = ctx;
    if (w->guided_ahead) return DSCM_OK;
    return run_guides(w, grad, x, t, batch) ? DSCM_OK : stopped(err);
}

static bool on_step(void *ctx, const dscm_walk *walk, size_t done, size_t total)
{
    const walk_call *call = ((const walker *)ctx)->call;
    if (!call->progress || !call->progress->on_step) return true;
    dscm_progress_event event = {.phase = call->phase,
                                 .step = call->done + done,
                                 .steps = call->total,
                                 .preview = call->hidden ? NULL : walk->x0,
                                 .first = call->first,
                                 .batch = walk->batch,
                                 .walk_step = done,
                                 .walk_steps = total};
    return call->progress->on_step(call->progress->arg, &event);
}

static bool any_guidance(const dscm_session *s, const walk_call *call, size_t count)
{
    for (size_t e = 0; call->guided && e < s->bundle->edges_count; e++)
        if (edge_is_used(call, s->bundle->edges_count, e, count)) return true;
    return false;
}

static dscm_denoiser denoiser_of(walker *w, size_t count)
{
    return (dscm_denoiser){
        .ctx = w, .eps = estimate, .guide = any_guidance(w->s, w->call, count) ? guide : NULL};
}

dscm_code dscm_session_walk(dscm_session *s, size_t count, const walk_call *call, dscm_error *err)
{
    assert(count <= s->batch_max);
    walker w = {.s = s, .call = call};
    dscm_denoiser denoiser = denoiser_of(&w, count);
    dscm_walk_observer observer = {.ctx = &w, .on_step = on_step};
    s->walk.batch = count;
    memcpy(s->walk.midway, call->midway, sizeof s->walk.midway);
    s->walk.midway_level = call->midway[0] ? scm_late_level(s, call->path) : 0;
    s->walk.resumes = call->resumes;
    watch(s, call->progress);
    dscm_code code = call->up ? dscm_walk_up(call->path, &s->walk, &denoiser, &observer, err)
                              : dscm_walk_down(call->path, &s->walk, &denoiser, &observer, err);
    watch(s, NULL); /* the caller's argument may be gone before the networks run again */
    return code;
}

dscm_code dscm_session_forget(dscm_session *s, size_t count, const walk_call *call, dscm_error *err)
{
    walker w = {.s = s, .call = call};
    dscm_denoiser denoiser = denoiser_of(&w, count);
    s->walk.batch = count;
    return dscm_walk_forget(call->path, &s->walk, &denoiser, err);
}

dscm_code dscm_session_eps(dscm_session *s, float *eps, const float *x, double t, size_t count,
                           dscm_error *err)
{
    const walk_call call = {.told = NULL};
    assert(count <= s->batch_max);
    return scm_estimate(s, &call, eps, x, t, count) ? DSCM_OK : stopped(err);
}
