/* AdamW (Loshchilov & Hutter 2019) with an exponential moving average of the weights. */
#ifndef DSCM_CORE_NN_OPTIM_H
#define DSCM_CORE_NN_OPTIM_H

#include "core/base/cpu.h"
#include "core/base/team.h"

typedef struct dscm_adamw {
    double rate, beta1, beta2, eps, weight_decay;
    double ema_decay; /* reached gradually: min(ema_decay, (1 + n) / (10 + n)) at step n */
    double clip;      /* largest global gradient norm; 0: none */
    dscm_isa isa;     /* instruction set; the result depends on it in the last bits */
} dscm_adamw;

typedef struct dscm_adamw_state {
    float *values, *ema, *m, *v; /* (floats) */
    size_t floats;
} dscm_adamw_state;

/* One step, number `step` counted from 1. grads: `shards` arrays (floats), summed here in their
 * order. Returns the global gradient norm before clipping; where that is not finite the step is not taken. */
double dscm_adamw_step(const dscm_adamw *o, dscm_adamw_state *s, float *const *grads, size_t shards,
                       size_t step, dscm_team *team);

#endif
