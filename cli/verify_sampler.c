/* Reference cases of kinds schedule and counterfactual. */
#include <stdio.h>
#include <string.h>

#include "cli/verify.h"
#include "core/base/memory.h"
#include "core/diffusion/sampler.h"
#include "core/models/config.h"

/* ---- schedule ---- */
static dscm_code check_schedule(verify_case *c, dscm_schedule_kind kind, size_t steps,
                                dscm_error *err)
{
    dscm_schedule s;
    char name[64];
    dscm_code code = dscm_schedule_open(&s, kind, steps, err);
    if (code != DSCM_OK) return code;
    snprintf(name, sizeof name, "%s.betas", dscm_schedule_name(kind));
    if (dscm_tensors_find(c->expected, name))
        code = verify_compare(c, name, s.betas, steps, TOLERANCE_SCHEDULE, 0, err);
    snprintf(name, sizeof name, "%s.alphas_cumprod", dscm_schedule_name(kind));
    if (code == DSCM_OK && dscm_tensors_find(c->expected, name))
        code = verify_compare(c, name, s.alphas_cumprod, steps, TOLERANCE_SCHEDULE, 0, err);
    dscm_schedule_close(&s);
    return code;
}

static dscm_code check_spacing(verify_case *c, const char *name, size_t total, dscm_error *err)
{
    size_t *kept = NULL, count = 0;
    dscm_code code = dscm_spacing(name + strlen("timesteps."), total, &kept, &count, err);
    if (code != DSCM_OK) return code;
    double *wide = dscm_alloc(count, sizeof *wide, name, err);
    for (size_t i = 0; wide && i < count; i++) wide[i] = (double)kept[i];
    code = wide ? verify_compare(c, name, wide, count, TOLERANCE_SCHEDULE, 0, err) : DSCM_E_MEMORY;
    dscm_free(wide);
    dscm_free(kept);
    return code;
}

dscm_code verify_schedule(verify_case *c, dscm_error *err)
{
    size_t steps = (size_t)json_integer_value(json_object_get(c->config, "T"));
    dscm_code code = check_schedule(c, DSCM_SCHEDULE_LINEAR, steps, err);
    if (code == DSCM_OK) code = check_schedule(c, DSCM_SCHEDULE_COSINE, steps, err);
    for (size_t i = 0; code == DSCM_OK && i < dscm_tensors_count(c->expected); i++) {
        const char *name = dscm_tensors_info(c->expected, i)->name;
        if (strncmp(name, "timesteps.", 10) == 0) code = check_spacing(c, name, steps, err);
    }
    return code;
}

/* ---- counterfactual ---- */
typedef struct loaded {
    dscm_net *net;
    dscm_weights *weights;
    dscm_exec *exec;
} loaded;

typedef struct run_state {
    verify_case *c;
    loaded score, predictor;
    const double *target;
    size_t batch, size, channels, pixels;
    double scale;
    const char *run; /* name of the run at hand */
    bool up;
    dscm_error *err;
    dscm_code code;
    float *swap; /* (batch, size) */
} run_state;

static dscm_code load(loaded *l, verify_case *c, const char *part, size_t batch,
                      dscm_exec_mode mode, dscm_error *err)
{
    const json_t *entry = json_object_get(c->config, part);
    const char *file = json_string_value(json_object_get(entry, "weights"));
    char path[4096];
    dscm_net_config config;
    dscm_tensors *set = NULL;
    dscm_code code = dscm_net_config_parse(&config, json_object_get(entry, "config"), part, err);
    if (code != DSCM_OK) return code;
    config.dropout = 0;
    code = dscm_net_open(&l->net, &config, err);
    snprintf(path, sizeof path, "%s/%s", c->dir, file ? file : "(none)");
    if (code == DSCM_OK) code = dscm_tensors_open(&set, path, err);
    if (code != DSCM_OK) return code;
    float *values = dscm_alloc(l->net->params.floats, sizeof *values, part, err);
    code = values ? dscm_params_load(&l->net->params, values, set, NULL, err) : DSCM_E_MEMORY;
    if (code == DSCM_OK)
        code =
            dscm_weights_open(&l->weights, l->net->graph, values, dscm_cpu_best_isa(), mode, err);
    dscm_exec_options options = {.mode = mode, .batch = batch};
    if (code == DSCM_OK) code = dscm_exec_open(&l->exec, l->net->graph, l->weights, &options, err);
    dscm_free(values);
    dscm_tensors_free(set);
    return code;
}

