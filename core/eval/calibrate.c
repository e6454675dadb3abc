#include "core/eval/calibrate.h"

#include <math.h>

#define HOTTEST 20.0
#define COLDEST 0.05

static double loss(const float *logits, const int *labels, size_t count, size_t classes,
                   double inverse)
{
    double total = 0;
    for (size_t i = 0; i < count; i++) {
        const float *z = logits + i * classes;
        double top = (double)z[0], sum = 0;
        for (size_t k = 1; k < classes; k++) top = fmax(top, (double)z[k]);
        for (size_t k = 0; k < classes; k++) sum += exp(inverse * ((double)z[k] - top));
        total += log(sum) - inverse * ((double)z[labels[i]] - top);
    }
    return total / (double)count;
}

dscm_code dscm_temperature_fit(dscm_temperature *out, const float *logits, const int *labels,
                               size_t count, size_t classes, dscm_error *err)
{
    const double section = (sqrt(5) - 1) / 2;
    double low = 1 / HOTTEST, high = 1 / COLDEST;
    if (!count) return dscm_fail(err, DSCM_E_INVALID, "temperature: no images");
    for (size_t i = 0; i < count; i++)
        if (labels[i] < 0 || (size_t)labels[i] >= classes)
            return dscm_fail(err, DSCM_E_INVALID, "temperature: label %d is not in 0..%zu",
                             labels[i], classes - 1);
    double a = high - section * (high - low), b = low + section * (high - low);
    double at_a = loss(logits, labels, count, classes, a),
           at_b = loss(logits, labels, count, classes, b);
    while (high - low > 1e-6 * low) {
        if (at_a < at_b) {
            high = b, b = a, at_b = at_a;
            a = high - section * (high - low);
            at_a = loss(logits, labels, count, classes, a);
        } else {
            low = a, a = b, at_a = at_b;
            b = low + section * (high - low);
            at_b = loss(logits, labels, count, classes, b);
        }
    }
    double inverse = (low + high) / 2;
    *out = (dscm_temperature){.temperature = 1 / inverse,
                              .before = loss(logits, labels, count, classes, 1),
                              .after = loss(logits, labels, count, classes, inverse)};
    return DSCM_OK;
}
