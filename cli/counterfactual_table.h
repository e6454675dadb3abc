/* Tables of `diffscm counterfactual --images`: rows of factual values and of interventions answer the
 * images. */
#ifndef DSCM_CLI_COUNTERFACTUAL_TABLE_H
#define DSCM_CLI_COUNTERFACTUAL_TABLE_H

#include "cli/counterfactual.h"
#include "core/scm/table_query.h"

typedef struct counterfactual_table {
    bool used; /* false: the run has no tables, and the functions do nothing */
    dscm_table factuals, dos;
    dscm_table_query query;
    double *values; /* (rows, variables) after propagation, once observed */
} counterfactual_table;

/* Reads and checks the tables for the first `rows` of `images`. Closed by the caller in any case. */
dscm_code counterfactual_table_open(counterfactual_table *t, const counterfactual_args *a,
                                    size_t images, size_t rows, dscm_error *err) DSCM_MUST_CHECK;
/* Reads what is unknown in the images, (rows, pixels of the model), says so, and propagates. */
dscm_code counterfactual_table_observe(counterfactual_table *t, const counterfactual_args *a,
                                       dscm_session *session, const uint8_t *pixels,
                                       dscm_error *err) DSCM_MUST_CHECK;
/* Writes --parents. */
dscm_code counterfactual_table_write(const counterfactual_table *t, const counterfactual_args *a,
                                     dscm_error *err) DSCM_MUST_CHECK;
void counterfactual_table_close(counterfactual_table *t);

#endif
