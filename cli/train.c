/* diffscm train: score | predictor | oracle | vae | autoencoder. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/train_values.h"
#include "core/base/cpu.h"
#include "core/base/memory.h"
#include "core/train/trainer.h"

#define NO_LIMIT 1e9 /* seconds */

static volatile sig_atomic_t stop_asked;

static void ask_stop(int number)
{
    (void)number;
    stop_asked = 1;
}

/* The first signal asks the run to stop after its step, a second one kills. */
static void listen(void)
{
    struct sigaction action = {.sa_handler = ask_stop, .sa_flags = SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

typedef struct train_run {
    dscm_train_options options;
    const char *data_dir, *split, *eval_split, *out, *checkpoint, *log, *dtype, *schedule, *mult;
    const char *attention, *init, *size, *arch, *parents, *prediction, *variable, *table;
    train_values variables; /* out of the table; count 0: none */
    bool relabel, no_cache, conditional, quiet;
    size_t classes, data_channels;
    double *values, *held_values; /* of the parents or the predicted variable: (images, count) */
    size_t class_number, threads, eval_limit, until; /* until 0: samples */
    double time_limit, checkpoint_every;
    dscm_dataset data, held_out; /* the second one only with --eval-split */
    dscm_trainer *trainer;
    FILE *csv;
    double started;
} train_run;

static dscm_code parse_mult(dscm_net_config *c, const char *text, dscm_error *err)
{
    c->levels = 0;
    for (const char *p = text; *p;) {
        char *end;
        double v = strtod(p, &end);
        if (end == p || (*end && *end != ',') || c->levels == DSCM_LEVELS_MAX)
            return dscm_fail(err, DSCM_E_INVALID,
                             "--mult %s: must be at most %d numbers such as 1,2,2", text,
                             DSCM_LEVELS_MAX);
        c->channel_mult[c->levels++] = v;
        p = *end ? end + 1 : end;
    }
    return DSCM_OK;
}

static dscm_code parse_attention(dscm_net_config *c, const char *text, dscm_error *err)
{
    for (const char *p = text; *p;) {
        char *end;
        unsigned long v = strtoul(p, &end, 10);
        if (end == p || (*end && *end != ',') || c->attention_count == DSCM_LEVELS_MAX)
            return dscm_fail(err, DSCM_E_INVALID,
                             "--attention %s: must be resolutions such as 14,7", text);
        bool there = false;
        for (size_t level = 0; level < c->levels; level++)
            there |= v && c->image_size >> level == v;
        if (!there)
            return dscm_fail(err, DSCM_E_INVALID,
                             "--attention %s: no level has resolution %lu; the %zu levels have "
                             "%zu, halved from each to the next",
                             text, v, c->levels, c->image_size);
        c->attention_resolutions[c->attention_count++] = v;
        p = *end ? end + 1 : end;
    }
    return DSCM_OK;
}

static dscm_code read_data(const train_run *r, dscm_dataset *out, const char *split,
                           dscm_error *err)
{
    char cache[4096];
    dscm_dataset_options o = {.channels = r->data_channels,
                              .threads = (int)r->threads,
                              .relabel = r->relabel,
                              .without_labels = r->variable || r->variables.names,
                              .cache = r->no_cache ? NULL : cli_data_cache(cache, sizeof cache)};
    dscm_code code = r->size ? cli_parse_size(r->size, &o.w, &o.h, err) : DSCM_OK;
    if (code == DSCM_OK) code = dscm_dataset_read(out, r->data_dir, split, &o, err);
    return code;
}

/* Another architecture of the same task. */
static dscm_code set_arch(dscm_train_options *o, const char *name, dscm_error *err)
{
    dscm_arch arch = o->net.arch;
    dscm_code code = name ? dscm_arch_parse(&arch, name, err) : DSCM_OK;
    if (code == DSCM_OK && arch != o->net.arch &&
        !(o->task == DSCM_TASK_ORACLE && dscm_arch_judges(arch)) &&
        !(o->task == DSCM_TASK_VAE && dscm_arch_encodes(arch)))
        code =
            dscm_fail(err, DSCM_E_INVALID, "no architecture of task %s", dscm_task_name(o->task));
    if (code != DSCM_OK) dscm_error_prefix(err, "--arch %s", name);
    o->net.arch = arch;
    return code;
}

static bool in_table(const train_run *r)
{
    return r->variable || r->table || (r->conditional && strchr(r->parents, ','));
}

/* Values of the network's parents, or of the variable that it predicts: labels of a categorical one
 * become the data set's. (images, parents) are owned by the caller; NULL without any. */
static dscm_code read_values(double **out, train_run *r, dscm_dataset *data, const char *split,
                             dscm_error *err)
{
    size_t parents = r->options.net.parents_count;
    dscm_code code = DSCM_OK;
    if (!in_table(r)) {
        if (!parents) return DSCM_OK;
        *out = dscm_alloc(data->count * parents, sizeof **out, "parents", err);
        if (!*out) return DSCM_E_MEMORY;
        for (size_t i = 0; i < data->count; i++) (*out)[i * parents] = data->labels[i];
        return DSCM_OK;
    }
    code = r->variables.count ? train_values_read(&r->variables, out, data, split, err)
                              : train_values_describe(&r->variables, out, data, split, err);
    if (code != DSCM_OK || !r->variable || !r->variables.parents[0].classes) return code;
    data->classes = r->variables.parents[0].classes;
    for (size_t i = 0; i < data->count; i++) {
        if (isnan((*out)[i]))
            return dscm_fail(err, DSCM_E_INVALID, "--variable %s: image %zu has no label",
                             r->variable, i);
        data->labels[i] = (uint8_t)(*out)[i];
    }
    return DSCM_OK;
}

/* --conditional: one block per name of --parents: variables of the table, or the one whose values are
 * the labels of the data set. --variable: what a predictor or an oracle learns. */
static dscm_code set_parents(train_run *r, dscm_error *err)
{
    dscm_net_config *c = &r->options.net;
    bool predicts = r->options.task == DSCM_TASK_PREDICTOR || r->options.task == DSCM_TASK_ORACLE;
    if (r->conditional && r->options.task != DSCM_TASK_SCORE)
        return dscm_fail(err, DSCM_E_INVALID, "--conditional: only a score network has parents");
    if (r->variable && !predicts)
        return dscm_fail(err, DSCM_E_INVALID,
                         "--variable %s: only a predictor or an oracle learns one", r->variable);
    if (r->table && !r->variable && !r->conditional)
        return dscm_fail(err, DSCM_E_INVALID, "--table: needs --variable or --conditional");
    if (strcmp(r->prediction, "eps") != 0 && strcmp(r->prediction, "v") != 0)
        return dscm_fail(err, DSCM_E_INVALID, "--prediction %s: must be eps or v", r->prediction);
    c->prediction = strcmp(r->prediction, "v") == 0 ? DSCM_PREDICT_V : DSCM_PREDICT_EPS;
    if (in_table(r)) {
        r->variables.dir = r->data_dir;
        r->variables.table = r->table;
        r->variables.names = r->variable ? r->variable : r->parents;
    } else if (r->conditional) {
        if (strlen(r->parents) >= sizeof c->parents[0].name)
            return dscm_fail(err, DSCM_E_INVALID, "--parents %s: more than %zu characters",
                             r->parents, sizeof c->parents[0].name - 1);
        snprintf(c->parents[0].name, sizeof c->parents[0].name, "%s", r->parents);
        c->parents_count = 1;
    }
    return DSCM_OK;
}

/* What the values of the training data say about the network. */
static dscm_code fit_network(train_run *r, dscm_error *err)
{
    dscm_net_config *c = &r->options.net;
    const train_values *v = &r->variables;
    bool classifier = r->options.task == DSCM_TASK_PREDICTOR || r->options.task == DSCM_TASK_ORACLE;
    if (r->variable && v->count != 1)
        return dscm_fail(err, DSCM_E_INVALID, "--variable %s: one name is needed", r->variable);
    if (r->variable && !v->parents[0].classes) {
        if (r->options.task == DSCM_TASK_ORACLE)
            return dscm_fail(err, DSCM_E_INVALID,
                             "--variable %s: continuous; an oracle learns labels", r->variable);
        c->target = v->parents[0];
        c->out_channels = 2;
        return DSCM_OK;
    }
    if (classifier) {
        c->out_channels = r->classes ? r->classes : r->data.classes;
        return dscm_dataset_check_classes(&r->data, r->classes, err);
    }
    if (r->conditional && v->count) {
        memcpy(c->parents, v->parents, sizeof c->parents);
        c->parents_count = v->count;
    } else if (r->conditional) {
        c->parents[0].classes = r->data.classes;
        if (r->data.classes < 2)
            return dscm_fail(err, DSCM_E_INVALID, "--parents %s: the data has %zu classes",
                             r->parents, r->data.classes);
    }
    return DSCM_OK;
}

/* What the flags say, and what the data decides: size, channels, classes. */
static dscm_code settle(train_run *r, dscm_error *err)
{
    dscm_train_options *o = &r->options;
    dscm_code code = set_parents(r, err);
    if (code == DSCM_OK) code = read_data(r, &r->data, r->split, err);
    if (code == DSCM_OK) code = read_values(&r->values, r, &r->data, r->split, err);
    if (code == DSCM_OK) code = fit_network(r, err);
    if (code != DSCM_OK) return code;
    o->net.image_size = r->data.h;
    o->net.in_channels = r->data.c;
    if (o->task == DSCM_TASK_SCORE) o->net.out_channels = r->data.c;
    o->net.deep = r->class_number != SIZE_MAX;
    o->only_class = r->class_number == SIZE_MAX ? -1 : (int)r->class_number;
    o->threads = (int)r->threads;
    code = set_arch(o, r->arch, err);
    o->parents = r->values;
    if (code == DSCM_OK) code = dscm_schedule_parse(&o->schedule, r->schedule, err);
    if (code == DSCM_OK && r->mult) code = parse_mult(&o->net, r->mult, err);
    if (code == DSCM_OK && r->attention) code = parse_attention(&o->net, r->attention, err);
    if (code == DSCM_OK && strcmp(r->dtype, "f16") != 0 && strcmp(r->dtype, "f32") != 0)
        code = dscm_fail(err, DSCM_E_INVALID, "--dtype %s: must be f16 or f32", r->dtype);
    return code;
}

static dscm_code open_log(train_run *r, dscm_error *err)
{
    if (!r->log) return DSCM_OK;
    r->csv = fopen(r->log, dscm_trainer_samples(r->trainer) ? "a" : "w");
    if (!r->csv) return dscm_fail(err, DSCM_E_IO, "%s: cannot write: %s", r->log, strerror(errno));
    if (!dscm_trainer_samples(r->trainer))
        fprintf(r->csv, "step,samples,loss,rate,norm,samples_per_second,seconds\n");
    return DSCM_OK;
}

static dscm_code save(train_run *r, dscm_error *err)
{
    return r->checkpoint ? dscm_trainer_save(r->trainer, r->checkpoint, err) : DSCM_OK;
}

/* Where this run ends. */
static size_t last_sample(const train_run *r)
{
    return r->until && r->until < r->options.samples ? r->until : r->options.samples;
}

static dscm_code loop(train_run *r, dscm_error *err)
{
    enum { LOG_STEPS = 25 };
    cli_progress progress;
    dscm_step_report report = {0};
    double window = 0, saved = cli_seconds(), window_start = saved;
    size_t in_window = 0, first = dscm_trainer_samples(r->trainer), batch = r->options.batch;
    size_t end = last_sample(r), steps = end > first ? (end - first + batch - 1) / batch : 0;
    char note[64];
    cli_progress_start(&progress, dscm_task_name(r->options.task), "samples",
                       (double)(steps * batch)); /* the last step may do more than was asked for */
    if (r->time_limit < NO_LIMIT) progress.limit = r->time_limit - (cli_seconds() - r->started);
    while (dscm_trainer_samples(r->trainer) < end && !stop_asked &&
           cli_seconds() - r->started < r->time_limit) {
        dscm_code code = dscm_trainer_step(r->trainer, &report, err);
        if (code != DSCM_OK) return code;
        window += report.loss;
        double now = cli_seconds();
        if (++in_window == LOG_STEPS) {
            double rate = (double)(LOG_STEPS * batch) / (now - window_start);
            if (r->csv) {
                fprintf(r->csv, "%zu,%zu,%.6g,%.4g,%.4g,%.1f,%.1f\n", report.step, report.samples,
                        window / LOG_STEPS, report.rate, report.norm, rate, now - r->started);
                fflush(r->csv);
            }
            snprintf(note, sizeof note, "loss %.5f", window / LOG_STEPS);
            window = 0;
            in_window = 0;
            window_start = now;
            cli_progress_show(&progress, (double)(report.samples - first), note);
        }
        if (now - saved >= r->checkpoint_every) {
            code = save(r, err);
            if (code != DSCM_OK) return code;
            saved = now;
        }
    }
    cli_progress_end(&progress);
    dscm_code code = save(r, err);
    size_t done = dscm_trainer_samples(r->trainer);
    /* No weights then: who finds the file takes the training for finished. */
    if (code == DSCM_OK && stop_asked && done < end)
        code = dscm_fail(err, DSCM_E_CANCELED, "%zu of %zu samples done%s%s%s", done,
                         r->options.samples, r->checkpoint ? ", saved in " : ", nothing saved",
                         r->checkpoint ? r->checkpoint : " without --checkpoint",
                         r->checkpoint ? "; the same command goes on from there" : "");
    return code;
}

/* Opened before the training, and tried on one image: a split that is not there or does not fit must
 * not be found out after hours. */
static dscm_code open_held_out(train_run *r, dscm_error *err)
{
    dscm_held_out tried;
    if (!r->eval_split) return DSCM_OK;
    dscm_code code = read_data(r, &r->held_out, r->eval_split, err);
    if (code == DSCM_OK) code = read_values(&r->held_values, r, &r->held_out, r->eval_split, err);
    if (code == DSCM_OK)
        code = dscm_trainer_evaluate(r->trainer, &r->held_out, r->held_values, 1, &tried, err);
    if (code != DSCM_OK) dscm_error_prefix(err, "--eval-split %s", r->eval_split);
    return code;
}

/* What was understood of the data, before hours of work start. */
static void describe_data(const train_run *r)
{
    cli_data_describe(&r->data, r->split);
    if (!r->eval_split) return;
    cli_data_describe(&r->held_out, r->eval_split);
    size_t shared = dscm_dataset_shared(&r->data, &r->held_out);
    if (shared && shared != SIZE_MAX)
        fprintf(stderr, "%s: note: %zu of its images are also in %s\n", r->eval_split, shared,
                r->split);
}

static dscm_code print_held_out(train_run *r, dscm_error *err)
{
    dscm_held_out held;
    if (!r->eval_split) return DSCM_OK;
    dscm_code code =
        dscm_trainer_evaluate(r->trainer, &r->held_out, r->held_values, r->eval_limit, &held, err);
    for (size_t i = 0; code == DSCM_OK && i < held.ranges; i++) {
        if (held.ranges > 1) printf("t %4zu..%-4zu ", i * 100, i * 100 + 99);
        printf("%s loss %.6f", r->eval_split, held.loss[i]);
        if (!isnan(held.accuracy[i])) printf("  accuracy %.4f", held.accuracy[i]);
        if (!isnan(held.balanced[i])) printf("  balanced accuracy %.4f", held.balanced[i]);
        if (!isnan(held.error[i])) printf("  mean error %.4f", held.error[i]);
        putchar('\n');
    }
    return code;
}

/* Says what of the weights was taken, and what starts anew. */
static dscm_code begin_with(train_run *r, dscm_error *err)
{
    dscm_init_report report;
    dscm_code code = dscm_trainer_init(r->trainer, r->init, &report, err);
    if (code != DSCM_OK) return code;
    fprintf(stderr, "%s: %zu of %zu parameters taken", r->init, report.taken,
            report.taken + report.kept);
    if (report.kept) fprintf(stderr, "; new: %s", report.names);
    if (report.unused) fprintf(stderr, "; %zu tensors not used", report.unused);
    fputc('\n', stderr);
    return DSCM_OK;
}

static dscm_code run(train_run *r, dscm_error *err)
{
    dscm_code code = settle(r, err);
    if (code == DSCM_OK) code = dscm_trainer_open(&r->trainer, &r->options, &r->data, err);
    if (code == DSCM_OK && r->init) code = begin_with(r, err);
    if (code == DSCM_OK && r->checkpoint && access(r->checkpoint, F_OK) == 0)
        code = dscm_trainer_load(r->trainer, r->checkpoint, err);
    if (code == DSCM_OK) code = open_held_out(r, err);
    if (code == DSCM_OK) code = open_log(r, err);
    if (code == DSCM_OK && !r->quiet) describe_data(r);
    if (code == DSCM_OK && dscm_trainer_samples(r->trainer))
        fprintf(stderr, "%s: going on at %zu of %zu samples\n", r->checkpoint,
                dscm_trainer_samples(r->trainer), r->options.samples);
    if (code == DSCM_OK) code = loop(r, err);
    dscm_dtype dtype = strcmp(r->dtype, "f16") == 0 ? DSCM_F16 : DSCM_F32;
    size_t done = r->trainer ? dscm_trainer_samples(r->trainer) : 0;
    bool part = r->until && done >= r->until && done < r->options.samples; /* another run goes on */
    if (code == DSCM_OK && !part) code = dscm_trainer_export(r->trainer, r->out, dtype, err);
    if (code == DSCM_OK && !part) code = print_held_out(r, err);
    bool lost = r->csv && ferror(r->csv);
    if (r->csv && fclose(r->csv) != 0) lost = true;
    if (lost && code == DSCM_OK)
        code = dscm_fail(err, DSCM_E_IO, "%s: writing failed; the training itself is done", r->log);
    dscm_trainer_free(r->trainer);
    dscm_dataset_free(&r->data);
    dscm_dataset_free(&r->held_out);
    dscm_free(r->values);
    dscm_free(r->held_values);
    train_values_free(&r->variables);
    return code;
}

static dscm_code check_outputs(const train_run *r, dscm_error *err)
{
    dscm_code code = cli_check_output("out", r->out, false, err);
    if (code == DSCM_OK) code = cli_check_output("checkpoint", r->checkpoint, false, err);
    if (code == DSCM_OK) code = cli_check_output("log", r->log, false, err);
    if (code == DSCM_OK) code = cli_check_apart("checkpoint", r->checkpoint, "out", r->out, err);
    if (code == DSCM_OK) code = cli_check_apart("log", r->log, "out", r->out, err);
    return code == DSCM_OK ? cli_check_apart("log", r->log, "checkpoint", r->checkpoint, err)
                           : code;
}

#define TASKS "score|predictor|oracle|vae|autoencoder"

static int parse_task(int argc, char **argv, dscm_task *task)
{
    for (int t = 0; argc > 1 && t < DSCM_TASK_COUNT; t++)
        if (strcmp(argv[1], dscm_task_name((dscm_task)t)) == 0) {
            *task = (dscm_task)t;
            return -1;
        }
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) return -1;
    return argc > 1 ? cli_usage("train", "\"%s\" is no task; allowed are " TASKS, argv[1])
                    : cli_usage("train", "a task is needed: " TASKS);
}

int cmd_train(int argc, char **argv)
{
    dscm_task task = DSCM_TASK_SCORE;
    int exit_code = parse_task(argc, argv, &task);
    if (exit_code >= 0) return exit_code;
    train_run r = {.options = dscm_train_defaults(task),
                   .split = "train",
                   .dtype = "f16",
                   .schedule = "cosine",
                   .parents = "class",
                   .prediction = "eps",
                   .class_number = SIZE_MAX,
                   .threads = (size_t)dscm_cpu_count(),
                   .time_limit = NO_LIMIT,
                   .checkpoint_every = 60,
                   .started = cli_seconds()};
    dscm_net_config *net = &r.options.net;
    char samples_help[64], rate_help[64], channels_help[64];
    snprintf(samples_help, sizeof samples_help, "images to train on in all (%zu)",
             r.options.samples);
    snprintf(rate_help, sizeof rate_help, "largest learning rate (%g)", r.options.rate);
    snprintf(channels_help, sizeof channels_help, "model_channels (%zu)", net->model_channels);
    const cli_option options[] = {
        {"data", OPT_TEXT, &r.data_dir, 0, 0, "DIR",
         "folder or tar archive: IDX files, or PNG and JPEG files in a folder per class"},
        {"size", OPT_TEXT, &r.size, 0, 0, "N|WxH", "pictures are brought to this size (their own)"},
        {"data-channels", OPT_SIZE, &r.data_channels, 1, 3, "C",
         "of pictures: 1 grey, 3 colour (decided by them)"},
        {"relabel", OPT_FLAG, &r.relabel, 0, 0, NULL, "number the labels that occur from 0"},
        {"classes", OPT_SIZE, &r.classes, 2, 256, "N",
         "so many classes, also those without an image (those that occur)"},
        {"quiet", OPT_FLAG, &r.quiet, 0, 0, NULL, "do not say what was understood of the data"},
        {"no-cache", OPT_FLAG, &r.no_cache, 0, 0, NULL, "decode pictures anew, keep none"},
        {"split", OPT_TEXT, &r.split, 0, 0, "NAME",
         "what to train on: NAME, NAME[A:B] or NAME[A%:B%] (train)"},
        {"eval-split", OPT_TEXT, &r.eval_split, 0, 0, "NAME",
         "print held-out figures on these files"},
        {"eval-limit", OPT_SIZE, &r.eval_limit, 0, 1e9, "N", "… on the first N of them (all)"},
        {"out", OPT_TEXT, &r.out, 0, 0, "FILE", "averaged weights, safetensors"},
        {"dtype", OPT_TEXT, &r.dtype, 0, 0, "TYPE", "f16 (default) or f32"},
        {"checkpoint", OPT_TEXT, &r.checkpoint, 0, 0, "FILE",
         "written while training; continued from when it exists"},
        {"checkpoint-every", OPT_REAL, &r.checkpoint_every, 0, 1e6, "SECONDS",
         "how much a crash may cost (60)"},
        {"log", OPT_TEXT, &r.log, 0, 0, "FILE", "loss curve as CSV"},
        {"samples", OPT_SIZE, &r.options.samples, 1, 1e12, "N", samples_help},
        {"until", OPT_SIZE, &r.until, 1, 1e12, "N",
         "end after so many of --samples and leave the checkpoint alone, without weights"},
        {"time-limit", OPT_REAL, &r.time_limit, 0, NO_LIMIT, "SECONDS",
         "stop after this long; a checkpoint goes on (none)"},
        {"batch", OPT_SIZE, &r.options.batch, 1, 65536, "N", "images per step (128)"},
        {"lr", OPT_REAL, &r.options.rate, 1e-8, 1, "RATE", rate_help},
        {"warmup", OPT_SIZE, &r.options.warmup, 0, 1e9, "STEPS", "steps of linear warm-up (200)"},
        {"ema", OPT_REAL, &r.options.ema_decay, 0, 0.999999, "DECAY",
         "average of the weights (.999)"},
        {"weight-decay", OPT_REAL, &r.options.weight_decay, 0, 1, "W", "AdamW's decay (1e-4)"},
        {"clip", OPT_REAL, &r.options.clip, 0, 1e9, "NORM", "largest gradient norm (1); 0: none"},
        {"schedule", OPT_TEXT, &r.schedule, 0, 0, "NAME", "linear or cosine (default)"},
        {"conditional", OPT_FLAG, &r.conditional, 0, 0, NULL,
         "score: a network that is given the parents of the image"},
        {"parents", OPT_TEXT, &r.parents, 0, 0, "LIST",
         "… and their names, columns of the table; a single one without --table or a comma behind "
         "it: its values are the labels of the data set (class)"},
        {"parent-dropout", OPT_REAL, &r.options.parent_dropout, 0, 1, "P",
         "… and how often a parent is withheld, alone and all together (.1)"},
        {"prediction", OPT_TEXT, &r.prediction, 0, 0, "KIND",
         "score: what the network answers, eps (default) or v"},
        {"variable", OPT_TEXT, &r.variable, 0, 0, "NAME",
         "predictor, oracle: a column of the table instead of the labels; a predictor also learns "
         "a "
         "continuous one"},
        {"clean-share", OPT_REAL, &r.options.clean_share, 0, 1, "P",
         "predictor: share of the images without noise, as it sees them when it observes (0)"},
        {"table", OPT_TEXT, &r.table, 0, 0, "FILE",
         "CSV with a row per image (SPLIT-variables.csv or variables.csv of the data set)"},
        {"arch", OPT_TEXT, &r.arch, 0, 0, "NAME",
         "oracle: cnn (default), plain_cnn or resnet; vae: vae (default) or mlp_vae"},
        {"channels", OPT_SIZE, &net->model_channels, 4, 2048, "C", channels_help},
        {"mult", OPT_TEXT, &r.mult, 0, 0, "LIST", "channel_mult, e.g. 1,2,2"},
        {"blocks", OPT_SIZE, &net->num_res_blocks, 1, 16, "N", "num_res_blocks"},
        {"attention", OPT_TEXT, &r.attention, 0, 0, "LIST", "attention_resolutions, e.g. 7"},
        {"head-channels", OPT_SIZE, &net->num_head_channels, 0, 8192, "N", "num_head_channels"},
        {"latent", OPT_SIZE, &net->latent, 1, 4096, "N", "dimensions of a VAE's code"},
        {"dropout", OPT_REAL, &net->dropout, 0, 0.99, "RATE", "dropout (0)"},
        {"still", OPT_FLAG, &r.options.still, 0, 0, NULL,
         "oracle, vae: images as they are, not turned, scaled and shifted"},
        {"class", OPT_SIZE, &r.class_number, 0, 255, "N", "autoencoder of one class"},
        {"init", OPT_TEXT, &r.init, 0, 0, "FILE",
         "begin with these weights (safetensors) where name and shape fit; a checkpoint that is "
         "there goes before"},
        {"balance", OPT_FLAG, &r.options.balanced, 0, 0, NULL,
         "draw every class as often as the largest one"},
        {"flip", OPT_FLAG, &r.options.flip, 0, 0, NULL, "mirror images left to right at random"},
        {"shift", OPT_SIZE, &r.options.shift, 0, 64, "PIXELS",
         "move images by up to so many pixels each way at random (0)"},
        {"seed", OPT_SEED, &r.options.seed, 0, 0, "N", "seed (1)"},
        {"threads", OPT_SIZE, &r.threads, 1, DSCM_TEAM_MAX, "N", "threads (all processors)"},
        {.name = NULL}};
    option_list rest = {.count = 0};
    if (argv[1][0] != '-') { /* the task; without one this is a call for help */
        argv[1] = argv[0];   /* messages begin with the command */
        argc--, argv++;
    }
    exit_code =
        cli_parse(argc, argv, "train " TASKS " --data DIR --out FILE [options]", options, &rest);
    if (exit_code >= 0) return exit_code;
    if (rest.count) return cli_usage("train", "unexpected argument %s", rest.items[0]);
    if (!r.data_dir || !r.out) return cli_usage("train", "--data and --out are needed");
    if (r.until && !r.checkpoint) return cli_usage("train", "--until needs --checkpoint");
    dscm_error err = {0};
    dscm_code code = check_outputs(&r, &err);
    listen();
    if (code == DSCM_OK) code = run(&r, &err);
    return code == DSCM_OK ? EXIT_DONE : cli_fail("train", &err);
}
