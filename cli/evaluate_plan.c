/* The plan of an evaluation: from "ours:steps=5/10:scale=0/4" to methods with resolved settings. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/evaluate.h"

static const char *const keys[] = {"sampler", "steps", "ratio", "dynamic", "scale", "limit"};
enum { KEY_SAMPLER, KEY_STEPS, KEY_RATIO, KEY_DYNAMIC, KEY_SCALE, KEY_LIMIT, KEYS };

/* A specification being read: the values of each key, in the order of `keys`; "" when not given. */
typedef struct spec {
    char name[16];
    char values[KEYS][128];
} spec;

bool eval_is_diffusion(const eval_method *r)
{
    return strcmp(r->name, "ours") == 0 || strcmp(r->name, "published") == 0;
}

static bool is_slow(const char *name)
{
    static const char *const slow[] = {"published", "greedy", "prototype"};
    for (size_t i = 0; i < sizeof slow / sizeof slow[0]; i++)
        if (strcmp(name, slow[i]) == 0) return true;
    return false;
}

static dscm_code parse_spec(spec *out, char *text, dscm_error *err)
{
    char *name = strsep(&text, ":");
    *out = (spec){.name = ""};
    if (strlen(name) >= sizeof out->name)
        return dscm_fail(err, DSCM_E_UNKNOWN, "method \"%.40s\" does not exist", name);
    snprintf(out->name, sizeof out->name, "%s", name);
    for (char *setting; (setting = strsep(&text, ":")) != NULL;) {
        char *value = strchr(setting, '=');
        size_t k = 0;
        if (value) *value++ = '\0';
        while (k < KEYS && strcmp(setting, keys[k]) != 0) k++;
        if (k == KEYS || !value || !*value || strlen(value) >= sizeof out->values[0])
            return dscm_fail(
                err, DSCM_E_INVALID,
                "method %s: \"%.40s\" is not a setting such as sampler=ddim, steps=10, "
                "ratio=0.95, dynamic=0, scale=auto/4/8 or limit=100",
                out->name, setting);
        snprintf(out->values[k], sizeof out->values[k], "%s", value);
    }
    return DSCM_OK;
}

static dscm_code number_of(const char *method, int key, const char *text, double *out,
                           dscm_error *err)
{
    char *end;
    *out = strtod(text, &end);
    if (end == text || *end || !(*out >= 0 && *out <= 1e9))
        return dscm_fail(err, DSCM_E_INVALID, "method %s: %s=%.40s: must be a number", method,
                         keys[key], text);
    return DSCM_OK;
}

/* Guidance: as the command has it, at the scale that is calibrated for another sampler or step
 * count; a scale per image only by our samplers' default, or named. */
static dscm_code set_scale(evaluation *e, eval_method *r, const char *const *pick, dscm_error *err)
{
    const char *text = pick[KEY_SCALE];
    dscm_eval_setting *s = &r->setting;
    bool published = strcmp(r->name, "published") == 0;
    if (*pick[KEY_SAMPLER] || *pick[KEY_STEPS]) s->options.scale = (double)NAN;
    s->search = e->m.auto_scale && !published && !*pick[KEY_SAMPLER];
    if (!*text) return DSCM_OK;
    dscm_code code = cli_parse_scale(text, &s->options.scale, &s->search, err);
    if (code == DSCM_OK && published && s->search)
        code = dscm_fail(err, DSCM_E_INVALID, "only ours searches a scale per image");
    if (code != DSCM_OK) dscm_error_prefix(err, "method %s: scale=%.40s", r->name, text);
    return code;
}

/* One combination of values: pick[k] is the value of key k, "" for the default. */
static dscm_code set_options(evaluation *e, eval_method *r, const char *const *pick,
                             dscm_error *err)
{
    dscm_options *o = &r->setting.options;
    double v = 0;
    dscm_code code = DSCM_OK;
    bool published = strcmp(r->name, "published") == 0;
    *o = published ? dscm_options_defaults() : e->m.options;
    if (published) o->sampler = "published";
    if (*pick[KEY_SAMPLER]) o->sampler = pick[KEY_SAMPLER];
    if (code == DSCM_OK && *pick[KEY_STEPS]) {
        code = number_of(r->name, KEY_STEPS, pick[KEY_STEPS], &v, err);
        o->steps = (size_t)v;
    }
    if (code == DSCM_OK && *pick[KEY_RATIO])
        code = number_of(r->name, KEY_RATIO, pick[KEY_RATIO], &o->ratio, err);
    if (code == DSCM_OK) code = set_scale(e, r, pick, err);
    if (code == DSCM_OK && *pick[KEY_DYNAMIC]) {
        code = number_of(r->name, KEY_DYNAMIC, pick[KEY_DYNAMIC], &v, err);
        o->dynamic = v != 0;
    }
    if (code == DSCM_OK) code = dscm_options_resolve(e->m.bundle, o, err);
    return code;
}

