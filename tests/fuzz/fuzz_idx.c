/* IDX files, plain and gzipped. What is read is written and read again, in both forms in turn. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/data/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/diffscm-fuzz-XXXXXX", path[2][64];

static void tidy(void)
{
    for (int i = 0; i < 2; i++) unlink(path[i]);
    rmdir(dir);
}

static void start(void)
{
    if (!mkdtemp(dir)) abort();
    snprintf(path[0], sizeof path[0], "%s/x", dir);
    snprintf(path[1], sizeof path[1], "%s/x.gz", dir);
    atexit(tidy);
}

static void write_again(const dscm_idx *idx, const char *name)
{
    dscm_idx again = {.ndim = 0};
    if (dscm_idx_write(idx, name, NULL) != DSCM_OK) return;
    if (dscm_idx_read(&again, name, NULL) != DSCM_OK) return; /* memory may be short */
    if (again.ndim != idx->ndim || again.count != idx->count ||
        memcmp(again.dims, idx->dims, (size_t)idx->ndim * sizeof *idx->dims) != 0 ||
        (idx->count && memcmp(again.data, idx->data, idx->count) != 0))
        __builtin_trap();
    dscm_idx_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned turn;
    dscm_idx idx = {.ndim = 0};
    dscm_error err = {0};
    if (!path[0][0]) start();
    if (dscm_idx_read_memory(&idx, data, size, "fuzz", &err) != DSCM_OK) {
        if (!err.code || !err.message[0]) __builtin_trap();
        return 0;
    }
    write_again(&idx, path[turn++ % 2]);
    dscm_idx_free(&idx);
    return 0;
}
