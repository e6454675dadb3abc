/* Charts as SVG, written without other programs so that every report has them.
 *
 * Text is UTF-8; what XML would read as signs of its own is escaped. No state.
 */
#ifndef DSCM_CLI_CHART_H
#define DSCM_CLI_CHART_H

#include <stddef.h>
#include <stdio.h>

/* Groups of bars that start at 0; a value is written above its bar, NaN leaves a gap. */
typedef struct chart_bars {
    const char *title;
    const char *const *groups; /* (groups_count) */
    size_t groups_count;
    const char *const *series; /* (series_count), at most 8 */
    size_t series_count;
    const double *values; /* (groups_count, series_count), not negative */
    int digits;           /* after the point */
} chart_bars;
void chart_write_bars(FILE *f, const chart_bars *c);

/* Points over two axes of one range, and the diagonal on which they would be equal. */
typedef struct chart_points {
    const char *title, *across, *up; /* of the axes */
    const double *x, *y;             /* (count); NaN leaves a point out */
    size_t count;
} chart_points;
void chart_write_points(FILE *f, const chart_points *c);

#endif
