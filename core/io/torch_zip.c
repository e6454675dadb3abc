/* PyTorch files: a zip archive of stored (never compressed) members: NAME/data.pkl, NAME/data/KEY,
 * …
 *
 * Everything is checked against the file before it is used: central directory, local headers,
 * member ranges and their overlap. zip64 is understood. Compressed members are refused, so a small
 * file cannot unfold. */
#include <stdio.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/io/tensors_internal.h"

#define END_SIZE     22
#define CENTRAL_SIZE 46
#define LOCAL_SIZE   30
#define END_SEARCH   (END_SIZE + 65535u)

typedef struct member {
    const char *name; /* inside the file, not terminated */
    size_t name_length, offset, size;
} member;

typedef struct archive {
    const dscm_tensors *set;
    member *members;
    size_t count;
    const char *root; /* "NAME/" before data.pkl */
    size_t root_length;
} archive;

static uint64_t little(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static dscm_code broken(const archive *a, const char *what, dscm_error *err)
{
    return dscm_fail(err, DSCM_E_FORMAT, "%s: damaged PyTorch (zip) file: %s", a->set->path, what);
}

/* Offset, size and entries of the central directory. */
static dscm_code find_directory(const archive *a, size_t *at, size_t *size, size_t *entries,
                                dscm_error *err)
{
    const unsigned char *b = a->set->bytes;
    size_t total = a->set->size, end = total;
    size_t lowest = total > END_SEARCH ? total - END_SEARCH : 0;
    if (total < END_SIZE) return broken(a, "too short", err);
    for (size_t p = total - END_SIZE + 1; p-- > lowest && end == total;)
        if (little(b + p, 4) == 0x06054b50u && p + END_SIZE + little(b + p + 20, 2) == total)
            end = p;
    if (end == total) return broken(a, "no end record; the file is cut off", err);
    *entries = (size_t)little(b + end + 10, 2);
    *size = (size_t)little(b + end + 12, 4);
    *at = (size_t)little(b + end + 16, 4);
    if (end >= 20 && little(b + end - 20, 4) == 0x07064b50u) { /* zip64 locator */
        uint64_t record = little(b + end - 20 + 8, 8);
        if (record > end - 20 || end - 20 - record < 56 || little(b + record, 4) != 0x06064b50u)
            return broken(a, "zip64 record outside the file", err);
        *entries = (size_t)little(b + record + 32, 8);
        *size = (size_t)little(b + record + 40, 8);
        *at = (size_t)little(b + record + 48, 8);
    }
    if (*at > end || *size > end - *at || *entries > *size / CENTRAL_SIZE)
        return broken(a, "directory outside the file", err);
    return DSCM_OK;
}

/* Values that do not fit 32 bits are in the zip64 extra field, in this order: size, packed size,
 * offset. */
static bool read_zip64(const unsigned char *extra, size_t length, uint64_t *size, uint64_t *packed,
                       uint64_t *offset)
{
    uint64_t *const wide[] = {size, packed, offset};
    bool needed = *size == 0xffffffffu || *packed == 0xffffffffu || *offset == 0xffffffffu;
    for (size_t p = 0; p + 4 <= length;) {
        size_t id = (size_t)little(extra + p, 2), bytes = (size_t)little(extra + p + 2, 2);
        if (bytes > length - p - 4) return false;
        const unsigned char *value = extra + p + 4, *stop = value + bytes;
        for (int i = 0; id == 1 && i < 3; i++) {
            if (*wide[i] != 0xffffffffu) continue;
            if (stop - value < 8) return false;
            *wide[i] = little(value, 8);
            value += 8;
        }
        if (id == 1) needed = false;
        p += 4 + bytes;
    }
    return !needed;
}

/* One entry of the directory at *at, which moves behind it. */
static dscm_code read_member(const archive *a, member *m, size_t *at, size_t directory_end,
                             size_t data_end, dscm_error *err)
{
    const unsigned char *b = a->set->bytes, *e = b + *at;
    if (directory_end - *at < CENTRAL_SIZE || little(e, 4) != 0x02014b50u)
        return broken(a, "bad directory entry", err);
    size_t name = (size_t)little(e + 28, 2), extra = (size_t)little(e + 30, 2);
    size_t comment = (size_t)little(e + 32, 2);
    uint64_t packed = little(e + 20, 4), size = little(e + 24, 4), offset = little(e + 42, 4);
    if (directory_end - *at - CENTRAL_SIZE < name + extra + comment)
        return broken(a, "directory entry runs over the end", err);
    if (!read_zip64(e + CENTRAL_SIZE + name, extra, &size, &packed, &offset))
        return broken(a, "bad zip64 field", err);
    if (little(e + 10, 2) != 0 || packed != size)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: member %.*s is compressed; torch.save stores members", a->set->path,
                         (int)name, (const char *)e + CENTRAL_SIZE);
    if (offset > data_end || data_end - offset < LOCAL_SIZE || little(b + offset, 4) != 0x04034b50u)
        return broken(a, "member outside the file", err);
    const unsigned char *local = b + offset;
    size_t head = LOCAL_SIZE + (size_t)little(local + 26, 2) + (size_t)little(local + 28, 2);
    if (little(local + 26, 2) != name || data_end - offset < head ||
        size > data_end - offset - head || memcmp(local + LOCAL_SIZE, e + CENTRAL_SIZE, name) != 0)
        return broken(a, "local header contradicts the directory", err);
    *m = (member){.name = (const char *)e + CENTRAL_SIZE,
                  .name_length = name,
                  .offset = (size_t)offset + head,
                  .size = (size_t)size};
    *at += CENTRAL_SIZE + name + extra + comment;
    return DSCM_OK;
}

