/* Checkpoints and export of a trainer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/io/finite.h"
#include "core/io/json.h"
#include "core/io/sha256.h"
#include "core/models/config.h"
#include "core/train/trainer_internal.h"

/* Everything that must agree for a run to go on, as one text; or NULL when memory is short. */
static char *settings_text(const dscm_trainer *t)
{
    const dscm_train_options *o = &t->options;
    unsigned long mark = dscm_json_failures();
    json_t *object = json_pack(
        "{s:s, s:o, s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:I, s:i, s:i, s:s}", "task",
        dscm_task_name(o->task), "config", dscm_net_config_to_json(&o->net), "schedule",
        dscm_schedule_name(o->schedule), "batch", (json_int_t)o->batch, "samples",
        (json_int_t)o->samples, "rate", o->rate, "weight_decay", o->weight_decay, "ema_decay",
        o->ema_decay, "clip", o->clip, "warmup", (json_int_t)o->warmup, "seed", (json_int_t)o->seed,
        "threads", o->threads, "class", o->only_class, "data_sha256", t->data->sha256);
    if (o->net.parents_count)
        json_object_set_new(object, "parent_dropout", json_real(o->parent_dropout));
    if (o->clean_share > 0) json_object_set_new(object, "clean_share", json_real(o->clean_share));
    if (o->still) json_object_set_new(object, "still", json_true()); /* absent in older runs */
    if (o->balanced) json_object_set_new(object, "balanced", json_true());
    if (o->flip) json_object_set_new(object, "flip", json_true());
    if (o->shift) json_object_set_new(object, "shift", json_integer((json_int_t)o->shift));
    if (t->init_sha256[0]) json_object_set_new(object, "init", json_string(t->init_sha256));
    char *text = dscm_json_write(object, JSON_COMPACT | JSON_REAL_PRECISION(12), mark);
    json_decref(object);
    return text;
}

dscm_code dscm_trainer_save(const dscm_trainer *t, const char *path, dscm_error *err)
{
    char step[32], samples[32], *settings = settings_text(t);
    if (!settings) return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", path);
    snprintf(step, sizeof step, "%zu", t->step);
    snprintf(samples, sizeof samples, "%zu", t->samples);
    const char *metadata[] = {"settings", settings, "step", step, "samples_done", samples, NULL};
    const dscm_tensor_out tensors[] = {{"values", &t->state.floats, 1, t->state.values},
                                       {"ema", &t->state.floats, 1, t->state.ema},
                                       {"m", &t->state.floats, 1, t->state.m},
                                       {"v", &t->state.floats, 1, t->state.v}};
    dscm_code code = dscm_safetensors_write(path, tensors, 4, DSCM_F32, metadata, err);
    free(settings);
    return code;
}

static dscm_code load_state(dscm_trainer *t, const dscm_tensors *set, const char *path,
                            dscm_error *err)
{
    static const char *const names[] = {"values", "ema", "m", "v"};
    float *const to[] = {t->state.values, t->state.ema, t->state.m, t->state.v};
    for (int i = 0; i < 4; i++) {
        const dscm_tensor_info *info = dscm_tensors_find(set, names[i]);
        if (!info || info->count != t->state.floats)
            return dscm_fail(err, DSCM_E_FORMAT, "%s: \"%s\" is missing or has the wrong size",
                             path, names[i]);
        dscm_code code = dscm_tensors_read_f32(set, info, to[i], err);
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}

/* ---- weights to begin with ---- */
static bool fits(const dscm_param *p, const dscm_tensor_info *info)
{
    if (!info || info->ndim != p->ndim) return false;
    for (int d = 0; d < p->ndim; d++)
        if (info->dims[d] != p->dims[d]) return false;
    return true;
}

static dscm_code take_weights(dscm_trainer *t, const dscm_tensors *set, const char *path,
                              dscm_init_report *report, dscm_error *err)
{
    const dscm_params *params = &t->net->params;
    size_t at = 0;
    *report = (dscm_init_report){.taken = 0};
    for (size_t i = 0; i < params->count; i++) {
        const dscm_param *p = &params->items[i];
        const dscm_tensor_info *info = dscm_tensors_find(set, p->name);
        float *values = t->state.values + p->offset;
        if (!fits(p, info)) {
            if (at < sizeof report->names)
                at += (size_t)snprintf(report->names + at, sizeof report->names - at, "%s%s",
                                       at ? ", " : "", p->name);
            report->kept++;
            continue;
        }
        dscm_code code = dscm_tensors_read_f32(set, info, values, err);
        if (code == DSCM_OK)
            code = dscm_values_check(values, p->count, DSCM_F32, path, p->name, err);
        if (code != DSCM_OK) return code;
        report->taken++;
    }
    report->unused = dscm_tensors_count(set) - report->taken;
    if (!report->taken)
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "%s: none of its %zu tensors has name and shape of a parameter of this "
                         "network",
                         path, dscm_tensors_count(set));
    return DSCM_OK;
}

