/* IDX files, plain and gzipped. */
#include "core/data/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dscm_idx idx = {.ndim = 0};
    dscm_error err = {0};
    if (dscm_idx_read_memory(&idx, data, size, "fuzz", &err) != DSCM_OK) {
        if (!err.code || !err.message[0]) __builtin_trap();
        return 0;
    }
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < idx.count; i++) sum = (uint8_t)(sum + idx.data[i]);
    dscm_idx_free(&idx);
    return 0;
}
