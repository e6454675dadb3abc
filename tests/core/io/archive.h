/* Builds zip archives and pickles byte by byte, right or with chosen faults. */
#ifndef DSCM_TESTS_ARCHIVE_H
#define DSCM_TESTS_ARCHIVE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

typedef struct buffer {
    unsigned char *bytes;
    size_t size, capacity;
} buffer;

static inline void put(buffer *b, const void *bytes, size_t size)
{
    if (b->size + size > b->capacity) {
        b->capacity = 2 * (b->size + size);
        b->bytes = realloc(b->bytes, b->capacity);
        if (!b->bytes) abort();
    }
    if (size) memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

static inline void put_text(buffer *b, const char *text)
{
    put(b, text, strlen(text));
}

static inline void put_number(buffer *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        unsigned char byte = i < 8 ? (unsigned char)(v >> (8 * i)) : 0;
        put(b, &byte, 1);
    }
}

static inline void buffer_free(buffer *b)
{
    free(b->bytes);
    *b = (buffer){0};
}

/* One member and the lies its headers tell; zeros: none. */
typedef struct entry {
    const char *name;
    const void *bytes;
    size_t size;
    int method;          /* 8: claims to be deflated */
    uint64_t claim_size; /* instead of size, in the directory */
    int64_t move;        /* added to the offset in the directory */
    uint32_t flip_crc;
    bool zip64;
} entry;

static inline void put_directory_entry(buffer *out, const entry *e, size_t at)
{
    uint64_t size = e->claim_size ? e->claim_size : e->size;
    uint64_t offset = at + (uint64_t)e->move;
    put_number(out, 0x02014b50u, 4);
    put_number(out, 0, 6); /* versions, flags */
    put_number(out, (uint64_t)e->method, 2);
    put_number(out, 0, 4); /* time and date */
    put_number(out, (uint32_t)crc32(0, e->bytes, (uInt)e->size) ^ e->flip_crc, 4);
    put_number(out, e->zip64 ? 0xffffffffu : size, 4);
    put_number(out, e->zip64 ? 0xffffffffu : size, 4);
    put_number(out, strlen(e->name), 2);
    put_number(out, e->zip64 ? 28 : 0, 2);
    put_number(out, 0, 10); /* comment, disk, attributes */
    put_number(out, e->zip64 ? 0xffffffffu : offset, 4);
    put_text(out, e->name);
    if (!e->zip64) return;
    put_number(out, 1, 2);
    put_number(out, 24, 2);
    put_number(out, size, 8);
    put_number(out, size, 8);
    put_number(out, offset, 8);
}

/* A zip archive of stored members; wide: with the zip64 end record. */
static inline buffer build_zip(const entry *entries, size_t count, bool wide)
{
    buffer out = {0}, directory = {0};
    for (size_t i = 0; i < count; i++) {
        const entry *e = &entries[i];
        put_directory_entry(&directory, e, out.size);
        put_number(&out, 0x04034b50u, 4);
        put_number(&out, 0, 4);
        put_number(&out, (uint64_t)e->method, 2);
        put_number(&out, 0, 4);
        put_number(&out, (uint32_t)crc32(0, e->bytes, (uInt)e->size), 4);
        put_number(&out, e->size, 4);
        put_number(&out, e->size, 4);
        put_number(&out, strlen(e->name), 2);
        put_number(&out, 0, 2);
        put_text(&out, e->name);
        put(&out, e->bytes, e->size);
    }
    size_t at = out.size;
    put(&out, directory.bytes, directory.size);
    if (wide) {
        size_t record = out.size;
        put_number(&out, 0x06064b50u, 4);
        put_number(&out, 44, 8);
        put_number(&out, 0, 12);
        put_number(&out, count, 8);
        put_number(&out, count, 8);
        put_number(&out, directory.size, 8);
        put_number(&out, at, 8);
        put_number(&out, 0x07064b50u, 4);
        put_number(&out, 0, 4);
        put_number(&out, record, 8);
        put_number(&out, 1, 4);
    }
    put_number(&out, 0x06054b50u, 4);
    put_number(&out, 0, 4);
    put_number(&out, wide ? 0xffff : count, 2);
    put_number(&out, wide ? 0xffff : count, 2);
    put_number(&out, wide ? 0xffffffffu : directory.size, 4);
    put_number(&out, wide ? 0xffffffffu : at, 4);
    put_number(&out, 0, 2);
    buffer_free(&directory);
    return out;
}

static inline void pickle_text(buffer *b, const char *text)
{
    put_text(b, "X");
    put_number(b, strlen(text), 4);
    put_text(b, text);
}

static inline void pickle_int(buffer *b, int64_t v)
{
    put_text(b, "J");
    put_number(b, (uint64_t)v, 4);
}

/* One vector of floats as torch.save writes it: key and call of _rebuild_tensor_v2. */
static inline void pickle_tensor(buffer *b, const char *name, const char *key, int64_t elements,
                                 int64_t offset, int64_t count, int64_t stride)
{
    pickle_text(b, name);
    put_text(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_text(b, "storage");
    put_text(b, "ctorch\nFloatStorage\n");
    pickle_text(b, key);
    pickle_text(b, "cpu");
    pickle_int(b, elements);
    put_text(b, "tQ");
    pickle_int(b, offset);
    pickle_int(b, count);
    put_text(b, "\x85");
    pickle_int(b, stride);
    put_text(b, "\x85\x89"
                "ccollections\nOrderedDict\n)RtR");
}

/* A file with the pickle and eight floats 0..7 as storage "0". */
static inline buffer torch_file(const buffer *pickle)
{
    static const float floats[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    const entry entries[] = {
        {.name = "archive/data.pkl", .bytes = pickle->bytes, .size = pickle->size},
        {.name = "archive/data/0", .bytes = floats, .size = sizeof floats}};
    return build_zip(entries, 2, false);
}

#endif
