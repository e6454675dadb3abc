/* Safetensors files and PyTorch zips, told apart by content; every tensor is read. */
#include "core/base/memory.h"
#include "core/io/tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dscm_tensors *set = NULL;
    dscm_error err = {0};
    if (dscm_tensors_open_memory(&set, data, size, "fuzz", &err) != DSCM_OK) return 0;
    for (size_t i = 0; i < dscm_tensors_count(set); i++) {
        const dscm_tensor_info *info = dscm_tensors_info(set, i);
        dscm_error read = {0};
        /* views with stride 0 may promise more than the file holds; the caller's shape bounds it */
        if (info->count > (size_t)1 << 20) continue;
        float *out = dscm_alloc(info->count, sizeof *out, "fuzz", &read);
        if (out && dscm_tensors_read_f32(set, info, out, &read) != DSCM_OK && !read.code)
            __builtin_trap();
        dscm_free(out);
    }
    dscm_tensors_free(set);
    return 0;
}
