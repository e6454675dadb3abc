#include "api/case_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/json.h"

static const char *const actions[] = {
    [DSCM_DO] = "do", [DSCM_SHIFT] = "shift", [DSCM_HOLD] = "hold"};
enum { ACTIONS = sizeof actions / sizeof actions[0] };

/* ---- writing ---- */

static json_t *real_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *target_json(const dscm_target *target)
{
    json_t *list = json_array();
    for (size_t i = 0; i < target->count; i++) {
        const dscm_intervention *act = &target->items[i];
        json_t *one = json_pack("[i,s,o,o]", act->variable, actions[act->action],
                                json_real(act->value), real_or_null(act->scale));
        if (!one || json_array_append_new(list, one) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *factuals_json(const double *values, size_t count)
{
    json_t *list = json_array();
    for (size_t v = 0; values && v < count; v++)
        if (json_array_append_new(list, real_or_null(values[v])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

char *dscm_case_text(const dscm_case *ask, const dscm_bundle_info *info, size_t *size)
{
    const dscm_options *o = &ask->options;
    unsigned long mark = dscm_json_failures();
    json_t *value =
        json_pack("{s:s,s:s,s:I,s:o,s:o,s:o,s:b,s:b,s:o,s:o}", "sampler", o->sampler, "guidance",
                  dscm_guidance_name(o->guidance), "steps", (json_int_t)o->steps, "ratio",
                  real_or_null(o->ratio), "scale", real_or_null(o->scale), "min_change",
                  real_or_null(o->min_change), "dynamic", o->dynamic != 0, "auto",
                  (int)ask->auto_scale, "target", target_json(&ask->targets[0]), "factuals",
                  factuals_json(ask->factuals, info->variables_count));
    char *text = dscm_json_write(value, JSON_COMPACT | JSON_REAL_PRECISION(17), mark);
    json_decref(value);
    *size = text ? strlen(text) : 0;
    return text;
}

/* ---- reading ---- */

/* A number, or NaN for null; false: neither. */
static bool read_real(const json_t *value, double *out)
{
    *out = json_is_null(value) ? NAN : json_number_value(value);
    return json_is_null(value) || json_is_number(value);
}

/* Whether a variable can have this value: a label's index, or a number of its range. */
static bool value_fits(const dscm_variable *v, double value)
{
    if (v->kind == DSCM_IMAGE) return false;
    if (v->kind == DSCM_CONTINUOUS) return value >= v->min && value <= v->max;
    return value >= 0 && value < (double)v->labels_count && value == floor(value);
}

static bool read_act(const json_t *json, const dscm_bundle_info *info, dscm_intervention *out)
{
    json_int_t variable = json_integer_value(json_array_get(json, 0));
    const char *action = json_string_value(json_array_get(json, 1));
    if (!json_is_integer(json_array_get(json, 0)) || variable < 0 ||
        variable >= (json_int_t)info->variables_count || !action)
        return false;
    const dscm_variable *v = &info->variables[variable];
    size_t act = 0;
    while (act < ACTIONS && strcmp(actions[act], action) != 0) act++;
    *out = (dscm_intervention){.variable = (int)variable, .action = (dscm_action)act};
    if (act == ACTIONS || v->kind == DSCM_IMAGE ||
        !read_real(json_array_get(json, 2), &out->value) ||
        !read_real(json_array_get(json, 3), &out->scale))
        return false;
    if (!isnan(out->scale) && !(out->scale >= 0 && out->scale <= 1000)) return false;
    if (act == DSCM_DO) return value_fits(v, out->value);
    return act == DSCM_HOLD || (v->kind == DSCM_CONTINUOUS && isfinite(out->value));
}

static bool read_target(const json_t *list, const dscm_bundle_info *info, dscm_target *out)
{
    *out = (dscm_target){.count = json_array_size(list)};
    bool good = json_is_array(list) && out->count <= DSCM_TARGET_VARIABLES_MAX;
    for (size_t i = 0; good && i < out->count; i++) {
        good = read_act(json_array_get(list, i), info, &out->items[i]);
        for (size_t k = 0; good && k < i; k++)
            good = out->items[k].variable != out->items[i].variable;
    }
    return good;
}

static bool read_factuals(const json_t *list, dscm_request *r)
{
    size_t count = json_array_size(list);
    if (!json_is_array(list) || (count && count != r->info->variables_count)) return false;
    r->factuals = count ? dscm_request_factuals(r) : NULL;
    for (size_t v = 0; r->factuals && v < count; v++)
        if (!read_real(json_array_get(list, v), &r->factuals[v]) ||
            (!isnan(r->factuals[v]) && !value_fits(&r->info->variables[v], r->factuals[v])))
            return false;
    return !count || r->factuals;
}

static bool read_options(const json_t *value, dscm_request *r)
{
    dscm_options *o = &r->options;
    const char *sampler = json_string_value(json_object_get(value, "sampler"));
    const char *guidance = json_string_value(json_object_get(value, "guidance"));
    json_int_t steps = json_integer_value(json_object_get(value, "steps"));
    *o = dscm_options_defaults();
    for (size_t i = 0; sampler && dscm_sampler_name(i); i++)
        if (strcmp(sampler, dscm_sampler_name(i)) == 0) o->sampler = dscm_sampler_name(i);
    o->steps = steps > 0 ? (size_t)steps : 0;
    o->dynamic = json_is_true(json_object_get(value, "dynamic"));
    r->auto_scale = json_is_true(json_object_get(value, "auto"));
    return o->sampler && o->steps && guidance &&
           dscm_guidance_parse(&o->guidance, guidance, NULL) == DSCM_OK &&
           read_real(json_object_get(value, "ratio"), &o->ratio) &&
           read_real(json_object_get(value, "scale"), &o->scale) &&
           read_real(json_object_get(value, "min_change"), &o->min_change);
}

/* Whether the text holds a case of the model; what was read is the request's. */
static bool read_case(const json_t *value, dscm_request *r)
{
    r->wanted = DSCM_WANT_COUNTERFACTUAL;
    r->targets_count = 1;
    return read_options(value, r) &&
           read_target(json_object_get(value, "target"), r->info, &r->targets[0]) &&
           read_factuals(json_object_get(value, "factuals"), r);
}

static void judge(dscm_request *r, const json_t *value, const void *pixels, size_t size,
                  dscm_problem *problem)
{
    const dscm_variable *v = &r->info->variables[r->info->image];
    dscm_error err = {0};
    if (!read_case(value, r) || size != v->h * v->w * v->c) {
        dscm_problem_set(problem, DSCM_PROBLEM_INTERNAL, "the stored case cannot be read");
        return;
    }
    if (r->bundle && dscm_options_resolve(r->bundle, &r->options, &err) != DSCM_OK) {
        dscm_problem_set(problem, DSCM_PROBLEM_INVALID_PARAMETER, "%s", err.message);
        return;
    }
    r->pixels = malloc(size ? size : 1);
    if (r->pixels)
        memcpy(r->pixels, pixels, size);
    else
        dscm_problem_set(problem, DSCM_PROBLEM_INTERNAL, "There is not enough memory.");
}

bool dscm_request_parse_case(dscm_request **out, const char *text, size_t size, const void *pixels,
                             size_t pixels_size, const dscm_catalogue *catalogue, size_t model,
                             dscm_problem *problem)
{
    *out = NULL;
    json_t *value = dscm_json_parse(text, size, problem);
    if (!value) return false;
    dscm_request *r = calloc(1, sizeof *r);
    if (r) {
        r->work = DSCM_WORK_COUNTERFACTUAL;
        r->model = model;
        r->info = catalogue->models[model].info;
        r->bundle = catalogue->models[model].bundle;
        judge(r, value, pixels, pixels_size, problem);
    } else {
        dscm_problem_set(problem, DSCM_PROBLEM_INTERNAL, "There is not enough memory.");
    }
    json_decref(value);
    if (r && problem->code == DSCM_PROBLEM_NONE)
        *out = r;
    else
        dscm_request_free(r);
    return *out != NULL;
}
