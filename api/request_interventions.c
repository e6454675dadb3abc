/* Interventions of a request: names and values against the model's graph, and the fan "*".
 *
 * One intervention is an object {variable: value}. A value is a label or its index (categorical), a
 * number (continuous), "*" (every label: a fan), an object {"from": a, "to": b, "count": n} (a sweep of a
 * continuous variable; in queries also "a..b:n"), or an object {"do": v, "scale": s}, {"shift": v} or
 * {"hold": true}. Factual values are objects of plain values. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/request_internal.h"
#include "core/scm/sweep.h"

/* Index of a variable that can be set, or -1 with an error. */
static int find_variable(request_parser *p, const char *name, const char *pointer)
{
    const dscm_bundle_info *info = p->request->info;
    char allowed[256] = "";
    size_t n = 0;
    for (size_t i = 0; i < info->variables_count; i++) {
        const dscm_variable *v = &info->variables[i];
        if (v->kind == DSCM_IMAGE) continue;
        if (strcmp(v->name, name) == 0) return (int)i;
        if (n < sizeof(allowed))
            n += (size_t)snprintf(allowed + n, sizeof(allowed) - n, "%s%s", n ? ", " : "", v->name);
    }
    request_error(p, DSCM_PROBLEM_UNKNOWN_VARIABLE, pointer,
                  "The model '%s' has no variable of this name that can be set; it has: %s.",
                  info->name, allowed);
    return -1;
}

/* "0, 1, 2" for short lists, "0..999 or a label" for long ones. */
static void describe_labels(char *out, size_t size, const dscm_variable *v)
{
    if (v->labels_count > 20) {
        snprintf(out, size, "an index in 0..%zu or a label", v->labels_count - 1);
        return;
    }
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < v->labels_count && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "", v->labels[i]);
}

static bool label_value(request_parser *p, const dscm_variable *v, const json_t *json,
                        const char *pointer, double *value)
{
    char number[32], allowed[256];
    const char *text = json_string_value(json);
    bool integer = json_is_integer(json);
    if (integer) {
        snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(json));
        text = number;
    }
    describe_labels(allowed, sizeof(allowed), v);
    if (!text) {
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                      "The value of '%s' must be a label or an index; allowed: %s.", v->name,
                      allowed);
        return false;
    }
    for (size_t i = 0; i < v->labels_count; i++) {
        if (strcmp(v->labels[i], text) != 0) continue;
        *value = (double)i;
        return true;
    }
    size_t digits = strspn(text, "0123456789");
    long index = digits && digits < 10 && text[digits] == '\0' ? strtol(text, NULL, 10) : -1;
    if (index >= 0 && (size_t)index < v->labels_count && (integer || p->from_query)) {
        *value = (double)index;
        return true;
    }
    request_error(p, DSCM_PROBLEM_OUT_OF_RANGE, pointer,
                  "'%.64s' is no value of '%s'; allowed: %s.", text, v->name, allowed);
    return false;
}

/* A number; from a query also as text. */
static bool number_value(request_parser *p, const json_t *json, double *value)
{
    const char *text = p->from_query ? json_string_value(json) : NULL;
    char *end = NULL;
    if (text && *text && strspn(text, "0123456789+-.eE") == strlen(text)) {
        *value = strtod(text, &end);
        return *end == '\0' && isfinite(*value);
    }
    *value = json_number_value(json);
    return json_is_number(json);
}

static bool plain_value(request_parser *p, const dscm_variable *v, const json_t *json,
                        const char *pointer, double *value)
{
    if (v->kind == DSCM_CATEGORICAL) return label_value(p, v, json, pointer, value);
    bool number = number_value(p, json, value);
    if (number && *value >= v->min && *value <= v->max) return true;
    request_error(p, number ? DSCM_PROBLEM_OUT_OF_RANGE : DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                  "The value of '%s' must be a number in %.9g..%.9g.", v->name, v->min, v->max);
    return false;
}

