#include "core/train/trainer.h"

#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/train/trainer_internal.h"

#define DIFFUSION_STEPS 1000
/* Images per network pass: more fall out of the caches, with fewer the weights are read too often. */
#define PASS_IMAGES ((size_t)8)
/* Between the largest and the smallest class: from here on accuracy alone says little. */
#define UNEVEN 1.5
/* Streams: samples count from 0; epochs and held-out images draw from far away. */
#define EPOCH_STREAM    ((uint64_t)1 << 62)
#define HELD_OUT_STREAM ((uint64_t)1 << 61)

dscm_train_options dscm_train_defaults(dscm_task task)
{
    static const dscm_arch archs[] = {DSCM_ARCH_UNET, DSCM_ARCH_ENCODER, DSCM_ARCH_CNN,
                                      DSCM_ARCH_VAE, DSCM_ARCH_AUTOENCODER};
    return (dscm_train_options){.task = task,
                                .net = dscm_net_config_defaults(archs[task]),
                                .schedule = DSCM_SCHEDULE_COSINE,
                                .batch = 128,
                                .samples = 1000000,
                                .rate = 1e-3,
                                .weight_decay = 1e-4,
                                .ema_decay = 0.999,
                                .clip = 1,
                                .warmup = 200,
                                .seed = 1,
                                .threads = 1,
                                .only_class = -1,
                                .parent_dropout = 0.1,
                                .isa = dscm_cpu_best_isa()};
}

/* ---- opening ---- */
static dscm_code check_parents(const dscm_train_options *o, const dscm_dataset *data,
                               const double *parents, dscm_error *err)
{
    bool target = o->net.target.name[0];
    size_t count = target ? 1 : o->net.parents_count;
    if (count && !parents)
        return dscm_fail(err, DSCM_E_INVALID, "parents: the network has %zu, the data no values",
                         count);
    for (size_t i = 0; i < data->count * count; i++) {
        const dscm_parent *p = target ? &o->net.target : &o->net.parents[i % count];
        double v = parents[i];
        if (isnan(v) ||
            (p->classes ? v >= 0 && v < (double)p->classes && v == floor(v) : isfinite(v)))
            continue;
        return dscm_fail(err, DSCM_E_INVALID, "data: image %zu has %s %g, the network %zu classes",
                         i / count, p->name, v, p->classes);
    }
    if (!(o->parent_dropout >= 0 && o->parent_dropout <= 1))
        return dscm_fail(err, DSCM_E_INVALID, "parent_dropout: %g is not in 0..1",
                         o->parent_dropout);
    return DSCM_OK;
}

static dscm_code check_options(const dscm_train_options *o, const dscm_dataset *data,
                               const double *parents, dscm_error *err)
{
    const dscm_net_config *c = &o->net;
    if (data->h != data->w)
        return dscm_fail(
            err, DSCM_E_MISMATCH,
            "data: images of %zux%zu pixels are not square, as the networks need them; "
            "--size N makes pictures so",
            data->w, data->h);
    if (data->h != c->image_size || data->c != c->in_channels)
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "data: images are %zux%zux%zu, the network takes %zux%zux%zu", data->h,
                         data->w, data->c, c->image_size, c->image_size, c->in_channels);
    if (o->batch < (size_t)o->threads || o->batch > 65536)
        return dscm_fail(err, DSCM_E_INVALID, "batch: %zu is not in %d (threads)..65536", o->batch,
                         o->threads);
    if (!o->seed) return dscm_fail(err, DSCM_E_INVALID, "seed: 0 is reserved");
    if (!(o->clean_share >= 0 && o->clean_share <= 1) ||
        (o->clean_share > 0 && o->task != DSCM_TASK_PREDICTOR))
        return dscm_fail(err, DSCM_E_INVALID,
                         "clean_share: %g must be in 0..1, and 0 but for predictors",
                         o->clean_share);
    if (o->shift >= data->h || o->shift >= data->w)
        return dscm_fail(err, DSCM_E_INVALID, "shift: %zu pixels of an image of %zux%zu", o->shift,
                         data->w, data->h);
    if (o->task == DSCM_TASK_SCORE || o->net.target.name[0])
        return check_parents(o, data, parents, err);
    if (!dscm_tasks[o->task].classifies) return DSCM_OK;
    for (size_t i = 0; i < data->count; i++)
        if (data->labels[i] >= c->out_channels)
            return dscm_fail(err, DSCM_E_MISMATCH,
                             "data: image %zu has label %d, the network %zu classes", i,
                             data->labels[i], c->out_channels);
    return DSCM_OK;
}

