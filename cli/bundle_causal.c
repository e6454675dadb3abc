#include "cli/bundle_causal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/causal/model.h"
#include "core/io/json.h"

static dscm_code read_model(dscm_causal *m, const char *path, dscm_error *err)
{
    json_error_t why;
    json_t *json = dscm_json_read_file(path, JSON_REJECT_DUPLICATES, &why);
    dscm_code code = DSCM_OK;
    if (json)
        code = dscm_causal_from_json(m, json, path, err);
    else if (why.line < 1) /* it could not be opened */
        code = dscm_fail(err, dscm_json_code(&why), "--causal %s", why.text);
    else
        code = dscm_fail(err, dscm_json_code(&why), "%s: line %d: %s", path, why.line, why.text);
    json_decref(json);
    for (size_t i = 0; code == DSCM_OK && i < m->count; i++)
        if ((int)i != m->image && !m->nodes[i].known)
            code = dscm_fail(err, DSCM_E_INVALID, "%s: %s has no mechanism; fit or give it", path,
                             m->nodes[i].name);
    if (code == DSCM_OK && m->image < 0)
        code = dscm_fail(err, DSCM_E_INVALID, "%s: the graph has no image", path);
    return code;
}

static json_t *parents_of(const dscm_causal *m, const dscm_causal_node *n)
{
    json_t *list = json_array();
    for (size_t p = 0; p < n->parents_count; p++)
        json_array_append_new(list, json_string(m->nodes[n->parents[p]].name));
    return list;
}

static json_t *variable_of(const dscm_causal *m, const dscm_causal_node *n)
{
    bool labels = n->kind == DSCM_CATEGORICAL;
    json_t *o = json_pack("{s:s, s:s, s:o, s:{s:s}}", "name", n->name, "kind",
                          labels ? "categorical" : "continuous", "parents", parents_of(m, n),
                          "mechanism", "kind", "fitted");
    json_t *list = labels ? json_array() : NULL;
    for (size_t k = 0; k < n->labels_count; k++)
        json_array_append_new(list, json_string(n->labels[k]));
    if (labels) {
        json_object_set_new(o, "labels", list);
    } else {
        json_object_set_new(o, "min", json_real(n->min));
        json_object_set_new(o, "max", json_real(n->max));
    }
    return o;
}

/* A key of a continuous variable from "thickness=.25", of the option of that name. */
static dscm_code set_number(json_t *variables, const char *option, const char *key, bool positive,
                            const char *text, dscm_error *err)
{
    const char *equal = strchr(text, '=');
    json_t *v;
    size_t i;
    char *end = NULL;
    double value = equal ? strtod(equal + 1, &end) : 0;
    if (!equal || end == equal + 1 || *end || !isfinite(value) || (positive && value <= 0))
        return dscm_fail(err, DSCM_E_INVALID, "--%s %s: must be NAME=NUMBER%s", option, text,
                         positive ? " with a number above 0" : "");
    json_array_foreach(variables, i, v)
    {
        const char *name = json_string_value(json_object_get(v, "name"));
        if (strlen(name) != (size_t)(equal - text) || strncmp(name, text, strlen(name)) != 0)
            continue;
        if (!json_object_get(v, "min")) break;
        json_object_set_new(v, key, json_real(value));
        return DSCM_OK;
    }
    return dscm_fail(err, DSCM_E_INVALID, "--%s %s: no continuous variable of that name", option,
                     text);
}

dscm_code cli_bundle_variables(json_t *manifest, const char *model_file, json_t *image,
                               const option_list *tolerances, const option_list *result_biases,
                               dscm_error *err)
{
    dscm_causal *m = dscm_alloc(1, sizeof *m, "causal model", err);
    if (!m) return DSCM_E_MEMORY;
    m->image = -1;
    dscm_code code = read_model(m, model_file, err);
    json_t *variables = json_array();
    for (size_t i = 0; code == DSCM_OK && i < m->count; i++) {
        const dscm_causal_node *n = &m->nodes[i];
        if ((int)i == m->image) {
            json_object_set_new(image, "name", json_string(n->name));
            json_object_set_new(image, "parents", parents_of(m, n));
            json_array_append(variables, image);
        } else {
            json_array_append_new(variables, variable_of(m, n));
        }
    }
    for (size_t i = 0; code == DSCM_OK && i < tolerances->count; i++)
        code = set_number(variables, "tolerance", "tolerance", true, tolerances->items[i], err);
    for (size_t i = 0; code == DSCM_OK && i < result_biases->count; i++)
        code = set_number(variables, "result-bias", "result_bias", false, result_biases->items[i],
                          err);
    json_object_set_new(manifest, "variables", variables);
    if (code == DSCM_OK) json_object_set_new(manifest, "causal", dscm_causal_json(m));
    dscm_causal_free(m);
    dscm_free(m);
    return code;
}
