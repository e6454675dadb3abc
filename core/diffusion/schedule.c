#include "core/diffusion/schedule.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

#define STEPS_MAX 100000

static const char *const names[] = {"linear", "cosine"};

const char *dscm_schedule_name(dscm_schedule_kind kind)
{
    return names[kind];
}

dscm_code dscm_schedule_parse(dscm_schedule_kind *out, const char *name, dscm_error *err)
{
    for (int i = 0; i < 2; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (dscm_schedule_kind)i;
            return DSCM_OK;
        }
    return dscm_fail(err, DSCM_E_UNKNOWN, "schedule \"%s\" is not one of linear, cosine", name);
}

/* ᾱ(u) = cos²((u + .008) / 1.008 · π/2) */
static double cosine_bar(double u)
{
    const double pi = 3.14159265358979323846;
    double c = cos((u + 0.008) / 1.008 * pi / 2);
    return c * c;
}

static double beta_at(dscm_schedule_kind kind, size_t i, size_t steps)
{
    double n = (double)steps, scale = 1000 / n;
    if (kind == DSCM_SCHEDULE_COSINE)
        return fmin(1 - cosine_bar((double)(i + 1) / n) / cosine_bar((double)i / n), 0.999);
    double first = scale * 1e-4, last = scale * 0.02;
    return steps == 1 ? first : first + (last - first) / (n - 1) * (double)i;
}

dscm_code dscm_schedule_open(dscm_schedule *out, dscm_schedule_kind kind, size_t steps,
                             dscm_error *err)
{
    *out = (dscm_schedule){.kind = kind, .steps = steps};
    if (steps < 1 || steps > STEPS_MAX)
        return dscm_fail(err, DSCM_E_INVALID, "schedule: %zu steps is not in 1..%d", steps,
                         STEPS_MAX);
    out->betas = dscm_alloc(2 * steps, sizeof *out->betas, "schedule", err);
    if (!out->betas) return DSCM_E_MEMORY;
    out->alphas_cumprod = out->betas + steps;
    double bar = 1;
    for (size_t i = 0; i < steps; i++) {
        out->betas[i] = beta_at(kind, i, steps);
        bar *= 1 - out->betas[i];
        out->alphas_cumprod[i] = bar;
    }
    return DSCM_OK;
}

void dscm_schedule_close(dscm_schedule *s)
{
    dscm_free(s->betas);
    *s = (dscm_schedule){0};
}

/* ---- spacing ---- */
static bool parse_count(const char **text, size_t *out)
{
    char *end;
    if (**text < '0' || **text > '9') return false;
    unsigned long v = strtoul(*text, &end, 10);
    if (v < 1 || v > STEPS_MAX) return false;
    *text = end;
    *out = v;
    return true;
}

static dscm_code stride_spacing(size_t want, size_t total, size_t *steps, size_t *count,
                                const char *spec, dscm_error *err)
{
    for (size_t stride = 1; stride <= total; stride++) {
        if ((total + stride - 1) / stride != want) continue;
        for (*count = 0; *count < want; ++*count) steps[*count] = *count * stride;
        return DSCM_OK;
    }
    return dscm_fail(err, DSCM_E_INVALID, "steps \"%s\": no integer stride keeps %zu of %zu", spec,
                     want, total);
}

/* Sections of (nearly) equal size, each keeping its count at a fractional stride with both ends. */
static dscm_code section_spacing(const size_t *counts, size_t sections, size_t total, size_t *steps,
                                 size_t *count, const char *spec, dscm_error *err)
{
    size_t start = 0;
    *count = 0;
    for (size_t s = 0; s < sections; s++) {
        size_t size = total / sections + (s < total % sections);
        if (counts[s] > size)
            return dscm_fail(err, DSCM_E_INVALID,
                             "steps \"%s\": cannot keep %zu of %zu in section %zu", spec, counts[s],
                             size, s + 1);
        double stride = counts[s] > 1 ? (double)(size - 1) / (double)(counts[s] - 1) : 1, at = 0;
        for (size_t i = 0; i < counts[s]; i++, at += stride)
            steps[(*count)++] =
                start + (size_t)nearbyint(at); /* ties to even, as published code rounds */
        start += size;
    }
    return DSCM_OK;
}

dscm_code dscm_spacing(const char *spec, size_t total, size_t **steps, size_t *count,
                       dscm_error *err)
{
    enum { SECTIONS_MAX = 64 };
    size_t counts[SECTIONS_MAX], sections = 0;
    bool ddim = strncmp(spec, "ddim", 4) == 0;
    const char *p = ddim ? spec + 4 : spec;
    *steps = NULL;
    bool good = parse_count(&p, &counts[sections++]);
    while (good && *p == ',' && !ddim && sections < SECTIONS_MAX) {
        p++;
        good = parse_count(&p, &counts[sections++]);
    }
    if (!good || *p)
        return dscm_fail(err, DSCM_E_INVALID,
                         "steps \"%s\": must be ddimN or counts such as 250 or 10,15,20", spec);
    *steps = dscm_alloc(total, sizeof **steps, "kept steps", err);
    if (!*steps) return DSCM_E_MEMORY;
    dscm_code code = ddim ? stride_spacing(counts[0], total, *steps, count, spec, err)
                          : section_spacing(counts, sections, total, *steps, count, spec, err);
    if (code != DSCM_OK) {
        dscm_free(*steps);
        *steps = NULL;
    }
    return code;
}
