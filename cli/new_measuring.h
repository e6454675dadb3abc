/* What the two files share that measure a model of `diffscm new`: images of S and what is done to them. */
#ifndef DSCM_CLI_NEW_MEASURING_H
#define DSCM_CLI_NEW_MEASURING_H

#include "cli/new.h"
#include "core/diffscm.h"

typedef struct measuring {
    const new_plan *plan;
    dscm_bundle *bundle;
    dscm_session *session;
    dscm_options options;
    dscm_dataset data;
    int judged;              /* variable whose labels the judges know, or -1 */
    double *known;           /* (images of data, variables) of a table, NaN: none; NULL: no table */
    size_t size;             /* floats of one image */
    size_t *places;          /* (count) in the data */
    size_t chosen_by;        /* images 0 .. chosen_by - 1 choose the scale */
    size_t count;            /* images of both parts */
    uint8_t *pixels;         /* (count, size) */
    uint8_t *labels;         /* (count) */
    int *targets;            /* (count) */
    float *images;           /* (count, size) */
    float *out;              /* (count, size) */
    uint8_t *bytes;          /* (count, size): `out` as a file holds it */
    float *seen;             /* (count, classes), at least (count, 2) */
    double *given;           /* (count, variables) */
    dscm_intervention *acts; /* (count) */
    dscm_query *queries;     /* (count) */
    dscm_scale_result *found; /* (count) */
} measuring;

dscm_code new_abduct(measuring *m, dscm_latent **latent, size_t first, size_t count,
                     dscm_error *err) DSCM_MUST_CHECK;
/* Values of the table beside split S of `folder`. */
dscm_code new_read_known(measuring *m, const char *folder, dscm_error *err) DSCM_MUST_CHECK;
/* Asks the measured images for numbers that others of them have, and reads these in the results. */
dscm_code new_measure_numbers(measuring *m, new_figures *f, dscm_error *err) DSCM_MUST_CHECK;

#endif
