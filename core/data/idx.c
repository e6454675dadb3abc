#include "core/data/idx.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "core/base/memory.h"
#include "core/io/file.h"

#define FILE_LIMIT ((size_t)2 << 30)
#define HEADER(n)  (4 + 4 * (size_t)(n))

void dscm_idx_free(dscm_idx *idx)
{
    dscm_free(idx->data);
    *idx = (dscm_idx){0};
}

/* Checks a header of `have` bytes; *total is the size of the whole file it promises. */
static dscm_code parse_header(dscm_idx *out, const unsigned char *b, size_t have, size_t *total,
                              const char *name, dscm_error *err)
{
    if (have < 4 || b[0] || b[1] || b[2] != 8 || b[3] < 1 || b[3] > DSCM_IDX_DIMS_MAX ||
        have < HEADER(b[3]))
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: not an IDX file of unsigned bytes with 1..%d dimensions", name,
                         DSCM_IDX_DIMS_MAX);
    out->ndim = b[3];
    out->count = 1;
    for (int d = 0; d < out->ndim; d++) {
        const unsigned char *p = b + 4 + 4 * d;
        out->dims[d] = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        if (!dscm_size_mul(out->count, out->dims[d], &out->count) || out->count > FILE_LIMIT)
            return dscm_fail(err, DSCM_E_LIMIT, "%s: dimensions promise more than 2 GiB", name);
    }
    *total = HEADER(out->ndim) + out->count;
    return DSCM_OK;
}

static dscm_code size_error(const char *name, size_t got, size_t want, dscm_error *err)
{
    return dscm_fail(err, DSCM_E_FORMAT, "%s: %s: the IDX header promises %zu bytes", name,
                     got < want ? "cut off" : "too long", want);
}

static dscm_code read_plain(dscm_idx *out, const unsigned char *bytes, size_t size,
                            const char *name, dscm_error *err)
{
    size_t total = 0;
    dscm_code code = parse_header(out, bytes, size, &total, name, err);
    if (code != DSCM_OK) return code;
    if (size != total) return size_error(name, size, total, err);
    out->data = dscm_alloc(out->count, 1, name, err);
    if (!out->data) return DSCM_E_MEMORY;
    memcpy(out->data, bytes + HEADER(out->ndim), out->count);
    return DSCM_OK;
}

/* Fills the output as far as the stream reaches, over the ends of gzip members (concatenated files
 * are one). Z_STREAM_END: nothing follows. */
static int unpack(z_stream *z, int flush)
{
    for (;;) {
        int status = inflate(z, flush);
        if (status != Z_STREAM_END || !z->avail_in) return status;
        if (inflateReset(z) != Z_OK) return Z_DATA_ERROR;
        if (!z->avail_out) return Z_OK;
    }
}

/* Unpacks the header first, then exactly what it promises: a small file cannot unfold without
 * bound. */
static dscm_code inflate_all(dscm_idx *out, z_stream *z, const char *name, dscm_error *err)
{
    size_t packed = z->avail_in;
    unsigned char head[HEADER(DSCM_IDX_DIMS_MAX)], extra;
    size_t total = 0;
    z->next_out = head;
    z->avail_out = 4;
    int status = unpack(z, Z_SYNC_FLUSH);
    if (z->avail_out == 0 && head[3] >= 1 && head[3] <= DSCM_IDX_DIMS_MAX) {
        z->avail_out = (uInt)(HEADER(head[3]) - 4);
        status = unpack(z, Z_SYNC_FLUSH);
    }
    dscm_code code = parse_header(out, head, (size_t)(z->next_out - head), &total, name, err);
    if (code != DSCM_OK) return code;
    /* Deflate expands at most 1032-fold (zlib's technical notes): a header that promises more lies,
     * and is not worth the memory. */
    if (total / 1032 > packed) return size_error(name, 0, total, err);
    out->data = dscm_alloc(out->count, 1, name, err);
    if (!out->data) return DSCM_E_MEMORY;
    z->next_out = out->data;
    z->avail_out = (uInt)out->count;
    if (status == Z_OK && out->count) status = unpack(z, Z_SYNC_FLUSH);
    bool full = z->avail_out == 0;
    z->next_out = &extra;
    z->avail_out = 1;
    if (status == Z_OK) status = unpack(z, Z_FINISH);
    if (!full || z->avail_out == 0) return size_error(name, full ? total + 1 : 0, total, err);
    if (status != Z_STREAM_END)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: the gzip stream is damaged or cut off", name);
    return DSCM_OK;
}

