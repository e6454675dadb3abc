#include "cli/train_values.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/causal/model.h"
#include "core/data/variables.h"

/* The names as a graph without edges: fit's rules then say what kind a column is. */
static dscm_code graph_of(dscm_causal *m, const char *names, dscm_error *err)
{
    char text[512];
    size_t i = 0;
    if (strlen(names) >= sizeof text)
        return dscm_fail(err, DSCM_E_LIMIT, "%.64s…: more than %zu characters of names", names,
                         sizeof text - 1);
    for (; names[i]; i++) text[i] = names[i] == ',' ? ';' : names[i];
    text[i] = '\0';
    if (strstr(text, "->") || strchr(text, '{'))
        return dscm_fail(err, DSCM_E_INVALID, "%s: must be names separated by commas", names);
    return dscm_causal_graph(m, text, err);
}

/* Mean and standard deviation of the known values; 1 where they do not differ. */
static void scale_of(dscm_parent *p, const double *values, size_t rows, size_t step)
{
    double sum = 0, squares = 0, known = 0;
    for (size_t i = 0; i < rows; i++)
        if (!isnan(values[i * step])) sum += values[i * step], known++;
    p->mean = known > 0 ? sum / known : 0;
    for (size_t i = 0; i < rows; i++)
        if (!isnan(values[i * step])) squares += pow(values[i * step] - p->mean, 2);
    p->std = squares > 0 ? sqrt(squares / known) : 1;
}

static dscm_code take_node(train_values *v, dscm_causal_node *n, size_t at, dscm_error *err)
{
    dscm_parent *p = &v->parents[at];
    if (strlen(n->name) >= sizeof p->name)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: a name of more than %zu characters", n->name,
                         sizeof p->name - 1);
    *p = (dscm_parent){.classes = n->kind == DSCM_CATEGORICAL ? n->labels_count : 0};
    snprintf(p->name, sizeof p->name, "%s", n->name);
    v->labels[at] = n->labels; /* moved */
    n->labels = NULL;
    n->labels_count = 0;
    return DSCM_OK;
}

dscm_code train_values_describe(train_values *v, double **values, const dscm_dataset *data,
                                const char *split, dscm_error *err)
{
    dscm_causal *m = dscm_alloc(1, sizeof *m, "variables", err);
    dscm_table table = {0};
    if (!m) return DSCM_E_MEMORY;
    *values = NULL;
    m->image = -1;
    dscm_code code = graph_of(m, v->names, err);
    if (code == DSCM_OK && (m->count > DSCM_PARENTS_MAX || m->image >= 0))
        code = dscm_fail(err, DSCM_E_INVALID, "%s: at most %d variables, and none is the image",
                         v->names, DSCM_PARENTS_MAX);
    if (code == DSCM_OK) code = dscm_variables_read(&table, data, v->dir, split, v->table, err);
    if (code == DSCM_OK) code = dscm_causal_describe(m, &table, err);
    if (code == DSCM_OK) code = dscm_causal_values(m, &table, true, values, err);
    for (size_t i = 0; code == DSCM_OK && i < m->count; i++) {
        code = take_node(v, &m->nodes[i], i, err);
        if (code == DSCM_OK) v->count++;
        if (code == DSCM_OK && !v->parents[i].classes)
            scale_of(&v->parents[i], *values + i, table.rows, m->count);
    }
    dscm_table_free(&table);
    dscm_causal_free(m);
    dscm_free(m);
    return code;
}

dscm_code train_values_read(const train_values *v, double **values, const dscm_dataset *data,
                            const char *split, dscm_error *err)
{
    dscm_table table;
    *values = NULL;
    dscm_code code = dscm_variables_read(&table, data, v->dir, split, v->table, err);
    if (code != DSCM_OK) return code;
    double *out = dscm_alloc(data->count * v->count + 1, sizeof *out, "variables", err);
    double *column = dscm_alloc(data->count, sizeof *column, "variables", err);
    if (!out || !column) code = DSCM_E_MEMORY;
    for (size_t i = 0; code == DSCM_OK && i < v->count; i++) {
        const dscm_parent *p = &v->parents[i];
        const dscm_column c = {.name = p->name,
                               .kind = p->classes ? DSCM_CATEGORICAL : DSCM_CONTINUOUS,
                               .labels_count = p->classes,
                               .labels = (const char *const *)v->labels[i],
                               .min = -HUGE_VAL,
                               .max = HUGE_VAL,
                               .missing = true};
        code = dscm_table_column(&table, &c, column, err);
        for (size_t r = 0; code == DSCM_OK && r < data->count; r++)
            out[r * v->count + i] = column[r];
    }
    dscm_free(column);
    dscm_table_free(&table);
    if (code == DSCM_OK)
        *values = out;
    else
        dscm_free(out);
    return code;
}

void train_values_free(train_values *v)
{
    for (size_t i = 0; i < v->count; i++) {
        for (size_t k = 0; k < v->parents[i].classes; k++) dscm_free(v->labels[i][k]);
        dscm_free(v->labels[i]);
    }
    v->count = 0;
}
