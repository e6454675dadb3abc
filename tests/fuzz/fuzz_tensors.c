/* Safetensors files and PyTorch zips, told apart by content; every tensor is read. Small sets are taken as the
 * parameters of a network, saved, and read again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "core/io/tensors.h"
#include "core/io/tensors_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/diffscm-fuzz-XXXXXX", path[64];

static void tidy(void)
{
    unlink(path);
    rmdir(dir);
}

/* Those of the set's tensors that a network could have, at most eight of them. */
static void list_params(dscm_params *table, const dscm_tensors *set)
{
    for (size_t i = 0; i < dscm_tensors_count(set) && table->count < 8; i++) {
        const dscm_tensor_info *t = dscm_tensors_info(set, i);
        if (t->ndim < 1 || t->ndim > DSCM_PARAM_DIMS_MAX || !t->count || t->count > 4096 ||
            strlen(t->name) >= DSCM_PARAM_NAME_MAX)
            continue;
        if (dscm_params_add(table, t->name, t->dims, t->ndim, DSCM_INIT_ZERO, 1, NULL) < 0) return;
    }
}

/* What was saved is there again, bit for bit where the type keeps it. */
static void save_again(const dscm_params *table, float *values, float *again, dscm_dtype type)
{
    static const char *const metadata[] = {"format", "pt", NULL};
    dscm_tensors *set = NULL;
    dscm_error err = {0};
    size_t unused = 0, size = 0;
    unsigned char *header = NULL;
    if (dscm_params_save(table, values, path, type, metadata, &err) != DSCM_OK) {
        if (!err.message[0]) __builtin_trap(); /* values that are no numbers are refused */
        return;
    }
    if (dscm_tensors_open(&set, path, &err) != DSCM_OK) return;
    if (!dscm_tensors_metadata(set, "format") || dscm_tensors_metadata(set, "other"))
        __builtin_trap();
    bool read = dscm_params_load(table, again, set, &unused, &err) == DSCM_OK;
    if (read && type == DSCM_F32 && memcmp(values, again, table->floats * sizeof *values) != 0)
        __builtin_trap();
    dscm_tensors_release_tensor(set, dscm_tensors_info(set, 0));
    if (dscm_params_header(&header, &size, table, type, "fuzz", &err) == DSCM_OK && size < 8)
        __builtin_trap();
    dscm_free(header);
    dscm_tensors_free(set);
}

static void use(const dscm_tensors *set)
{
    dscm_params table = {.items = NULL}, other = {.items = NULL};
    dscm_param_view views[8];
    dscm_error err = {0};
    bool viewable;
    const size_t dims[] = {3, 5};
    list_params(&table, set);
    float *values = dscm_alloc(2 * table.floats + 1, sizeof *values, "fuzz", &err);
    if (values && table.count) {
        if (dscm_params_view(&table, views, &viewable, set, &err) == DSCM_OK &&
            dscm_params_load(&table, values, set, NULL, &err) == DSCM_OK) {
            save_again(&table, values, values + table.floats, DSCM_F32);
            save_again(&table, values, values + table.floats, DSCM_F16);
            save_again(&table, values, values + table.floats, DSCM_BF16);
        } else if (!err.message[0]) {
            __builtin_trap();
        }
        /* A network that needs something else. */
        table.items[0].dims[0]++;
        if (dscm_params_load(&table, values, set, NULL, &err) == DSCM_OK) __builtin_trap();
        if (dscm_params_add(&other, "out.2.weight", dims, 2, DSCM_INIT_ZERO, 1, NULL) == 0)
            (void)!dscm_params_view(&other, views, &viewable, set, &err);
    }
    dscm_free(values);
    dscm_params_free(&table);
    dscm_params_free(&other);
}

static void start(void)
{
    dscm_tensors *none = NULL;
    if (!mkdtemp(dir)) abort();
    snprintf(path, sizeof path, "%s/x.safetensors", dir);
    atexit(tidy);
    FILE *empty = fopen(path, "w");
    if (empty) fclose(empty);
    if (dscm_tensors_open(&none, path, NULL) == DSCM_OK ||
        dscm_tensors_open(&none, dir, NULL) == DSCM_OK ||
        dscm_tensors_open(&none, "/nowhere/x", NULL) == DSCM_OK)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dscm_tensors *set = NULL;
    dscm_error err = {0};
    if (!path[0]) start();
    if (dscm_tensors_open_memory(&set, data, size, "fuzz", &err) != DSCM_OK) return 0;
    for (size_t i = 0; i < dscm_tensors_count(set); i++) {
        const dscm_tensor_info *info = dscm_tensors_info(set, i);
        dscm_error read = {0};
        /* views with stride 0 may promise more than the file holds; the caller's shape bounds it */
        if (info->count > (size_t)1 << 20) continue;
        if (dscm_tensors_find(set, info->name) != info) __builtin_trap();
        float *out = dscm_alloc(info->count, sizeof *out, "fuzz", &read);
        if (out && dscm_tensors_read_f32(set, info, out, &read) != DSCM_OK && !read.code)
            __builtin_trap();
        double *wide = dscm_alloc(info->count, sizeof *wide, "fuzz", &read);
        if (wide && dscm_tensors_read_f64(set, info, wide, &read) != DSCM_OK && !read.code)
            __builtin_trap();
        dscm_free(wide);
        dscm_free(out);
    }
    use(set);
    dscm_tensors_free(set);
    return 0;
}