static void name_method(eval_method *r)
{
    static const struct {
        const char *name, *title;
    } plain[] = {{"pgd", "gradient attack on the guide (PGD)"},
                 {"greedy", "Schut et al.: greedy pixels, ensemble"},
                 {"prototype", "Van Looveren & Klaise: prototypes"},
                 {"identity", "identity (the image itself)"},
                 {"nearest", "nearest training image of the target class"},
                 {"random", "random training image of the target class"},
                 {"real", "random test image of the target class"}};
    const dscm_options *o = &r->setting.options;
    const char *dynamic = o->dynamic && strcmp(o->sampler, "published") == 0 ? ", dynamic" : "";
    if (eval_is_diffusion(r)) {
        bool search = r->setting.search;
        char scale[32];
        snprintf(scale, sizeof scale, search ? "auto" : "%g", o->scale);
        snprintf(r->series, sizeof r->series, "%s, %zu steps, ratio %g%s%s", o->sampler, o->steps,
                 o->ratio, dynamic, search ? ", scale auto" : "");
        snprintf(r->title, sizeof r->title, "%s%s, %zu steps, ratio %g%s, scale %s",
                 strcmp(r->name, "ours") == 0 ? "diffscm: " : "", o->sampler, o->steps, o->ratio,
                 dynamic, scale);
        /* A search begins at the calibrated scale: another one is another method. */
        snprintf(r->slug, sizeof r->slug, "%s-%s-%zu-%g-%s%g%s", r->name, o->sampler, o->steps,
                 o->ratio, search ? "auto" : "", o->scale, *dynamic ? "-dynamic" : "");
        return;
    }
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (strcmp(plain[i].name, r->name) == 0)
            snprintf(r->title, sizeof r->title, "%s", plain[i].title);
    snprintf(r->slug, sizeof r->slug, "%s", r->name);
}

static dscm_code add_method(evaluation *e, const spec *s, const char *const *pick, bool curve,
                            dscm_error *err)
{
    double limit = 0;
    if (e->count == EVAL_METHODS_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "more than %d methods", EVAL_METHODS_MAX);
    eval_method *r = &e->list[e->count];
    *r = (eval_method){.curve = curve, .fid = (double)NAN, .diversity = (double)NAN};
    r->cost = (eval_cost){(double)NAN, (double)NAN, (double)NAN, (double)NAN};
    snprintf(r->name, sizeof r->name, "%s", s->name);
    r->setting.method = r->name;
    r->limit = curve ? e->curve_limit : is_slow(s->name) ? e->slow_limit : e->limit;
    dscm_code code = dscm_eval_check(e->m.bundle, r->name, err);
    if (code == DSCM_OK) code = set_options(e, r, pick, err);
    if (code == DSCM_OK && *pick[KEY_LIMIT]) {
        code = number_of(r->name, KEY_LIMIT, pick[KEY_LIMIT], &limit, err);
        r->limit = (size_t)limit;
    }
    if (code != DSCM_OK) return code;
    if (r->limit > e->items.count) r->limit = e->items.count;
    if (!r->limit) return dscm_fail(err, DSCM_E_INVALID, "method %s: no items", r->name);
    name_method(r);
    for (size_t i = 0; i < e->count; i++) /* named twice: one row */
        if (e->list[i].curve == curve && strcmp(e->list[i].slug, r->slug) == 0) return DSCM_OK;
    e->count++;
    return DSCM_OK;
}

/* Every combination of the values of all keys from `key` on. */
static dscm_code combine(evaluation *e, const spec *s, int key, const char **pick, bool curve,
                         dscm_error *err)
{
    char values[sizeof s->values[0]], *rest = values;
    if (key == KEYS) return add_method(e, s, pick, curve, err);
    snprintf(values, sizeof values, "%s", s->values[key]);
    dscm_code code = DSCM_OK;
    for (char *value; code == DSCM_OK && (value = strsep(&rest, "/")) != NULL;) {
        pick[key] = value;
        code = combine(e, s, key + 1, pick, curve, err);
    }
    return code;
}

dscm_code eval_plan(evaluation *e, const char *list, bool curve, dscm_error *err)
{
    char text[2048], *rest = text;
    const char *pick[KEYS];
    spec s;
    dscm_code code = DSCM_OK;
    if (strlen(list) >= sizeof text)
        return dscm_fail(err, DSCM_E_LIMIT, "the list of methods is longer than %zu", sizeof text);
    snprintf(text, sizeof text, "%s", list);
    for (char *part; code == DSCM_OK && (part = strsep(&rest, ",")) != NULL;) {
        code = parse_spec(&s, part, err);
        if (code == DSCM_OK) code = combine(e, &s, 0, pick, curve, err);
        if (code == DSCM_OK && curve && !eval_is_diffusion(&e->list[e->count - 1]))
            code = dscm_fail(err, DSCM_E_INVALID, "--frontier %s: only ours and published", s.name);
    }
    return code;
}
