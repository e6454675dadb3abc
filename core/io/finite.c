#include "core/io/finite.h"

#include <math.h>
#include <string.h>

#include "core/io/tensors_internal.h"

#define BF16_MOST 3.38e38f /* what rounds to a finite bfloat16 */

static const char *const flags[] = {"f16", "bf16", "f32"};

dscm_code dscm_values_check(const float *values, size_t count, dscm_dtype dtype, const char *path,
                            const char *name, dscm_error *err)
{
    const float most = dtype == DSCM_F16 ? 65504.0f : BF16_MOST;
    float largest = 0;
    bool sound = true;
    for (size_t k = 0; k < count; k++) {
        float v = fabsf(values[k]);
        sound &= v <= 3.4028235e38f;
        largest = v > largest ? v : largest;
    }
    if (!sound)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: parameter \"%s\" holds NaN or infinity", path,
                         name);
    if (largest <= most || dtype == DSCM_F32) return DSCM_OK;
    return dscm_fail(err, DSCM_E_LIMIT,
                     "%s: parameter \"%s\" holds %g, which %s cannot; use --dtype %s", path, name,
                     (double)largest, flags[dtype], dtype == DSCM_F16 ? "bf16" : "f32");
}

/* An exponent of ones alone. Views lie at any alignment. */
static bool finite16(const unsigned char *p, size_t count, uint16_t exponent)
{
    bool sound = true;
    for (size_t k = 0; k < count; k++) {
        uint16_t v;
        memcpy(&v, p + 2 * k, sizeof v);
        sound &= (v & exponent) != exponent;
    }
    return sound;
}

static bool finite32(const unsigned char *p, size_t count)
{
    const uint32_t exponent = 0x7f800000;
    bool sound = true;
    for (size_t k = 0; k < count; k++) {
        uint32_t v;
        memcpy(&v, p + 4 * k, sizeof v);
        sound &= (v & exponent) != exponent;
    }
    return sound;
}

dscm_code dscm_views_check(const dscm_params *table, const dscm_param_view *views,
                           const dscm_tensors *set, dscm_error *err)
{
    for (size_t i = 0; i < table->count; i++) {
        const dscm_param *p = &table->items[i];
        const dscm_param_view *v = &views[i];
        bool sound = v->type == DSCM_STORE_F32
                         ? finite32(v->data, p->count)
                         : finite16(v->data, p->count, v->type == DSCM_STORE_F16 ? 0x7c00 : 0x7f80);
        if (!sound)
            return dscm_fail(err, DSCM_E_FORMAT, "%s: parameter \"%s\" holds NaN or infinity",
                             set->path, p->name);
    }
    return DSCM_OK;
}
