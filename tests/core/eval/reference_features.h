/* The data of make_reference.py. */
#ifndef DSCM_TESTS_CORE_EVAL_REFERENCE_FEATURES_H
#define DSCM_TESTS_CORE_EVAL_REFERENCE_FEATURES_H

#include <stddef.h>

enum { ITEMS = 90, REALS = 120, WIDTH = 6, CLASSES = 3 };

static inline void reference_features(float *out, int *classes, size_t count, size_t salt,
                                      double gain)
{
    for (size_t i = 0; i < count; i++) {
        classes[i] = (int)(i % CLASSES);
        for (size_t j = 0; j < WIDTH; j++) {
            size_t whole = (i * 7919 + j * 104729 + i * i * (j + 1) * 37 + salt * 15485863) % 1009;
            out[i * WIDTH + j] =
                (float)((double)whole / 1000.0 * gain + (double)(i % CLASSES) * 0.4);
        }
    }
}

#endif
