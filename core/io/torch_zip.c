/* PyTorch files: a zip archive of stored (never compressed) members: NAME/data.pkl, NAME/data/KEY,
 * …
 *
 * Everything is checked against the file before it is used: central directory, local headers,
 * member ranges and their overlap, checksums. zip64 is understood. Compressed members are refused,
 * so a small file cannot unfold. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/base/memory.h"
#include "core/io/tensors_internal.h"

#define END_SIZE     22
#define CENTRAL_SIZE 46
#define LOCAL_SIZE   30
#define END_SEARCH   (END_SIZE + 65535u)

typedef struct member {
    const char *name;                        /* inside the file, not terminated */
    size_t name_length, begin, offset, size; /* begin: local header; offset, size: content */
    uint32_t crc;
    bool checked; /* the content has its checksum */
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
    if (little(e + 8, 2) & 1)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: member %.*s is encrypted", a->set->path,
                         name < 200 ? (int)name : 200, (const char *)e + CENTRAL_SIZE);
    if (little(e + 10, 2) != 0 || packed != size)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: member %.*s is compressed; torch.save stores members", a->set->path,
                         name < 200 ? (int)name : 200, (const char *)e + CENTRAL_SIZE);
    if (offset > data_end || data_end - offset < LOCAL_SIZE || little(b + offset, 4) != 0x04034b50u)
        return broken(a, "member outside the file", err);
    const unsigned char *local = b + offset;
    size_t head = LOCAL_SIZE + (size_t)little(local + 26, 2) + (size_t)little(local + 28, 2);
    if (little(local + 26, 2) != name || data_end - offset < head ||
        size > data_end - offset - head || memcmp(local + LOCAL_SIZE, e + CENTRAL_SIZE, name) != 0)
        return broken(a, "local header contradicts the directory", err);
    *m = (member){.name = (const char *)e + CENTRAL_SIZE,
                  .name_length = name,
                  .begin = (size_t)offset,
                  .crc = (uint32_t)little(e + 16, 4),
                  .offset = (size_t)offset + head,
                  .size = (size_t)size};
    *at += CENTRAL_SIZE + name + extra + comment;
    return DSCM_OK;
}

static int by_place(const void *left, const void *right)
{
    const member *a = left, *b = right;
    return (a->begin > b->begin) - (a->begin < b->begin);
}

static int by_name(const void *left, const void *right)
{
    const member *a = left, *b = right;
    size_t common = a->name_length < b->name_length ? a->name_length : b->name_length;
    int order = memcmp(a->name, b->name, common);
    return order ? order : (a->name_length > b->name_length) - (a->name_length < b->name_length);
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
    }
    qsort(a->members, a->count, sizeof *a->members, by_place);
    for (size_t i = 1; i < a->count; i++)
        if (a->members[i].begin < a->members[i - 1].offset + a->members[i - 1].size)
            return broken(a, "members overlap", err);
    qsort(a->members, a->count, sizeof *a->members, by_name);
    for (size_t i = 1; i < a->count; i++)
        if (by_name(&a->members[i - 1], &a->members[i]) == 0)
            return broken(a, "a member name appears twice", err);
    return DSCM_OK;
}

/* The member root/rest, or NULL; the members are in the order of their names. */
static member *find_member(const archive *a, const char *rest)
{
    char name[512];
    int length = snprintf(name, sizeof name, "%.*s%s", (int)a->root_length, a->root, rest);
    if (length < 0 || (size_t)length >= sizeof name) return NULL;
    member wanted = {.name = name, .name_length = (size_t)length};
    return bsearch(&wanted, a->members, a->count, sizeof wanted, by_name);
}

/* Compares the content with its checksum, once. */
static dscm_code check_content(const archive *a, member *m, dscm_error *err)
{
    if (m->checked) return DSCM_OK;
    const unsigned char *content = a->set->bytes + m->offset;
    if ((uint32_t)crc32_z(crc32_z(0, NULL, 0), content, m->size) != m->crc)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: member %.*s is damaged (its checksum differs)",
                         a->set->path, m->name_length < 200 ? (int)m->name_length : 200, m->name);
    m->checked = true;
    return DSCM_OK;
}

static dscm_code find_storage(void *ctx, const char *key, size_t key_length,
                              const unsigned char **data, size_t *size, dscm_error *err)
{
    const archive *a = ctx;
    char rest[64];
    if (key_length > 40) return broken(a, "storage key too long", err);
    snprintf(rest, sizeof rest, "data/%.*s", (int)key_length, key);
    member *m = find_member(a, rest);
    if (!m) return dscm_fail(err, DSCM_E_FORMAT, "%s: storage %s is missing", a->set->path, rest);
    dscm_code code = check_content(a, m, err);
    if (code != DSCM_OK) return code;
    *data = a->set->bytes + m->offset;
    *size = m->size;
    return DSCM_OK;
}

static dscm_code read_archive(archive *a, dscm_tensors *set, dscm_error *err)
{
    member *pickle = NULL;
    dscm_code code = read_directory(a, err);
    if (code != DSCM_OK) return code;
    for (size_t i = 0; i < a->count; i++) {
        member *m = &a->members[i];
        size_t root = m->name_length - 8;
        if (m->name_length < 8 || memcmp(m->name + root, "data.pkl", 8) != 0) continue;
        if (root && m->name[root - 1] != '/') continue;
        if (pickle) return broken(a, "more than one data.pkl", err);
        pickle = m;
        a->root = m->name;
        a->root_length = root;
    }
    if (!pickle) return broken(a, "no data.pkl; another kind of zip archive", err);
    if (a->root_length > 255) return broken(a, "member names too long", err);
    if (find_member(a, "constants.pkl"))
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: a TorchScript program; a state_dict saved with torch.save is needed",
                         set->path);
    const member *order = find_member(a, "byteorder");
    if (order && (order->size != 6 || memcmp(set->bytes + order->offset, "little", 6) != 0))
        return dscm_fail(err, DSCM_E_FORMAT, "%s: not written on a little-endian machine",
                         set->path);
    code = check_content(a, pickle, err);
    if (code != DSCM_OK) return code;
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
