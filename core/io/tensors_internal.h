/* What the readers of tensor files share. Internal to core/io. */
#ifndef DSCM_CORE_IO_TENSORS_INTERNAL_H
#define DSCM_CORE_IO_TENSORS_INTERNAL_H

#include <stdbool.h>

#include "core/io/tensors.h"

typedef struct stored_tensor {
    dscm_tensor_info info;
    const unsigned char *data;            /* first element */
    size_t strides[DSCM_TENSOR_DIMS_MAX]; /* elements */
    bool contiguous;
} stored_tensor;

struct dscm_tensors {
    char *path; /* for messages */
    const unsigned char *bytes;
    size_t size;
    bool mapped;
    stored_tensor *items;
    size_t count, capacity;
    uint32_t *slots; /* (slots_count) hash table of names: index + 1 into items, 0: free */
    size_t slots_count;
    char **metadata; /* pairs key, value */
    size_t metadata_count;
};

size_t dscm_dtype_size(dscm_dtype dtype);

/* Appends a tensor (name is copied) whose data, dims and strides the reader has checked. A second
 * one of the same name is DSCM_E_FORMAT. */
dscm_code dscm_tensors_add(dscm_tensors *set, const char *name, const stored_tensor *item,
                           dscm_error *err) DSCM_MUST_CHECK;

/* Rebuilds the table of names after items were renamed or taken out. */
void dscm_tensors_index(dscm_tensors *set);

/* A file with more tensors than this is refused; the largest published networks have some 2000. */
#define DSCM_TENSORS_MAX 65536

/* The tensor of a parameter, of the right shape, or DSCM_E_MISMATCH; see dscm_params_load. */
dscm_code dscm_params_find_tensor(const dscm_tensor_info **out, const dscm_param *p,
                                  const dscm_tensors *set, dscm_error *err) DSCM_MUST_CHECK;
/* See dscm_tensors_release. */
void dscm_tensors_release_tensor(const dscm_tensors *set, const dscm_tensor_info *info);
/* All that stands before the data of a safetensors file; `data` of the tensors is not looked at.
 * Release with dscm_free. path: for messages. */
dscm_code dscm_safetensors_header(unsigned char **header, size_t *size,
                                  const dscm_tensor_out *tensors, size_t count, dscm_dtype dtype,
                                  const char *const *metadata, const char *path,
                                  dscm_error *err) DSCM_MUST_CHECK;
dscm_code dscm_params_header(unsigned char **header, size_t *size, const dscm_params *table,
                             dscm_dtype dtype, const char *path, dscm_error *err) DSCM_MUST_CHECK;

/* Readers of one format each; set->bytes and size are given. */
dscm_code dscm_safetensors_read(dscm_tensors *set, dscm_error *err) DSCM_MUST_CHECK;
dscm_code dscm_torch_read(dscm_tensors *set, dscm_error *err) DSCM_MUST_CHECK;

/* The pickle inside a PyTorch file. `storage` finds the bytes of a storage by key, or fails. */
typedef struct dscm_pickle_source {
    void *ctx;
    dscm_code (*storage)(void *ctx, const char *key, size_t key_length, const unsigned char **data,
                         size_t *size, dscm_error *err);
} dscm_pickle_source;
dscm_code dscm_pickle_read(dscm_tensors *set, const unsigned char *bytes, size_t size,
                           const dscm_pickle_source *source, dscm_error *err) DSCM_MUST_CHECK;

/* What a name inside a pickle stands for. Texts are inside the pickle, not terminated. */
typedef enum dscm_pickle_kind {
    DSCM_PICKLE_REBUILD_TENSOR,
    DSCM_PICKLE_REBUILD_PARAMETER,
    DSCM_PICKLE_ORDERED_DICT,
    DSCM_PICKLE_STORAGE,
    DSCM_PICKLE_OTHER /* of a checkpoint's settings or a tensor of another type: its values are not looked at */
} dscm_pickle_kind;
/* False: no name that a checkpoint needs. dtype: of a storage class. */
bool dscm_pickle_name_find(dscm_pickle_kind *kind, dscm_dtype *dtype, const char *module,
                           size_t module_length, const char *name, size_t length);

#endif
