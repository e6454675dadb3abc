#include "core/data/split.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CLASSES 256

/* One end of a slice, at *p, which moves behind it: digits, or a share with a per-cent sign. */
static bool parse_end(const char **p, bool *has, double *value, bool *percent)
{
    char *end;
    *has = isdigit((unsigned char)**p);
    if (!*has) return true;
    size_t length = strspn(*p, "0123456789.");
    *value = strtod(*p, &end);
    if (end != *p + length) return false;
    *percent = *end == '%';
    *p = end + *percent;
    return *percent ? *value <= 100 : *value == floor(*value);
}

dscm_code dscm_split_parse(dscm_split *out, const char *text, dscm_error *err)
{
    size_t name = strcspn(text, "[");
    const char *p = text + name;
    bool from_percent = false, to_percent = false;
    *out = (dscm_split){.sliced = *p == '['};
    if (!name || name >= sizeof out->name)
        return dscm_fail(err, DSCM_E_INVALID, "split \"%s\": the name must have 1..%zu bytes", text,
                         sizeof out->name - 1);
    memcpy(out->name, text, name);
    if (!*p) return DSCM_OK;
    p++;
    bool good = parse_end(&p, &out->has_from, &out->from, &from_percent) && *p++ == ':' &&
                parse_end(&p, &out->has_to, &out->to, &to_percent) && strcmp(p, "]") == 0;
    out->per_class = from_percent || to_percent;
    /* 60%:4500 would mix two measures. */
    if (out->has_from && out->has_to && (from_percent != to_percent || out->from >= out->to))
        good = false;
    if (good) return DSCM_OK;
    return dscm_fail(err, DSCM_E_INVALID,
                     "split \"%s\": must be NAME, NAME[FIRST:END] with FIRST below END, such as "
                     "train[0:45000], or NAME[FIRST%%:END%%] with 0..100 per cent of each class",
                     text);
}

/* An end of the slice as an index into n images; absent when it was left out. */
static size_t place(bool has, double value, bool percent, size_t n, size_t absent)
{
    if (!has) return absent;
    double at = percent ? floor((double)n * value / 100 + 0.5) : value;
    return at >= (double)n ? n : (size_t)at;
}

dscm_code dscm_split_check(const dscm_split *s, const char *text, size_t count, dscm_error *err)
{
    if (s->per_class ||
        (!(s->has_from && s->from >= (double)count) && !(s->has_to && s->to > (double)count)))
        return DSCM_OK;
    return dscm_fail(err, DSCM_E_INVALID, "split \"%s\": there are %zu images, 0..%zu", text, count,
                     count ? count - 1 : 0);
}

size_t dscm_split_select(const dscm_split *s, const uint8_t *labels, size_t count, uint32_t *out)
{
    size_t totals[CLASSES] = {0}, seen[CLASSES] = {0}, selected = 0;
    if (s->per_class)
        for (size_t i = 0; i < count; i++) totals[labels[i]]++;
    for (size_t i = 0; i < count; i++) {
        size_t n = s->per_class ? totals[labels[i]] : count;
        size_t at = s->per_class ? seen[labels[i]]++ : i;
        if (at >= place(s->has_from, s->from, s->per_class, n, 0) &&
            at < place(s->has_to, s->to, s->per_class, n, n))
            out[selected++] = (uint32_t)i;
    }
    return selected;
}
