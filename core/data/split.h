/* Which images of a data set take part: NAME, or NAME[FROM:TO].
 *
 * FROM and TO are a slice as in Python over the set's own order: absent, negative (counted from the
 * end) or beyond the end. With a per-cent sign at either they are shares of every class, rounded to
 * whole images: train[60%:75%] keeps the classes' proportions. Pure functions.
 */
#ifndef DSCM_CORE_DATA_SPLIT_H
#define DSCM_CORE_DATA_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

#define DSCM_SPLIT_NAME_MAX 128

typedef struct dscm_split {
    char name[DSCM_SPLIT_NAME_MAX];
    bool sliced, per_class;
    bool has_from, has_to;
    double from, to; /* images, or per cent of each class */
} dscm_split;

dscm_code dscm_split_parse(dscm_split *out, const char *text, dscm_error *err) DSCM_MUST_CHECK;
/* Indices of the images that take part, ascending, into out (count). Returns how many; labels
 * (count) are used for per-cent slices only. */
size_t dscm_split_select(const dscm_split *split, const uint8_t *labels, size_t count,
                         uint32_t *out);

#endif
