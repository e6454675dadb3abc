/* The evaluation report: tables with intervals, charts, sheets; as Markdown and as one HTML page.
 */
#ifndef DSCM_CLI_REPORT_H
#define DSCM_CLI_REPORT_H

#include "cli/evaluate.h"

/* Writes DIR/report.md, DIR/report.html, the sheets, measured.json, and the charts when gnuplot is
 * installed. */
dscm_code cli_report_write(const evaluation *e, dscm_error *err) DSCM_MUST_CHECK;

/* Mean of a column over a method's items with its 95 % bootstrap interval. */
dscm_code report_interval(const eval_method *r, dscm_record_column column, dscm_interval *out,
                          dscm_error *err) DSCM_MUST_CHECK;
/* The same of column c of a method's composition study. */
dscm_code report_study_interval(const eval_method *r, size_t c, dscm_interval *out,
                                dscm_error *err) DSCM_MUST_CHECK;

/* Mean of the identity ranks of a method of the tables; count: items that have one. */
dscm_code report_rank_interval(const eval_method *r, dscm_interval *out,
                               dscm_error *err) DSCM_MUST_CHECK;

/* The first method of the tables that is ours, or NULL. */
const eval_method *report_ours(const evaluation *e);
/* A column of the accepted items (guide and oracle both call them the target), sorted, without
 * NaN. values: room for all items. Returns how many. */
size_t report_accepted(const eval_method *r, dscm_record_column column, double *values);
/* DIR/measured.json: what `diffscm bundle --measured` puts into a manifest, of report_ours. */
dscm_code report_measured(const evaluation *e, dscm_error *err) DSCM_MUST_CHECK;

/* Charts by gnuplot, as SVG and the files they are drawn from: DIR/curve.svg (CLD over the scale,
 * beside the paper's), frontier.svg (validity against CLD and L1), composition.svg. Without gnuplot
 * there are none and *drawn is false. */
dscm_code report_charts(const evaluation *e, bool *drawn, dscm_error *err) DSCM_MUST_CHECK;

/* DIR/sheet-<slug>.png: factuals above counterfactuals; REPORT_GROUP best, median and worst. Order:
 * by CLD among those the oracle calls the target, then the others. picked: (3 * REPORT_GROUP) items
 * in the order shown; false when the method has too few items. */
enum { REPORT_GROUP = 8 };
dscm_code report_sheet(const evaluation *e, const eval_method *r, size_t *picked, bool *drawn,
                       dscm_error *err) DSCM_MUST_CHECK;

#endif
