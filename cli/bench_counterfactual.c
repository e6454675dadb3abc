/* Whole counterfactuals: abduction and prediction of noise images, whose pixels do not matter to
 * the time; a fan over many targets from one abduction; several one-thread workers at once. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/scm/session.h"

#define FAN ((size_t)10)

/* One session's work: abduct `batch` images, predict `targets` items from them. */
typedef struct job {
    dscm_session *session;
    const dscm_options *options;
    const dscm_query *queries; /* (targets) */
    const size_t *items;       /* (targets) which image an item comes from */
    const float *images;       /* (batch, size) */
    float *out;                /* (targets, size), owned */
    size_t batch, targets;
    dscm_code code;
    dscm_error err;
} job;

static void run_job(void *arg)
{
    job *j = arg;
    dscm_latent *latent = NULL, *chosen = NULL;
    if (j->code != DSCM_OK) return;
    j->code = dscm_abduct(j->session, &latent, j->images, j->batch, j->options, NULL, &j->err);
    if (j->code == DSCM_OK)
        j->code = dscm_latent_select(&chosen, latent, j->items, j->targets, &j->err);
    if (j->code == DSCM_OK)
        j->code = dscm_predict(j->session, j->out, chosen, j->queries, j->options, NULL, &j->err);
    dscm_latent_free(chosen);
    dscm_latent_free(latent);
}

/* What all jobs of a run share. */
typedef struct setting {
    bench *b;
    dscm_options standard, published;
    dscm_intervention acts[FAN];
    dscm_query queries[FAN];
    size_t zero[FAN], each[FAN]; /* items: all from image 0; one from each image */
    size_t size;
    float *images; /* (FAN, size) */
} setting;

static dscm_code open_setting(setting *s, bench *b, dscm_error *err)
{
    const bundle_edge *edge = NULL;
    s->b = b;
    s->size = b->image->info.h * b->image->info.w * b->image->info.c;
    for (size_t e = 0; e < b->bundle->edges_count && !edge; e++)
        if (b->bundle->edges[e].child == b->bundle->info.image) edge = &b->bundle->edges[e];
    if (!edge) return dscm_fail(err, DSCM_E_INVALID, "--model: the image has no cause to change");
    const dscm_variable *cause = &b->bundle->variables[edge->parent].info;
    for (size_t i = 0; i < FAN; i++) {
        double value = cause->kind == DSCM_CATEGORICAL ? (double)(i % cause->labels_count)
                                                       : (cause->min + cause->max) / 2;
        s->acts[i] = (dscm_intervention){
            .variable = edge->parent, .action = DSCM_DO, .value = value, .scale = (double)NAN};
        s->queries[i] = (dscm_query){.items = &s->acts[i], .count = 1};
        s->each[i] = i;
    }
    s->images = dscm_alloc(FAN * s->size, sizeof *s->images, "images", err);
    if (!s->images) return DSCM_E_MEMORY;
    dscm_rng rng = dscm_rng_make(4, 0);
    for (size_t i = 0; i < FAN * s->size; i++) s->images[i] = 2 * dscm_rng_uniform(&rng) - 1;
    s->standard = s->published = dscm_options_defaults();
    s->published.sampler = "published";
    s->published.steps = 100;
    s->published.ratio = 0.75;
    s->published.dynamic = 1;
    s->published.scale = 1;
    dscm_code code = dscm_options_resolve(b->bundle, &s->standard, err);
    return code == DSCM_OK ? dscm_options_resolve(b->bundle, &s->published, err) : code;
}

static dscm_code open_job(job *j, const setting *s, const dscm_options *options, size_t batch,
                          size_t targets, size_t threads, dscm_error *err)
{
    *j = (job){.options = options,
               .queries = s->queries,
               .items = batch == 1 ? s->zero : s->each,
               .images = s->images,
               .batch = batch,
               .targets = targets};
    size_t most = batch > targets ? batch : targets;
    j->out = dscm_alloc(targets * s->size, sizeof *j->out, "images", err);
    if (!j->out) return DSCM_E_MEMORY;
    return dscm_session_open(&j->session, s->b->bundle, most, (int)threads, err);
}

static void close_job(job *j)
{
    dscm_session_free(j->session);
    dscm_free(j->out);
}

/* Direct FLOPs of the job: what its session counts when it is done once. */
static double flops_of(job *j)
{
    double before = dscm_session_flops(j->session);
    run_job(j);
    return dscm_session_flops(j->session) - before;
}

