/* Noise estimates of a walk by the score network, and what conditional guidance makes of them. Internal
 * to core/scm. */
#ifndef DSCM_CORE_SCM_ESTIMATES_H
#define DSCM_CORE_SCM_ESTIMATES_H

#include "core/scm/session.h"

/* eps_theta(x, t, what call->told says) of `batch` <= batch_max images, x and eps (batch, size). False
 * when the watch stopped it. */
bool scm_estimate(dscm_session *s, const walk_call *call, float *eps, const float *x, double t,
                  size_t batch);
/* Under the factual conditions, and in the session's walk.grad what their targets change; where the
 * factual estimate counts for nothing, which no item's batch decides, all of it in eps and a gradient of
 * zero. In as few passes as the batch allows. False when the watch stopped it. */
bool scm_estimate_changes(dscm_session *s, const walk_call *call, float *eps, const float *x,
                          double t, size_t batch);

#endif
