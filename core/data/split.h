/* Which images of a data set take part: NAME, or NAME[FIRST:END].
 *
 * FIRST and END select the images FIRST .. END-1 in the set's own order; either may be left out.
 * With per-cent signs they are shares of every class, rounded to whole images: train[60%:75%] keeps
 * the classes' proportions. Pure functions.
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
/* Refuses a slice in images that reaches beyond `count`; text: the split as written. */
dscm_code dscm_split_check(const dscm_split *split, const char *text, size_t count,
                           dscm_error *err) DSCM_MUST_CHECK;
/* Indices of the images that take part, ascending, into out (count). Returns how many; labels
 * (count) are used for per-cent slices only. */
size_t dscm_split_select(const dscm_split *split, const uint8_t *labels, size_t count,
                         uint32_t *out);

#endif
