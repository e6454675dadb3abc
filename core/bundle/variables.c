/* Variables of a bundle: finding them, reading their values. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bundle/bundle.h"

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
