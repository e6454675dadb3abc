/* Evaluation records: one row of figures per method and item, kept as CSV so that a run can be
 * resumed, plotted and checked by anyone.
 *
 * The table of columns is the one list of per-item figures: running, storing and reporting walk it.
 * A file holds all of them: records of a version with other columns are refused by their header.
 */
#ifndef DSCM_CORE_EVAL_RECORDS_H
#define DSCM_CORE_EVAL_RECORDS_H

#include <stddef.h>

#include "core/base/error.h"

typedef enum dscm_record_column {
    DSCM_COL_INDEX,          /* item in the data set */
    DSCM_COL_LABEL,          /* its class */
    DSCM_COL_TARGET,         /* the class asked for */
    DSCM_COL_GUIDE,          /* 1 when the guide (predictor at t = 0) calls the result the target */
    DSCM_COL_ORACLE,         /* 1 when the oracle does */
    DSCM_COL_GUIDE_DENOISED, /* the same after a light blur of the result */
    DSCM_COL_ORACLE_DENOISED,
    DSCM_COL_PROBABILITY, /* of the target by the guide */
    DSCM_COL_L1,          /* mean over pixels, 0..255 scale */
    DSCM_COL_L2,          /* root mean square, 0..255 scale */
    DSCM_COL_CHANGED_05,  /* share of values that moved by more than .05 of the range: of a pixel of
                             colour each channel counts, unlike in dscm_scores.changed_share */
    DSCM_COL_CHANGED_10,
    DSCM_COL_NEARER, /* 1 when nearer (L2) to the factual than the nearest real image of the target
                      */
    DSCM_COL_CLD,
    DSCM_COL_MINIMALITY, /* P(S_CF <= div) */
    DSCM_COL_DEPARTURE,  /* P(S_F >= div) */
    DSCM_COL_IM1,
    DSCM_COL_IM2,
    DSCM_COL_SCALE,  /* guidance scale used; NaN where the method has none */
    DSCM_COL_PASSES, /* score network passes */
    DSCM_COL_GRADIENTS,
    DSCM_COL_SECONDS, /* share of this item in its batch's time */
    DSCM_COLUMNS
} dscm_record_column;

typedef struct dscm_record {
    double values[DSCM_COLUMNS]; /* NaN: not measured */
} dscm_record;

/* Appends rows to a CSV file, writing the header first when the file is new or empty. A line
 * that an earlier failure cut off is dropped first. */
dscm_code dscm_records_append(const char *path, const dscm_record *rows, size_t count,
                              dscm_error *err) DSCM_MUST_CHECK;
/* Reads at most `limit` whole rows; a last line that was cut off is ignored, anything else that is
 * not a row is DSCM_E_FORMAT with its line number. A missing file gives count 0. Release *rows with
 * dscm_free. */
dscm_code dscm_records_read(const char *path, dscm_record **rows, size_t *count, size_t limit,
                            dscm_error *err) DSCM_MUST_CHECK;

#endif
