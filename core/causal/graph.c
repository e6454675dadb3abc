/* Causal graphs out of text and JSON, and what a table says of their variables. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/causal/model.h"
#include "core/io/json.h"

#define NAME_MAX_BYTES 63
#define VALUE_MAX      1e11 /* in a table: ranges of mechanisms are somewhat wider */
#define LABELS_GUESSED 50   /* more different integers are numbers */

static void node_free(dscm_causal_node *n)
{
    dscm_free(n->name);
    for (size_t i = 0; i < n->labels_count && n->labels; i++) dscm_free(n->labels[i]);
    dscm_free(n->labels);
    dscm_free(n->net.p);
    dscm_free(n->curve.p);
    dscm_free(n->mean);
    dscm_free(n->deviation);
}

void dscm_causal_free(dscm_causal *m)
{
    for (size_t i = 0; i < m->count; i++) node_free(&m->nodes[i]);
    *m = (dscm_causal){.image = -1};
}

static int find(const dscm_causal *m, const char *name, size_t length)
{
    for (size_t i = 0; i < m->count; i++)
        if (strlen(m->nodes[i].name) == length && memcmp(m->nodes[i].name, name, length) == 0)
            return (int)i;
    return -1;
}

dscm_code dscm_causal_find(const dscm_causal *m, const char *name, int *index, dscm_error *err)
{
    char known[256] = "";
    *index = find(m, name, strlen(name));
    if (*index >= 0) return DSCM_OK;
    for (size_t i = 0; i < m->count; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "",
                 m->nodes[i].name);
    return dscm_fail(err, DSCM_E_UNKNOWN, "variable \"%.64s\" does not exist; the graph has: %s",
                     name, known);
}

/* The node of a name, new if need be. */
static dscm_code take_node(dscm_causal *m, const char *name, size_t length, int *index,
                           dscm_error *err)
{
    char text[NAME_MAX_BYTES + 1];
    if (!length) return dscm_fail(err, DSCM_E_FORMAT, "graph: a name is empty");
    if (length > NAME_MAX_BYTES)
        return dscm_fail(err, DSCM_E_LIMIT, "graph: \"%.40s…\" has more than %d bytes", name,
                         NAME_MAX_BYTES);
    *index = find(m, name, length);
    if (*index >= 0) return DSCM_OK;
    if (m->count == DSCM_CAUSAL_NODES_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "graph: more than %d variables", DSCM_CAUSAL_NODES_MAX);
    memcpy(text, name, length);
    text[length] = '\0';
    *index = (int)m->count;
    m->nodes[m->count] = (dscm_causal_node){.name = dscm_strdup(text, err)};
    if (!m->nodes[m->count].name) return DSCM_E_MEMORY;
    m->nodes[m->count].kind = strcmp(text, "image") ? DSCM_CONTINUOUS : DSCM_IMAGE;
    m->count++;
    return DSCM_OK;
}

static dscm_code add_edge(dscm_causal *m, int parent, int child, dscm_error *err)
{
    dscm_causal_node *c = &m->nodes[child];
    const char *from = m->nodes[parent].name;
    if (m->nodes[parent].kind == DSCM_IMAGE)
        return dscm_fail(err, DSCM_E_INVALID, "graph: %s -> %s: the image cannot be a parent", from,
                         c->name);
    for (size_t i = 0; i < c->parents_count; i++)
        if (c->parents[i] == parent)
            return dscm_fail(err, DSCM_E_INVALID, "graph: %s -> %s is given twice", from, c->name);
    c->parents[c->parents_count++] = parent;
    return DSCM_OK;
}

static const char *trim(const char *from, const char **to)
{
    while (from < *to && isspace((unsigned char)*from)) from++;
    while (*to > from && isspace((unsigned char)(*to)[-1])) --*to;
    return from;
}

/* "a, b -> c" or "a": without the semicolon. */
static dscm_code parse_edge(dscm_causal *m, const char *from, const char *to, dscm_error *err)
{
    const char *arrow = NULL, *name;
    int parents[DSCM_CAUSAL_NODES_MAX], child = -1;
    size_t count = 0;
    for (const char *c = from; c + 1 < to; c++) {
        if (c[0] != '-' || c[1] != '>') continue;
        if (arrow)
            return dscm_fail(err, DSCM_E_FORMAT, "graph: \"%.*s\": two arrows; edges end with ;",
                             (int)(to - from), from);
        arrow = c;
    }
    dscm_code code = DSCM_OK;
    for (const char *at = from, *end = arrow ? arrow : to; code == DSCM_OK && at <= end;) {
        const char *comma = memchr(at, ',', (size_t)(end - at)), *stop = comma ? comma : end;
        if (count == DSCM_CAUSAL_NODES_MAX)
            return dscm_fail(err, DSCM_E_LIMIT, "graph: more than %d parents",
                             DSCM_CAUSAL_NODES_MAX);
        const char *last = stop;
        name = trim(at, &last);
        code = take_node(m, name, (size_t)(last - name), &parents[count++], err);
        at = stop + 1;
    }
    if (code != DSCM_OK || !arrow) return code;
    name = trim(arrow + 2, &to);
    code = take_node(m, name, (size_t)(to - name), &child, err);
    for (size_t i = 0; code == DSCM_OK && i < count; i++)
        code = add_edge(m, parents[i], child, err);
    return code;
}

