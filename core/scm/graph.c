/* Variables, values and options of a bundle. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bundle/bundle.h"

#define SCALE_MAX 1000.0

const dscm_bundle_info *dscm_bundle_describe(const dscm_bundle *bundle)
{
    return &bundle->info;
}

int dscm_bundle_edge(const dscm_bundle *b, int parent, int child)
{
    for (size_t i = 0; i < b->edges_count; i++)
        if (b->edges[i].parent == parent && b->edges[i].child == child) return (int)i;
    return -1;
}

dscm_code dscm_variable_find(const dscm_bundle *b, const char *name, int *index, dscm_error *err)
{
    char known[256] = "";
    for (size_t i = 0; i < b->variables_count; i++) {
        const dscm_variable *v = &b->variables[i].info;
        if (strcmp(v->name, name) == 0) {
            *index = (int)i;
            return DSCM_OK;
        }
        if (v->kind == DSCM_IMAGE) continue;
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", v->name);
    }
    return dscm_fail(err, DSCM_E_UNKNOWN, "variable \"%.64s\" does not exist; the model has: %s",
                     name, known);
}

static dscm_code parse_label(const dscm_variable *v, const char *text, double *value,
                             dscm_error *err)
{
    char *end;
    for (size_t i = 0; i < v->labels_count; i++)
        if (strcmp(v->labels[i], text) == 0) {
            *value = (double)i;
            return DSCM_OK;
        }
    unsigned long index = strtoul(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && index < v->labels_count) {
        *value = (double)index;
        return DSCM_OK;
    }
    return dscm_fail(err, DSCM_E_INVALID, "%s: \"%.64s\" is not a label; allowed are %s%s%s",
                     v->name, text, v->labels[0], v->labels_count > 2 ? ", …, " : ", ",
                     v->labels[v->labels_count - 1]);
}

dscm_code dscm_value_parse(const dscm_bundle *b, int variable, const char *text, double *value,
                           dscm_error *err)
{
    const dscm_variable *v = &b->variables[variable].info;
    char *end;
    if (v->kind == DSCM_CATEGORICAL) return parse_label(v, text, value, err);
    if (v->kind == DSCM_IMAGE)
        return dscm_fail(err, DSCM_E_INVALID, "%s: an image cannot be set to a value", v->name);
    *value = strtod(text, &end);
    if (end == text || *end || !(*value >= v->min && *value <= v->max))
        return dscm_fail(err, DSCM_E_INVALID, "%s: \"%.64s\" is not a number in %g..%g", v->name,
                         text, v->min, v->max);
    return DSCM_OK;
}

/* ---- options ---- */
const char *dscm_guidance_name(dscm_guidance guidance)
{
    static const char *const names[] = {NULL, "anti-causal", "conditional"};
    return (size_t)guidance < 3 ? names[guidance] : NULL;
}

dscm_code dscm_guidance_parse(dscm_guidance *out, const char *name, dscm_error *err)
{
    for (int g = DSCM_GUIDANCE_ANTI_CAUSAL; g <= DSCM_GUIDANCE_CONDITIONAL; g++)
        if (strcmp(name, dscm_guidance_name((dscm_guidance)g)) == 0) {
            *out = (dscm_guidance)g;
            return DSCM_OK;
        }
    return dscm_fail(err, DSCM_E_INVALID,
                     "guidance: \"%.64s\" is not one of anti-causal, conditional", name);
}

dscm_options dscm_options_defaults(void)
{
    return (dscm_options){.scale = (double)NAN, .dynamic = -1};
}

bool dscm_options_search(const dscm_bundle *b, const dscm_options *o)
{
    return b->info.auto_scale && !o->sampler && isnan(o->scale);
}

void dscm_options_draw(const dscm_bundle *b, dscm_options *o)
{
    bool published = o->sampler && strcmp(o->sampler, "published") == 0; /* has its own default */
    if (!o->steps && !published) o->steps = b->defaults.steps < 20 ? 20 : b->defaults.steps;
}

/* Calibrated strength at the nearest number of steps (on a log scale) of the sampler, or of any. */
static double calibrated(const dscm_bundle *b, const char *sampler, size_t steps)
{
    double best = INFINITY, scale = 1;
    for (size_t i = 0; i < b->info.calibrations_count; i++) {
        const dscm_calibration *c = &b->calibrations[i];
        double far =
            fabs(log((double)c->steps / (double)steps)) + (strcmp(c->sampler, sampler) ? 100 : 0);
        if (far >= best) continue;
        best = far;
        scale = c->scale;
    }
    return scale;
}

dscm_code dscm_options_resolve(const dscm_bundle *b, dscm_options *o, dscm_error *err)
{
    dscm_sampler sampler = DSCM_SAMPLER_OBELM;
    dscm_code code =
        dscm_sampler_parse(&sampler, o->sampler ? o->sampler : b->defaults.sampler, err);
    if (code != DSCM_OK) return code;
    bool published = sampler == DSCM_SAMPLER_PUBLISHED;
    o->sampler = dscm_sampler_name(sampler); /* static storage */
    if (o->guidance == DSCM_GUIDANCE_DEFAULT)
        o->guidance = dscm_bundle_has_null(b) && !published ? DSCM_GUIDANCE_CONDITIONAL
                                                            : DSCM_GUIDANCE_ANTI_CAUSAL;
    if (o->guidance == DSCM_GUIDANCE_CONDITIONAL && !dscm_bundle_conditions(b))
        return dscm_fail(err, DSCM_E_INVALID,
                         "guidance: conditional needs a score network that knows the image's "
                         "parents, this model's does not; allowed is anti-causal");
    if (!o->steps) o->steps = published ? 100 : b->defaults.steps;
    if (o->ratio == 0) o->ratio = published ? 0.75 : b->defaults.ratio;
    if (o->dynamic < 0) o->dynamic = published;
    if (isnan(o->scale)) o->scale = calibrated(b, o->sampler, o->steps);
    if (!(o->scale >= 0 && o->scale <= SCALE_MAX))
        return dscm_fail(err, DSCM_E_INVALID, "scale: %g is not in 0..%g", o->scale, SCALE_MAX);
    dscm_path path;
    code = dscm_path_open(&path, &b->variables[b->info.image].schedule, sampler, o->steps, o->ratio,
                          o->dynamic, err);
    if (code == DSCM_OK) dscm_path_close(&path);
    return code;
}
