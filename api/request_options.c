/* The object "options" of a request, by one table of fields. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/request_internal.h"

#define SEED_MAX 9007199254740991LL /* 2^53 - 1: what every JSON reader keeps exactly */

static void parse_sampler(request_parser *p, const json_t *value, const char *pointer)
{
    const char *name = json_string_value(value);
    char allowed[128] = "";
    for (size_t i = 0, n = 0; dscm_sampler_name(i); i++) {
        const char *known = dscm_sampler_name(i);
        if (name && strcmp(name, known) == 0) {
            p->request->options.sampler = known;
            return;
        }
        n += (size_t)snprintf(allowed + n, sizeof(allowed) - n, "%s%s", i ? ", " : "", known);
    }
    request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer, "The sampler must be one of: %s.",
                  allowed);
}

static void parse_steps(request_parser *p, const json_t *value, const char *pointer)
{
    json_int_t steps = json_integer_value(value);
    if (!json_is_integer(value))
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                      "The number of steps must be an integer in 1..1000.");
    else if (steps < 1 || steps > 1000)
        request_error(p, DSCM_PROBLEM_OUT_OF_RANGE, pointer,
                      "The number of steps is %lld; allowed is 1..1000.", (long long)steps);
    else
        p->request->options.steps = (size_t)steps;
}

static void parse_scale(request_parser *p, const json_t *value, const char *pointer)
{
    const char *text = json_string_value(value);
    double scale = json_number_value(value);
    bool search = text && strcmp(text, "auto") == 0;
    if (search && p->request->work == DSCM_WORK_COUNTERFACTUAL)
        p->request->auto_scale = true;
    else if (!json_is_number(value))
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                      p->request->work == DSCM_WORK_COUNTERFACTUAL
                          ? "The scale must be a number in 0..100 or \"auto\"."
                          : "The scale must be a number in 0..100.");
    else if (!(scale >= 0 && scale <= 100))
        request_error(p, DSCM_PROBLEM_OUT_OF_RANGE, pointer,
                      "The scale is %.9g; allowed is 0..100%s.", scale,
                      p->request->work == DSCM_WORK_COUNTERFACTUAL ? " or \"auto\"" : "");
    else
        p->request->options.scale = scale;
}

static void parse_ratio(request_parser *p, const json_t *value, const char *pointer)
{
    double ratio = json_number_value(value);
    if (!json_is_number(value))
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                      "The ratio must be a number above 0 and at most 1.");
    else if (!(ratio > 0 && ratio <= 1))
        request_error(p, DSCM_PROBLEM_OUT_OF_RANGE, pointer,
                      "The ratio is %.9g; allowed is above 0 and at most 1.", ratio);
    else
        p->request->options.ratio = ratio;
}

static void parse_min_change(request_parser *p, const json_t *value, const char *pointer)
{
    double levels = json_number_value(value);
    if (!json_is_number(value))
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                      "min_change must be a number of grey levels in 0..255.");
    else if (!(levels >= 0 && levels <= 255))
        request_error(p, DSCM_PROBLEM_OUT_OF_RANGE, pointer,
                      "min_change is %.9g; allowed is 0..255.", levels);
    else
        p->request->options.min_change = levels;
}

static void parse_dynamic(request_parser *p, const json_t *value, const char *pointer)
{
    if (!json_is_boolean(value))
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer, "dynamic must be true or false.");
    else
        p->request->options.dynamic = json_is_true(value);
}

static void parse_seed(request_parser *p, const json_t *value, const char *pointer)
{
    json_int_t seed = json_integer_value(value);
    if (!json_is_integer(value) || seed < 0 || seed > SEED_MAX)
        request_error(
            p, json_is_integer(value) ? DSCM_PROBLEM_OUT_OF_RANGE : DSCM_PROBLEM_INVALID_PARAMETER,
            pointer, "The seed must be an integer in 0..%lld.", SEED_MAX);
    else
        p->request->seed = (uint64_t)seed;
}

static void parse_resize(request_parser *p, const json_t *value, const char *pointer)
{
    if (!json_is_boolean(value))
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer, "resize must be true or false.");
    else
        p->resize = json_is_true(value);
}