/* {"do": v, "scale": s} | {"shift": v, "scale": s} | {"hold": true, "scale": s} */
static bool object_value(request_parser *p, const dscm_variable *v, const json_t *json,
                         const char *pointer, dscm_intervention *out)
{
    json_t *set = json_object_get(json, "do"), *shift = json_object_get(json, "shift");
    json_t *hold = json_object_get(json, "hold"), *scale = json_object_get(json, "scale");
    size_t known = (set != NULL) + (shift != NULL) + (hold != NULL);
    if (known != 1 || json_object_size(json) != known + (scale != NULL)) {
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                      "An intervention given as an object has exactly one of do, shift and hold, "
                      "and may have scale.");
        return false;
    }
    if (scale) {
        out->scale = json_number_value(scale);
        if (!json_is_number(scale) || !(out->scale >= 0 && out->scale <= 100)) {
            request_error(p, DSCM_PROBLEM_OUT_OF_RANGE, pointer,
                          "The scale of '%s' must be a number in 0..100.", v->name);
            return false;
        }
    }
    if (set) return plain_value(p, v, set, pointer, &out->value);
    if (hold) {
        out->action = DSCM_HOLD;
        if (json_is_true(hold)) return true;
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer, "hold must be true.");
        return false;
    }
    out->action = DSCM_SHIFT;
    double width = v->max - v->min;
    if (v->kind != DSCM_CONTINUOUS)
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                      "'%s' has labels and cannot be shifted; use do.", v->name);
    else if (!number_value(p, shift, &out->value) || !(fabs(out->value) <= width))
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                      "The shift of '%s' must be a number in %.9g..%.9g.", v->name, -width, width);
    else
        return true;
    return false;
}

/* ---- fans: one variable takes several values ---- */
typedef struct fan {
    int item; /* of the target, -1: none */
    size_t count;
    bool swept; /* by `sweep`, else over all labels */
    dscm_sweep sweep;
} fan;

static bool is_star(const json_t *json)
{
    const char *text = json_string_value(json);
    return text && strcmp(text, "*") == 0;
}

static bool is_sweep(const request_parser *p, const json_t *json)
{
    const char *text = p->from_query ? json_string_value(json) : NULL;
    return json_object_get(json, "from") || json_object_get(json, "to") ||
           json_object_get(json, "count") || (text && dscm_sweep_is(text));
}

static dscm_code read_sweep(dscm_sweep *out, const json_t *json, dscm_error *err)
{
    const json_t *from = json_object_get(json, "from"), *to = json_object_get(json, "to"),
                 *count = json_object_get(json, "count");
    if (json_is_string(json)) return dscm_sweep_parse(out, json_string_value(json), err);
    if (!json_is_number(from) || !json_is_number(to) || !json_is_integer(count) ||
        json_object_size(json) != 3)
        return dscm_fail(err, DSCM_E_INVALID,
                         "a sweep has exactly from and to, which are numbers, and count, which is "
                         "an integer");
    json_int_t n = json_integer_value(count);
    *out = (dscm_sweep){json_number_value(from), json_number_value(to), n < 0 ? 0 : (size_t)n};
    return DSCM_OK;
}

/* Makes item `item` of a target, variable v, the one that fans out. */
static bool add_sweep(request_parser *p, const dscm_variable *v, const json_t *json,
                      const char *pointer, fan *f, size_t item)
{
    dscm_error err = {0};
    dscm_code code = read_sweep(&f->sweep, json, &err);
    bool form = code == DSCM_OK && v->kind == DSCM_CONTINUOUS;
    if (code == DSCM_OK) code = dscm_sweep_check(&f->sweep, v, &err);
    if (code != DSCM_OK)
        request_error(p, form ? DSCM_PROBLEM_OUT_OF_RANGE : DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                      "The sweep of '%s': %s.", v->name, err.message);
    else if (f->item >= 0)
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                      "'%s' is swept and another variable too: one of an intervention may be.",
                      v->name);
    else
        *f = (fan){(int)item, f->sweep.count, true, f->sweep};
    return f->item == (int)item;
}

static bool room_for(request_parser *p, size_t more, const char *pointer)
{
    if (p->request->targets_count + more <= DSCM_REQUEST_FAN_MAX) return true;
    request_error(p, DSCM_PROBLEM_OUT_OF_RANGE, pointer,
                  "The request asks for more than %d counterfactuals.", DSCM_REQUEST_FAN_MAX);
    return false;
}

