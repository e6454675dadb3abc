/* Causal propagation: which values the variables take under a query, and how the image is guided.
 *
 * Knows no network: factual values come from the caller. Pure functions. Internal to core/scm and
 * core/eval.
 */
#ifndef DSCM_CORE_SCM_PROPAGATE_H
#define DSCM_CORE_SCM_PROPAGATE_H

#include "core/bundle/bundle.h"

/* How one item of a prediction is guided: per edge into the image. */
typedef struct guidance {
    double target; /* label index or value */
    double scale;  /* 0: not guided by this edge */
    bool set;      /* the query changes or holds the parent, even where its scale is 0 */
    bool follows;  /* no intervention names the parent: it moves with one that does */
} guidance;

/* Guidance of one item (edges) from its query: propagates interventions through the graph.
 * observed: values of all variables as the predictors see them (variables), used where the query
 * gives none. */
dscm_code dscm_query_guidance(const dscm_bundle *bundle, const dscm_query *query,
                              const double *observed, double default_scale, guidance *out,
                              dscm_error *err) DSCM_MUST_CHECK;

#endif