/* Images of each class that take part, and in all; where draws are balanced every class that has any
 * counts as the largest. */
static size_t count_pool(const dscm_trainer *t, size_t counts[256])
{
    size_t largest = 0, classes = 0, all = 0;
    memset(counts, 0, 256 * sizeof *counts);
    for (size_t i = 0; i < t->data->count; i++)
        if (t->options.only_class < 0 || t->data->labels[i] == t->options.only_class)
            counts[t->data->labels[i]]++;
    for (size_t k = 0; k < 256; k++) {
        largest = counts[k] > largest ? counts[k] : largest;
        classes += counts[k] > 0;
        all += counts[k];
    }
    return t->options.balanced ? classes * largest : all;
}

static dscm_code fill_pool(dscm_trainer *t, dscm_error *err)
{
    size_t counts[256], count = count_pool(t, counts), rounds = 1;
    if (!count)
        return dscm_fail(err, DSCM_E_INVALID, "class: no image of class %d", t->options.only_class);
    t->order = dscm_alloc(count, sizeof *t->order, "trainer", err);
    t->pool = dscm_alloc(count, sizeof *t->pool, "trainer", err);
    if (!t->order || !t->pool) return DSCM_E_MEMORY;
    size_t largest = 0, left[256];
    for (size_t k = 0; k < 256; k++) largest = counts[k] > largest ? counts[k] : largest;
    for (size_t k = 0; k < 256; k++) {
        left[k] = !counts[k] ? 0 : t->options.balanced ? largest : counts[k];
        size_t times = counts[k] ? (left[k] + counts[k] - 1) / counts[k] : 0;
        rounds = times > rounds ? times : rounds;
    }
    for (size_t r = 0; r < rounds; r++)
        for (size_t i = 0; i < t->data->count; i++) {
            uint8_t k = t->data->labels[i];
            if (!left[k] || (r && !t->options.balanced)) continue;
            left[k]--;
            t->pool[t->pool_count++] = (uint32_t)i;
        }
    return DSCM_OK;
}

static dscm_code open_memory(dscm_trainer *t, dscm_error *err)
{
    size_t floats = t->net->params.floats, threads = (size_t)t->options.threads;
    size_t pixels = t->data->h * t->data->w * t->data->c;
    t->memory = dscm_alloc(4 * floats, sizeof(float), "optimizer", err);
    t->shards = dscm_alloc(threads, sizeof *t->shards, "trainer", err);
    t->losses = dscm_alloc(threads, sizeof *t->losses, "trainer", err);
    t->grads = dscm_alloc(threads, sizeof *t->grads, "trainer", err);
    t->moved = dscm_alloc(threads, pixels, "trainer", err);
    t->batch = dscm_alloc(t->options.batch, sizeof *t->batch, "trainer", err);
    t->noise = dscm_alloc(threads * PASS_IMAGES * pixels, sizeof(float), "trainer", err);
    if (!t->memory || !t->shards || !t->losses || !t->grads || !t->moved || !t->batch || !t->noise)
        return DSCM_E_MEMORY;
    t->state = (dscm_adamw_state){.values = t->memory,
                                  .ema = t->memory + floats,
                                  .m = t->memory + 2 * floats,
                                  .v = t->memory + 3 * floats,
                                  .floats = floats};
    dscm_params_init(&t->net->params, t->state.values, t->options.seed);
    memcpy(t->state.ema, t->state.values, floats * sizeof(float));
    return fill_pool(t, err);
}

/* Share of shard k: [first, first + count). */
static void share_of(const dscm_trainer *t, size_t k, size_t *first, size_t *count)
{
    size_t threads = (size_t)t->options.threads, base = t->options.batch / threads;
    size_t rest = t->options.batch % threads;
    *first = k * base + (k < rest ? k : rest);
    *count = base + (k < rest);
}

