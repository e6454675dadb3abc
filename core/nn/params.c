#include "core/nn/params.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/memory.h"

int dscm_params_add(dscm_params *table, const char *name, const size_t *dims, int ndim,
                    dscm_init init, size_t fan_in, dscm_error *err)
{
    assert(ndim >= 1 && ndim <= DSCM_PARAM_DIMS_MAX && !dscm_params_find(table, name));
    if (table->count == table->capacity) {
        size_t capacity = table->capacity ? 2 * table->capacity : 64;
        dscm_param *items = dscm_alloc(capacity, sizeof *items, "parameter table", err);
        if (!items) return -1;
        if (table->count) memcpy(items, table->items, table->count * sizeof *items);
        dscm_free(table->items);
        table->items = items;
        table->capacity = capacity;
    }
    dscm_param *p = &table->items[table->count];
    *p = (dscm_param){
        .ndim = ndim, .offset = table->floats, .count = 1, .init = init, .fan_in = fan_in};
    if ((size_t)snprintf(p->name, sizeof p->name, "%s", name) >= sizeof p->name) {
        dscm_fail(err, DSCM_E_LIMIT, "parameter %s: the name is too long", name);
        return -1;
    }
    for (int d = 0; d < ndim; d++) {
        p->dims[d] = dims[d];
        if (!dscm_size_mul(p->count, dims[d], &p->count)) {
            dscm_fail(err, DSCM_E_LIMIT, "parameter %s: too many elements", name);
            return -1;
        }
    }
    table->floats += p->count;
    return (int)table->count++;
}

const dscm_param *dscm_params_find(const dscm_params *table, const char *name)
{
    for (size_t i = 0; i < table->count; i++)
        if (strcmp(table->items[i].name, name) == 0) return &table->items[i];
    return NULL;
}

void dscm_params_init(const dscm_params *table, float *values, uint64_t seed)
{
    for (size_t i = 0; i < table->count; i++) {
        const dscm_param *p = &table->items[i];
        dscm_rng rng = dscm_rng_make(seed, i);
        float *v = values + p->offset;
        float bound = p->fan_in ? 1 / sqrtf((float)p->fan_in) : 0;
        switch (p->init) {
        case DSCM_INIT_ZERO:
            memset(v, 0, p->count * sizeof *v);
            break;
        case DSCM_INIT_ONE:
            for (size_t k = 0; k < p->count; k++) v[k] = 1;
            break;
        case DSCM_INIT_FAN_IN:
            for (size_t k = 0; k < p->count; k++) v[k] = bound * (2 * dscm_rng_uniform(&rng) - 1);
            break;
        case DSCM_INIT_NORMAL:
            dscm_rng_normal(&rng, v, p->count);
            for (size_t k = 0; k < p->count; k++) v[k] /= sqrtf((float)p->dims[p->ndim - 1]);
            break;
        }
    }
}

void dscm_params_free(dscm_params *table)
{
    dscm_free(table->items);
    *table = (dscm_params){0};
}
