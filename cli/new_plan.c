/* The plan of `diffscm new`: from data and this machine's speed to networks and numbers of samples. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/new.h"

#define TRIAL_SECONDS  1.0
#define STEPS_LEAST    20
#define SAMPLES_MOST   20000000
#define WARMUP_MOST    200  /* steps */
#define REST           0.15 /* of the time: calibration, measurement, starting of stages */
#define MEASURED_MOST  192
#define MEASURED_LEAST 12
#define MEASURED_COST  60  /* images trained on in the time that one is measured in, at most */
#define HELD_OUT       500 /* images that each network's held-out figures come from */
#define HELD_OUT_SMALL 32
#define STAGE_SECONDS  .2
#define CLASSES_IM     20 /* an autoencoder per class for at most so many */
/* Predictors observe, so most of their images have no noise (tools/train_morphomnist.sh). */
#define CLEAN_SHARE   .7
#define PREDICTOR_EMA .998

/* Weights beyond `most` images hardly improve a judge, so the time goes to the score network. */
typedef struct template
{
    const char *name;
    dscm_task task;
    dscm_arch arch;
    const char *split;
    size_t channels, latent, batch;
    double dropout, rate;
    bool still;
    double share;   /* of the time */
    double samples; /* of the score network's, where samples were asked for */
    size_t most;
    bool large; /* not for effort "minutes" */
}
template;

/* The regime of tools/train_bundle.sh and tools/train_judges.sh. */
static const template templates[] = {
    {"acceptance-0", DSCM_TASK_ORACLE, DSCM_ARCH_PLAIN_CNN, "M", 8, 0, 64, .2, 2e-3, false, .05, .5,
     400000, false},
    {"acceptance-1", DSCM_TASK_ORACLE, DSCM_ARCH_RESNET, "M", 8, 0, 64, 0, 2e-3, false, .06, .5,
     400000, false},
    {"panel-classifier-0", DSCM_TASK_ORACLE, DSCM_ARCH_CNN, "P", 16, 0, 64, .3, 2e-3, true, .06, .4,
     200000, false},
    {"panel-classifier-1", DSCM_TASK_ORACLE, DSCM_ARCH_PLAIN_CNN, "P", 12, 0, 64, .4, 2e-3, true,
     .03, .4, 200000, false},
    {"panel-classifier-2", DSCM_TASK_ORACLE, DSCM_ARCH_RESNET, "P", 8, 0, 64, .2, 2e-3, true, .05,
     .4, 200000, true},
    {"panel-vae-0", DSCM_TASK_VAE, DSCM_ARCH_VAE, "P", 6, 16, 64, 0, 2e-3, true, .02, .3, 150000,
     false},
    {"panel-vae-1", DSCM_TASK_VAE, DSCM_ARCH_MLP_VAE, "P", 24, 16, 64, 0, 2e-3, true, .02, .3,
     150000, true},
    {"panel-vae-2", DSCM_TASK_VAE, DSCM_ARCH_VAE, "P", 5, 20, 64, 0, 2e-3, true, .02, .3, 150000,
     true},
    {"panel-autoencoder", DSCM_TASK_AUTOENCODER, DSCM_ARCH_AUTOENCODER, "P", 4, 0, 64, 0, 2e-3,
     false, .015, .1, 60000, false},
    {"panel-autoencoder-%d", DSCM_TASK_AUTOENCODER, DSCM_ARCH_AUTOENCODER, "P", 4, 0, 32, 0, 2e-3,
     false, .02, .05, 15000, false},
    {"selection-classifier", DSCM_TASK_ORACLE, DSCM_ARCH_CNN, "M", 16, 0, 64, .2, 2e-3, true, .04,
     .3, 150000, true},
    {"selection-vae", DSCM_TASK_VAE, DSCM_ARCH_VAE, "M", 6, 18, 64, 0, 2e-3, true, .02, .3, 150000,
     true},
    {"predictor", DSCM_TASK_PREDICTOR, DSCM_ARCH_ENCODER, "M", 32, 0, 32, 0, 2e-3, false, .12, .3,
     500000, false},
    {"predictor-%d", DSCM_TASK_PREDICTOR, DSCM_ARCH_ENCODER, "M", 32, 0, 32, 0, 2e-3, false, .2,
     .25, 500000, false},
    {"score", DSCM_TASK_SCORE, DSCM_ARCH_UNET, "M", 32, 0, 32, 0, 1e-3, false, 1, 1, SAMPLES_MOST,
     false}};
#define TEMPLATES (sizeof templates / sizeof templates[0])

