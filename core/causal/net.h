/* The parts that mechanisms of tables are made of: a small network with a linear path, a monotone
 * spline, and the optimiser. All in double precision; they are tiny. */
#ifndef DSCM_CORE_CAUSAL_NET_H
#define DSCM_CORE_CAUSAL_NET_H

#include <stddef.h>

#include "core/base/error.h"

/* o = bias + weights f + output tanh(hidden_weights f + hidden_bias) */
typedef struct causal_net {
    size_t features, hidden, outputs;
    double *p; /* bias (O), weights (O,F), hidden_weights (H,F), hidden_bias (H), output (O,H) */
} causal_net;

#define CAUSAL_HIDDEN_MAX 64
size_t causal_net_count(const causal_net *n); /* of parameters */
dscm_code causal_net_open(causal_net *n, size_t features, size_t hidden, size_t outputs,
                          dscm_error *err) DSCM_MUST_CHECK;
/* out (O), h (H): saved for the backward pass. */
void causal_net_forward(double *out, double *h, const causal_net *n, const double *f);
/* Adds to dp (count). */
void causal_net_backward(double *dp, const double *dout, const double *h, const causal_net *n,
                         const double *f);

/* Monotone rational-quadratic spline z = R(s) on [-4, 4], the identity outside and with all
 * parameters 0. */
#define CAUSAL_BOUND    4.0
#define CAUSAL_BINS_MAX 32
typedef struct causal_spline {
    size_t bins; /* 0: the identity */
    double *p;   /* width logits (K), height logits (K), slopes at the inner knots (K-1) */
} causal_spline;
/* Knots, made of the parameters once for many points. */
typedef struct causal_knots {
    size_t bins;
    double x[CAUSAL_BINS_MAX + 1], y[CAUSAL_BINS_MAX + 1], slope[CAUSAL_BINS_MAX + 1];
} causal_knots;
size_t causal_spline_count(const causal_spline *s); /* of parameters: 3 K - 1 */
void causal_spline_knots(causal_knots *out, const causal_spline *s);
/* z and log dz/ds. */
double causal_spline_forward(const causal_knots *k, double s, double *log_slope);
double causal_spline_inverse(const causal_knots *k, double z);
/* Gradient of z^2 / 2 - log dz/ds: returns that by s, adds those by the knots to dk. */
double causal_spline_backward(causal_knots *dk, const causal_knots *k, double s);
/* Adds the parameters' gradients to dp, from those by the knots. */
void causal_spline_chain(double *dp, const causal_knots *dk, const causal_spline *s);

/* Adam (Kingma & Ba 2015), step counted from 1. */
void causal_adam(double *p, double *m, double *v, const double *grad, size_t count, size_t step,
                 double rate);

#endif
