/* Sheets of the report: which counterfactuals are shown, and the picture. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report.h"
#include "core/base/memory.h"
#include "core/data/idx.h"

/* CLD, with those that miss the target behind all others. */
static double rank_of(const dscm_record *row)
{
    double cld = row->values[DSCM_COL_CLD];
    if (isnan(cld)) cld = row->values[DSCM_COL_L1] / 255; /* a bundle without a VAE */
    return row->values[DSCM_COL_ORACLE] > 0 ? cld : 10 + cld;
}

static int by_rank(const void *a, const void *b, void *rows)
{
    double x = rank_of((const dscm_record *)rows + *(const size_t *)a);
    double y = rank_of((const dscm_record *)rows + *(const size_t *)b);
    return (x > y) - (x < y);
}

dscm_code report_sheet(const evaluation *e, const eval_method *r, size_t *picked, bool *drawn,
                       dscm_error *err)
{
    enum { COLUMNS = 3 * REPORT_GROUP };
    char path[4096];
    size_t size = cli_image_size(&e->m);
    *drawn = false;
    if (r->count < COLUMNS) return DSCM_OK;
    size_t *order = dscm_alloc(r->count, sizeof *order, "sheet", err);
    float *images = dscm_alloc(2 * COLUMNS * size, sizeof *images, "sheet", err);
    const float *cells[2 * COLUMNS] = {NULL};
    dscm_code code = order && images ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) {
        for (size_t i = 0; i < r->count; i++) order[i] = i;
        qsort_r(order, r->count, sizeof *order, by_rank, r->rows);
        for (size_t c = 0; c < COLUMNS; c++) {
            size_t middle = r->count / 2 - REPORT_GROUP / 2 + c - REPORT_GROUP;
            size_t rank = c < REPORT_GROUP       ? c
                          : c < 2 * REPORT_GROUP ? middle
                                                 : r->count - COLUMNS + c;
            picked[c] = order[rank];
            dscm_pixels_to_float(images + c * size, e->items.pixels + order[rank] * size, size);
            dscm_pixels_to_float(images + (COLUMNS + c) * size, r->pixels + order[rank] * size,
                                 size);
            cells[c] = images + c * size;
            cells[COLUMNS + c] = images + (COLUMNS + c) * size;
        }
        eval_path(e, "sheet", r->slug, ".png", path, sizeof path);
        code = cli_write_sheet(&e->m, path, cells, 2, COLUMNS, err);
        *drawn = code == DSCM_OK;
    }
    dscm_free(order);
    dscm_free(images);
    return code;
}