/* Reads one object into *target. */
static bool parse_target(request_parser *p, const json_t *object, const char *pointer,
                         dscm_target *target, fan *f)
{
    const char *name;
    json_t *json;
    char place[POINTER_MAX];
    bool good = json_object_size(object) <= DSCM_REQUEST_VARS_MAX;
    if (!good)
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                      "The intervention names %zu variables; at most %d are allowed.",
                      json_object_size(object), DSCM_REQUEST_VARS_MAX);
    json_object_foreach((json_t *)object, name, json)
    {
        request_pointer(place, pointer, name);
        int variable = find_variable(p, name, place);
        if (variable < 0 || target->count == DSCM_REQUEST_VARS_MAX) {
            good = false;
            continue;
        }
        const dscm_variable *v = &p->request->info->variables[variable];
        dscm_intervention *item = &target->items[target->count];
        *item = (dscm_intervention){.variable = variable, .action = DSCM_DO, .scale = NAN};
        if (is_star(json) && v->kind == DSCM_CATEGORICAL && f->item < 0)
            *f = (fan){.item = (int)target->count, .count = v->labels_count};
        else if (is_sweep(p, json))
            good &= add_sweep(p, v, json, place, f, target->count);
        else if (json_is_object(json))
            good &= object_value(p, v, json, place, item);
        else
            good &= plain_value(p, v, json, place, &item->value);
        target->count++;
    }
    return good;
}

static void add_intervention(request_parser *p, const json_t *object, const char *pointer)
{
    dscm_request *r = p->request;
    if (!json_is_object(object) || json_object_size(object) == 0) {
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                      "An intervention must be an object that sets at least one variable, such as "
                      "{\"%s\": VALUE}.",
                      r->info->variables[0].name);
        return;
    }
    dscm_target target = {.count = 0};
    fan f = {.item = -1, .count = 1};
    if (!parse_target(p, object, pointer, &target, &f)) return;
    if (!room_for(p, f.count, pointer)) return;
    for (size_t i = 0; i < f.count; i++) {
        if (f.item >= 0)
            target.items[f.item].value = f.swept ? dscm_sweep_value(&f.sweep, i) : (double)i;
        r->targets[r->targets_count++] = target;
    }
}

void request_parse_factuals(request_parser *p, const json_t *factuals)
{
    dscm_request *r = p->request;
    const char *name;
    json_t *json;
    char place[POINTER_MAX];
    if (!factuals) return;
    if (!json_is_object(factuals)) {
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, "/factuals",
                      "factuals must be an object of variables and their values.");
        return;
    }
    r->factuals = dscm_request_factuals(r);
    if (!r->factuals) {
        dscm_problem_set(p->problem, DSCM_PROBLEM_INTERNAL, "There is not enough memory.");
        return;
    }
    json_object_foreach((json_t *)factuals, name, json)
    {
        request_pointer(place, "/factuals", name);
        int variable = find_variable(p, name, place);
        double value;
        if (variable >= 0 && plain_value(p, &r->info->variables[variable], json, place, &value))
            r->factuals[variable] = value;
    }
}

void request_parse_interventions(request_parser *p, const json_t *one, const json_t *list)
{
    dscm_request *r = p->request;
    if (one && list) {
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, "/interventions",
                      "Give intervention or interventions, not both.");
        return;
    }
    if (one) {
        add_intervention(p, one, "/intervention");
        if (r->work == DSCM_WORK_SAMPLE && r->targets_count > 1)
            request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, "/intervention",
                          "Samples take one value per variable, not a fan.");
        return;
    }
    if (r->work == DSCM_WORK_SAMPLE) return;
    if (!list) {
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, "/intervention",
                      p->from_query ? "An intervention is required, such as ?do.%s=VALUE."
                                    : "An intervention is required, such as {\"%s\": VALUE}.",
                      r->info->variables[0].name);
        return;
    }
    if (!json_is_array(list) || json_array_size(list) == 0) {
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, "/interventions",
                      "interventions must be a list of at least one object.");
        return;
    }
    if (!room_for(p, json_array_size(list), "/interventions")) return;
    for (size_t i = 0; i < json_array_size(list); i++) {
        char place[POINTER_MAX];
        snprintf(place, sizeof(place), "/interventions/%zu", i);
        add_intervention(p, json_array_get(list, i), place);
    }
}
