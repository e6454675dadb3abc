/* diffscm counterfactual over tables: rows answer rows; and sweeps of one picture. */
#ifndef DSCM_CLI_COUNTERFACTUAL_TABLE_H
#define DSCM_CLI_COUNTERFACTUAL_TABLE_H

#include "cli/model.h"

typedef struct cli_table_run {
    cli_model *m;                        /* open */
    const char *images, *factuals, *dos; /* IDX; CSV or NULL; CSV, NULL with --null */
    const char *out, *parents;           /* IDX; CSV of all values after propagation, or NULL */
    size_t limit;                        /* first images; 0: all */
} cli_table_run;
dscm_code cli_table_counterfactual(const cli_table_run *r, dscm_error *err) DSCM_MUST_CHECK;

#define CLI_SWEEP_MAX 32
typedef struct cli_sweep_run {
    cli_model *m; /* open */
    const char *picture, *out;
    const option_list *factuals,
        *dos; /* NAME=VALUE; one of the latter may be NAME=FROM..TO:COUNT */
    bool resize;
} cli_sweep_run;
/* Whether a text is NAME=FROM..TO:COUNT. */
bool cli_is_sweep(const char *text);
/* One abduction and a picture per value of the sweep, side by side; writes values of all variables as
 * JSON lines to standard output unless the picture goes there. */
dscm_code cli_sweep(const cli_sweep_run *r, dscm_error *err) DSCM_MUST_CHECK;

#endif
