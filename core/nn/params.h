/* The parameter table: one list of names, dims and offsets per network, built from its
 * configuration.
 *
 * Allocation, loading, saving, the optimizer, EMA and gradient tests all walk this table. Values,
 * gradients and optimizer moments are flat float arrays of `floats` elements in the same order.
 */
#ifndef DSCM_CORE_NN_PARAMS_H
#define DSCM_CORE_NN_PARAMS_H

#include <stddef.h>

#include "core/base/error.h"
#include "core/base/rng.h"

#define DSCM_PARAM_NAME_MAX 96
#define DSCM_PARAM_DIMS_MAX 4

typedef enum dscm_init {
    DSCM_INIT_ZERO,   /* biases, shifts, and the layers that start at zero */
    DSCM_INIT_ONE,    /* norm gains */
    DSCM_INIT_FAN_IN, /* uniform in ±1/sqrt(fan_in): PyTorch's default of conv and linear layers */
    DSCM_INIT_NORMAL  /* standard normal times 1/sqrt(last dim): embeddings, positions */
} dscm_init;

typedef struct dscm_param {
    char name[DSCM_PARAM_NAME_MAX]; /* as in published checkpoints: "input_blocks.0.0.weight" */
    size_t dims[DSCM_PARAM_DIMS_MAX];
    int ndim;
    size_t offset, count; /* floats */
    dscm_init init;
    size_t fan_in; /* for DSCM_INIT_FAN_IN */
} dscm_param;

typedef struct dscm_params {
    dscm_param *items;
    size_t count, capacity;
    size_t floats; /* all parameters together */
} dscm_params;

/* Appends a parameter and returns its index, or -1 with err set. Names are unique (assert). */
int dscm_params_add(dscm_params *table, const char *name, const size_t *dims, int ndim,
                    dscm_init init, size_t fan_in, dscm_error *err);
const dscm_param *dscm_params_find(const dscm_params *table, const char *name); /* or NULL */
/* Fills `values` (floats) with the initial values of a seed. */
void dscm_params_init(const dscm_params *table, float *values, uint64_t seed);
void dscm_params_free(dscm_params *table); /* takes an empty table too */

#endif
