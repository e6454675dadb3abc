/* The plan of `diffscm new`: from this machine's speed to numbers of samples, and its file. */
#include <stdlib.h>
#include <string.h>

#include "cli/new.h"
#include "core/io/file.h"

#define TRIAL_SECONDS 2.0
#define STEPS_LEAST   20
#define SAMPLES_MOST  20000000

/* Shares of the time; the rest is calibration. */
static const struct {
    dscm_task task;
    const char *split;
    size_t channels, batch;
    double share;
} stages[NEW_TRAINED] = {{DSCM_TASK_SCORE, "M", 32, 64, .58},
                         {DSCM_TASK_PREDICTOR, "M", 32, 64, .18},
                         {DSCM_TASK_ORACLE, "P", 16, 64, .09},
                         {DSCM_TASK_VAE, "P", 8, 64, .03}};

/* Samples per second of a few steps. */
static dscm_code time_stage(const new_plan *plan, const new_stage *stage, const dscm_dataset *set,
                            double *rate, dscm_error *err)
{
    dscm_train_options o = dscm_train_defaults(stage->task);
    dscm_trainer *trainer = NULL;
    dscm_step_report report;
    bool classifier = stage->task == DSCM_TASK_PREDICTOR || stage->task == DSCM_TASK_ORACLE;
    o.net.image_size = set->h;
    o.net.in_channels = set->c;
    o.net.model_channels = stage->channels;
    if (stage->task == DSCM_TASK_SCORE) o.net.out_channels = set->c;
    if (classifier) o.net.out_channels = plan->classes;
    o.batch = stage->batch;
    o.threads = (int)plan->threads;
    o.only_class = -1;
    dscm_code code = dscm_trainer_open(&trainer, &o, set, err);
    if (code == DSCM_OK) code = dscm_trainer_step(trainer, &report, err); /* warms caches */
    double start = cli_seconds(), used = 0;
    size_t steps = 0;
    while (code == DSCM_OK && used < TRIAL_SECONDS) {
        code = dscm_trainer_step(trainer, &report, err);
        steps++;
        used = cli_seconds() - start;
    }
    dscm_trainer_free(trainer);
    if (code == DSCM_OK) *rate = (double)(steps * stage->batch) / used;
    return code;
}

dscm_code new_plan_make(new_plan *plan, const dscm_dataset *set, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < NEW_TRAINED; i++) {
        new_stage *s = &plan->stages[i];
        double rate = 1;
        *s = (new_stage){.task = stages[i].task,
                         .split = stages[i].split,
                         .channels = stages[i].channels,
                         .batch = stages[i].batch};
        code = time_stage(plan, s, set, &rate, err);
        double wanted = plan->seconds * stages[i].share * rate;
        size_t least = STEPS_LEAST * s->batch;
        s->samples = wanted < (double)least  ? least
                     : wanted > SAMPLES_MOST ? SAMPLES_MOST
                                             : (size_t)wanted / s->batch * s->batch;
        s->seconds = (double)s->samples / rate;
    }
    return code;
}

/* ---- its file ---- */
dscm_code new_plan_write(const new_plan *p, const char *path, dscm_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < NEW_TRAINED; i++)
        json_array_append_new(
            list,
            json_pack("{s:s, s:s, s:I, s:I, s:I, s:f}", "task", dscm_task_name(p->stages[i].task),
                      "split", p->stages[i].split, "channels", (json_int_t)p->stages[i].channels,
                      "batch", (json_int_t)p->stages[i].batch, "samples",
                      (json_int_t)p->stages[i].samples, "seconds", p->stages[i].seconds));
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:O, s:o}", "format",
        "diffscm-plan-1", "data", p->data, "data_sha256", p->data_sha256, "variable", p->variable,
        "name", p->name, "effort", p->effort, "size", (json_int_t)p->size, "channels",
        (json_int_t)p->channels, "classes", (json_int_t)p->classes, "count", (json_int_t)p->count,
        "threads", (json_int_t)p->threads, "seconds", p->seconds, "labels", p->labels, "stages",
        list);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    dscm_code code = text ? DSCM_OK
                          : dscm_fail(err, DSCM_E_INVALID,
                                      "the plan cannot be written: a name or label is not UTF-8");
    const dscm_piece pieces[] = {{text, text ? strlen(text) : 0}, {"\n", 1}};
    if (code == DSCM_OK) code = dscm_file_replace(path, pieces, 2, err);
    free(text);
    json_decref(root);
    return code;
}