static dscm_code parse_text(dscm_causal *m, const char *text, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    while (*text && code == DSCM_OK) {
        size_t length = strcspn(text, ";\n");
        const char *end = text + length, *from = trim(text, &end);
        if (from < end) code = parse_edge(m, from, end, err);
        text += length + (text[length] != '\0');
    }
    return code;
}

static dscm_code parse_json(dscm_causal *m, const char *text, dscm_error *err)
{
    json_error_t why;
    const char *name;
    json_t *list, *root = dscm_json_read(text, strlen(text), JSON_REJECT_DUPLICATES, &why), *parent;
    dscm_code code = DSCM_OK;
    if (!root)
        return dscm_fail(err, dscm_json_code(&why), "graph: JSON, line %d: %s", why.line, why.text);
    json_object_foreach(root, name, list)
    {
        int child = -1, from = -1;
        size_t i;
        if (code == DSCM_OK) code = take_node(m, name, strlen(name), &child, err);
        if (code == DSCM_OK && !json_is_array(list))
            code = dscm_fail(err, DSCM_E_FORMAT, "graph: %s: must be an array of parents", name);
        json_array_foreach(list, i, parent)
        {
            const char *p = json_string_value(parent);
            if (code == DSCM_OK && !p)
                code = dscm_fail(err, DSCM_E_FORMAT, "graph: %s: parents must be names", name);
            if (code == DSCM_OK) code = take_node(m, p, strlen(p), &from, err);
            if (code == DSCM_OK) code = add_edge(m, from, child, err);
        }
    }
    json_decref(root);
    return code;
}

/* Parents before children, else in the order of the text (Kahn 1962). */
static dscm_code sort(dscm_causal *m, dscm_error *err)
{
    dscm_causal_node sorted[DSCM_CAUSAL_NODES_MAX];
    int place[DSCM_CAUSAL_NODES_MAX];
    size_t done = 0;
    for (size_t i = 0; i < m->count; i++) place[i] = -1;
    while (done < m->count) {
        size_t before = done;
        for (size_t i = 0; i < m->count; i++) {
            bool last = m->nodes[i].kind != DSCM_IMAGE || done + 1 == m->count;
            bool ready = place[i] < 0 && last; /* the image comes last */
            for (size_t p = 0; ready && p < m->nodes[i].parents_count; p++)
                ready = place[m->nodes[i].parents[p]] >= 0;
            if (!ready) continue;
            place[i] = (int)done++;
        }
        if (done > before) continue;
        char cycle[300] = "";
        for (size_t i = 0; i < m->count; i++)
            if (place[i] < 0 && m->nodes[i].kind != DSCM_IMAGE)
                snprintf(cycle + strlen(cycle), sizeof cycle - strlen(cycle), "%s%s",
                         *cycle ? ", " : "", m->nodes[i].name);
        return dscm_fail(err, DSCM_E_INVALID, "graph: there is a cycle among: %s", cycle);
    }
    for (size_t i = 0; i < m->count; i++) {
        dscm_causal_node *n = &sorted[place[i]];
        *n = m->nodes[i];
        for (size_t p = 0; p < n->parents_count; p++) n->parents[p] = place[n->parents[p]];
    }
    memcpy(m->nodes, sorted, m->count * sizeof *sorted);
    for (size_t i = 0; i < m->count; i++)
        if (m->nodes[i].kind == DSCM_IMAGE) m->image = (int)i;
    return DSCM_OK;
}

dscm_code dscm_causal_graph(dscm_causal *out, const char *text, dscm_error *err)
{
    *out = (dscm_causal){.image = -1};
    while (isspace((unsigned char)*text)) text++;
    dscm_code code = *text == '{' ? parse_json(out, text, err) : parse_text(out, text, err);
    if (code == DSCM_OK && !out->count)
        code = dscm_fail(err, DSCM_E_FORMAT,
                         "graph: empty; as in: thickness -> intensity; "
                         "digit, thickness, intensity -> image");
    if (code == DSCM_OK) code = sort(out, err);
    if (code != DSCM_OK) dscm_causal_free(out);
    return code;
}

/* ---- what a table says ---- */

static int compare_labels(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    char *end;
    double u = strtod(x, &end), v = strtod(y, &end);
    return u < v ? -1 : u > v ? 1 : strcmp(x, y);
}

