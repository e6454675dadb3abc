/* Causal models as JSON: written, read, and mechanisms that the user gives. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/causal/internal.h"
#include "core/io/json.h"

/* ---- writing ---- */

static json_t *numbers(const double *v, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) json_array_append_new(list, json_real(v[i]));
    return list;
}

static json_t *matrix(const double *v, size_t rows, size_t columns)
{
    json_t *list = json_array();
    for (size_t r = 0; r < rows; r++)
        json_array_append_new(list, numbers(v + r * columns, columns));
    return list;
}

static json_t *mechanism_json(const dscm_causal_node *n)
{
    const causal_net *net = &n->net;
    const double *p = net->p;
    size_t nf = net->features, nh = net->hidden, no = net->outputs, bins = n->curve.bins;
    json_t *o = json_object();
    json_object_set_new(o, "bias", numbers(p, no));
    if (nf) {
        json_object_set_new(o, "weights", matrix(p + no, no, nf));
        json_object_set_new(o, "mean", numbers(n->mean, nf));
        json_object_set_new(o, "deviation", numbers(n->deviation, nf));
    }
    p += no + no * nf;
    if (nh) {
        json_object_set_new(o, "hidden_weights", matrix(p, nh, nf));
        json_object_set_new(o, "hidden_bias", numbers(p + nh * nf, nh));
        json_object_set_new(o, "output_weights", matrix(p + nh * nf + nh, no, nh));
    }
    if (bins) {
        json_object_set_new(o, "spline_widths", numbers(n->curve.p, bins));
        json_object_set_new(o, "spline_heights", numbers(n->curve.p + bins, bins));
        json_object_set_new(o, "spline_slopes", numbers(n->curve.p + 2 * bins, bins - 1));
    }
    return o;
}

json_t *dscm_causal_json(const dscm_causal *m)
{
    unsigned long mark = dscm_json_failures();
    json_t *root = json_object(), *list = json_array();
    json_object_set_new(root, "format", json_string("diffscm causal model 1"));
    for (size_t i = 0; i < m->count; i++) {
        const dscm_causal_node *n = &m->nodes[i];
        json_t *o = json_object(), *parents = json_array(), *labels = json_array();
        json_object_set_new(o, "name", json_string(n->name));
        json_object_set_new(o, "kind",
                            json_string(n->kind == DSCM_IMAGE         ? "image"
                                        : n->kind == DSCM_CATEGORICAL ? "categorical"
                                                                      : "continuous"));
        for (size_t p = 0; p < n->parents_count; p++)
            json_array_append_new(parents, json_string(m->nodes[n->parents[p]].name));
        json_object_set_new(o, "parents", parents);
        for (size_t k = 0; k < n->labels_count; k++)
            json_array_append_new(labels, json_string(n->labels[k]));
        if (n->kind == DSCM_CATEGORICAL) json_object_set(o, "labels", labels);
        json_decref(labels);
        if (n->kind == DSCM_CONTINUOUS) {
            json_object_set_new(o, "min", json_real(n->min));
            json_object_set_new(o, "max", json_real(n->max));
        }
        if (n->known) json_object_set_new(o, "mechanism", mechanism_json(n));
        json_array_append_new(list, o);
    }
    json_object_set_new(root, "variables", list);
    return dscm_json_whole(root, mark);
}

/* ---- reading ---- */

/* A list of `rows` lists of `columns` numbers, or (rows 0) of `columns` numbers, into out. Absent:
 * left alone unless needed. */
static dscm_code take(const json_t *object, const char *where, const char *node, const char *key,
                      size_t rows, size_t columns, bool needed, double *out, dscm_error *err)
{
    const json_t *list = json_object_get(object, key);
    size_t outer = rows ? rows : 1;
    if (!list && !needed) return DSCM_OK;
    bool fits = json_is_array(list) && json_array_size(list) == (rows ? rows : columns);
    for (size_t r = 0; fits && r < outer; r++) {
        const json_t *row = rows ? json_array_get(list, r) : list;
        fits = json_is_array(row) && json_array_size(row) == columns;
        for (size_t c = 0; fits && c < columns; c++) {
            const json_t *v = json_array_get(row, c);
            out[r * columns + c] = json_number_value(v);
            fits = json_is_number(v) && fabs(json_number_value(v)) < CAUSAL_NUMBER_MAX;
        }
    }
    if (fits) return DSCM_OK;
    if (rows)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: %s: %s must be %zu lists of %zu numbers", where,
                         node, key, rows, columns);
    return dscm_fail(err, DSCM_E_FORMAT, "%s: %s: %s must be a list of %zu numbers", where, node,
                     key, columns);
}

