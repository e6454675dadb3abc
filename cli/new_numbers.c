/* Measurement of `diffscm new` where a table gives numbers: how near results come to what is asked for. */
#include <math.h>
#include <string.h>

#include "cli/new_measuring.h"
#include "core/base/memory.h"

dscm_code new_read_known(measuring *m, const char *folder, dscm_error *err)
{
    const dscm_bundle_info *info = dscm_bundle_describe(m->bundle);
    size_t rows = m->data.count, variables = info->variables_count;
    char path[NEW_PATH];
    dscm_table table = {0};
    snprintf(path, sizeof path, "%s/S-variables.csv", folder);
    dscm_code code = dscm_table_read(&table, path, err);
    if (code == DSCM_OK) code = dscm_table_check_rows(&table, rows, "images", err);
    double *column = dscm_alloc(rows, sizeof *column, "measurement", err);
    m->known = dscm_alloc(rows * variables, sizeof *m->known, "measurement", err);
    if (code == DSCM_OK && (!column || !m->known)) code = DSCM_E_MEMORY;
    for (size_t v = 0; code == DSCM_OK && v < variables; v++) {
        const dscm_variable *of = &info->variables[v];
        const dscm_column wanted = {.name = of->name,
                                    .kind = of->kind,
                                    .labels_count = of->labels_count,
                                    .labels = of->labels,
                                    .min = of->min,
                                    .max = of->max};
        bool image = (int)v == info->image;
        if (!image) code = dscm_table_column(&table, &wanted, column, err);
        for (size_t i = 0; code == DSCM_OK && i < rows; i++)
            m->known[i * variables + v] = image ? (double)NAN : column[i];
    }
    dscm_free(column);
    dscm_table_free(&table);
    return code;
}

/* do(variable := the value of an image half of them away). */
static dscm_code measure_number(measuring *m, int variable, const dscm_latent *latent,
                                new_number *out, dscm_error *err)
{
    const dscm_bundle_info *info = dscm_bundle_describe(m->bundle);
    const dscm_variable *of = &info->variables[variable];
    size_t first = m->chosen_by, count = m->count - first;
    float *images = m->out + first * m->size;
    dscm_scale_search search = dscm_scale_search_defaults(m->bundle, &m->options);
    for (size_t i = 0; i < count; i++) {
        size_t other = first + (i + (count + 1) / 2) % count;
        m->acts[first + i].variable = variable;
        m->acts[first + i].value = m->given[other * info->variables_count + (size_t)variable];
    }
    dscm_code code = dscm_predict_search(m->session, images, m->found, latent, m->queries + first,
                                         &m->options, &search, NULL, err);
    if (code == DSCM_OK) dscm_images_round(images, count * m->size);
    if (code == DSCM_OK) code = dscm_observe(m->session, variable, m->seen, images, count, err);
    if (code != DSCM_OK) return code;
    *out = (new_number){.range = of->max - of->min};
    snprintf(out->name, sizeof out->name, "%.*s", DSCM_PARENT_NAME - 1, of->name);
    for (size_t i = 0; i < count; i++) {
        double off = fabs(dscm_observed_value(of, m->seen + 2 * i) - m->acts[first + i].value);
        out->error += off / (double)count;
        out->met += (off <= of->tolerance) / (double)count;
    }
    return DSCM_OK;
}

dscm_code new_measure_numbers(measuring *m, new_figures *f, dscm_error *err)
{
    const dscm_bundle_info *info = dscm_bundle_describe(m->bundle);
    const dscm_variable *image = &info->variables[info->image];
    size_t first = m->chosen_by, count = m->count - first;
    dscm_latent *latent = NULL;
    dscm_code code = DSCM_OK;
    for (size_t p = 0; code == DSCM_OK && p < image->parents_count; p++) {
        int variable = image->parents[p];
        if (info->variables[variable].kind != DSCM_CONTINUOUS) continue;
        if (!latent) code = new_abduct(m, &latent, first, count, err);
        if (code == DSCM_OK)
            code = measure_number(m, variable, latent, &f->numbers[f->numbers_count], err);
        if (code == DSCM_OK) f->numbers_count++;
    }
    dscm_latent_free(latent);
    return code;
}
