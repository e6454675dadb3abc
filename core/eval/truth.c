#include "core/eval/truth.h"

#include <math.h>
#include <stdlib.h>

#include "core/base/memory.h"

#define BINS 9

const char *dscm_truth_name(dscm_truth_kind kind)
{
    static const char *const names[] = {"do(thickness)", "do(intensity)", "do(digit)", "do(joint)"};
    return names[kind];
}

/* ---- drawing interventions ---- */
static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The distinct values of one parent, ascending. */
typedef struct value_list {
    double *values;
    size_t count;
} value_list;

static dscm_code list_values(value_list *out, const dscm_morpho_parents *all, size_t count,
                             bool thickness, dscm_error *err)
{
    out->values = dscm_alloc(count + 1, sizeof(double), "interventions", err);
    if (!out->values) return DSCM_E_MEMORY;
    for (size_t i = 0; i < count; i++)
        out->values[i] = thickness ? all[i].thickness : all[i].intensity;
    qsort(out->values, count, sizeof(double), by_value);
    for (size_t i = 0; i < count; i++)
        if (!i || out->values[i] != out->values[out->count - 1])
            out->values[out->count++] = out->values[i];
    return DSCM_OK;
}

static int bin_of(const value_list *l, double value)
{
    double low = l->values[0], high = l->values[l->count - 1];
    int bin = high > low ? (int)(BINS * (value - low) / (high - low)) : 0;
    return bin < BINS ? bin : BINS - 1;
}

/* A value outside the bin of `factual`, whose values stand side by side; NaN: there is none. */
static double draw_value(const value_list *l, double factual, dscm_rng *rng)
{
    int bin = bin_of(l, factual);
    size_t low = 0, high;
    while (low < l->count && bin_of(l, l->values[low]) < bin) low++;
    for (high = low; high < l->count && bin_of(l, l->values[high]) == bin;) high++;
    size_t left = l->count - (high - low);
    if (!left) return (double)NAN;
    size_t k = dscm_rng_below(rng, (uint32_t)left);
    return l->values[k < low ? k : k + (high - low)];
}

dscm_code dscm_truth_draw(dscm_morpho_parents *out, dscm_truth_kind kind,
                          const dscm_morpho_parents *factuals, size_t count, uint64_t seed,
                          dscm_error *err)
{
    bool joint = kind == DSCM_TRUTH_JOINT;
    bool t = joint || kind == DSCM_TRUTH_THICKNESS, i = joint || kind == DSCM_TRUTH_INTENSITY;
    value_list thickness = {0}, intensity = {0};
    dscm_code code = list_values(&thickness, factuals, count, true, err);
    if (code == DSCM_OK) code = list_values(&intensity, factuals, count, false, err);
    for (size_t k = 0; code == DSCM_OK && k < count; k++) {
        dscm_rng rng = dscm_rng_make(seed, k * DSCM_TRUTH_KINDS + (size_t)kind);
        out[k] = (dscm_morpho_parents){(double)NAN, (double)NAN, (double)NAN};
        if (t) out[k].thickness = draw_value(&thickness, factuals[k].thickness, &rng);
        if (i) out[k].intensity = draw_value(&intensity, factuals[k].intensity, &rng);
        if ((t && isnan(out[k].thickness)) || (i && isnan(out[k].intensity)))
            code = dscm_fail(err, DSCM_E_INVALID,
                             "interventions: all %zu images have the same bin of values", count);
        if (!joint && kind != DSCM_TRUTH_DIGIT) continue;
        double other = dscm_rng_below(&rng, 9);
        out[k].digit = other + (other >= factuals[k].digit);
    }
    dscm_free(thickness.values);
    dscm_free(intensity.values);
    return code;
}

dscm_morpho_parents dscm_truth_parents(const dscm_morpho_parents *f, const dscm_morpho_parents *set)
{
    dscm_morpho_parents out = *f;
    if (!isnan(set->digit)) out.digit = set->digit;
    if (!isnan(set->thickness)) {
        out.thickness = set->thickness;
        out.intensity =
            dscm_morpho_intensity(out.thickness, dscm_morpho_noise(f->thickness, f->intensity));
    }
    if (!isnan(set->intensity)) out.intensity = set->intensity;
    return out;
}

/* ---- measuring ---- */
double dscm_truth_l1(const uint8_t *a, const uint8_t *b, size_t pixels)
{
    size_t sum = 0;
    for (size_t p = 0; p < pixels; p++) sum += (size_t)abs((int)a[p] - (int)b[p]);
    return (double)sum / (double)pixels;
}

void dscm_truth_measure(dscm_truth_row *out, dscm_morpho *morpho, const uint8_t *factual,
                        const uint8_t *result, const uint8_t *truth, size_t pixels,
                        const dscm_morpho_parents *asked)
{
    dscm_morphometry seen, real;
    dscm_morpho_measure(morpho, result, &seen);
    *out = (dscm_truth_row){.l1 = (double)NAN,
                            .thickness_truth = (double)NAN,
                            .intensity_truth = (double)NAN,
                            .thickness = fabs(seen.thickness - asked->thickness),
                            .intensity = fabs(seen.intensity - asked->intensity),
                            .change = dscm_truth_l1(result, factual, pixels),
                            .due = (double)NAN,
                            .excess = (double)NAN};
    if (!truth) return;
    size_t excess = 0;
    for (size_t p = 0; p < pixels; p++) {
        int change = abs((int)result[p] - (int)factual[p]);
        int due = abs((int)truth[p] - (int)factual[p]);
        excess += change > due ? (size_t)(change - due) : 0;
    }
    dscm_morpho_measure(morpho, truth, &real);
    out->l1 = dscm_truth_l1(result, truth, pixels);
    out->thickness_truth = fabs(seen.thickness - real.thickness);
    out->intensity_truth = fabs(seen.intensity - real.intensity);
    out->due = dscm_truth_l1(truth, factual, pixels);
    out->excess = (double)excess / (double)pixels;
}

size_t dscm_truth_nearest(const dscm_morpho_parents *all, size_t count, size_t self,
                          const dscm_morpho_parents *asked)
{
    double sums[4] = {0}, best = HUGE_VAL, n = (double)count;
    size_t nearest = self;
    for (size_t i = 0; i < count; i++) {
        sums[0] += all[i].thickness;
        sums[1] += all[i].thickness * all[i].thickness;
        sums[2] += all[i].intensity;
        sums[3] += all[i].intensity * all[i].intensity;
    }
    double vt = fmax(sums[1] / n - pow(sums[0] / n, 2), 1e-12);
    double vi = fmax(sums[3] / n - pow(sums[2] / n, 2), 1e-12);
    for (size_t i = 0; i < count; i++) {
        if (i == self || all[i].digit != asked->digit) continue;
        double d = pow(all[i].thickness - asked->thickness, 2) / vt +
                   pow(all[i].intensity - asked->intensity, 2) / vi;
        if (d >= best) continue;
        best = d;
        nearest = i;
    }
    return nearest;
}