/* Different texts of a column, sorted; false when there are more than `limit`. */
static bool distinct(const dscm_table *t, size_t at, size_t limit, const char **out, size_t *count)
{
    *count = 0;
    for (size_t r = 0; r < t->rows; r++) {
        const char *text = t->cells[r * t->columns + at];
        size_t i = 0;
        if (!*text) continue;
        while (i < *count && strcmp(out[i], text) != 0) i++;
        if (i < *count) continue;
        if (*count == limit) return false;
        out[(*count)++] = text;
    }
    qsort(out, *count, sizeof *out, compare_labels);
    return true;
}

static bool all_match(const dscm_table *t, size_t at, bool integers, double *low, double *high)
{
    *low = INFINITY;
    *high = -INFINITY;
    for (size_t r = 0; r < t->rows; r++) {
        const char *text = t->cells[r * t->columns + at];
        char *end;
        if (!*text) continue;
        double v = strtod(text, &end);
        if (*end || !isfinite(v) || (integers && (v != floor(v) || v < 0 || v > 255))) return false;
        if (v < *low) *low = v;
        if (v > *high) *high = v;
    }
    return true;
}

static dscm_code set_labels(dscm_causal_node *n, const char **labels, size_t count, dscm_error *err)
{
    n->kind = DSCM_CATEGORICAL;
    n->labels = dscm_alloc(count, sizeof *n->labels, "labels", err);
    if (!n->labels) return DSCM_E_MEMORY;
    for (n->labels_count = 0; n->labels_count < count; n->labels_count++) {
        n->labels[n->labels_count] = dscm_strdup(labels[n->labels_count], err);
        if (!n->labels[n->labels_count]) return DSCM_E_MEMORY;
    }
    return DSCM_OK;
}

static dscm_code describe_node(dscm_causal_node *n, const dscm_table *t, size_t at, dscm_error *err)
{
    const char *labels[DSCM_CAUSAL_LABELS_MAX];
    double low, high, integers[2];
    size_t count;
    bool numbers = all_match(t, at, false, &low, &high);
    bool few = distinct(t, at, DSCM_CAUSAL_LABELS_MAX, labels, &count);
    if (few && (!numbers ||
                (count <= LABELS_GUESSED && all_match(t, at, true, &integers[0], &integers[1])))) {
        if (count < 2)
            return dscm_fail(err, DSCM_E_INVALID,
                             "%s: column %zu (%s) has %zu different values; at "
                             "least 2 are needed",
                             t->name, at + 1, n->name, count);
        return set_labels(n, labels, count, err);
    }
    if (!numbers)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: column %zu (%s) has more than %d labels", t->name,
                         at + 1, n->name, DSCM_CAUSAL_LABELS_MAX);
    if (!(fabs(low) < VALUE_MAX && fabs(high) < VALUE_MAX))
        return dscm_fail(err, DSCM_E_LIMIT, "%s: column %zu (%s): %g is too large; at most %g is",
                         t->name, at + 1, n->name, fabs(low) > fabs(high) ? low : high, VALUE_MAX);
    n->min = low - 0.05 * (high - low);
    n->max = high + 0.05 * (high - low);
    return DSCM_OK;
}

dscm_code dscm_causal_describe(dscm_causal *m, const dscm_table *t, dscm_error *err)
{
    for (size_t i = 0; i < m->count; i++) {
        dscm_causal_node *n = &m->nodes[i];
        int at = dscm_table_find(t, n->name);
        if ((int)i == m->image) continue;
        if (at < 0)
            return dscm_fail(err, DSCM_E_UNKNOWN,
                             "graph: \"%s\" is neither the image nor a column of %s", n->name,
                             t->name);
        if (n->labels || n->min < n->max) continue;
        dscm_code code = describe_node(n, t, (size_t)at, err);
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}

dscm_code dscm_causal_values(const dscm_causal *m, const dscm_table *t, bool missing,
                             double **values, dscm_error *err)
{
    double *column = dscm_alloc(t->rows + 1, sizeof *column, t->name, err);
    *values = dscm_alloc((t->rows + 1) * m->count, sizeof **values, t->name, err);
    dscm_code code = column && *values ? DSCM_OK : DSCM_E_MEMORY;
    for (size_t i = 0; code == DSCM_OK && i < m->count; i++) {
        const dscm_causal_node *n = &m->nodes[i];
        bool image = (int)i == m->image;
        const dscm_column wanted = {.name = n->name,
                                    .kind = n->kind,
                                    .missing = missing,
                                    .labels = (const char *const *)n->labels,
                                    .labels_count = n->labels_count,
                                    .min = n->min,
                                    .max = n->max};
        if (!image) code = dscm_table_column(t, &wanted, column, err);
        for (size_t r = 0; code == DSCM_OK && r < t->rows; r++)
            (*values)[r * m->count + i] = image ? (double)NAN : column[r];
    }
    dscm_free(column);
    if (code == DSCM_OK) return code;
    dscm_free(*values);
    *values = NULL;
    return code;
}