static dscm_code check_keys(const json_t *object, const char *where, const char *node,
                            const char *known, dscm_error *err)
{
    const char *key;
    json_t *value;
    char padded[80];
    json_object_foreach((json_t *)object, key, value)
    {
        snprintf(padded, sizeof padded, " %.60s ", key);
        if (!strstr(known, padded))
            return dscm_fail(err, DSCM_E_UNKNOWN, "%s: %s: unknown key \"%.60s\"; there are:%s",
                             where, node, key, known);
    }
    return DSCM_OK;
}

static dscm_code read_mechanism(dscm_causal *m, dscm_causal_node *n, const json_t *o,
                                const char *where, dscm_error *err)
{
    size_t hidden = json_array_size(json_object_get(o, "hidden_bias"));
    size_t bins = json_array_size(json_object_get(o, "spline_widths"));
    if (!json_is_object(o))
        return dscm_fail(err, DSCM_E_FORMAT, "%s: %s: mechanism must be an object", where, n->name);
    dscm_code code = check_keys(o, where, n->name,
                                " bias weights mean deviation hidden_weights hidden_bias "
                                "output_weights spline_widths spline_heights spline_slopes ",
                                err);
    if (code == DSCM_OK && (hidden > CAUSAL_HIDDEN_MAX || bins > CAUSAL_BINS_MAX || bins == 1))
        code = dscm_fail(err, DSCM_E_LIMIT, "%s: %s: at most %d hidden units and 2..%d bins", where,
                         n->name, CAUSAL_HIDDEN_MAX, CAUSAL_BINS_MAX);
    if (code == DSCM_OK) code = causal_node_open(m, n, hidden, bins, err);
    if (code != DSCM_OK) return code;
    double *p = n->net.p;
    size_t nf = n->net.features, no = n->net.outputs;
    code = take(o, where, n->name, "bias", 0, no, true, p, err);
    p += no;
    if (code == DSCM_OK && nf) code = take(o, where, n->name, "weights", no, nf, true, p, err);
    p += no * nf;
    if (code == DSCM_OK && nf) code = take(o, where, n->name, "mean", 0, nf, false, n->mean, err);
    if (code == DSCM_OK && nf)
        code = take(o, where, n->name, "deviation", 0, nf, false, n->deviation, err);
    for (size_t i = 0; code == DSCM_OK && i < nf; i++)
        if (!(n->deviation[i] > 0))
            code =
                dscm_fail(err, DSCM_E_INVALID, "%s: %s: deviation must be over 0", where, n->name);
    if (code == DSCM_OK && hidden && nf)
        code = take(o, where, n->name, "hidden_weights", hidden, nf, true, p, err);
    p += hidden * nf;
    if (code == DSCM_OK && hidden)
        code = take(o, where, n->name, "hidden_bias", 0, hidden, true, p, err);
    p += hidden;
    if (code == DSCM_OK && hidden)
        code = take(o, where, n->name, "output_weights", no, hidden, true, p, err);
    bins = n->curve.bins;
    p = n->curve.p;
    if (code == DSCM_OK && bins)
        code = take(o, where, n->name, "spline_widths", 0, bins, true, p, err);
    if (code == DSCM_OK && bins)
        code = take(o, where, n->name, "spline_heights", 0, bins, true, p + bins, err);
    if (code == DSCM_OK && bins)
        code = take(o, where, n->name, "spline_slopes", 0, bins - 1, true, p + 2 * bins, err);
    return code;
}