/* Measures one kind of call; the time of one is left in *seconds when that is not NULL. */
static dscm_code bench_call(const setting *s, const char *name, const dscm_options *options,
                            size_t batch, size_t targets, size_t threads, double *seconds,
                            dscm_error *err)
{
    job j;
    char pass[64];
    dscm_code code = open_job(&j, s, options, batch, targets, threads, err);
    if (code == DSCM_OK) {
        double flops = flops_of(&j);
        bench_time t = bench_measure(run_job, &j, 4 * bench_budget(s->b));
        snprintf(pass, sizeof pass, "%s %zu", options->sampler, options->steps);
        code = j.code;
        if (code != DSCM_OK && err) *err = j.err;
        if (code == DSCM_OK)
            bench_add(s->b, &(bench_row){.section = "counterfactuals",
                                         .name = name,
                                         .pass = pass,
                                         .algorithm = "",
                                         .batch = targets,
                                         .threads = threads,
                                         .time = t,
                                         .flops = flops,
                                         .memory_bytes = dscm_session_bytes(j.session),
                                         .per_image = true});
        if (seconds) *seconds = t.median;
    }
    close_job(&j);
    return code;
}

/* ---- several workers ---- */
typedef struct worker_set {
    job *jobs; /* one per worker */
    size_t workers;
    dscm_team *team;
} worker_set;

static void run_worker(void *arg, size_t index, int worker)
{
    worker_set *c = arg;
    (void)worker;
    run_job(&c->jobs[index]);
}

static void run_workers(void *arg)
{
    worker_set *c = arg;
    dscm_team_run(c->team, c->workers, run_worker, c);
}

/* `workers` one-thread sessions at the same time, as the service runs them. */
static dscm_code bench_workers(const setting *s, double one, dscm_error *err)
{
    worker_set c = {.workers = s->b->threads, .team = s->b->team};
    dscm_code code = DSCM_OK;
    c.jobs = dscm_alloc(c.workers, sizeof *c.jobs, "workers", err);
    if (!c.jobs) return DSCM_E_MEMORY;
    for (size_t i = 0; code == DSCM_OK && i < c.workers; i++)
        code = open_job(&c.jobs[i], s, &s->standard, 1, 1, 1, err);
    if (code == DSCM_OK) {
        double flops = flops_of(&c.jobs[0]);
        bench_time t = bench_measure(run_workers, &c, 8 * bench_budget(s->b));
        for (size_t i = 0; code == DSCM_OK && i < c.workers; i++) {
            code = c.jobs[i].code;
            if (code != DSCM_OK && err) *err = c.jobs[i].err;
        }
        if (code == DSCM_OK)
            bench_add(s->b, &(bench_row){.section = "counterfactuals",
                                         .name = "one per worker",
                                         .pass = s->standard.sampler,
                                         .algorithm = "",
                                         .batch = c.workers,
                                         .threads = c.workers,
                                         .time = t,
                                         .flops = flops * (double)c.workers,
                                         .per_image = true});
        if (code == DSCM_OK)
            bench_figure(s->b, "workers_over_one", "throughput of all workers over that of one",
                         (double)c.workers * one / t.median);
    }
    for (size_t i = 0; i < c.workers; i++) close_job(&c.jobs[i]);
    dscm_free(c.jobs);
    return code;
}

dscm_code bench_counterfactuals(bench *b, dscm_error *err)
{
    setting s = {.b = b};
    double one = 0, fan = 0;
    dscm_code code = open_setting(&s, b, err);
    if (code == DSCM_OK) code = bench_call(&s, "default", &s.standard, 1, 1, 1, &one, err);
    if (code == DSCM_OK) code = bench_call(&s, "default", &s.standard, FAN, FAN, 1, NULL, err);
    if (code == DSCM_OK)
        code = bench_call(&s, "fan of one image", &s.standard, 1, FAN, 1, &fan, err);
    if (code == DSCM_OK) code = bench_call(&s, "published", &s.published, 1, 1, 1, NULL, err);
    if (code == DSCM_OK && !b->quick)
        code = bench_call(&s, "published", &s.published, FAN, FAN, 1, NULL, err);
    if (code == DSCM_OK && b->threads > 1) {
        code = bench_call(&s, "default", &s.standard, 1, 1, b->threads, NULL, err);
        if (code == DSCM_OK)
            code = bench_call(&s, "default", &s.standard, FAN, FAN, b->threads, NULL, err);
        if (code == DSCM_OK) code = bench_workers(&s, one, err);
    }
    if (code == DSCM_OK)
        bench_figure(b, "fan_over_single", "fan of 10 targets over a single counterfactual",
                     fan / one);
    dscm_free(s.images);
    return code;
}
