/* The evaluation report: tables with intervals, charts, sheets; as Markdown and as one HTML page.
 */
#ifndef DSCM_CLI_REPORT_H
#define DSCM_CLI_REPORT_H

#include "cli/model.h"
#include "core/eval/records.h"

typedef struct report_method {
    const char *title; /* "ours, 20 steps, scale 1.2" */
    const char *slug;  /* file name part */
    dscm_record *rows;
    size_t count;
    bool curve; /* a point of the frontier */
} report_method;

typedef struct report {
    const cli_model *model;
    const char *dir, *command, *data_sha256;
    const report_method *methods;
    size_t methods_count;
    const double *composition; /* (2, cycles): guidance off, on; mean L1 0..255 */
    size_t cycles;
    double reversibility;
} report;

/* Writes DIR/report.md, DIR/report.html and, when gnuplot is installed, DIR/frontier.svg. */
dscm_code cli_report_write(const report *r, dscm_error *err) DSCM_MUST_CHECK;

#endif