dscm_code dscm_causal_give(dscm_causal *m, const json_t *mechanisms, const char *where,
                           dscm_error *err)
{
    const char *name;
    json_t *o;
    if (!json_is_object(mechanisms))
        return dscm_fail(err, DSCM_E_FORMAT, "%s: must be an object of mechanisms by name", where);
    json_object_foreach((json_t *)mechanisms, name, o)
    {
        int i = -1;
        dscm_code code = dscm_causal_find(m, name, &i, err);
        if (code == DSCM_OK && (i == m->image || m->nodes[i].known))
            code = dscm_fail(err, DSCM_E_INVALID, "%s: %s: %s", where, name,
                             i == m->image ? "the image's mechanism is a network of the bundle"
                                           : "has a mechanism already");
        if (code == DSCM_OK) code = read_mechanism(m, &m->nodes[i], o, where, err);
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}

/* The graph's text of the list of variables, read by the reader of graphs. */
static dscm_code read_graph(dscm_causal *out, const json_t *list, const char *where,
                            dscm_error *err)
{
    unsigned long mark = dscm_json_failures();
    json_t *graph = json_object(), *v;
    size_t i;
    dscm_code code = DSCM_OK;
    json_array_foreach((json_t *)list, i, v)
    {
        const char *name = json_string_value(json_object_get(v, "name"));
        json_t *parents = json_object_get(v, "parents");
        if (code == DSCM_OK && (!name || json_object_get(graph, name)))
            code = dscm_fail(err, DSCM_E_FORMAT, "%s: variables[%zu]: name must be a new name",
                             where, i);
        if (code == DSCM_OK)
            json_object_set_new(graph, name, parents ? json_incref(parents) : json_array());
    }
    char *text = code == DSCM_OK ? dscm_json_write(graph, 0, mark) : NULL;
    if (code == DSCM_OK && !text) code = dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", where);
    if (code == DSCM_OK) code = dscm_causal_graph(out, text, err);
    free(text);
    json_decref(graph);
    return code;
}

static dscm_code read_node(dscm_causal_node *n, const json_t *v, const char *where, dscm_error *err)
{
    const char *kind = json_string_value(json_object_get(v, "kind"));
    json_t *labels = json_object_get(v, "labels");
    size_t count = json_array_size(labels);
    dscm_code code =
        check_keys(v, where, n->name, " name kind parents labels min max mechanism ", err);
    if (code != DSCM_OK) return code;
    if (n->kind == DSCM_IMAGE || (kind && strcmp(kind, "continuous") == 0)) {
        n->min = json_number_value(json_object_get(v, "min"));
        n->max = json_number_value(json_object_get(v, "max"));
        if (n->kind == DSCM_IMAGE || (n->min < n->max && fabs(n->min) < CAUSAL_NUMBER_MAX &&
                                      fabs(n->max) < CAUSAL_NUMBER_MAX))
            return DSCM_OK;
        return dscm_fail(err, DSCM_E_FORMAT, "%s: %s: min and max must be numbers, min below max",
                         where, n->name);
    }
    if (!kind || strcmp(kind, "categorical") != 0 || count < 2 || count > DSCM_CAUSAL_LABELS_MAX)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: %s: kind must be continuous, or categorical with 2..%d labels", where,
                         n->name, DSCM_CAUSAL_LABELS_MAX);
    n->kind = DSCM_CATEGORICAL;
    n->labels = dscm_alloc(count, sizeof *n->labels, "labels", err);
    if (!n->labels) return DSCM_E_MEMORY;
    for (; n->labels_count < count; n->labels_count++) {
        const char *text = json_string_value(json_array_get(labels, n->labels_count));
        if (!text)
            return dscm_fail(err, DSCM_E_FORMAT, "%s: %s: labels must be texts", where, n->name);
        n->labels[n->labels_count] = dscm_strdup(text, err);
        if (!n->labels[n->labels_count]) return DSCM_E_MEMORY;
    }
    return DSCM_OK;
}

dscm_code dscm_causal_from_json(dscm_causal *out, const json_t *json, const char *where,
                                dscm_error *err)
{
    const json_t *list = json_object_get(json, "variables"), *v;
    size_t i;
    *out = (dscm_causal){.image = -1};
    if (!json_is_array(list))
        return dscm_fail(err, DSCM_E_FORMAT, "%s: no causal model: variables must be a list",
                         where);
    dscm_code code = read_graph(out, list, where, err);
    unsigned long mark = dscm_json_failures();
    json_t *mechanisms = json_object();
    json_array_foreach((json_t *)list, i, v)
    {
        const char *name = json_string_value(json_object_get(v, "name"));
        json_t *mechanism = json_object_get(v, "mechanism");
        int node = -1;
        if (code == DSCM_OK) code = dscm_causal_find(out, name, &node, err);
        if (code == DSCM_OK) code = read_node(&out->nodes[node], v, where, err);
        if (code == DSCM_OK && mechanism) json_object_set(mechanisms, name, mechanism);
    }
    if (code == DSCM_OK && dscm_json_failures() != mark)
        code = dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", where);
    if (code == DSCM_OK) code = dscm_causal_give(out, mechanisms, where, err);
    json_decref(mechanisms);
    if (code != DSCM_OK) dscm_causal_free(out);
    return code;
}