static dscm_code read_directory(archive *a, dscm_error *err)
{
    size_t at = 0, size = 0, entries = 0;
    dscm_code code = find_directory(a, &at, &size, &entries, err);
    if (code != DSCM_OK) return code;
    size_t begin = at, end = at + size;
    a->members = dscm_alloc(entries, sizeof *a->members, "zip directory", err);
    if (!a->members) return DSCM_E_MEMORY;
    for (; a->count < entries; a->count++) {
        member *m = &a->members[a->count];
        code = read_member(a, m, &at, end, begin, err);
        if (code != DSCM_OK) return code;
        for (size_t i = 0; i < a->count; i++) {
            const member *o = &a->members[i];
            bool overlap = m->size && o->size && m->offset < o->offset + o->size &&
                           o->offset < m->offset + m->size;
            if (overlap) return broken(a, "members overlap", err);
        }
    }
    return DSCM_OK;
}

static const member *find_member(const archive *a, const char *rest, size_t length)
{
    for (size_t i = 0; i < a->count; i++) {
        const member *m = &a->members[i];
        if (m->name_length == a->root_length + length &&
            memcmp(m->name, a->root, a->root_length) == 0 &&
            memcmp(m->name + a->root_length, rest, length) == 0)
            return m;
    }
    return NULL;
}

static dscm_code find_storage(void *ctx, const char *key, size_t key_length,
                              const unsigned char **data, size_t *size, dscm_error *err)
{
    const archive *a = ctx;
    char rest[64];
    if (key_length > 40) return broken(a, "storage key too long", err);
    int length = snprintf(rest, sizeof rest, "data/%.*s", (int)key_length, key);
    const member *m = find_member(a, rest, (size_t)length);
    if (!m) return dscm_fail(err, DSCM_E_FORMAT, "%s: storage %s is missing", a->set->path, rest);
    *data = a->set->bytes + m->offset;
    *size = m->size;
    return DSCM_OK;
}

static dscm_code read_archive(archive *a, dscm_tensors *set, dscm_error *err)
{
    const member *pickle = NULL;
    dscm_code code = read_directory(a, err);
    if (code != DSCM_OK) return code;
    for (size_t i = 0; i < a->count && !pickle; i++) {
        const member *m = &a->members[i];
        if (m->name_length < 8 || memcmp(m->name + m->name_length - 8, "data.pkl", 8) != 0)
            continue;
        pickle = m;
        a->root = m->name;
        a->root_length = m->name_length - 8;
    }
    if (!pickle) return broken(a, "no data.pkl; is it a TorchScript or other zip?", err);
    const member *order = find_member(a, "byteorder", 9);
    if (order && (order->size != 6 || memcmp(set->bytes + order->offset, "little", 6) != 0))
        return dscm_fail(err, DSCM_E_FORMAT, "%s: not written on a little-endian machine",
                         set->path);
    dscm_pickle_source source = {.ctx = a, .storage = find_storage};
    return dscm_pickle_read(set, set->bytes + pickle->offset, pickle->size, &source, err);
}

dscm_code dscm_torch_read(dscm_tensors *set, dscm_error *err)
{
    archive a = {.set = set};
    dscm_code code = read_archive(&a, set, err);
    dscm_free(a.members);
    return code;
}
