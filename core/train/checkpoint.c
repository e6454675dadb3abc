/* Checkpoints and export of a trainer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/models/config.h"
#include "core/train/trainer_internal.h"

/* Everything that must agree for a run to go on, as one text; or NULL when memory is short. */
static char *settings_text(const dscm_trainer *t)
{
    const dscm_train_options *o = &t->options;
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
    char *text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
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

/* A checkpoint's settings against this run's. More samples are allowed: the run goes on, along the
 * learning rate of the longer one. Else the message names each setting that differs, both sides. */
static dscm_code check_settings(const char *path, const char *mine_text, const char *theirs_text,
                                dscm_error *err)
{
    json_t *mine = json_loads(mine_text, 0, NULL), *theirs = json_loads(theirs_text, 0, NULL);
    char text[400] = "";
    size_t at = 0;
    const char *key;
    json_t *value, *all = theirs ? json_copy(theirs) : NULL;
    if (mine && all) json_object_update_missing(all, mine);
    json_object_foreach(all, key, value)
    {
        json_t *here = json_object_get(mine, key), *there = json_object_get(theirs, key);
        if (here && there && json_equal(here, there)) continue;
        if (strcmp(key, "samples") == 0 && json_integer_value(here) >= json_integer_value(there))
            continue;
        const int flags = JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(12);
        char *a = there ? json_dumps(there, flags) : NULL,
             *b = here ? json_dumps(here, flags) : NULL;
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
