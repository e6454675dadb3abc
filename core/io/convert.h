/* From one tensor file to another, parameter by parameter.
 *
 * Checkpoints are larger than the memory that one would like to spend on copying them: values pass
 * through a buffer of one parameter. Threads: no shared state. */
#ifndef DSCM_CORE_IO_CONVERT_H
#define DSCM_CORE_IO_CONVERT_H

#include "core/io/tensors.h"

/* Writes the parameters of `table`, as found in `set`, to `path` (safetensors, replaced in one
 * step) in F32, F16 or BF16. A value that is not finite or beyond the type is an error that names
 * file, parameter and type. unused: tensors that the table does not name; sha256: of the written
 * file. */
dscm_code dscm_params_convert(const dscm_params *table, const dscm_tensors *set, const char *path,
                              dscm_dtype dtype, size_t *unused, char sha256[65],
                              dscm_error *err) DSCM_MUST_CHECK;

#endif
