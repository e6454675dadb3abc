/* A loaded bundle from the inside: what sessions need of it. The public face is core/diffscm.h.
 *
 * Everything is immutable after loading and shared by every session.
 */
#ifndef DSCM_CORE_SCM_BUNDLE_H
#define DSCM_CORE_SCM_BUNDLE_H

#include <jansson.h>

#include "core/diffscm.h"
#include "core/diffusion/sampler.h"
#include "core/models/net.h"

#define BUNDLE_NAME_MAX      64
#define BUNDLE_VARIABLES_MAX 32
#define BUNDLE_LABELS_MAX    100000

typedef struct bundle_net {
    dscm_net *net;
    dscm_weights *weights;
} bundle_net;

typedef enum bundle_mechanism {
    MECHANISM_ROOT,
    MECHANISM_ADDITIVE,
    MECHANISM_DIFFUSION
} bundle_mechanism;

typedef struct bundle_variable {
    dscm_variable face;
    bundle_mechanism mechanism;
    int parents[BUNDLE_VARIABLES_MAX];
    double bias;                         /* additive: value = bias + sum weight * parent + u */
    double slopes[BUNDLE_VARIABLES_MAX]; /* additive, per parent that is continuous */
    double
        *levels[BUNDLE_VARIABLES_MAX]; /* additive, per categorical parent: (labels); else NULL */
    bundle_net score;                  /* diffusion */
    dscm_schedule schedule;
} bundle_variable;

typedef struct bundle_edge {
    int parent, child;
    bundle_net
        predictor; /* logits of a categorical parent; mean and log variance of a continuous one */
} bundle_edge;

/* Sorted values of accepted counterfactuals, for percentiles; count 0 without. */
typedef struct bundle_scale {
    double *values;
    size_t count;
} bundle_scale;

struct dscm_bundle {
    dscm_bundle_info info;
    dscm_isa isa; /* that the weights are packed for */
    char *name, *version, *licence, *provenance, *dir, *manifest;
    char sha256[65];
    bundle_variable *variables; /* (count), parents first */
    dscm_variable *faces;       /* (count), for info */
    size_t variables_count;
    bundle_edge *edges;
    size_t edges_count;
    dscm_calibration *calibrations;
    dscm_options defaults;
    /* evaluation nets; absent ones are zeroed */
    int scored; /* variable that they are about, or -1 */
    bundle_net oracle, vae, autoencoder;
    bundle_net *class_autoencoders; /* (labels) or NULL */
    bundle_net *ensemble;           /* small classifiers for baselines */
    size_t ensemble_count;
    float *pool_mu, *pool_logvar; /* (pool_count, latent): reference images of the CLD */
    int *pool_labels;
    size_t pool_count;
    bundle_scale accepted_cld, accepted_im1, accepted_im2;
};

/* dscm_bundle_open for an instruction set that need not be the widest one: to measure and test. */
dscm_code dscm_bundle_open_isa(dscm_bundle **out, const char *dir, dscm_isa isa,
                               dscm_error *err) DSCM_MUST_CHECK;
/* Index of the edge parent -> child, or -1. */
int dscm_bundle_edge(const dscm_bundle *bundle, int parent, int child);
/* Edge whose parent a class-conditional score network of the image is told, or -1 when the network
 * is not conditional. */
int dscm_bundle_condition(const dscm_bundle *bundle);

#endif
