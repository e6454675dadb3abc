#include "core/io/convert.h"

#include <string.h>

#include "core/base/memory.h"
#include "core/base/team.h"
#include "core/io/file.h"
#include "core/io/finite.h"
#include "core/io/sha256.h"
#include "core/io/tensors_internal.h"
#include "core/kernels/simd/pack_simd.h"

#define PIECE ((size_t)1 << 20) /* elements that are read, checked and narrowed at a time */

typedef struct conversion {
    const dscm_params *table;
    const dscm_tensors *set;
    const char *path;
    dscm_dtype dtype;
    const dscm_pack_kernels *kernels;
    float *values;        /* the largest parameter */
    unsigned char *bytes; /* (2, PIECE) narrowed pieces */
    dscm_file_writer *writer;
    dscm_sha256 *digest;
    dscm_error *err;
} conversion;

/* Weights must be numbers that the storage type can hold. */
static dscm_code check(const conversion *c, const dscm_param *p)
{
    return dscm_values_check(c->values, p->count, c->dtype, c->set->path, p->name, c->err);
}

static dscm_code put(conversion *c, const void *bytes, size_t size)
{
    dscm_sha256_add(c->digest, bytes, size);
    return dscm_file_put(c->writer, bytes, size, c->err);
}

static dscm_code put_parameter(conversion *c, const dscm_param *p)
{
    const dscm_tensor_info *info;
    dscm_code code = dscm_params_find_tensor(&info, p, c->set, c->err);
    if (code == DSCM_OK) code = dscm_tensors_read_f32(c->set, info, c->values, c->err);
    if (code == DSCM_OK) code = check(c, p);
    if (code != DSCM_OK) return code;
    dscm_tensors_release_tensor(c->set, info);
    if (c->dtype == DSCM_F32) return put(c, c->values, p->count * sizeof *c->values);
    dscm_store type = c->dtype == DSCM_F16 ? DSCM_STORE_F16 : DSCM_STORE_BF16;
    for (size_t k = 0; k < p->count && code == DSCM_OK; k += PIECE) {
        size_t n = p->count - k < PIECE ? p->count - k : PIECE;
        c->kernels->narrow(c->bytes, c->values + k, n, type);
        code = put(c, c->bytes, 2 * n);
    }
    return code;
}

static dscm_code put_header(conversion *c)
{
    unsigned char *header = NULL;
    size_t size = 0;
    dscm_code code = dscm_params_header(&header, &size, c->table, c->dtype, c->path, c->err);
    if (code == DSCM_OK) code = put(c, header, size);
    dscm_free(header);
    return code;
}

static dscm_code run(conversion *c, char sha256[65])
{
    size_t most = 0;
    for (size_t i = 0; i < c->table->count; i++)
        if (c->table->items[i].count > most) most = c->table->items[i].count;
    c->values = dscm_alloc(most, sizeof *c->values, c->path, c->err);
    c->bytes = dscm_alloc(PIECE, 2, c->path, c->err);
    dscm_code code = c->values && c->bytes ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = dscm_sha256_open(&c->digest, c->err);
    if (code == DSCM_OK) code = dscm_file_begin(&c->writer, c->path, c->err);
    if (code == DSCM_OK) code = put_header(c);
    for (size_t i = 0; i < c->table->count && code == DSCM_OK; i++)
        code = put_parameter(c, &c->table->items[i]);
    if (code == DSCM_OK) code = dscm_sha256_close(c->digest, sha256, c->err);
    if (code == DSCM_OK) {
        code = dscm_file_commit(c->writer, c->err);
        c->writer = NULL;
    }
    return code;
}

dscm_code dscm_params_convert(const dscm_params *table, const dscm_tensors *set, const char *path,
                              dscm_dtype dtype, size_t *unused, char sha256[65], dscm_error *err)
{
    conversion c = {.table = table,
                    .set = set,
                    .path = path,
                    .dtype = dtype,
                    .kernels = dscm_pack_kernels_of(dscm_cpu_best_isa()),
                    .err = err};
    dscm_code code = run(&c, sha256);
    dscm_file_abandon(c.writer);
    dscm_sha256_free(c.digest);
    dscm_free(c.values);
    dscm_free(c.bytes);
    *unused = set->count - table->count;
    return code;
}
