/* Causal propagation: which values all variables take when some are intervened on.
 *
 * Knows no bundle and no network: factual values come from the caller, and the image is a variable
 * without a value. Pure functions. Internal to core.
 */
#ifndef DSCM_CORE_CAUSAL_PROPAGATE_H
#define DSCM_CORE_CAUSAL_PROPAGATE_H

#include "core/causal/model.h"
#include "core/diffscm.h"

/* The mechanism of a continuous variable: value = bias + sum of its parents' parts + noise. Noise and
 * bias stay under intervention, so only the parts are kept. Parents in the variable's order. */
typedef struct causal_additive {
    double slopes[DSCM_CAUSAL_NODES_MAX]; /* of continuous parents: part = slope * value */
    double *
        levels[DSCM_CAUSAL_NODES_MAX]; /* of categorical parents: part by label (labels); else NULL.
                                              Owned. */
} causal_additive;

/* Borrows all it points to. */
typedef struct causal_system {
    const dscm_variable *variables;   /* (count), parents before children */
    causal_additive *const *additive; /* (count); NULL: the variable moves with no parent */
    const dscm_causal *fitted; /* mechanisms of all variables but images, nodes in the order of
                                          `variables`; NULL: `additive` */
    size_t count;              /* 1..DSCM_CAUSAL_NODES_MAX */
    int image;                 /* index */
} causal_system;

/* Frees an additive mechanism; NULL is allowed. */
void causal_additive_free(causal_additive *mechanism);

/* Whether any variable but an image moves with its parents. */
bool causal_moves(const causal_system *system);

/* The intervention of a query on a variable, or NULL. */
const dscm_intervention *causal_intervention(const dscm_query *query, int variable);

/* Values before (factual) and under the query (value), each (count): abducts every variable's noise,
 * replaces the mechanisms of those intervened on, and propagates in topological order (Pearl 2009,
 * ch. 7). Factual values are the query's and, where it gives none, those of observed (count), which
 * may be NULL; NaN is unknown. DSCM_E_INVALID, naming the variable: an intervention that it does not
 * allow, or a known value that moves by an unknown amount. */
dscm_code causal_propagate(const causal_system *system, const dscm_query *query,
                           const double *observed, double *factual, double *value,
                           dscm_error *err) DSCM_MUST_CHECK;

#endif
