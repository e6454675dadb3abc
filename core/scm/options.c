/* Options of abduction and prediction: names, defaults of a bundle, limits. */
#include <math.h>
#include <string.h>

#include "core/bundle/bundle.h"

#define SCALE_MAX 1000.0

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
    return (dscm_options){.scale = (double)NAN, .dynamic = -1, .min_change = (double)NAN};
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
    if (isnan(o->min_change))
        o->min_change = o->guidance == DSCM_GUIDANCE_CONDITIONAL ? b->defaults.min_change : 0;
    if (!(o->min_change >= 0 && o->min_change <= 255))
        return dscm_fail(err, DSCM_E_INVALID, "min_change: %g is not in 0..255", o->min_change);
    if (isnan(o->scale)) o->scale = calibrated(b, o->sampler, o->steps);
    if (!(o->scale >= 0 && o->scale <= SCALE_MAX))
        return dscm_fail(err, DSCM_E_INVALID, "scale: %g is not in 0..%g", o->scale, SCALE_MAX);
    dscm_path path;
    code = dscm_path_open(&path, &b->variables[b->info.image].schedule, sampler, o->steps, o->ratio,
                          o->dynamic, err);
    if (code == DSCM_OK) dscm_path_close(&path);
    return code;
}