/* How many networks a template stands for. Predictors of a table: one per parent of the image; without
 * a variable with labels there is nothing to judge. */
static size_t nets_of(const new_plan *p, const template *t)
{
    bool several = strchr(t->name, '%') != NULL;
    bool optional = strncmp(t->name, "panel", 5) == 0 || strncmp(t->name, "selection", 9) == 0;
    if (p->small && t->large) return 0;
    if (t->task == DSCM_TASK_SCORE) return 1;
    if (t->task == DSCM_TASK_PREDICTOR) return several ? p->parents_count : !p->parents_count;
    if (!p->classes || (optional && (p->skip & NEW_SKIP_JUDGES))) return 0;
    return !several ? 1 : p->classes <= CLASSES_IM ? p->classes : 0;
}

/* Halved until 8 pixels or less are left. */
static size_t levels_of(size_t size)
{
    return size > 32 ? 4 : 3;
}

static dscm_train_options options_of(const new_plan *p, const template *t)
{
    dscm_train_options o = dscm_train_defaults(t->task);
    bool labels = t->task == DSCM_TASK_PREDICTOR || t->task == DSCM_TASK_ORACLE;
    o.net.arch = t->arch;
    o.net.image_size = p->size;
    o.net.in_channels = p->channels;
    o.net.model_channels = t->channels;
    o.net.dropout = t->dropout;
    if (t->latent) o.net.latent = t->latent;
    if (labels) o.net.out_channels = p->classes;
    if (t->task == DSCM_TASK_SCORE || t->task == DSCM_TASK_PREDICTOR) {
        o.net.levels = levels_of(p->size);
        for (size_t i = 0; i < o.net.levels; i++) o.net.channel_mult[i] = i ? 2 : 1;
        o.net.attention_count = 0;
    }
    if (t->task == DSCM_TASK_SCORE) {
        o.net.out_channels = p->channels;
        o.net.attention_count = 1;
        o.net.attention_resolutions[0] = p->size >> (o.net.levels - 1);
        o.net.prediction = DSCM_PREDICT_V;
        o.net.parents_count = p->parents_count ? p->parents_count : 1;
        o.net.parents[0] = (dscm_parent){.classes = p->classes};
        snprintf(o.net.parents[0].name, sizeof o.net.parents[0].name, "%s", p->variable);
        for (size_t i = 0; i < p->parents_count; i++) {
            o.net.parents[i] = (dscm_parent){.classes = p->parents[i].classes, .std = 1};
            memcpy(o.net.parents[i].name, p->parents[i].name, DSCM_PARENT_NAME);
        }
    }
    if (t->task == DSCM_TASK_PREDICTOR) {
        o.net.num_res_blocks = 1;
        for (size_t i = 0; i + 1 < o.net.levels; i++) o.net.channel_mult[i] = 1;
    }
    if (t->task == DSCM_TASK_PREDICTOR && p->parents_count) { /* of a number, for its speed */
        o.net.target = (dscm_parent){.name = "number", .std = 1};
        o.net.out_channels = 2;
    }
    o.net.deep = t->task == DSCM_TASK_AUTOENCODER && strchr(t->name, '%') != NULL;
    o.batch = t->batch;
    o.threads = (int)p->threads;
    o.still = t->still;
    return o;
}

/* Samples per second of a few steps; seconds that a network needs besides, for a process that reads
 * the data and makes it. */
static dscm_code time_training(const new_plan *plan, const template *t, const dscm_dataset *set,
                               double *rate, double *fixed, dscm_error *err)
{
    double began = cli_seconds();
    dscm_train_options o = options_of(plan, t);
    dscm_trainer *trainer = NULL;
    dscm_step_report report;
    double *parents = NULL;
    dscm_code code = DSCM_OK;
    if (o.net.parents_count || o.net.target.name[0]) {
        parents = calloc(set->count * (o.net.parents_count + 1), sizeof *parents);
        if (!parents) return dscm_fail(err, DSCM_E_MEMORY, "out of memory");
        o.parents = parents;
    }
    code = dscm_trainer_open(&trainer, &o, set, err);
    if (code == DSCM_OK) code = dscm_trainer_step(trainer, &report, err); /* warms caches */
    double start = cli_seconds(), used = 0;
    *fixed = STAGE_SECONDS + 2 * (start - began);
    double wanted = fmin(TRIAL_SECONDS, .002 * plan->seconds);
    size_t steps = 0;
    while (code == DSCM_OK && (!steps || used < wanted)) {
        code = dscm_trainer_step(trainer, &report, err);
        steps++;
        used = cli_seconds() - start;
    }
    dscm_trainer_free(trainer);
    free(parents);
    if (code == DSCM_OK) *rate = (double)(steps * t->batch) / used;
    return code;
}