static bool read_stage(new_stage *out, size_t index, json_t *entry)
{
    const char *task, *split;
    json_int_t channels, batch, samples;
    if (json_unpack(entry, "{s:s, s:s, s:I, s:I, s:I, s:F}", "task", &task, "split", &split,
                    "channels", &channels, "batch", &batch, "samples", &samples, "seconds",
                    &out->seconds) != 0 ||
        strcmp(task, dscm_task_name(stages[index].task)) != 0 ||
        strcmp(split, stages[index].split) != 0 || channels < 4 || batch < 1 || samples < 1)
        return false;
    out->task = stages[index].task;
    out->split = stages[index].split;
    out->channels = (size_t)channels;
    out->batch = (size_t)batch;
    out->samples = (size_t)samples;
    return true;
}

dscm_code new_plan_read(new_plan *p, const char *path, dscm_error *err)
{
    json_error_t parse;
    json_int_t size, channels, classes, count, threads;
    const char *data, *sha256, *variable, *name, *effort;
    json_t *labels, *list, *root = json_load_file(path, JSON_REJECT_DUPLICATES, &parse);
    bool good =
        root && json_unpack(root,
                            "{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:F, s:o, "
                            "s:o}",
                            "data", &data, "data_sha256", &sha256, "variable", &variable, "name",
                            &name, "effort", &effort, "size", &size, "channels", &channels,
                            "classes", &classes, "count", &count, "threads", &threads, "seconds",
                            &p->seconds, "labels", &labels, "stages", &list) == 0;
    good = good && json_array_size(list) == NEW_TRAINED && classes >= 2 && threads >= 1 &&
           json_array_size(labels) == (size_t)classes;
    for (size_t i = 0; good && i < NEW_TRAINED; i++)
        good = read_stage(&p->stages[i], i, json_array_get(list, i));
    if (good) {
        snprintf(p->data, sizeof p->data, "%s", data);
        snprintf(p->data_sha256, sizeof p->data_sha256, "%s", sha256);
        snprintf(p->variable, sizeof p->variable, "%s", variable);
        snprintf(p->name, sizeof p->name, "%s", name);
        snprintf(p->effort, sizeof p->effort, "%s", effort);
        p->size = (size_t)size;
        p->channels = (size_t)channels;
        p->classes = (size_t)classes;
        p->count = (size_t)count;
        p->threads = (size_t)threads;
        p->labels = json_incref(labels);
    }
    json_decref(root);
    return good ? DSCM_OK
                : dscm_fail(err, DSCM_E_FORMAT, "%s: not a plan of diffscm new; remove it", path);
}

void new_plan_print(const new_plan *p)
{
    double total = 0;
    fprintf(stderr, "plan: %zu images of %zux%zu, %s, %zu classes; %zu threads; effort %s\n",
            p->count, p->size, p->size, p->channels == 1 ? "grey" : "colour", p->classes,
            p->threads, p->effort);
    for (size_t i = 0; i < NEW_TRAINED; i++) {
        const new_stage *s = &p->stages[i];
        fprintf(stderr, "  %-10s %zu channels, %zu samples of split %s: about %.1f min\n",
                dscm_task_name(s->task), s->channels, s->samples, s->split, s->seconds / 60);
        total += s->seconds;
    }
    fprintf(stderr, "  with calibration about %.0f min\n", (total + .12 * p->seconds) / 60 + .5);
}

void new_plan_close(new_plan *p)
{
    json_decref(p->labels);
    p->labels = NULL;
}
