/* diffscm bundle from the inside: what its two files share. The main thread owns everything. */
#ifndef DSCM_CLI_BUNDLE_H
#define DSCM_CLI_BUNDLE_H

#include <jansson.h>

#include "cli/stage.h"

enum { BUNDLE_FILES_MAX = 160 };

typedef struct bundle_job {
    const char *folder; /* the bundle's */
    const char *out;    /* where files are written: `folder`, or the stage */
    cli_stage stage;
    const char *name, *version, *licence, *provenance, *warning, *variable, *labels, *labels_file;
    const char *score, *causal, *oracle, *vae, *autoencoder, *baseline_autoencoder, *sampler,
        *measured;
    const char *pool_data, *pool_split, *search_split;
    const char *judges; /* folder of tools/train_judges.sh */
    option_list class_autoencoders, ensemble, predictors, tolerances, result_biases;
    size_t steps, pool_count;
    double ratio, noise_limit, eta;
    bool limit;
    char names[BUNDLE_FILES_MAX][64];
    const char *files[BUNDLE_FILES_MAX + 1];
    size_t count;
} bundle_job;

/* Copies a trained network into the bundle; *entry becomes {"config", "weights"}, *settings (may be
 * NULL) what it was trained with. */
dscm_code bundle_take_net(bundle_job *j, const char *from, const char *name, json_t **entry,
                          json_t **settings, dscm_error *err) DSCM_MUST_CHECK;
/* Writes the codes of reference images, of a split of j->pool_data, by the VAE of a file to `name` in the
 * bundle. */
dscm_code bundle_take_pool(bundle_job *j, const char *vae, const char *name, const char *split,
                           dscm_error *err) DSCM_MUST_CHECK;
/* Puts the judges of j->judges into the manifest: "panel", "acceptance" (temperature 1, until it is
 * measured) and, where the folder has them, "selection" and "search". */
dscm_code bundle_take_judges(bundle_job *j, json_t *manifest, dscm_error *err) DSCM_MUST_CHECK;

#endif
