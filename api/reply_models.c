/* Models as JSON: what a client needs to build a request without knowing the model. */
#include <math.h>
#include <string.h>

#include "api/image.h"
#include "api/json.h"
#include "api/reply_internal.h"

static const char *const kind_names[] = {"categorical", "continuous", "image"};

static json_t *variable(const dscm_bundle_info *info, const dscm_variable *v)
{
    json_t *out = json_pack("{s:s, s:s}", "name", v->name, "kind", kind_names[v->kind]);
    if (v->kind == DSCM_CATEGORICAL) {
        json_t *labels = json_array();
        for (size_t i = 0; i < v->labels_count; i++)
            json_array_append_new(labels, json_string(v->labels[i]));
        json_object_set_new(out, "labels", labels);
    } else if (v->kind == DSCM_CONTINUOUS) {
        dscm_json_set_real(out, "min", v->min);
        dscm_json_set_real(out, "max", v->max);
    } else {
        json_object_set_new(out, "height", json_integer((json_int_t)v->h));
        json_object_set_new(out, "width", json_integer((json_int_t)v->w));
        json_object_set_new(out, "channels", json_integer((json_int_t)v->c));
    }
    json_t *parents = json_array();
    for (size_t i = 0; i < v->parents_count; i++)
        json_array_append_new(parents, json_string(info->variables[v->parents[i]].name));
    json_object_set_new(out, "parents", parents);
    return out;
}

static json_t *graph(const dscm_bundle_info *info)
{
    json_t *variables = json_array();
    for (size_t i = 0; i < info->variables_count; i++)
        json_array_append_new(variables, variable(info, &info->variables[i]));
    return json_pack("{s:s, s:o}", "image", info->variables[info->image].name, "variables",
                     variables);
}

static json_t *calibrations(const dscm_bundle_info *info)
{
    json_t *out = json_array();
    for (size_t i = 0; i < info->calibrations_count; i++) {
        const dscm_calibration *c = &info->calibrations[i];
        json_t *entry =
            json_pack("{s:s, s:I}", "sampler", c->sampler, "steps", (json_int_t)c->steps);
        dscm_json_set_real(entry, "scale", c->scale);
        json_array_append_new(out, entry);
    }
    return out;
}

/* What a request gets that names no options; null while no bundle is there to ask. */
static json_t *defaults(const dscm_model_entry *entry)
{
    dscm_options options = dscm_options_defaults();
    bool search = entry->bundle && dscm_options_search(entry->bundle, &options);
    if (!entry->bundle || dscm_options_resolve(entry->bundle, &options, NULL) != DSCM_OK)
        return json_null();
    json_t *out =
        json_pack("{s:s, s:I}", "sampler", options.sampler, "steps", (json_int_t)options.steps);
    if (search)
        json_object_set_new(out, "scale", json_string("auto"));
    else
        dscm_json_set_real(out, "scale", options.scale);
    dscm_json_set_real(out, "ratio", options.ratio);
    dscm_json_set_real(out, "min_change", options.min_change);
    return out;
}

static json_t *samplers(void)
{
    json_t *out = json_array();
    for (size_t i = 0; dscm_sampler_name(i); i++)
        json_array_append_new(out, json_string(dscm_sampler_name(i)));
    return out;
}

/* A part of the manifest that is passed on as it is written there. */
static json_t *from_manifest(const dscm_bundle_info *info, const char *key)
{
    json_t *manifest =
        info->manifest ? dscm_json_read(info->manifest, strlen(info->manifest), 0, NULL) : NULL;
    json_t *part = json_incref(json_object_get(manifest, key));
    json_decref(manifest);
    return part ? part : json_null();
}

/* image: of the model, NULL: what all models accept. */
static json_t *limits_of(const dscm_model_limits *limits, const dscm_variable *image)
{
    dscm_picture_limits picture = dscm_image_limits(image, limits->image_side);
    return json_pack("{s:I, s:I, s:i, s:i, s:I, s:I}", "body_bytes", (json_int_t)limits->body_bytes,
                     "deadline_ms", (json_int_t)limits->deadline_max_ms, "counterfactuals",
                     DSCM_REQUEST_FAN_MAX, "samples", DSCM_SAMPLES_MAX, "image_side",
                     (json_int_t)picture.side, "image_pixels", (json_int_t)picture.pixels);
}

static json_t *brief(const dscm_model_entry *entry)
{
    json_t *out = reply_model_brief(entry->info);
    if (!out) return NULL;
    json_object_set_new(out, "graph", graph(entry->info));
    json_object_set_new(out, "defaults", defaults(entry));
    return out;
}

char *dscm_reply_models(const dscm_catalogue *catalogue, const dscm_model_limits *limits,
                        size_t *size)
{
    unsigned long mark = dscm_json_failures();
    json_t *list = json_array();
    for (size_t i = 0; i < catalogue->count; i++)
        json_array_append_new(list, brief(&catalogue->models[i]));
    return reply_text(json_pack("{s:o, s:o}", "models", list, "limits", limits_of(limits, NULL)),
                      mark, size);
}

char *dscm_reply_model(const dscm_model_entry *entry, const dscm_model_limits *limits, size_t *size)
{
    const dscm_bundle_info *info = entry->info;
    unsigned long mark = dscm_json_failures();
    json_t *out = brief(entry);
    if (!out) return NULL;
    json_object_set_new(out, "samplers", samplers());
    json_object_set_new(out, "calibrations", calibrations(info));
    json_object_set_new(out, "licence", info->licence ? json_string(info->licence) : json_null());
    json_object_set_new(out, "provenance",
                        info->provenance ? json_string(info->provenance) : json_null());
    json_object_set_new(out, "warning", from_manifest(info, "warning"));
    json_object_set_new(out, "quality", from_manifest(info, "quality"));
    json_object_set_new(out, "scores",
                        json_pack("{s:b, s:b, s:b}", "cld", info->has_cld, "im", info->has_im,
                                  "oracle", info->has_oracle));
    json_object_set_new(out, "bytes", json_integer((json_int_t)info->bytes));
    json_object_set_new(out, "limits", limits_of(limits, &info->variables[info->image]));
    return reply_text(out, mark, size);
}