static dscm_code read_gzip(dscm_idx *out, const unsigned char *bytes, size_t size, const char *name,
                           dscm_error *err)
{
    z_stream z = {.next_in = (unsigned char *)bytes, .avail_in = (uInt)size};
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory for zlib", name);
    dscm_code code = inflate_all(out, &z, name, err);
    inflateEnd(&z);
    return code;
}

dscm_code dscm_idx_read_memory(dscm_idx *out, const void *bytes, size_t size, const char *name,
                               dscm_error *err)
{
    const unsigned char *b = bytes;
    *out = (dscm_idx){0};
    if (size > FILE_LIMIT) return dscm_fail(err, DSCM_E_LIMIT, "%s: larger than 2 GiB", name);
    bool gzip = size >= 2 && b[0] == 0x1f && b[1] == 0x8b;
    dscm_code code =
        gzip ? read_gzip(out, b, size, name, err) : read_plain(out, b, size, name, err);
    if (code != DSCM_OK) dscm_idx_free(out);
    return code;
}

dscm_code dscm_idx_read(dscm_idx *out, const char *path, dscm_error *err)
{
    unsigned char *bytes = NULL;
    size_t size = 0;
    *out = (dscm_idx){0};
    dscm_code code = dscm_file_read(path, FILE_LIMIT, &bytes, &size, err);
    if (code == DSCM_OK) code = dscm_idx_read_memory(out, bytes, size, path, err);
    dscm_free(bytes);
    return code;
}

/* ---- writing ---- */
static size_t header_bytes(unsigned char *out, const dscm_idx *idx)
{
    memset(out, 0, HEADER(DSCM_IDX_DIMS_MAX));
    out[2] = 8;
    out[3] = (unsigned char)idx->ndim;
    for (int d = 0; d < idx->ndim; d++)
        for (int i = 0; i < 4; i++)
            out[4 + 4 * d + i] = (unsigned char)(idx->dims[d] >> (8 * (3 - i)));
    return HEADER(idx->ndim);
}

static dscm_code write_gzip(const dscm_idx *idx, const char *path, const unsigned char *head,
                            size_t head_size, dscm_error *err)
{
    z_stream z = {0};
    if (deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory for zlib", path);
    size_t bound = deflateBound(&z, head_size + idx->count);
    unsigned char *packed = dscm_alloc(bound, 1, path, err);
    dscm_code code = DSCM_E_MEMORY;
    if (packed) {
        z.next_out = packed;
        z.avail_out = (uInt)bound;
        z.next_in = (unsigned char *)head;
        z.avail_in = (uInt)head_size;
        deflate(&z, Z_NO_FLUSH);
        z.next_in = idx->data;
        z.avail_in = (uInt)idx->count;
        bool done = deflate(&z, Z_FINISH) == Z_STREAM_END;
        const dscm_piece piece = {packed, z.total_out};
        code = done ? dscm_file_replace(path, &piece, 1, err)
                    : dscm_fail(err, DSCM_E_IO, "%s: compression failed", path);
    }
    deflateEnd(&z);
    dscm_free(packed);
    return code;
}

dscm_code dscm_idx_write(const dscm_idx *idx, const char *path, dscm_error *err)
{
    unsigned char head[HEADER(DSCM_IDX_DIMS_MAX)];
    size_t head_size = header_bytes(head, idx), length = strlen(path);
    if (length > 3 && strcmp(path + length - 3, ".gz") == 0)
        return write_gzip(idx, path, head, head_size, err);
    const dscm_piece pieces[] = {{head, head_size}, {idx->data, idx->count}};
    return dscm_file_replace(path, pieces, 2, err);
}

void dscm_pixels_to_float(float *out, const uint8_t *in, size_t count)
{
    for (size_t i = 0; i < count; i++) out[i] = (float)in[i] / 127.5f - 1;
}

void dscm_pixels_from_float(uint8_t *out, const float *in, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float v = roundf((in[i] + 1) * 127.5f);
        out[i] = v > 255 ? 255 : v > 0 ? (uint8_t)v : 0; /* NaN becomes 0 */
    }
}
