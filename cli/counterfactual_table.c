#include "cli/counterfactual_table.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/memory.h"
#include "core/data/idx.h"
#include "core/io/file.h"

dscm_code counterfactual_table_open(counterfactual_table *t, const counterfactual_args *a,
                                    size_t images, size_t rows, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    *t = (counterfactual_table){.used = a->do_file || a->factuals_file || a->parents};
    if (!t->used) return DSCM_OK;
    if (a->factuals_file) code = dscm_table_read(&t->factuals, a->factuals_file, err);
    if (code == DSCM_OK && a->do_file) code = dscm_table_read(&t->dos, a->do_file, err);
    if (code == DSCM_OK && a->factuals_file)
        code = dscm_table_check_rows(&t->factuals, images, "images", err);
    if (code == DSCM_OK && a->do_file) code = dscm_table_check_rows(&t->dos, images, "images", err);
    if (code != DSCM_OK) return code;
    code =
        dscm_table_query_open(&t->query, a->m.bundle, rows, a->factuals_file ? &t->factuals : NULL,
                              a->do_file ? &t->dos : NULL, rows < images, err);
    if (code != DSCM_OK) return code;
    t->values = dscm_alloc(rows * t->query.variables + 1, sizeof *t->values, "values", err);
    return t->values ? DSCM_OK : DSCM_E_MEMORY;
}

static void say_observed(const counterfactual_table *t, const dscm_bundle_info *info,
                         const size_t *observed)
{
    for (size_t v = 0; v < t->query.variables; v++)
        if (observed[v])
            fprintf(stderr, "%s: %zu of %zu factual values read in the images by the predictor\n",
                    info->variables[v].name, observed[v], t->query.rows);
}

dscm_code counterfactual_table_observe(counterfactual_table *t, const counterfactual_args *a,
                                       dscm_session *session, const uint8_t *pixels,
                                       dscm_error *err)
{
    if (!t->used) return DSCM_OK;
    size_t floats = t->query.rows * cli_image_size(&a->m);
    const dscm_table *rows = a->do_file ? &t->dos : a->factuals_file ? &t->factuals : NULL;
    float *images = dscm_alloc(floats, sizeof *images, "images", err);
    size_t *observed = dscm_alloc(t->query.variables, sizeof *observed, "values", err);
    dscm_code code = images && observed ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) {
        dscm_pixels_to_float(images, pixels, floats);
        code = dscm_table_query_observe(&t->query, session, a->m.bundle, images, observed, err);
    }
    if (code == DSCM_OK) {
        say_observed(t, a->m.info, observed);
        code = dscm_table_query_values(&t->query, a->m.bundle, rows, t->values, err);
    }
    dscm_free(images);
    dscm_free(observed);
    return code;
}

dscm_code counterfactual_table_write(const counterfactual_table *t, const counterfactual_args *a,
                                     dscm_error *err)
{
    size_t length = 0;
    if (!a->parents) return DSCM_OK;
    char *text = dscm_table_query_csv(a->m.bundle, t->values, t->query.rows, &length);
    if (!text) return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", a->parents);
    dscm_code code = dscm_file_replace(a->parents, &(dscm_piece){text, length}, 1, err);
    free(text);
    return code;
}

void counterfactual_table_close(counterfactual_table *t)
{
    dscm_table_query_free(&t->query);
    dscm_table_free(&t->factuals);
    dscm_table_free(&t->dos);
    dscm_free(t->values);
    *t = (counterfactual_table){0};
}
