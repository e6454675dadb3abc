/* The pickle inside a PyTorch file, without the zip around it whose checksums stop every mutation.
 * Storages are eight floats. */
#include "core/base/memory.h"
#include "core/io/tensors_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static dscm_code eight_floats(void *ctx, const char *key, size_t key_length,
                              const unsigned char **data, size_t *size, dscm_error *err)
{
    static const float floats[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    (void)ctx;
    if (key_length != 1 || *key != '0')
        return dscm_fail(err, DSCM_E_FORMAT, "no storage but \"0\"");
    *data = (const unsigned char *)floats;
    *size = sizeof floats;
    return DSCM_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const dscm_pickle_source source = {.storage = eight_floats};
    dscm_error err = {0};
    dscm_tensors *set = dscm_alloc(1, sizeof *set, "fuzz", &err);
    if (!set) return 0;
    set->path = dscm_strdup("fuzz", &err);
    if (set->path && dscm_pickle_read(set, data, size, &source, &err) != DSCM_OK && !err.message[0])
        __builtin_trap();
    for (size_t i = 0; i < dscm_tensors_count(set); i++) {
        const dscm_tensor_info *info = dscm_tensors_info(set, i);
        float out[64];
        if (info->count <= 64 && dscm_tensors_read_f32(set, info, out, &err) != DSCM_OK)
            __builtin_trap();
    }
    dscm_tensors_free(set);
    return 0;
}