static void parse_return(request_parser *p, const json_t *value, const char *pointer)
{
    static const struct {
        const char *name;
        unsigned bit;
    } parts[] = {{"counterfactual", DSCM_WANT_COUNTERFACTUAL}, {"difference", DSCM_WANT_DIFFERENCE},
                 {"reconstruction", DSCM_WANT_RECONSTRUCTION}, {"trajectory", DSCM_WANT_TRAJECTORY},
                 {"reversibility", DSCM_WANT_REVERSIBILITY},   {"factual", DSCM_WANT_FACTUAL},
                 {"uncertainty", DSCM_WANT_UNCERTAINTY}};
    const size_t known = sizeof(parts) / sizeof(parts[0]);
    bool good = json_is_array(value) && json_array_size(value) <= known;
    unsigned wanted = 0;
    for (size_t i = 0; good && i < json_array_size(value); i++) {
        const char *name = json_string_value(json_array_get(value, i));
        size_t k = 0;
        while (k < known && !(name && strcmp(name, parts[k].name) == 0)) k++;
        good = k < known;
        if (good) wanted |= parts[k].bit;
    }
    if (good)
        p->request->wanted = wanted;
    else
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                      "return must be a list out of counterfactual, difference, reconstruction, "
                      "trajectory, reversibility, factual, uncertainty.");
}

enum {
    FOR_CF = 1 << DSCM_WORK_COUNTERFACTUAL,
    FOR_AB = 1 << DSCM_WORK_ABDUCTION,
    FOR_SAMPLE = 1 << DSCM_WORK_SAMPLE,
    FOR_ALL = FOR_CF | FOR_AB | FOR_SAMPLE
};

static const struct {
    const char *name;
    int works; /* kinds of work that take it */
    void (*parse)(request_parser *p, const json_t *value, const char *pointer);
} OPTIONS[] = {
    {"sampler", FOR_ALL, parse_sampler},         {"steps", FOR_ALL, parse_steps},
    {"scale", FOR_CF | FOR_SAMPLE, parse_scale}, {"ratio", FOR_CF | FOR_AB, parse_ratio},
    {"min_change", FOR_CF, parse_min_change},    {"dynamic", FOR_ALL, parse_dynamic},
    {"seed", FOR_CF | FOR_SAMPLE, parse_seed},   {"return", FOR_CF, parse_return},
    {"resize", FOR_CF | FOR_AB, parse_resize},
};
enum { OPTIONS_COUNT = sizeof(OPTIONS) / sizeof(OPTIONS[0]) };

static void unknown_option(request_parser *p, const char *pointer)
{
    char allowed[128] = "";
    /* A query also holds what a body has beside its options. */
    const char *beside = !p->from_query ? ""
                         : p->request->work == DSCM_WORK_ABDUCTION
                             ? "factual.NAME, model, deadline_ms, "
                         : p->request->work == DSCM_WORK_SAMPLE
                             ? "do.NAME, shift.NAME, hold.NAME, model, count, deadline_ms, "
                             : "do.NAME, shift.NAME, hold.NAME, factual.NAME, model, abduction, "
                               "deadline_ms, ";
    size_t n = 0;
    for (size_t i = 0; i < OPTIONS_COUNT; i++) {
        if (!(OPTIONS[i].works >> p->request->work & 1)) continue;
        n += (size_t)snprintf(allowed + n, sizeof(allowed) - n, "%s%s", n ? ", " : "",
                              OPTIONS[i].name);
    }
    request_error(p, DSCM_PROBLEM_UNKNOWN_FIELD, pointer,
                  "This %s does not exist here; allowed are: %s%s.",
                  p->from_query ? "parameter" : "option", beside, allowed);
}

void request_parse_options(request_parser *p, const json_t *options)
{
    dscm_request *r = p->request;
    r->options = dscm_options_defaults();
    r->wanted = DSCM_WANT_COUNTERFACTUAL | DSCM_WANT_DIFFERENCE | DSCM_WANT_RECONSTRUCTION;
    if (!options) return;
    if (!json_is_object(options)) {
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, "/options",
                      "options must be a JSON object.");
        return;
    }
    const char *name;
    json_t *value;
    char pointer[POINTER_MAX];
    json_object_foreach((json_t *)options, name, value)
    {
        request_pointer(pointer, "/options", name);
        size_t k = 0;
        while (k < OPTIONS_COUNT &&
               !((OPTIONS[k].works >> r->work & 1) && strcmp(OPTIONS[k].name, name) == 0))
            k++;
        if (k < OPTIONS_COUNT)
            OPTIONS[k].parse(p, value, pointer);
        else
            unknown_option(p, pointer);
    }
}