dscm_code dscm_trainer_init(dscm_trainer *t, const char *path, dscm_init_report *report,
                            dscm_error *err)
{
    dscm_tensors *set = NULL;
    dscm_code code = dscm_tensors_open(&set, path, err);
    if (code == DSCM_OK) code = take_weights(t, set, path, report, err);
    if (code == DSCM_OK) code = dscm_sha256_file(t->init_sha256, path, err);
    if (code == DSCM_OK) {
        memcpy(t->state.ema, t->state.values, t->state.floats * sizeof(float));
        dscm_weights_update(t->weights, t->state.values, t->team);
    }
    dscm_tensors_free(set);
    return code;
}

/* ---- checkpoints ---- */
/* A checkpoint's settings against this run's. Another number of samples is allowed: the run goes on along
 * the learning rate of the new one, and ends at once where that is done. Else the message names each
 * setting that differs, both sides. */
static dscm_code check_settings(const char *path, const char *mine_text, const char *theirs_text,
                                dscm_error *err)
{
    unsigned long mark = dscm_json_failures();
    json_t *mine = dscm_json_read(mine_text, strlen(mine_text), 0, NULL),
           *theirs = dscm_json_read(theirs_text, strlen(theirs_text), 0, NULL);
    char text[400] = "";
    size_t at = 0;
    const char *key;
    json_t *value, *all = theirs ? json_copy(theirs) : NULL;
    if (mine && all) json_object_update_missing(all, mine);
    json_object_foreach(all, key, value)
    {
        json_t *here = json_object_get(mine, key), *there = json_object_get(theirs, key);
        if (here && there && json_equal(here, there)) continue;
        if (strcmp(key, "samples") == 0) continue;
        const int flags = JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(12);
        char *a = dscm_json_write(there, flags, mark), *b = dscm_json_write(here, flags, mark);
        if (at < sizeof text)
            at += (size_t)snprintf(text + at, sizeof text - at,
                                   "%s%s is %.120s there and %.120s here", at ? ", " : "", key,
                                   a ? a : "absent", b ? b : "absent");
        free(a);
        free(b);
    }
    bool read = mine && theirs;
    json_decref(mine);
    json_decref(theirs);
    json_decref(all);
    if (dscm_json_failures() != mark)
        return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", path);
    if (!read) return dscm_fail(err, DSCM_E_FORMAT, "%s: its settings cannot be read", path);
    if (!at) return DSCM_OK;
    return dscm_fail(err, DSCM_E_MISMATCH, "%s: checkpoint of other settings: %s", path, text);
}

dscm_code dscm_trainer_load(dscm_trainer *t, const char *path, dscm_error *err)
{
    dscm_tensors *set = NULL;
    dscm_code code = dscm_tensors_open(&set, path, err);
    if (code != DSCM_OK) return code;
    char *mine = settings_text(t);
    const char *theirs = dscm_tensors_metadata(set, "settings");
    const char *step = dscm_tensors_metadata(set, "step");
    const char *samples = dscm_tensors_metadata(set, "samples_done");
    if (!theirs || !step || !samples)
        code = dscm_fail(err, DSCM_E_FORMAT, "%s: not a training checkpoint", path);
    else if (!mine)
        code = dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", path);
    else
        code = check_settings(path, mine, theirs, err);
    if (code == DSCM_OK) code = load_state(t, set, path, err);
    if (code == DSCM_OK) {
        t->step = strtoul(step, NULL, 10);
        t->samples = strtoul(samples, NULL, 10);
        dscm_weights_update(t->weights, t->state.values, t->team);
    }
    free(mine);
    dscm_tensors_free(set);
    return code;
}

dscm_code dscm_trainer_export(const dscm_trainer *t, const char *path, dscm_dtype dtype,
                              dscm_error *err)
{
    char samples[32], *settings = settings_text(t);
    if (!settings) return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", path);
    snprintf(samples, sizeof samples, "%zu", t->samples);
    const char *metadata[] = {"settings", settings, "samples_done", samples, NULL};
    dscm_code code = dscm_params_save(&t->net->params, t->state.ema, path, dtype, metadata, err);
    free(settings);
    return code;
}
