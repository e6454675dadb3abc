/* IDX files (the format of MNIST): unsigned bytes, plain or gzipped, read and written.
 *
 * Headers are checked against the real size of the data before anything is believed.
 */
#ifndef DSCM_CORE_DATA_IDX_H
#define DSCM_CORE_DATA_IDX_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

#define DSCM_IDX_DIMS_MAX 4

typedef struct dscm_idx {
    size_t dims[DSCM_IDX_DIMS_MAX]; /* (N), (N,H,W) or (N,H,W,C) */
    int ndim;
    size_t count;  /* product of dims */
    uint8_t *data; /* owned */
} dscm_idx;

dscm_code dscm_idx_read(dscm_idx *out, const char *path, dscm_error *err) DSCM_MUST_CHECK;
dscm_code dscm_idx_read_memory(dscm_idx *out, const void *bytes, size_t size, const char *name,
                               dscm_error *err) DSCM_MUST_CHECK;
/* Gzipped when the path ends in .gz; replaces the file atomically. */
dscm_code dscm_idx_write(const dscm_idx *idx, const char *path, dscm_error *err) DSCM_MUST_CHECK;
void dscm_idx_free(dscm_idx *idx);

/* x = v / 127.5 - 1, and back by clamp(round((x + 1) * 127.5), 0, 255). */
void dscm_pixels_to_float(float *out, const uint8_t *in, size_t count);
void dscm_pixels_from_float(uint8_t *out, const float *in, size_t count);

#endif
