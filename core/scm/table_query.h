/* Queries out of tables: factual values and interventions, a row per image.
 *
 * Columns are variables of the bundle, cells labels or numbers. An empty cell of the factual values is
 * unknown, one of the interventions not intervened on. Everything is checked before a network runs;
 * messages name file, line and column. Threads: one owner.
 */
#ifndef DSCM_CORE_SCM_TABLE_QUERY_H
#define DSCM_CORE_SCM_TABLE_QUERY_H

#include "core/data/table.h"
#include "core/diffscm.h"

typedef struct dscm_table_query {
    size_t rows, variables;
    double *factuals;        /* (rows, variables), NaN where unknown */
    dscm_intervention *acts; /* of all queries */
    dscm_query *queries;     /* (rows), with factual values */
} dscm_table_query;

/* For `rows` images. factuals NULL: none is known; dos NULL: nothing is done. With `first_rows` the
 * tables may have more rows, which are checked too. Empty after a failure. */
dscm_code dscm_table_query_open(dscm_table_query *out, const dscm_bundle *bundle, size_t rows,
                                const dscm_table *factuals, const dscm_table *dos, bool first_rows,
                                dscm_error *err) DSCM_MUST_CHECK;
void dscm_table_query_free(dscm_table_query *q);
/* Fills unknown values of parents of the image from the predictors (most likely label, or mean within
 * the range) for images (rows, H,W,C) in [-1,1]; observed (variables): how many were. */
dscm_code dscm_table_query_observe(dscm_table_query *q, dscm_session *session,
                                   const dscm_bundle *bundle, const float *images, size_t *observed,
                                   dscm_error *err) DSCM_MUST_CHECK;
/* Values of all variables under the queries, (rows, variables), see dscm_query_values. table: for
 * messages, NULL: rows are counted. */
dscm_code dscm_table_query_values(const dscm_table_query *q, const dscm_bundle *bundle,
                                  const dscm_table *table, double *values,
                                  dscm_error *err) DSCM_MUST_CHECK;
/* Such values as CSV with a header, labels by name, numbers with 9 digits, nothing where NaN; caller
 * owns (free). NULL: out of memory. */
char *dscm_table_query_csv(const dscm_bundle *bundle, const double *values, size_t rows,
                           size_t *length);

#endif
