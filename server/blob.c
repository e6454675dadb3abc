#include "server/blob.h"

#include <stdlib.h>
#include <string.h>

static const char magic[4] = {'D', 'S', 'B', '1'};

dscm_span dscm_span_text(const char *text)
{
    return (dscm_span){text, text ? strlen(text) : 0};
}

static dscm_blob *allocate(size_t size)
{
    dscm_blob *blob = malloc(sizeof *blob + size);
    if (!blob) return NULL;
    atomic_init(&blob->references, 1);
    blob->size = size;
    return blob;
}

dscm_blob *dscm_blob_copy(const void *bytes, size_t size)
{
    dscm_blob *blob = allocate(size);
    if (blob && size) memcpy(blob->bytes, bytes, size);
    return blob;
}

static void put(uint8_t *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) out[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *in, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) value |= (uint64_t)in[i] << (8 * i);
    return value;
}

dscm_blob *dscm_blob_pack(const dscm_span *fields, size_t count)
{
    size_t size = 8 + 8 * count;
    if (count > DSCM_BLOB_FIELDS_MAX) return NULL;
    for (size_t i = 0; i < count; i++) size += fields[i].size + 1;
    dscm_blob *blob = allocate(size);
    if (!blob) return NULL;
    memcpy(blob->bytes, magic, sizeof magic);
    put(blob->bytes + 4, count, 4);
    uint8_t *at = blob->bytes + 8 + 8 * count;
    for (size_t i = 0; i < count; i++) {
        put(blob->bytes + 8 + 8 * i, fields[i].size, 8);
        if (fields[i].size) memcpy(at, fields[i].data, fields[i].size);
        at += fields[i].size;
        *at++ = 0;
    }
    return blob;
}

dscm_blob *dscm_blob_ref(dscm_blob *blob)
{
    if (blob) atomic_fetch_add(&blob->references, 1);
    return blob;
}

void dscm_blob_unref(dscm_blob *blob)
{
    if (blob && atomic_fetch_sub(&blob->references, 1) == 1) free(blob);
}

bool dscm_blob_valid(const void *bytes, size_t size)
{
    const uint8_t *b = bytes;
    if (size < 8 || memcmp(b, magic, sizeof magic) != 0) return false;
    uint64_t count = get(b + 4, 4);
    if (count > DSCM_BLOB_FIELDS_MAX || size < 8 + 8 * count) return false;
    uint64_t left = size - 8 - 8 * count, at = 8 + 8 * count;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t field = get(b + 8 + 8 * i, 8);
        if (field >= left || b[at + field] != 0) return false;
        left -= field + 1;
        at += field + 1;
    }
    return left == 0;
}

size_t dscm_blob_count_in(const void *bytes)
{
    return (size_t)get((const uint8_t *)bytes + 4, 4);
}

size_t dscm_blob_count(const dscm_blob *blob)
{
    return dscm_blob_count_in(blob->bytes);
}

dscm_span dscm_blob_field_in(const void *bytes, size_t index)
{
    const uint8_t *b = bytes;
    size_t count = dscm_blob_count_in(bytes), at = 8 + 8 * count;
    if (index >= count) return (dscm_span){"", 0};
    for (size_t i = 0; i < index; i++) at += (size_t)get(b + 8 + 8 * i, 8) + 1;
    return (dscm_span){b + at, (size_t)get(b + 8 + 8 * index, 8)};
}

dscm_span dscm_blob_field(const dscm_blob *blob, size_t index)
{
    return dscm_blob_field_in(blob->bytes, index);
}

const char *dscm_blob_text(const dscm_blob *blob, size_t index)
{
    return dscm_blob_field(blob, index).data;
}
