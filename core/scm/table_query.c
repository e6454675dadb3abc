#include "core/scm/table_query.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/io/text_stream.h"

void dscm_table_query_free(dscm_table_query *q)
{
    dscm_free(q->factuals);
    dscm_free(q->acts);
    dscm_free(q->queries);
    *q = (dscm_table_query){0};
}

/* Reads a column per variable into values (rows, variables), NaN where there is no column or cell. */
static dscm_code read_values(double *values, const dscm_bundle *bundle, const dscm_table *t,
                             size_t rows, bool first_rows, dscm_error *err)
{
    const dscm_bundle_info *info = dscm_bundle_describe(bundle);
    size_t count = info->variables_count;
    double *column = NULL;
    dscm_code code = DSCM_OK;
    for (size_t i = 0; i < rows * count; i++) values[i] = (double)NAN;
    if (!t) return DSCM_OK;
    if (!first_rows || t->rows < rows) code = dscm_table_check_rows(t, rows, "images", err);
    if (code != DSCM_OK) return code;
    column = dscm_alloc(t->rows + 1, sizeof *column, t->name, err);
    code = column ? DSCM_OK : DSCM_E_MEMORY;
    for (size_t c = 0; code == DSCM_OK && c < t->columns; c++) {
        int variable = -1;
        code = dscm_variable_find(bundle, t->header[c], &variable, err);
        if (code == DSCM_OK && variable == info->image)
            code = dscm_fail(err, DSCM_E_INVALID, "an image cannot be set to a value");
        if (code != DSCM_OK) {
            dscm_error_prefix(err, "%s: line 1, column %zu (%.40s)", t->name, c + 1, t->header[c]);
            break;
        }
        const dscm_variable *v = &info->variables[variable];
        const dscm_column wanted = {.name = v->name,
                                    .kind = v->kind,
                                    .labels = v->labels,
                                    .labels_count = v->labels_count,
                                    .min = v->min,
                                    .max = v->max,
                                    .missing = true};
        code = dscm_table_column(t, &wanted, column, err);
        for (size_t r = 0; code == DSCM_OK && r < rows; r++)
            values[r * count + (size_t)variable] = column[r];
    }
    dscm_free(column);
    return code;
}

dscm_code dscm_table_query_open(dscm_table_query *out, const dscm_bundle *bundle, size_t rows,
                                const dscm_table *factuals, const dscm_table *dos, bool first_rows,
                                dscm_error *err)
{
    size_t count = dscm_bundle_describe(bundle)->variables_count, acts = 0;
    double *set = dscm_alloc(rows * count + 1, sizeof *set, "queries", err);
    *out = (dscm_table_query){.rows = rows, .variables = count};
    out->factuals = dscm_alloc(rows * count + 1, sizeof(double), "queries", err);
    out->acts = dscm_alloc(rows * count + 1, sizeof *out->acts, "queries", err);
    out->queries = dscm_alloc(rows + 1, sizeof *out->queries, "queries", err);
    dscm_code code = set && out->factuals && out->acts && out->queries ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = read_values(out->factuals, bundle, factuals, rows, first_rows, err);
    if (code == DSCM_OK) code = read_values(set, bundle, dos, rows, first_rows, err);
    for (size_t r = 0; code == DSCM_OK && r < rows; r++) {
        dscm_query *q = &out->queries[r];
        *q = (dscm_query){.items = out->acts + acts, .factual = out->factuals + r * count};
        for (size_t v = 0; v < count; v++) {
            double value = set[r * count + v];
            if (isnan(value)) continue;
            out->acts[acts++] = (dscm_intervention){
                .variable = (int)v, .action = DSCM_DO, .value = value, .scale = (double)NAN};
            q->count++;
        }
    }
    dscm_free(set);
    if (code != DSCM_OK) dscm_table_query_free(out);
    return code;
}

dscm_code dscm_table_query_observe(dscm_table_query *q, dscm_session *session,
                                   const dscm_bundle *bundle, const float *images, size_t *observed,
                                   dscm_error *err)
{
    const dscm_bundle_info *info = dscm_bundle_describe(bundle);
    const dscm_variable *image = &info->variables[info->image];
    size_t size = image->h * image->w * image->c;
    dscm_code code = DSCM_OK;
    for (size_t p = 0; code == DSCM_OK && p < image->parents_count; p++) {
        size_t parent = (size_t)image->parents[p];
        observed[parent] = 0;
        for (size_t r = 0; code == DSCM_OK && r < q->rows; r++) {
            double *value = &q->factuals[r * q->variables + parent];
            if (!isnan(*value)) continue;
            code = dscm_observe_values(session, (int)parent, value, images + r * size, 1, err);
            observed[parent]++;
        }
    }
    return code;
}

dscm_code dscm_table_query_values(const dscm_table_query *q, const dscm_bundle *bundle,
                                  const dscm_table *table, double *values, dscm_error *err)
{
    for (size_t r = 0; r < q->rows; r++) {
        dscm_code code = dscm_query_values(bundle, &q->queries[r], values + r * q->variables, err);
        if (code == DSCM_OK) continue;
        if (table)
            dscm_error_prefix(err, "%s: line %zu", table->name, table->lines[r]);
        else
            dscm_error_prefix(err, "image %zu", r);
        return code;
    }
    return DSCM_OK;
}

/* A cell of text, in quotes where RFC 4180 asks for them. */
static void write_cell(FILE *f, const char *text)
{
    if (!text[strcspn(text, ",\"\r\n")]) {
        fputs(text, f);
        return;
    }
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"') fputc('"', f);
        fputc(*text, f);
    }
    fputc('"', f);
}

char *dscm_table_query_csv(const dscm_bundle *bundle, const double *values, size_t rows,
                           size_t *length)
{
    const dscm_bundle_info *info = dscm_bundle_describe(bundle);
    size_t count = info->variables_count;
    dscm_text_stream text;
    if (dscm_text_stream_open(&text, "table", NULL) != DSCM_OK) return NULL;
    FILE *f = text.file;
    for (size_t r = 0; r <= rows; r++) {
        bool first = true;
        for (size_t v = 0; v < count; v++) {
            const dscm_variable *about = &info->variables[v];
            if (about->kind == DSCM_IMAGE) continue;
            if (!first) fputc(',', f);
            first = false;
            double value = r ? values[(r - 1) * count + v] : 0;
            if (!r)
                write_cell(f, about->name);
            else if (isnan(value))
                continue;
            else if (about->kind == DSCM_CATEGORICAL)
                write_cell(f, about->labels[(size_t)value]);
            else
                fprintf(f, "%.9g", value);
        }
        fputc('\n', f);
    }
    if (dscm_text_stream_close(&text, "table", NULL) != DSCM_OK) return NULL;
    *length = text.size;
    return text.data;
}