static void unload(loaded *l)
{
    dscm_exec_free(l->exec);
    dscm_weights_free(l->weights);
    dscm_net_free(l->net);
}

static dscm_code eps_of(void *ctx, float *eps, const float *x, double t, size_t batch,
                        dscm_error *err)
{
    run_state *r = ctx;
    (void)err;
    memcpy(dscm_exec_data(r->score.exec, r->score.net->x), x, batch * r->size * sizeof *x);
    *dscm_exec_data(r->score.exec, r->score.net->t) = (float)t;
    dscm_exec_forward(r->score.exec, batch, 1);
    memcpy(eps, dscm_exec_data(r->score.exec, r->score.net->out), batch * r->size * sizeof *eps);
    return DSCM_OK;
}

static dscm_code guide_of(void *ctx, float *grad, const float *x, double t, size_t batch,
                          dscm_error *err)
{
    run_state *r = ctx;
    dscm_exec *exec = r->predictor.exec;
    const dscm_net *net = r->predictor.net;
    (void)err;
    memcpy(dscm_exec_data(exec, net->x), x, batch * r->size * sizeof *x);
    *dscm_exec_data(exec, net->t) = (float)t;
    dscm_exec_forward(exec, batch, 1);
    for (size_t b = 0; b < batch; b++)
        verify_log_prob(dscm_exec_data(exec, net->out) + b * net->config.out_channels,
                        dscm_exec_grad(exec, net->out) + b * net->config.out_channels,
                        net->config.out_channels, (size_t)r->target[b], r->scale);
    dscm_exec_backward(exec);
    memcpy(grad, dscm_exec_grad(exec, net->x), batch * r->size * sizeof *grad);
    return DSCM_OK;
}

static void compare(run_state *r, const char *what, const float *got)
{
    char name[256];
    snprintf(name, sizeof name, "%s.%s", r->run, what);
    if (r->code != DSCM_OK || !dscm_tensors_find(r->c->expected, name)) return;
    verify_to_first(r->swap, got, r->batch, r->channels, r->pixels);
    r->code = verify_compare_f32(r->c, name, r->swap, r->batch * r->size, TOLERANCE_RUN, 0, r->err);
}

static bool on_step(void *ctx, const dscm_walk *w, size_t done, size_t total)
{
    run_state *r = ctx;
    (void)total;
    if (done != 1) return true;
    compare(r, r->up ? "abduction_first" : "prediction_first", w->x);
    if (!r->up) compare(r, "prediction_first_x0", w->x0);
    return true;
}

