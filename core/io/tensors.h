/* A set of named tensors read from a file, whatever its format, and safetensors writing.
 *
 * Readers check everything before they believe it: sizes against the file, offsets for overlap and
 * holes, products for overflow, names for duplicates. Values are converted to float32 (or float64
 * where asked) on access; the file stays mapped and unchanged. A dscm_tensors is immutable
 * after opening and may be read by several threads.
 */
#ifndef DSCM_CORE_IO_TENSORS_H
#define DSCM_CORE_IO_TENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/nn/graph.h"
#include "core/nn/params.h"

typedef enum dscm_dtype {
    DSCM_F16,
    DSCM_BF16,
    DSCM_F32,
    DSCM_F64,
    DSCM_I64,
    DSCM_I32,
    DSCM_I16,
    DSCM_I8,
    DSCM_U8,
    DSCM_BOOL,
    DSCM_DTYPE_COUNT
} dscm_dtype;

#define DSCM_TENSOR_DIMS_MAX 8

typedef struct dscm_tensor_info {
    const char *name; /* owned by the set */
    dscm_dtype dtype;
    size_t dims[DSCM_TENSOR_DIMS_MAX];
    int ndim;
    size_t count; /* elements */
} dscm_tensor_info;

typedef struct dscm_tensors dscm_tensors;

/* Opens a safetensors file or a PyTorch zip (recognised by content). The path is named in errors.
 */
dscm_code dscm_tensors_open(dscm_tensors **out, const char *path, dscm_error *err) DSCM_MUST_CHECK;
/* The same from memory that the caller keeps alive (tests, fuzzing); `name` stands for the path. */
dscm_code dscm_tensors_open_memory(dscm_tensors **out, const void *bytes, size_t size,
                                   const char *name, dscm_error *err) DSCM_MUST_CHECK;
void dscm_tensors_free(dscm_tensors *set);
/* Tells the kernel that bytes of the mapped file are not needed in memory for now; they stay
 * readable. */
void dscm_tensors_release(const dscm_tensors *set, const void *data, size_t size);
size_t dscm_tensors_count(const dscm_tensors *set);
const dscm_tensor_info *dscm_tensors_info(const dscm_tensors *set, size_t index);
const dscm_tensor_info *dscm_tensors_find(const dscm_tensors *set, const char *name); /* or NULL */
/* Metadata string of a safetensors header ("__metadata__"), or NULL. */
const char *dscm_tensors_metadata(const dscm_tensors *set, const char *key);
/* Copy all elements (C order), converted. `out` holds info->count items. */
dscm_code dscm_tensors_read_f32(const dscm_tensors *set, const dscm_tensor_info *info, float *out,
                                dscm_error *err) DSCM_MUST_CHECK;
dscm_code dscm_tensors_read_f64(const dscm_tensors *set, const dscm_tensor_info *info, double *out,
                                dscm_error *err) DSCM_MUST_CHECK;

/* views (table->count): where the values lie in the file, for weights that are used from there
 * while the set stays open. The same checks; *viewable is false, and the views are void, when a
 * tensor is of another type than float32, float16 and bfloat16 or not in C order. */
dscm_code dscm_params_view(const dscm_params *table, dscm_param_view *views, bool *viewable,
                           const dscm_tensors *set, dscm_error *err) DSCM_MUST_CHECK;
/* Fills values (table->floats) from the set. A missing or misshapen parameter is an error that
 * names it, both shapes and the configuration key most likely wrong; unused tensors are counted in
 * *unused (may be NULL). */
dscm_code dscm_params_load(const dscm_params *table, float *values, const dscm_tensors *set,
                           size_t *unused, dscm_error *err) DSCM_MUST_CHECK;

/* Writing: tensors are converted from float32 to `dtype` (F16, BF16, F32) and the file replaces
 * `path` atomically (temporary name, fsync, rename). metadata: NULL or pairs of key, value, …,
 * NULL. */
typedef struct dscm_tensor_out {
    const char *name;
    const size_t *dims;
    int ndim;
    const float *data;
} dscm_tensor_out;
dscm_code dscm_safetensors_write(const char *path, const dscm_tensor_out *tensors, size_t count,
                                 dscm_dtype dtype, const char *const *metadata,
                                 dscm_error *err) DSCM_MUST_CHECK;
/* Refuses values that are no numbers or that `dtype` cannot hold; see core/io/finite.h. */
dscm_code dscm_params_save(const dscm_params *table, const float *values, const char *path,
                           dscm_dtype dtype, const char *const *metadata,
                           dscm_error *err) DSCM_MUST_CHECK;

#endif
