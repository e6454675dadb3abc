/* A loaded bundle from the inside: what sessions need of it. The public face is core/diffscm.h.
 *
 * Everything is immutable after loading and shared by every session.
 */
#ifndef DSCM_CORE_BUNDLE_BUNDLE_H
#define DSCM_CORE_BUNDLE_BUNDLE_H

#include <jansson.h>

#include "core/causal/propagate.h"
#include "core/diffscm.h"
#include "core/diffusion/sampler.h"
#include "core/io/tensors.h"
#include "core/models/net.h"

#define BUNDLE_NAME_MAX      64
#define BUNDLE_VARIABLES_MAX DSCM_CAUSAL_NODES_MAX
#define BUNDLE_LABELS_MAX    100000

typedef struct bundle_net {
    dscm_net *net;
    dscm_weights *weights; /* NULL in a bundle that is only described */
    dscm_exec_mode mode;
    dscm_tensors *file; /* mapped as long as weights are used from it, else NULL */
    dscm_param_view *views;
    bool viewable;           /* the file's types are such that kernels read them */
    bool stored;             /* large weights stay in the file */
    struct bundle_net *next; /* in the bundle's list of all networks */
} bundle_net;

typedef struct bundle_variable {
    dscm_variable info;
    int parents[BUNDLE_VARIABLES_MAX];
    bool fitted; /* its mechanism is one of the bundle's causal model */
    /* Of images: */
    bundle_net score;
    dscm_schedule schedule;
    bool limit; /* what guided walks do besides, see dscm_path */
    double noise_limit, eta;
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

#define BUNDLE_SPOT_MAX   64 /* pixels */
#define BUNDLE_JUDGES_MAX 8  /* classifiers, VAEs, acceptance nets of one list */

/* A VAE of the CLD with the codes of its reference images. */
typedef struct bundle_vae {
    bundle_net net;
    float *mu, *logvar; /* (count, latent) */
    int *labels;        /* (count) */
    size_t count;       /* 0: no reference images, and no CLD */
} bundle_vae;

/* Networks that judge images and take no part in making them. What a list lacks is zeroed. */
typedef struct bundle_judges {
    bundle_net *classifiers; /* (classifiers_count), clean ones with "features" */
    bundle_vae *vaes;        /* (vaes_count) */
    size_t classifiers_count, vaes_count;
    bundle_net autoencoder;         /* of all classes */
    bundle_net *class_autoencoders; /* (labels) or NULL */
} bundle_judges;

/* A small clean classifier whose probabilities are softmax(logits / temperature). */
typedef struct bundle_acceptance {
    bundle_net net;
    double temperature;
} bundle_acceptance;

/* Bytes of a session of `batch` images per pass; the bundle's weights may be planned only. */
typedef dscm_code bundle_session_bytes(const dscm_bundle *bundle, size_t batch, int threads,
                                       size_t *bytes, dscm_error *err);

struct dscm_bundle {
    dscm_bundle_info info;
    dscm_load_options options;
    bundle_session_bytes *session_bytes;
    bundle_net *nets; /* all networks below, in one list */
    char *name, *version, *licence, *provenance, *dir, *manifest;
    char sha256[65];
    bundle_variable *variables; /* (count), parents first */
    dscm_variable *infos;       /* (count), for info */
    size_t variables_count;
    causal_additive **additive; /* (count) mechanisms; NULL where a variable has none */
    dscm_causal *causal;        /* fitted mechanisms of the variables but images, nodes in the
                                   variables' order; or NULL */
    causal_system system;       /* borrows the four above */
    bundle_edge *edges;
    size_t edges_count;
    int condition_edges[DSCM_PARENTS_MAX]; /* (dscm_bundle_conditions) whose parent is told */
    dscm_calibration *calibrations;
    dscm_options defaults;
    bundle_judges panel; /* of the scores; in format 1 the networks of "evaluation" */
    /* (default steps) of abductions with the default steps, see dscm_path; or NULL */
    unsigned char *rounds;
    /* pixels of the detached spots that results lose, 0 or 1..BUNDLE_SPOT_MAX, see scm_undo_small_changes */
    size_t max_spot;
    bundle_judges selection; /* of choices: steps, strengths, confidences */
    /* what searches ask beside the acceptance nets: a VAE with its codes, or none */
    bundle_judges search;
    bundle_acceptance *acceptance;   /* (info.acceptance_count) */
    bundle_net baseline_autoencoder; /* the prototype search's own: no metric is made of it */
    bundle_net *ensemble;            /* small classifiers for baselines */
    size_t ensemble_count;
    float *references; /* (info.quantiles.references_count, DSCM_BLOCKS_FEATURES) or NULL */
    bundle_scale accepted_cld, accepted_im1, accepted_im2;
};

struct manifest;
/* Opens a network of {"config": {...}, "weights": "file"}, checks its file and puts it into the
 * list; its weights come with bundle_nets_fill. Its architecture is `arch` or, where that is a
 * classifier or a VAE, any other one. */
dscm_code bundle_net_open(bundle_net *n, const struct manifest *m, const json_t *object,
                          const char *where, dscm_arch arch, dscm_exec_mode mode,
                          dscm_error *err) DSCM_MUST_CHECK;
void bundle_net_close(bundle_net *n);
/* The objects "evaluation", "panel", "selection", "acceptance", "search" and "quantiles" of the manifest:
 * networks that fit the image and the labels, reference images and percentiles; the bundle's graph
 * and info.format must be there. */
dscm_code bundle_evaluation_load(dscm_bundle *b, const struct manifest *m, const json_t *root,
                                 dscm_error *err) DSCM_MUST_CHECK;
void bundle_evaluation_close(dscm_bundle *b);
/* The object "causal" of the manifest: the model that `diffscm fit` wrote, of the bundle's variables in
 * their order. It is there where mechanisms are fitted, which then are all but the images'. */
dscm_code bundle_causal_load(dscm_bundle *b, const struct manifest *m, const json_t *root,
                             dscm_error *err) DSCM_MUST_CHECK;
/* Decides what stays in the files and fills the weights of all networks. */
dscm_code bundle_nets_fill(dscm_bundle *b, dscm_error *err) DSCM_MUST_CHECK;

/* Index of the edge parent -> child, or -1. */
int dscm_bundle_edge(const dscm_bundle *bundle, int parent, int child);
/* Conditions of the image's score network: its parents in their order, or the class of a published
 * class-conditional network; 0 for an unconditional one. */
size_t dscm_bundle_conditions(const dscm_bundle *bundle);
/* Whether the network has a null block for every parent, so that it may be asked without them. */
bool dscm_bundle_has_null(const dscm_bundle *bundle);

/* dscm_bundle_load, with what tells the memory of its sessions: they belong to a room above this one. */
dscm_code bundle_load(dscm_bundle **out, const char *dir, const dscm_load_options *options,
                      bundle_session_bytes *session_bytes, dscm_error *err) DSCM_MUST_CHECK;

#endif
