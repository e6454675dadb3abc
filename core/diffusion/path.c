/* The noise levels of a walk. */
#include <math.h>

#include "core/base/memory.h"
#include "core/diffusion/sampler.h"

static double angle_of(double alpha_bar)
{
    return atan2(sqrt(1 - alpha_bar), sqrt(alpha_bar));
}

/* Levels half way between even in the angle of the noise (detail at middle noise) and even in the
 * logarithm of its tangent (steps that shrink towards the image, which calms the exact samplers),
 * each at the nearest step above the one before. */
static dscm_code even_levels(dscm_path *p, const dscm_schedule *s, size_t steps, double ratio,
                             dscm_error *err)
{
    size_t top = (size_t)lrint(ratio * (double)(s->steps - 1)), t = 0;
    if (steps > top && steps < s->steps)
        return dscm_fail(err, DSCM_E_INVALID,
                         "ratio: %g keeps %zu of %zu noise levels, too few for %zu steps; allowed "
                         "is %.4f..1 with so many, or fewer steps",
                         ratio, top, s->steps - 1, steps,
                         ceil(((double)steps - 0.5) / (double)(s->steps - 1) * 1e4) * 1e-4);
    if (steps < 2 || steps > top)
        return dscm_fail(err, DSCM_E_INVALID, "steps: %zu is not in 2..%zu", steps, s->steps - 1);
    double first = angle_of(s->alphas_cumprod[0]), last = angle_of(s->alphas_cumprod[top]);
    p->steps = steps;
    p->levels = steps + 1;
    for (size_t k = 0; k <= steps; k++) {
        double u = (double)k / (double)steps;
        double want = first + (last - first) * u;
        want = (want + atan(tan(first) * pow(tan(last) / tan(first), u))) / 2;
        while (t + 1 < s->steps && angle_of(s->alphas_cumprod[t]) < want - 1e-12) t++;
        if (t > top - (steps - k)) t = top - (steps - k); /* leave room for the levels above */
        if (k && t <= (size_t)p->t[k - 1]) t = (size_t)p->t[k - 1] + 1;
        p->t[k] = (double)t;
        p->alpha_bar[k] = s->alphas_cumprod[t];
    }
    return DSCM_OK;
}

static dscm_code published_levels(dscm_path *p, const dscm_schedule *s, size_t steps, double ratio,
                                  dscm_error *err)
{
    size_t stride = 1;
    while (stride <= s->steps && (s->steps + stride - 1) / stride != steps) stride++;
    if (stride > s->steps)
        return dscm_fail(
            err, DSCM_E_INVALID,
            "steps: %zu: no integer stride keeps that many of %zu (10, 20, 25, 50, 100 do)", steps,
            s->steps);
    p->steps = (size_t)((double)steps * ratio);
    p->levels = steps;
    if (!p->steps)
        return dscm_fail(err, DSCM_E_INVALID, "ratio: %g keeps no level of %zu; allowed is %.4f..1",
                         ratio, steps, ceil(1e4 / (double)steps) * 1e-4);
    for (size_t k = 0; k < steps; k++) {
        p->t[k] = (double)(k * stride);
        p->alpha_bar[k] = s->alphas_cumprod[k * stride];
    }
    return DSCM_OK;
}

dscm_code dscm_path_open(dscm_path *out, const dscm_schedule *schedule, dscm_sampler sampler,
                         size_t steps, double ratio, bool dynamic, dscm_error *err)
{
    *out = (dscm_path){.sampler = sampler, .dynamic = dynamic};
    if (!(ratio > 0 && ratio <= 1))
        return dscm_fail(err, DSCM_E_INVALID, "ratio: %g is not in (0, 1]", ratio);
    if (steps < 2 || steps > schedule->steps)
        return dscm_fail(err, DSCM_E_INVALID, "steps: %zu is not in 2..%zu", steps,
                         schedule->steps);
    out->t = dscm_alloc(2 * (steps + 1), sizeof *out->t, "noise levels", err);
    if (!out->t) return DSCM_E_MEMORY;
    out->alpha_bar = out->t + steps + 1;
    dscm_code code = sampler == DSCM_SAMPLER_PUBLISHED
                         ? published_levels(out, schedule, steps, ratio, err)
                         : even_levels(out, schedule, steps, ratio, err);
    if (code != DSCM_OK) dscm_path_close(out);
    return code;
}

void dscm_path_close(dscm_path *path)
{
    dscm_free(path->t);
    path->t = path->alpha_bar = NULL;
}
