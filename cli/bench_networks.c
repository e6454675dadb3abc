/* Whole networks of the bundle at batch 1 and 16, and one training step of its score network. */
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/train/trainer.h"

#define TRAIN_BATCH  ((size_t)64)
#define TRAIN_IMAGES ((size_t)512)

/* ---- networks ---- */
typedef struct net_job {
    const dscm_net *net;
    dscm_exec *exec;
    size_t batch;
    bool gradient;
} net_job;

static void run_net(void *arg)
{
    net_job *j = arg;
    dscm_exec_forward(j->exec, j->batch, 1);
    if (j->gradient) dscm_exec_backward(j->exec);
}

/* Noise in every image input, small numbers in every condition. */
static void fill_inputs(net_job *j)
{
    size_t h, w, c;
    dscm_rng rng = dscm_rng_make(2, j->batch);
    dscm_tensor noise = dscm_graph_find(j->net->graph, "noise");
    dscm_graph_dims(j->net->graph, j->net->x, &h, &w, &c);
    dscm_rng_normal(&rng, dscm_exec_data(j->exec, j->net->x), j->batch * h * w * c);
    if (noise >= 0) {
        dscm_graph_dims(j->net->graph, noise, &h, &w, &c);
        dscm_rng_normal(&rng, dscm_exec_data(j->exec, noise), j->batch * h * w * c);
    }
    if (j->net->t >= 0) *dscm_exec_data(j->exec, j->net->t) = 500;
    if (j->net->label >= 0) *dscm_exec_data(j->exec, j->net->label) = 0;
    if (j->gradient) {
        dscm_graph_dims(j->net->graph, j->net->out, &h, &w, &c);
        dscm_rng_normal(&rng, dscm_exec_grad(j->exec, j->net->out), j->batch * h * w * c);
    }
}

static dscm_code bench_net(bench *b, const char *name, const bundle_net *n, size_t batch,
                           bool gradient, dscm_team *team, dscm_error *err)
{
    net_job j = {.net = n->net, .batch = batch, .gradient = gradient};
    dscm_exec_options options = {
        .mode = gradient ? DSCM_EXEC_INPUT_GRAD : DSCM_EXEC_INFER, .batch = batch, .team = team};
    dscm_code code = dscm_exec_open(&j.exec, n->net->graph, n->weights, &options, err);
    if (code != DSCM_OK) return code;
    fill_inputs(&j);
    bench_time t = bench_measure(run_net, &j, 2 * bench_budget(b));
    bench_add(b, &(bench_row){.section = "networks",
                              .name = name,
                              .pass = gradient ? "forward + input grad" : "forward",
                              .algorithm = "",
                              .batch = batch,
                              .threads = (size_t)dscm_team_size(team),
                              .time = t,
                              .flops = dscm_net_flops(n->net) * (double)batch * (gradient ? 2 : 1),
                              .memory_bytes = dscm_exec_bytes(j.exec),
                              .per_image = true});
    dscm_exec_free(j.exec);
    return DSCM_OK;
}

/* Forward at batch 1 and 16, and the gradient where the method takes one. */
static dscm_code bench_both(bench *b, const char *name, const bundle_net *n, bool gradient,
                            dscm_team *team, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    for (size_t batch = 1; n->net && code == DSCM_OK && batch <= 16; batch *= 16) {
        code = bench_net(b, name, n, batch, false, team, err);
        if (code == DSCM_OK && gradient) code = bench_net(b, name, n, batch, true, team, err);
    }
    return code;
}

dscm_code bench_networks(bench *b, dscm_error *err)
{
    const dscm_bundle *bundle = b->bundle;
    dscm_code code = DSCM_OK;
    dscm_team *const teams[] = {NULL, b->team};
    for (size_t all = 0; code == DSCM_OK && all < (b->team ? 2 : 1); all++) {
        dscm_team *team = teams[all];
        code = bench_both(b, "score", &b->image->score, false, team, err);
        for (size_t e = 0; code == DSCM_OK && e < bundle->edges_count; e++) {
            char name[BUNDLE_NAME_MAX + 16];
            snprintf(name, sizeof name, "predictor of %s",
                     bundle->variables[bundle->edges[e].parent].info.name);
            code = bench_both(b, name, &bundle->edges[e].predictor, true, team, err);
        }
    }
    char name[32];
    for (size_t i = 0; code == DSCM_OK && i < bundle->panel.classifiers_count; i++) {
        snprintf(name, sizeof name, "classifier %zu", i);
        code = bench_both(b, name, &bundle->panel.classifiers[i], false, NULL, err);
    }
    for (size_t i = 0; code == DSCM_OK && i < bundle->panel.vaes_count; i++) {
        snprintf(name, sizeof name, "vae %zu", i);
        code = bench_both(b, name, &bundle->panel.vaes[i].net, false, NULL, err);
    }
    if (code == DSCM_OK)
        code = bench_both(b, "autoencoder", &bundle->panel.autoencoder, false, NULL, err);
    return code;
}

/* ---- training ---- */
typedef struct train_job {
    dscm_trainer *trainer;
    dscm_code code;
    dscm_error *err;
} train_job;

static void run_step(void *arg)
{
    train_job *j = arg;
    dscm_step_report report;
    if (j->code == DSCM_OK) j->code = dscm_trainer_step(j->trainer, &report, j->err);
}

static dscm_code random_images(dscm_dataset *set, const dscm_net_config *c, dscm_error *err)
{
    size_t side = c->image_size, pixels = TRAIN_IMAGES * side * side * c->in_channels;
    dscm_rng rng = dscm_rng_make(3, 0);
    *set = (dscm_dataset){.count = TRAIN_IMAGES, .h = side, .w = side, .c = c->in_channels};
    set->pixels = dscm_alloc(pixels, 1, "images", err);
    set->labels = dscm_alloc(TRAIN_IMAGES, 1, "labels", err);
    if (!set->pixels || !set->labels) return DSCM_E_MEMORY;
    for (size_t i = 0; i < pixels; i++) set->pixels[i] = (uint8_t)dscm_rng_below(&rng, 256);
    return DSCM_OK;
}

static dscm_code train_with(bench *b, const dscm_dataset *set, size_t threads, dscm_error *err)
{
    const dscm_net *net = b->image->score.net;
    train_job j = {.err = err};
    dscm_train_options options = dscm_train_defaults(DSCM_TASK_SCORE);
    options.net = net->config;
    options.net.parents_count = 0; /* the images have none */
    options.batch = TRAIN_BATCH;
    options.threads = (int)threads;
    options.isa = b->isa;
    j.code = dscm_trainer_open(&j.trainer, &options, set, err);
    if (j.code != DSCM_OK) return j.code;
    bench_time t = bench_measure(run_step, &j, 10 * bench_budget(b));
    dscm_trainer_free(j.trainer);
    if (j.code != DSCM_OK) return j.code;
    bench_add(b, &(bench_row){.section = "training",
                              .name = "score",
                              .pass = "forward, backward, AdamW",
                              .algorithm = "",
                              .batch = TRAIN_BATCH,
                              .threads = threads,
                              .time = t,
                              .flops = 3 * dscm_net_flops(net) * (double)TRAIN_BATCH,
                              .per_image = true});
    return DSCM_OK;
}

dscm_code bench_training(bench *b, dscm_error *err)
{
    dscm_dataset set;
    dscm_code code = random_images(&set, &b->image->score.net->config, err);
    if (code == DSCM_OK) code = train_with(b, &set, 1, err);
    if (code == DSCM_OK && b->threads > 1) code = train_with(b, &set, b->threads, err);
    dscm_dataset_free(&set);
    return code;
}
