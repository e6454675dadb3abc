#include "core/scm/sweep.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool dscm_sweep_is(const char *text)
{
    const char *dots = strstr(text, "..");
    return dots && strchr(dots, ':');
}

/* A number that `end` follows; false where there is none. */
static bool number(const char **text, const char *end, double *out)
{
    char *stop;
    *out = strtod(*text, &stop);
    if (stop == *text || !isfinite(*out)) return false;
    /* strtod takes the first point of "1..6" into the number */
    if (*end && stop > *text && stop[-1] == '.' && strncmp(stop - 1, end, strlen(end)) == 0) stop--;
    if (strncmp(stop, end, strlen(end)) != 0) return false;
    *text = stop + strlen(end);
    return true;
}

dscm_code dscm_sweep_parse(dscm_sweep *out, const char *text, dscm_error *err)
{
    char *end = NULL;
    unsigned long count = 0;
    errno = 0;
    bool good = number(&text, "..", &out->from) && number(&text, ":", &out->to);
    if (good) count = strtoul(text, &end, 10);
    if (!good || end == text || *end || *text == '-' || errno)
        return dscm_fail(err, DSCM_E_INVALID, "must be FROM..TO:COUNT with 2..%d values",
                         DSCM_SWEEP_MAX);
    out->count = count;
    return DSCM_OK;
}

dscm_code dscm_sweep_check(const dscm_sweep *s, const dscm_variable *v, dscm_error *err)
{
    if (v->kind != DSCM_CONTINUOUS)
        return dscm_fail(err, DSCM_E_INVALID, "%s is not continuous", v->name);
    if (s->count < 2 || s->count > DSCM_SWEEP_MAX)
        return dscm_fail(err, DSCM_E_INVALID, "a sweep has 2..%d values, not %zu", DSCM_SWEEP_MAX,
                         s->count);
    if (!(s->from >= v->min && s->from <= v->max && s->to >= v->min && s->to <= v->max))
        return dscm_fail(err, DSCM_E_INVALID, "%s must stay in %.9g..%.9g", v->name, v->min,
                         v->max);
    return DSCM_OK;
}

double dscm_sweep_value(const dscm_sweep *s, size_t index)
{
    if (index + 1 >= s->count) return s->to;
    return s->from + (s->to - s->from) * (double)index / (double)(s->count - 1);
}
