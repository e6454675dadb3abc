/* The published ImageNet checkpoints of guided diffusion (Dhariwal & Nichol 2021): what their files
 * cannot tell about themselves, and what is checked about them. Constant data. */
#ifndef DSCM_CORE_MODELS_PRESETS_H
#define DSCM_CORE_MODELS_PRESETS_H

#include <stddef.h>

#include "core/diffusion/schedule.h"

typedef struct dscm_preset {
    const char *name;              /* "256-uncond" */
    const char *score, *predictor; /* configurations (JSON) */
    size_t score_parameters, predictor_parameters;
    dscm_schedule_kind schedule;
    double scale; /* recommended guidance of the published sampler */
} dscm_preset;

#define DSCM_PRESETS 5
extern const dscm_preset dscm_presets[DSCM_PRESETS];

/* Finds a preset by its name, also as "imagenet-256-uncond" or "256x256_diffusion_uncond", or
 * DSCM_E_UNKNOWN with the names that exist. */
dscm_code dscm_preset_find(const dscm_preset **out, const char *name,
                           dscm_error *err) DSCM_MUST_CHECK;

#endif