/* ---- the words of a stage ---- */
static void word(json_t *list, const char *format, ...) DSCM_PRINTF(2, 3);
static void word(json_t *list, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_array_append_new(list, json_string(text));
}

static json_t *words_of(const new_plan *p, const template *t, int number, size_t seed,
                        size_t samples)
{
    json_t *w = json_array();
    size_t levels = levels_of(p->size);
    bool predictor = t->task == DSCM_TASK_PREDICTOR, table = p->parents_count > 0;
    const char *mult = predictor     ? levels == 4 ? "1,1,1,2" : "1,1,2"
                       : levels == 4 ? "1,2,2,2"
                                     : "1,2,2";
    word(w, "%s", dscm_task_name(t->task));
    word(w, "--split=%s", t->split);
    word(w, "--batch=%zu", t->batch);
    word(w, "--lr=%g", t->rate);
    word(w, "--seed=%zu", seed);
    size_t warmup = samples / t->batch / 10; /* short trainings would never reach their rate */
    word(w, "--warmup=%zu", warmup < WARMUP_MOST ? warmup : WARMUP_MOST);
    if (t->task != DSCM_TASK_AUTOENCODER) word(w, "--channels=%zu", t->channels);
    if (t->dropout > 0) word(w, "--dropout=%g", t->dropout);
    if (t->latent) word(w, "--latent=%zu", t->latent);
    if (t->still) word(w, "--still");
    if (p->balance && t->task != DSCM_TASK_VAE && t->task != DSCM_TASK_AUTOENCODER)
        word(w, "--balance");
    if (p->flip) word(w, "--flip");
    if (t->task == DSCM_TASK_AUTOENCODER && strchr(t->name, '%')) word(w, "--class=%d", number);
    if (predictor) {
        word(w, "--clean-share=%g", CLEAN_SHARE);
        word(w, "--blocks=1");
        word(w, "--ema=%g", PREDICTOR_EMA);
    }
    if (predictor && table)
        word(w, "--variable=%s", p->parents[number].name);
    else if (predictor || t->task == DSCM_TASK_ORACLE)
        word(w, "--classes=%zu", p->classes);
    if (t->task == DSCM_TASK_ORACLE || t->task == DSCM_TASK_VAE)
        word(w, "--arch=%s", dscm_arch_name(t->arch));
    if (predictor || t->task == DSCM_TASK_SCORE) word(w, "--mult=%s", mult);
    if (t->task == DSCM_TASK_SCORE) {
        char names[DSCM_PARENTS_MAX * (DSCM_PARENT_NAME + 1)] = "";
        for (size_t i = 0, at = 0; i < p->parents_count; i++)
            at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? "," : "",
                                   p->parents[i].name);
        word(w, "--conditional");
        word(w, "--parents=%s%s", p->parents_count ? names : p->variable,
             p->parents_count == 1 ? "," : ""); /* of the table, not the labels */
        word(w, "--prediction=v");
        word(w, "--attention=%zu", p->size >> (levels - 1));
    }
    return w;
}

static size_t whole_batches(double samples, const template *t)
{
    double least = STEPS_LEAST * (double)t->batch;
    double most = (double)t->most;
    samples = samples < least ? least : samples > most ? most : samples;
    return (size_t)samples / t->batch * t->batch;
}

static double rest_share(const new_plan *p)
{
    return (p->skip & NEW_SKIP_CALIBRATION) && (p->skip & NEW_SKIP_MEASUREMENT) ? 0 : REST;
}

/* Not less than what measuring the fewest images takes, at so many samples a second. */
static double rest_at(const new_plan *p, double rate)
{
    return p->skip & NEW_SKIP_MEASUREMENT
               ? rest_share(p) * p->seconds
               : fmax(REST * p->seconds, MEASURED_LEAST * MEASURED_COST / rate);
}

/* Samples of one network; *left: seconds that are not given away yet. */
static size_t share_of_time(const new_plan *p, const template *t, double rate, double fixed,
                            size_t nets, double *left)
{
    double rest = rest_share(p), training = (1 - rest) * p->seconds;
    double seconds = t->task == DSCM_TASK_SCORE ? *left - (rest_at(p, rate) - rest * p->seconds)
                                                : training * t->share / (double)nets;
    size_t samples = whole_batches((seconds - fixed) * rate, t);
    *left -= ((double)samples / rate + fixed) * (double)nets;
    return samples;
}

