/* What inference and fitting of mechanisms share. Internal to core/causal. */
#ifndef DSCM_CORE_CAUSAL_INTERNAL_H
#define DSCM_CORE_CAUSAL_INTERNAL_H

#include "core/causal/model.h"

#define CAUSAL_FEATURES_MAX 1024
#define CAUSAL_NUMBER_MAX   1e12 /* magnitudes of what is in a file are below */
#define CAUSAL_LOG_SCALE    7.0  /* largest magnitude of log s */

/* Number of features of a node's parents: one per continuous one, one per label of the others. */
size_t causal_features_count(const dscm_causal *m, const dscm_causal_node *n);
/* f (features) of values (nodes): standardised, and 0 or 1 per label. */
void causal_features(double *f, const dscm_causal *m, const dscm_causal_node *n,
                     const double *values);
/* logit of the share of the range, away from its ends by a millionth. */
double causal_logit(const dscm_causal_node *n, double x);
/* log |d logit / dx| */
double causal_logit_slope(const dscm_causal_node *n, double x);
/* Gives the node a network and a spline of the right sizes, all parameters 0. */
dscm_code causal_node_open(dscm_causal *m, dscm_causal_node *n, size_t hidden, size_t bins,
                           dscm_error *err) DSCM_MUST_CHECK;

#endif
