/* From a query to the guidance of a walk: which predictor draws the image where, and how strongly.
 * Pure functions. Internal to core/scm. */
#ifndef DSCM_CORE_SCM_GUIDANCE_H
#define DSCM_CORE_SCM_GUIDANCE_H

#include "core/bundle/bundle.h"

/* How one item of a prediction is guided: per edge into the image. */
typedef struct guidance {
    double target; /* label index or value */
    double aim;    /* of a number: added to it at the late levels of a walk, see scm_late_level */
    double scale;  /* 0: not guided by this edge */
    bool set;      /* the query changes or holds the parent, even where its scale is 0 */
    bool follows;  /* no intervention names the parent: it moves with one that does */
    bool held;     /* nothing moves it: of a search, which keeps it where the abduction was told; a
                      label's scale above 1 strengthens it against the network that is told no label */
} guidance;

/* Guidance of one item (edges) from its query. observed: values of all variables as the predictors see
 * them (variables), used where the query gives none; or NULL. Errors of causal_propagate. */
dscm_code dscm_query_guidance(const dscm_bundle *bundle, const dscm_query *query,
                              const double *observed, double default_scale, guidance *out,
                              dscm_error *err) DSCM_MUST_CHECK;

#endif