static dscm_code open_shards(dscm_trainer *t, dscm_error *err)
{
    size_t pixels = t->data->h * t->data->w * t->data->c;
    for (size_t k = 0; k < (size_t)t->options.threads; k++) {
        size_t first, count;
        share_of(t, k, &first, &count);
        dscm_exec_options options = {.mode = DSCM_EXEC_PARAM_GRAD,
                                     .batch = count < PASS_IMAGES ? count : PASS_IMAGES,
                                     .outputs = dscm_tasks[t->options.task].outputs};
        shard *s = &t->shards[k];
        *s = (shard){.net = t->net,
                     .schedule = &t->schedule,
                     .data = t->data,
                     .parents = t->options.parents,
                     .parent_dropout = t->options.parent_dropout,
                     .clean_share = t->options.clean_share,
                     .pixels = pixels,
                     .moved = t->moved + k * pixels,
                     .noise = t->noise + k * PASS_IMAGES * pixels};
        dscm_code code = dscm_exec_open(&s->exec, t->net->graph, t->weights, &options, err);
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}

static dscm_code open_parts(dscm_trainer *t, dscm_error *err)
{
    dscm_code code = check_options(&t->options, t->data, t->options.parents, err);
    if (code == DSCM_OK) code = dscm_net_open(&t->net, &t->options.net, err);
    if (code == DSCM_OK)
        code = dscm_schedule_open(&t->schedule, t->options.schedule, DIFFUSION_STEPS, err);
    if (code == DSCM_OK) code = dscm_team_open(&t->team, t->options.threads, err);
    if (code == DSCM_OK) code = open_memory(t, err);
    if (code == DSCM_OK)
        code = dscm_weights_open(&t->weights, t->net->graph, t->state.values, t->options.isa,
                                 DSCM_EXEC_PARAM_GRAD, err);
    return code == DSCM_OK ? open_shards(t, err) : code;
}

dscm_code dscm_trainer_open(dscm_trainer **out, const dscm_train_options *options,
                            const dscm_dataset *data, dscm_error *err)
{
    *out = NULL;
    dscm_trainer *t = dscm_alloc(1, sizeof *t, "trainer", err);
    if (!t) return DSCM_E_MEMORY;
    t->options = *options;
    t->data = data;
    t->epoch = UINT64_MAX;
    dscm_code code = open_parts(t, err);
    if (code != DSCM_OK) {
        dscm_trainer_free(t);
        return code;
    }
    *out = t;
    return DSCM_OK;
}

void dscm_trainer_free(dscm_trainer *t)
{
    if (!t) return;
    for (size_t k = 0; t->shards && k < (size_t)t->options.threads; k++)
        dscm_exec_free(t->shards[k].exec);
    dscm_weights_free(t->weights);
    dscm_team_free(t->team);
    dscm_schedule_close(&t->schedule);
    dscm_net_free(t->net);
    dscm_free(t->memory);
    dscm_free(t->shards);
    dscm_free(t->losses);
    dscm_free(t->grads);
    dscm_free(t->order);
    dscm_free(t->pool);
    dscm_free(t->batch);
    dscm_free(t->noise);
    dscm_free(t->moved);
    dscm_free(t);
}

size_t dscm_trainer_samples(const dscm_trainer *t)
{
    return t->samples;
}

/* ---- a step ---- */
/* Image of training sample n: every epoch goes through the pool in an order of its own. */
static uint32_t image_of_sample(dscm_trainer *t, size_t n)
{
    uint64_t epoch = n / t->pool_count;
    if (t->epoch != epoch) {
        dscm_rng rng = dscm_rng_make(t->options.seed, EPOCH_STREAM + epoch);
        dscm_rng_permute(&rng, t->order, (uint32_t)t->pool_count);
        t->epoch = epoch;
    }
    return t->pool[t->order[n % t->pool_count]];
}

static void run_shard(void *arg, size_t k, int worker)
{
    dscm_trainer *t = arg;
    shard s = t->shards[k];
    const task_ops *task = &dscm_tasks[t->options.task];
    size_t first, count;
    (void)worker;
    share_of(t, k, &first, &count);
    t->losses[k] = 0;
    dscm_exec_zero_grads(s.exec);
    for (size_t done = 0; done < count; done += s.count) {
        s.count = count - done < PASS_IMAGES ? count - done : PASS_IMAGES;
        s.images = t->batch + first + done;
        s.first = t->samples + first + done;
        dscm_exec_seed_dropout(s.exec, s.seed, s.first);
        task->inputs(&s);
        dscm_exec_forward(s.exec, s.count, task->noised ? s.count : 1);
        t->losses[k] += task->loss(&s, true);
        dscm_exec_backward(s.exec);
    }
    t->grads[k] = dscm_exec_param_grads(s.exec);
}

static void deal_batch(dscm_trainer *t)
{
    const dscm_train_options *o = &t->options;
    for (size_t i = 0; i < o->batch; i++) t->batch[i] = image_of_sample(t, t->samples + i);
    for (size_t k = 0; k < (size_t)o->threads; k++) {
        shard *s = &t->shards[k];
        s->batch = o->batch;
        s->seed = o->seed;
        s->t_low = 0;
        s->t_high = t->schedule.steps;
        s->augment = !o->still;
        s->flip = o->flip;
        s->shift = o->shift;
    }
}

/* Linear warm-up, then a cosine down to 1 % at the last sample. */
static double rate_now(const dscm_trainer *t)
{
    const dscm_train_options *o = &t->options;
    const double pi = 3.14159265358979323846;
    double warm = o->warmup ? fmin(1, (double)(t->step + 1) / (double)o->warmup) : 1;
    double done = fmin(1, (double)t->samples / (double)(o->samples ? o->samples : 1));
    return o->rate * warm * (0.01 + 0.99 * 0.5 * (1 + cos(pi * done)));
}

dscm_code dscm_trainer_step(dscm_trainer *t, dscm_step_report *report, dscm_error *err)
{
    const dscm_train_options *o = &t->options;
    deal_batch(t);
    dscm_team_run(t->team, (size_t)o->threads, run_shard, t);
    double loss = 0;
    for (size_t k = 0; k < (size_t)o->threads; k++) loss += t->losses[k];
    if (!isfinite(loss))
        return dscm_fail(err, DSCM_E_INVALID,
                         "training diverged at step %zu: the loss is %g; lower --lr", t->step + 1,
                         loss);
    dscm_adamw adamw = {.rate = rate_now(t),
                        .beta1 = 0.9,
                        .beta2 = 0.999,
                        .eps = 1e-8,
                        .weight_decay = o->weight_decay,
                        .ema_decay = o->ema_decay,
                        .clip = o->clip,
                        .isa = o->isa};
    double norm =
        dscm_adamw_step(&adamw, &t->state, t->grads, (size_t)o->threads, t->step + 1, t->team);
    if (!isfinite(norm))
        return dscm_fail(err, DSCM_E_INVALID,
                         "training diverged at step %zu: the gradient is %g; lower --lr",
                         t->step + 1, norm);
    dscm_weights_update(t->weights, t->state.values, t->team);
    t->step++;
    t->samples += o->batch;
    *report = (dscm_step_report){
        .step = t->step, .samples = t->samples, .loss = loss, .rate = adamw.rate, .norm = norm};
    return DSCM_OK;
}

/* ---- held-out figures ---- */
typedef struct held_out_job {
    dscm_trainer *t;
    const dscm_dataset *data;
    const double *parents;
    size_t count, range, ranges;
    double *losses;       /* (threads) */
    size_t *correct;      /* (threads) */
    double *errors;       /* (threads) */
    double *balanced;     /* (threads) */
    const double *credit; /* (256), or NULL */
} held_out_job;

/* What a right answer adds to the mean of the classes' accuracies. False where classes have about as
 * many images each. */
static bool credit_classes(double credit[256], const held_out_job *job)
{
    size_t counts[256] = {0}, classes = 0, least = SIZE_MAX, most = 0;
    for (size_t i = 0; i < job->count; i++) counts[job->data->labels[i]]++;
    for (size_t k = 0; k < 256; k++) {
        if (!counts[k]) continue;
        classes++;
        least = counts[k] < least ? counts[k] : least;
        most = counts[k] > most ? counts[k] : most;
    }
    for (size_t k = 0; k < 256; k++) credit[k] = counts[k] ? 1 / (double)(classes * counts[k]) : 0;
    return (double)most > UNEVEN * (double)least;
}

/* Thread k takes a contiguous part of the images. */
static void evaluate_share(void *arg, size_t k, int worker)
{
    const held_out_job *job = arg;
    const dscm_trainer *t = job->t;
    const task_ops *task = &dscm_tasks[t->options.task];
    size_t threads = (size_t)t->options.threads, capacity, first;
    size_t begin = k * job->count / threads, end = (k + 1) * job->count / threads;
    uint32_t images[PASS_IMAGES];
    shard s = t->shards[k];
    (void)worker;
    share_of(t, k, &first, &capacity);
    if (capacity > PASS_IMAGES) capacity = PASS_IMAGES;
    s.data = job->data;
    s.parents = job->parents;
    s.parent_dropout = 0;
    s.clean_share = 0;
    s.images = images;
    s.augment = s.flip = false;
    s.shift = 0;
    s.seed = t->options.seed;
    s.batch = job->count;
    s.t_low = job->range * t->schedule.steps / job->ranges;
    s.t_high = (job->range + 1) * t->schedule.steps / job->ranges;
    s.correct = 0;
    s.error = 0;
    s.credit = job->credit;
    s.balanced = 0;
    job->losses[k] = 0;
    dscm_exec_seed_dropout(s.exec, 0, 0);
    for (size_t b = begin; b < end; b += s.count) {
        s.count = end - b < capacity ? end - b : capacity;
        for (size_t i = 0; i < s.count; i++) images[i] = (uint32_t)(b + i);
        s.first = HELD_OUT_STREAM + job->range * job->count + b;
        task->inputs(&s);
        dscm_exec_forward(s.exec, s.count, task->noised ? s.count : 1);
        job->losses[k] += task->loss(&s, false);
    }
    job->correct[k] = s.correct;
    job->errors[k] = s.error;
    job->balanced[k] = s.balanced;
}

dscm_code dscm_trainer_evaluate(dscm_trainer *t, const dscm_dataset *data, const double *parents,
                                size_t limit, dscm_held_out *out, dscm_error *err)
{
    const task_ops *task = &dscm_tasks[t->options.task];
    size_t threads = (size_t)t->options.threads;
    double losses[DSCM_TEAM_MAX], errors[DSCM_TEAM_MAX], balanced[DSCM_TEAM_MAX], credit[256];
    bool target = t->options.net.target.name[0];
    size_t correct[DSCM_TEAM_MAX];
    dscm_code code = check_options(&t->options, data, parents, err);
    if (code != DSCM_OK) return code;
    *out = (dscm_held_out){.ranges = task->noised ? DSCM_HELD_OUT_RANGES : 1};
    held_out_job job = {.t = t,
                        .data = data,
                        .parents = parents,
                        .count = limit && limit < data->count ? limit : data->count,
                        .ranges = out->ranges,
                        .losses = losses,
                        .correct = correct,
                        .errors = errors,
                        .balanced = balanced};
    if (task->classifies && !target && credit_classes(credit, &job)) job.credit = credit;
    dscm_weights_update(t->weights, t->state.ema, t->team);
    for (; job.range < job.ranges; job.range++) {
        size_t right = 0;
        double error = 0, even = 0;
        dscm_team_run(t->team, threads, evaluate_share, &job);
        for (size_t k = 0; k < threads; k++) {
            out->loss[job.range] += losses[k];
            right += correct[k];
            error += errors[k];
            even += balanced[k];
        }
        out->accuracy[job.range] =
            task->classifies && !target ? (double)right / (double)job.count : (double)NAN;
        out->balanced[job.range] = job.credit ? even : (double)NAN;
        out->error[job.range] = target ? error / (double)right : (double)NAN;
    }
    dscm_weights_update(t->weights, t->state.values, t->team);
    return DSCM_OK;
}
