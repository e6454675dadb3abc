/* Baseline counterfactual methods, for comparison with ours in one table.
 *
 * Each takes images (B,H,W,C) in [-1,1] with one target class each and writes one counterfactual
 * each, in [-1,1]. They search in pixel space with gradients of classifiers on clean images; none
 * uses the diffusion model. Not for serving. A search object and its networks belong to one thread.
 */
#ifndef DSCM_CORE_EVAL_BASELINES_H
#define DSCM_CORE_EVAL_BASELINES_H

#include "core/models/net.h"

/* A network run forward and backward to its input. */
typedef struct dscm_probe {
    dscm_exec *exec;
    dscm_tensor x, t, out; /* t: -1 where the network takes no time; it is held at 0 */
    size_t batch;          /* largest batch */
    size_t pixels, width;  /* floats of one image; floats of one output */
} dscm_probe;

/* output: name of the output to differentiate ("out", "mu"). Both objects stay the caller's. */
dscm_code dscm_probe_open(dscm_probe *out, const dscm_net *net, const dscm_weights *weights,
                          const char *output, size_t batch, dscm_error *err) DSCM_MUST_CHECK;
void dscm_probe_close(dscm_probe *probe); /* takes a zeroed one */
/* Output (count,width) of images (count,H,W,C); valid until the next call. count <= batch. */
const float *dscm_probe_forward(dscm_probe *probe, const float *images, size_t count);
/* Input gradient (count,H,W,C) for output gradients dout (count,width), after dscm_probe_forward.
 */
const float *dscm_probe_backward(dscm_probe *probe, const float *dout, size_t count);

/* Projected gradient descent in the L-infinity ball (Madry et al. 2018), towards the target: an
 * adversarial example, the honest negative control of every validity figure. */
typedef struct dscm_pgd_options {
    double radius, step; /* on the [-1,1] scale */
    size_t iterations;
} dscm_pgd_options;
/* .8, .08, 40: the ball is 0.4 of the pixel range. Half of that flips one image in ten only, since
 * a guide that was trained on noised images withstands small noise. */
dscm_pgd_options dscm_pgd_defaults(void);
dscm_code dscm_baseline_pgd(float *out, const float *images, const int *targets, size_t count,
                            dscm_probe *classifier, const dscm_pgd_options *options,
                            dscm_error *err) DSCM_MUST_CHECK;

/* Schut et al. 2021: an ensemble's mean cross-entropy falls by changing one pixel per iteration,
 * the one with the largest gradient, by a fixed amount, each pixel only a limited number of times,
 * until the mean probability of the target reaches `confidence`. */
typedef struct dscm_greedy_options {
    double delta; /* change of one pixel per visit, [-1,1] scale */
    size_t visits, iterations;
    double confidence;
} dscm_greedy_options;
dscm_greedy_options dscm_greedy_defaults(void); /* .4, 5, 700, .99 */
dscm_code dscm_baseline_greedy(float *out, const float *images, const int *targets, size_t count,
                               dscm_probe *const *ensemble, size_t members,
                               const dscm_greedy_options *options, dscm_error *err) DSCM_MUST_CHECK;

/* Van Looveren & Klaise 2021: c·hinge + beta·|δ|_1 + |δ|_2² + gamma·|x' - AE(x')|² +
 * theta·|ENC(x') - proto|², all sums over pixels or code, by FISTA with shrinkage, pixels on [0,1]; c
 * is raised where the target is not reached and lowered where it is. The hinge is on logits, max of
 * the others less the target's, plus kappa. proto is the mean of the `nearest` encodings of the
 * target class to ENC(x); AE is an autoencoder of all classes and ENC its bottleneck, as in the
 * authors' code. IM2 must come from another one, or the search would minimise its own judge. */
typedef struct dscm_prototype_options {
    double c, kappa, beta, gamma, theta, rate;
    size_t iterations, searches, nearest;
} dscm_prototype_options;
dscm_prototype_options dscm_prototype_defaults(void);
typedef struct dscm_prototype_nets {
    dscm_probe *classifier;  /* logits of images on [-1,1] */
    dscm_probe *autoencoder; /* images on [0,1] to images on [0,1] */
    dscm_probe *encoder;     /* images on [0,1] to codes (width) */
    const float *codes;      /* (codes_count, width) encodings of training images */
    const uint8_t *labels;   /* (codes_count) */
    size_t codes_count;
} dscm_prototype_nets;
dscm_code dscm_baseline_prototype(float *out, const float *images, const int *targets, size_t count,
                                  const dscm_prototype_nets *nets,
                                  const dscm_prototype_options *options,
                                  dscm_error *err) DSCM_MUST_CHECK;

/* The image of class `target` in a pool (n,H,W,C) of pixels with the smallest L2 distance to each
 * image, or (nearest false) one drawn at random from stream first_stream + i of the seed. A class
 * without pool images is DSCM_E_INVALID. */
typedef struct dscm_pool_view {
    const uint8_t *pixels; /* (n, H*W*C) */
    const uint8_t *labels; /* (n) */
    size_t n, width;
} dscm_pool_view;
dscm_code dscm_baseline_real(float *out, const float *images, const int *targets, size_t count,
                             const dscm_pool_view *pool, bool nearest, uint64_t seed,
                             uint64_t first_stream, dscm_error *err) DSCM_MUST_CHECK;

#endif
