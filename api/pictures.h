/* The pictures of a result as PNG files. Threads: a result belongs to one thread until it is rendered. */
#ifndef DSCM_API_PICTURES_H
#define DSCM_API_PICTURES_H

#include "core/scm/pipeline.h"

/* Adds the files that result->wanted names ("counterfactual-0", "difference-0", "trajectory-0", …,
 * "factual", "reconstruction"; of samples "sample-0", …) and sets times.encode. abduction: what the
 * result was made from; NULL for samples. On failure the result is as good as before, without some of
 * its files. */
dscm_code dscm_result_render(dscm_result *result, const dscm_abduction *abduction,
                             dscm_error *err) DSCM_MUST_CHECK;

#endif
