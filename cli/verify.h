/* What the kinds of reference case share. Internal to `diffscm verify`. */
#ifndef DSCM_CLI_VERIFY_H
#define DSCM_CLI_VERIFY_H

#include <jansson.h>

#include "cli/cli.h"
#include "core/io/tensors.h"

#define TOLERANCE_OUT      1e-4
#define TOLERANCE_GRAD     1e-3
#define TOLERANCE_RUN      1e-2
#define TOLERANCE_SCHEDULE 1e-12

typedef struct verify_case {
    const char *dir;
    json_t *config;
    dscm_tensors *expected;
    size_t passed, failed;
} verify_case;

dscm_code verify_network(verify_case *c, dscm_error *err) DSCM_MUST_CHECK;
dscm_code verify_counterfactual(verify_case *c, dscm_error *err) DSCM_MUST_CHECK;
dscm_code verify_schedule(verify_case *c, dscm_error *err) DSCM_MUST_CHECK;

/* An expected tensor as double or float32; NULL with err set when it is missing. Release with
 * dscm_free. */
double *verify_expected(verify_case *c, const char *name, size_t *count, dscm_error *err);
float *verify_tensor(verify_case *c, const char *name, size_t *count, dscm_error *err);
/* Prints one line: largest absolute error over the largest expected magnitude (at least
 * least_size). */
dscm_code verify_compare(verify_case *c, const char *name, const double *got, size_t count,
                         double tolerance, double least_size, dscm_error *err) DSCM_MUST_CHECK;
dscm_code verify_compare_f32(verify_case *c, const char *name, const float *got, size_t count,
                             double tolerance, double least_size, dscm_error *err) DSCM_MUST_CHECK;
/* dlogits = weight * (onehot - softmax) of one row; returns log softmax at the target. */
double verify_log_prob(const float *logits, float *dlogits, size_t classes, size_t target,
                       double weight);
void verify_to_last(float *out, const float *in, size_t batch, size_t c, size_t pixels);
void verify_to_first(float *out, const float *in, size_t batch, size_t c, size_t pixels);

#endif
