/* A trainer's insides, shared by its stepping and its checkpoints. Internal to core/train. */
#ifndef DSCM_CORE_TRAIN_TRAINER_INTERNAL_H
#define DSCM_CORE_TRAIN_TRAINER_INTERNAL_H

#include "core/nn/optim.h"
#include "core/train/tasks.h"

struct dscm_trainer {
    dscm_train_options options;
    const dscm_dataset *data;
    dscm_net *net;
    dscm_schedule schedule;
    dscm_team *team;
    dscm_weights *weights;
    dscm_adamw_state state;
    float *memory;   /* of the optimizer's four arrays */
    shard *shards;   /* (threads) */
    double *losses;  /* (threads) */
    float **grads;   /* (threads) */
    uint32_t *order; /* (pool_count): this epoch's order */
    uint32_t *pool; /* (pool_count): images that take part, several times where they are balanced */
    size_t pool_count;
    uint64_t epoch;  /* whose order is in `order`; UINT64_MAX: none */
    uint32_t *batch; /* (batch) images of the step */
    float *noise;    /* (batch, pixels) */
    uint8_t *moved;  /* (threads, pixels) */
    size_t step, samples;
    char init_sha256[65]; /* of the weights that it began with; "": random ones */
};

#endif