/* The held-out figures of a network, in images trained on: a pass forward takes a third of a step. */
static double evaluation_cost(const new_plan *p, const template *t)
{
    bool noised = t->task == DSCM_TASK_SCORE || t->task == DSCM_TASK_PREDICTOR;
    return (double)new_plan_held_out(p) * (noised ? DSCM_HELD_OUT_RANGES : 1) / 3;
}

size_t new_plan_held_out(const new_plan *p)
{
    return p->small ? HELD_OUT_SMALL : HELD_OUT;
}

void new_plan_fit_measurement(new_plan *p, double seconds)
{
    const new_stage *s = &p->stages[p->stages_count - 1];
    double rate = (double)s->samples / fmax(s->seconds - s->fixed, 1e-3);
    double count = seconds * rate / MEASURED_COST;
    double most = fmin(count, (double)p->measured);
    p->measured = most > MEASURED_LEAST ? (size_t)most : MEASURED_LEAST;
    if (count < MEASURED_LEAST) p->scales = count > MEASURED_LEAST / 2. ? 3 : 2;
}

dscm_code new_plan_make(new_plan *p, const dscm_dataset *set, size_t samples, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    double left = (1 - rest_share(p)) * p->seconds;
    for (size_t i = 0; code == DSCM_OK && i < TEMPLATES; i++) {
        const template *t = &templates[i];
        size_t nets = nets_of(p, t);
        double rate = 1, fixed = 0;
        if (!nets) continue;
        code = time_training(p, t, set, &rate, &fixed, err);
        fixed += evaluation_cost(p, t) / rate;
        size_t count = samples ? whole_batches((double)samples * t->samples, t)
                               : share_of_time(p, t, rate, fixed, nets, &left);
        for (size_t k = 0; code == DSCM_OK && k < nets; k++) {
            new_stage *s = &p->stages[p->stages_count++];
            const char *numbered = strchr(t->name, '%');
            if (numbered)
                snprintf(s->name, sizeof s->name, "%.*s%zu", (int)(numbered - t->name), t->name, k);
            else
                snprintf(s->name, sizeof s->name, "%s", t->name);
            s->words = words_of(p, t, (int)k, 10 * i + 11 + 1000 * k, count);
            s->samples = count;
            s->batch = t->batch;
            s->fixed = fixed;
            s->seconds = (double)count / rate + fixed;
        }
    }
    if (code != DSCM_OK) return code;
    p->measured = MEASURED_MOST;
    p->scales = NEW_SCALES;
    if (p->seconds > 0) new_plan_fit_measurement(p, new_plan_rest(p));
    return code;
}

new_stage *new_plan_score(new_plan *p)
{
    return &p->stages[p->stages_count - 1];
}

double new_plan_needed(const new_plan *p, size_t first, size_t done)
{
    double seconds = 0;
    for (size_t i = first; i < p->stages_count; i++) seconds += p->stages[i].seconds;
    const new_stage *s = &p->stages[first];
    return seconds - (s->seconds - s->fixed) * (double)done / (double)s->samples;
}

double new_plan_rest(const new_plan *p)
{
    const new_stage *s = &p->stages[p->stages_count - 1];
    return p->seconds > 0 ? rest_at(p, (double)s->samples / (s->seconds - s->fixed))
                          : new_plan_needed(p, 0, 0) * rest_share(p) / (1 - rest_share(p));
}

void new_plan_lengthen(new_plan *p, double seconds)
{
    new_stage *s = new_plan_score(p);
    double rate = (double)s->samples / (s->seconds - s->fixed);
    double samples = fmin((double)s->samples + seconds * rate, SAMPLES_MOST);
    size_t whole = (size_t)samples / s->batch * s->batch;
    if (whole <= s->samples) return;
    s->seconds += (double)(whole - s->samples) / rate;
    s->samples = whole;
}

void new_plan_shorten(new_plan *p, size_t first, size_t done, double share)
{
    for (size_t i = first; i < p->stages_count; i++, done = 0) {
        new_stage *s = &p->stages[i];
        double rate = (double)s->samples / (s->seconds - s->fixed);
        double seconds = share * (s->fixed + (double)(s->samples - done) / rate) - s->fixed;
        size_t least = done + s->batch, some = STEPS_LEAST * s->batch;
        size_t samples = done + (size_t)fmax(seconds * rate, 0) / s->batch * s->batch;
        if (least < some) least = some;
        if (samples < least) samples = least;
        if (samples >= s->samples) continue;
        if (done) s->cuts[s->cuts_count++] = (new_cut){done, s->samples};
        s->samples = samples;
        s->seconds = s->fixed + (double)samples / rate;
    }
}
