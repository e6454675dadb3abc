/* Structural causal models of the variables of a table: the graph, a mechanism per variable, fitted
 * by maximum likelihood or given, abduction, intervention and prediction (Pearl 2009, ch. 7).
 *
 * Mechanisms, with noise that one individual keeps:
 *   continuous   x = low + (high - low) sigmoid(m + s R^-1(z)), z ~ N(0,1); m and log s from a small
 *                network of the parents, R a monotone rational-quadratic spline (Durkan et al. 2019)
 *   categorical  argmax_k (logit_k + g_k), g Gumbel; logits from a network of the parents. Its noise
 *                is not determined by the value: abduction draws it (Maddison et al. 2014)
 * The image is a node without a mechanism here: its own is a network of the bundle. A model does not
 * change after fitting or reading; threads may share it.
 */
#ifndef DSCM_CORE_CAUSAL_MODEL_H
#define DSCM_CORE_CAUSAL_MODEL_H

#include <jansson.h>

#include "core/base/rng.h"
#include "core/causal/net.h"
#include "core/data/table.h"
#include "core/diffscm.h"

#define DSCM_CAUSAL_NODES_MAX  32
#define DSCM_CAUSAL_LABELS_MAX 256

typedef struct dscm_causal_node {
    char *name;
    dscm_kind kind;
    char **labels; /* (labels_count) */
    size_t labels_count;
    double min, max; /* continuous: open range */
    int parents[DSCM_CAUSAL_NODES_MAX];
    size_t parents_count;
    bool known;               /* has a mechanism: fitted, read or given */
    causal_net net;           /* shift and log scale, or logits, of the parents' features */
    causal_spline curve;      /* continuous */
    double *mean, *deviation; /* (features) of the parents, in the training data */
} dscm_causal_node;

typedef struct dscm_causal {
    dscm_causal_node nodes[DSCM_CAUSAL_NODES_MAX]; /* parents before children */
    size_t count;
    int image; /* index of the image, or -1 */
} dscm_causal;

/* The graph out of text, "thickness -> intensity; digit, thickness, intensity -> image": edges by
 * `;`, parents by `,`, a name alone is a variable without parents; or out of JSON,
 * {"thickness": [], "intensity": ["thickness"], …}. Cycles, repeated edges and the image ("image")
 * as a parent are refused by name. Kinds are not known yet. Empty after a failure. */
dscm_code dscm_causal_graph(dscm_causal *out, const char *text, dscm_error *err) DSCM_MUST_CHECK;
void dscm_causal_free(dscm_causal *model);
/* Index by name, or DSCM_E_UNKNOWN with the names that exist. */
dscm_code dscm_causal_find(const dscm_causal *model, const char *name, int *index,
                           dscm_error *err) DSCM_MUST_CHECK;

/* Takes kinds, labels and ranges from a table's columns where they are not set (min == max and no
 * labels): text and up to 50 different small integers are labels, numbers get their range and 5 %
 * on each side. Every node but the image needs a column. */
dscm_code dscm_causal_describe(dscm_causal *model, const dscm_table *table,
                               dscm_error *err) DSCM_MUST_CHECK;
/* values (rows, nodes) of the table, NaN in the image's column. Caller owns (dscm_free). */
dscm_code dscm_causal_values(const dscm_causal *model, const dscm_table *table, bool missing,
                             double **values, dscm_error *err) DSCM_MUST_CHECK;

typedef struct dscm_causal_options {
    size_t epochs, batch, hidden, bins;
    double rate, held_out; /* share of the rows for the held-out likelihood */
    uint64_t seed;
} dscm_causal_options;
dscm_causal_options dscm_causal_defaults(void);

/* How one mechanism was fitted. */
typedef struct dscm_causal_report {
    double train, held_out; /* mean log likelihood per row (of densities in the variable's unit) */
    double start;           /* held out, before training: linear in the parents, normal */
    size_t epochs, best;    /* run, and whose parameters were kept (0: the start) */
    bool converged;         /* the last quarter of the epochs gained less than .001 */
    double calibration;     /* continuous: Kolmogorov distance of the held-out noise from N(0,1);
                                 categorical: mean |confidence - accuracy| over ten bins */
    double bins[10];        /* continuous: share of the held-out noise in each tenth of N(0,1);
                                 categorical: accuracy of each tenth of confidence, NaN if empty */
    size_t held_out_rows;
} dscm_causal_report;

/* Fits every node that has no mechanism yet. values (rows, nodes); reports (nodes) or NULL. */
dscm_code dscm_causal_fit(dscm_causal *model, const double *values, size_t rows,
                          const dscm_causal_options *options, dscm_causal_report *reports,
                          dscm_error *err) DSCM_MUST_CHECK;

/* JSON of the model: names, kinds, ranges, parents and mechanisms. NULL when memory is short. */
json_t *dscm_causal_json(const dscm_causal *model);
dscm_code dscm_causal_from_json(dscm_causal *out, const json_t *json, const char *where,
                                dscm_error *err) DSCM_MUST_CHECK;
/* Takes mechanisms by name, {"intensity": {"bias": [-5, -.693], "weights": [[2], [0]]}, …}; nodes
 * must be described. */
dscm_code dscm_causal_give(dscm_causal *model, const json_t *mechanisms, const char *where,
                           dscm_error *err) DSCM_MUST_CHECK;

/* ---- inference; values and out are (nodes), the image's entry is not looked at ---- */

/* Log likelihood of a node's value given its parents' (density in the variable's unit). */
double dscm_causal_log_likelihood(const dscm_causal *model, int node, const double *values);
/* Noise of a continuous node, z, and the value that a noise gives. */
double dscm_causal_noise(const dscm_causal *model, int node, const double *values);
double dscm_causal_value(const dscm_causal *model, int node, const double *values, double noise);
/* A whole individual, ancestors first. */
void dscm_causal_sample(const dscm_causal *model, dscm_rng *rng, double *out);

#define DSCM_CAUSAL_PARTICLES 200
/* Abducts, acts and predicts: what the variables would have been. A node that is not acted on keeps
 * its value unless a parent's changed. acts (count) on nodes by index (`variable`). Categorical
 * descendants are drawn DSCM_CAUSAL_PARTICLES times from the posterior of their noise: out is the
 * most frequent label, and the mean of continuous nodes below. probabilities (nodes,
 * DSCM_CAUSAL_LABELS_MAX) or NULL. Fails where a shift leaves the range. */
dscm_code dscm_causal_predict(const dscm_causal *model, const double *factual,
                              const dscm_intervention *acts, size_t count, uint64_t seed,
                              double *out, double *probabilities, dscm_error *err) DSCM_MUST_CHECK;

#endif
