#include "core/eval/traits.h"

#include <math.h>
#include <string.h>

#include "core/data/morpho.h"

const char *dscm_trait_name(dscm_trait trait)
{
    static const char *const names[DSCM_TRAITS] = {"slant", "thickness", "height", "intensity"};
    return names[trait];
}

/* Rows from the first to the last with a pixel at or above the middle of the image's range. */
static double height_of(const uint8_t *pixels, size_t h, size_t w)
{
    uint8_t low = 255, high = 0;
    size_t first = h, last = 0;
    for (size_t i = 0; i < h * w; i++) {
        if (pixels[i] < low) low = pixels[i];
        if (pixels[i] > high) high = pixels[i];
    }
    if (low == high) return 0;
    for (size_t i = 0; i < h * w; i++) {
        if (2 * (int)pixels[i] < (int)low + (int)high) continue;
        if (first == h) first = i / w;
        last = i / w;
    }
    return (double)(last - first + 1);
}

dscm_code dscm_traits_measure(double *out, const uint8_t *pixels, size_t count, size_t h, size_t w,
                              dscm_error *err)
{
    dscm_morpho *morpho = NULL;
    dscm_code code = dscm_morpho_open(&morpho, h, w, err);
    for (size_t i = 0; code == DSCM_OK && i < count; i++) {
        const uint8_t *image = pixels + i * h * w;
        double *row = out + i * DSCM_TRAITS;
        dscm_morphometry m;
        dscm_morpho_measure(morpho, image, &m);
        row[DSCM_TRAIT_SLANT] = m.slant;
        row[DSCM_TRAIT_THICKNESS] = m.thickness;
        row[DSCM_TRAIT_INTENSITY] = m.intensity;
        row[DSCM_TRAIT_HEIGHT] = height_of(image, h, w);
    }
    dscm_morpho_free(morpho);
    return code;
}

void dscm_traits_class_means(double *out, const double *traits, const int *classes, size_t count,
                             size_t labels)
{
    for (size_t k = 0; k < labels; k++) {
        double *mean = out + k * DSCM_TRAITS;
        size_t members = 0;
        memset(mean, 0, DSCM_TRAITS * sizeof *mean);
        for (size_t i = 0; i < count; i++) {
            if (classes[i] != (int)k) continue;
            for (int t = 0; t < DSCM_TRAITS; t++) mean[t] += traits[i * DSCM_TRAITS + (size_t)t];
            members++;
        }
        for (int t = 0; t < DSCM_TRAITS; t++)
            mean[t] = members ? mean[t] / (double)members : (double)NAN;
    }
}

void dscm_traits_correlation(double *out, const double *factual, const double *result,
                             const int *own, const int *target, size_t count, const double *means)
{
    for (size_t t = 0; t < DSCM_TRAITS; t++) {
        double mean_a = 0, mean_b = 0, aa = 0, bb = 0, ab = 0;
        for (int pass = 0; pass < 2; pass++)
            for (size_t i = 0; i < count; i++) {
                double a = factual[i * DSCM_TRAITS + t] - means[(size_t)own[i] * DSCM_TRAITS + t],
                       b = result[i * DSCM_TRAITS + t] - means[(size_t)target[i] * DSCM_TRAITS + t];
                if (pass == 0) {
                    mean_a += a / (double)count;
                    mean_b += b / (double)count;
                    continue;
                }
                aa += (a - mean_a) * (a - mean_a);
                bb += (b - mean_b) * (b - mean_b);
                ab += (a - mean_a) * (b - mean_b);
            }
        out[t] = aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : (double)NAN;
    }
}
