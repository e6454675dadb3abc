/* What the two ways of `diffscm counterfactual` share: one picture (or a fan of it), and an IDX file of
 * many. */
#ifndef DSCM_CLI_COUNTERFACTUAL_H
#define DSCM_CLI_COUNTERFACTUAL_H

#include "cli/watch.h"

typedef struct counterfactual_args {
    cli_model m;
    option_list dos, rest;
    option_list factuals;
    const char *out, *images, *targets, *scores, *preview, *do_file, *factuals_file, *parents;
    const char *difference, *uncertainty, *store, *password_file;
    size_t limit, sessions, patience;
    bool resize, null, noise_only, json;
} counterfactual_args;

/* Runs --images; writes --out, and the replies to --scores and, with --json, to standard output. */
dscm_code counterfactual_file(counterfactual_args *a, dscm_error *err) DSCM_MUST_CHECK;

/* Replies as JSON, one per line, to --scores FILE and where `print` to standard output. */
dscm_code counterfactual_write_replies(const counterfactual_args *a, const char *text, size_t size,
                                       bool print, dscm_error *err) DSCM_MUST_CHECK;

#endif