static dscm_code check_run(run_state *r, const json_t *run, const float *image, dscm_walk *w,
                           dscm_error *err)
{
    dscm_schedule_kind kind = DSCM_SCHEDULE_LINEAR;
    dscm_schedule schedule = {.steps = 0};
    dscm_path path = {.t = NULL};
    const char *name = json_string_value(json_object_get(run, "schedule"));
    const char *steps = json_string_value(json_object_get(run, "timesteps"));
    size_t kept = 0;
    r->run = json_string_value(json_object_get(run, "name"));
    r->scale = json_number_value(json_object_get(run, "scale"));
    r->err = err;
    if (!name || !steps || !r->run || sscanf(steps, "ddim%zu", &kept) != 1)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s/config.json: a run needs name, schedule and timesteps ddimN",
                         r->c->dir);
    dscm_code code = dscm_schedule_parse(&kind, name, err);
    if (code == DSCM_OK)
        code = dscm_schedule_open(&schedule, kind,
                                  (size_t)json_integer_value(json_object_get(run, "T")), err);
    if (code == DSCM_OK)
        code = dscm_path_open(&path, &schedule, DSCM_SAMPLER_PUBLISHED, kept,
                              json_number_value(json_object_get(run, "ratio")),
                              json_is_true(json_object_get(run, "dynamic")), err);
    dscm_denoiser denoiser = {.ctx = r, .eps = eps_of};
    dscm_walk_observer observer = {.ctx = r, .on_step = on_step};
    memcpy(w->x, image, r->batch * r->size * sizeof *image);
    r->up = true;
    if (code == DSCM_OK) code = dscm_walk_up(&path, w, &denoiser, &observer, err);
    if (code == DSCM_OK) compare(r, "latent", w->x);
    r->up = false;
    denoiser.guide = guide_of;
    if (code == DSCM_OK) code = dscm_walk_down(&path, w, &denoiser, &observer, err);
    if (code == DSCM_OK) compare(r, "counterfactual", w->x);
    dscm_path_close(&path);
    dscm_schedule_close(&schedule);
    return code == DSCM_OK ? r->code : code;
}

static dscm_code run_all(run_state *r, const float *planar, dscm_error *err)
{
    size_t floats = r->batch * r->size;
    float *memory = dscm_alloc(8 * floats, sizeof *memory, "walk", err);
    if (!memory) return DSCM_E_MEMORY;
    float *image = memory;
    dscm_walk w = {.batch = r->batch,
                   .size = r->size,
                   .channels = r->channels,
                   .x = memory + floats,
                   .pair = memory + 2 * floats,
                   .eps = memory + 3 * floats,
                   .grad = memory + 4 * floats,
                   .x0 = memory + 5 * floats,
                   .spare = memory + 6 * floats};
    r->swap = memory + 7 * floats;
    verify_to_last(image, planar, r->batch, r->channels, r->pixels);
    const json_t *runs = json_object_get(r->c->config, "runs");
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < json_array_size(runs); i++)
        code = check_run(r, json_array_get(runs, i), image, &w, err);
    dscm_free(memory);
    return code;
}

dscm_code verify_counterfactual(verify_case *c, dscm_error *err)
{
    run_state r = {.c = c};
    const dscm_tensor_info *info = dscm_tensors_find(c->expected, "image");
    size_t count = 0, targets = 0;
    if (!info || info->ndim != 4)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: expected.safetensors lacks \"image\" (B,C,H,W)",
                         c->dir);
    r.batch = info->dims[0];
    r.channels = info->dims[1];
    r.pixels = info->dims[2] * info->dims[3];
    r.size = r.channels * r.pixels;
    float *image = verify_tensor(c, "image", &count, err);
    double *target = verify_expected(c, "target", &targets, err);
    dscm_code code =
        image && target && targets == r.batch
            ? DSCM_OK
            : dscm_fail(err, DSCM_E_FORMAT, "%s: one target per image is needed", c->dir);
    r.target = target;
    if (code == DSCM_OK) code = load(&r.score, c, "score", r.batch, DSCM_EXEC_INFER, err);
    if (code == DSCM_OK)
        code = load(&r.predictor, c, "predictor", r.batch, DSCM_EXEC_INPUT_GRAD, err);
    if (code == DSCM_OK &&
        (r.score.net->config.image_size * r.score.net->config.image_size != r.pixels ||
         r.score.net->config.out_channels != r.channels))
        code = dscm_fail(err, DSCM_E_MISMATCH, "%s: images do not fit the score network", c->dir);
    if (code == DSCM_OK) code = run_all(&r, image, err);
    unload(&r.score);
    unload(&r.predictor);
    dscm_free(image);
    dscm_free(target);
    return code;
}
