/* The tensor set: opening, access, conversion; loading and saving of parameter tables. */
#include "core/io/tensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/io/finite.h"
#include "core/io/tensors_internal.h"

size_t dscm_dtype_size(dscm_dtype dtype)
{
    static const size_t sizes[DSCM_DTYPE_COUNT] = {
        [DSCM_F16] = 2, [DSCM_BF16] = 2, [DSCM_F32] = 4, [DSCM_F64] = 8, [DSCM_I64] = 8,
        [DSCM_I32] = 4, [DSCM_I16] = 2,  [DSCM_I8] = 1,  [DSCM_U8] = 1,  [DSCM_BOOL] = 1};
    return sizes[dtype];
}

/* FNV-1a (Fowler, Noll, Vo). */
static size_t hash_name(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return (size_t)(h ^ h >> 32);
}

/* Slot of a name, or the free one where it belongs; the table is never full. */
static uint32_t *find_slot(const dscm_tensors *set, const char *name)
{
    size_t at = hash_name(name) % set->slots_count;
    while (set->slots[at] && strcmp(set->items[set->slots[at] - 1].info.name, name) != 0)
        at = (at + 1) % set->slots_count;
    return &set->slots[at];
}

/* Twice the room for items, and a table of names four times as long. */
static dscm_code grow(dscm_tensors *set, dscm_error *err)
{
    size_t capacity = set->capacity ? 2 * set->capacity : 64;
    stored_tensor *items = dscm_alloc(capacity, sizeof *items, "tensor list", err);
    uint32_t *slots = items ? dscm_alloc(4 * capacity, sizeof *slots, "tensor names", err) : NULL;
    if (!slots) {
        dscm_free(items);
        return DSCM_E_MEMORY;
    }
    if (set->count) memcpy(items, set->items, set->count * sizeof *items);
    dscm_free(set->items);
    dscm_free(set->slots);
    set->items = items;
    set->capacity = capacity;
    set->slots = slots;
    set->slots_count = 4 * capacity;
    dscm_tensors_index(set);
    return DSCM_OK;
}

void dscm_tensors_index(dscm_tensors *set)
{
    if (set->slots_count) memset(set->slots, 0, set->slots_count * sizeof *set->slots);
    for (size_t i = 0; i < set->count; i++)
        *find_slot(set, set->items[i].info.name) = (uint32_t)(i + 1);
}

dscm_code dscm_tensors_add(dscm_tensors *set, const char *name, const stored_tensor *item,
                           dscm_error *err)
{
    if (set->count == DSCM_TENSORS_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: more than %d tensors", set->path,
                         DSCM_TENSORS_MAX);
    if (set->count == set->capacity) {
        dscm_code code = grow(set, err);
        if (code != DSCM_OK) return code;
    }
    uint32_t *slot = find_slot(set, name);
    if (*slot)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: tensor \"%s\" appears twice", set->path, name);
    char *copy = dscm_strdup(name, err);
    if (!copy) return DSCM_E_MEMORY;
    set->items[set->count] = *item;
    set->items[set->count++].info.name = copy;
    *slot = (uint32_t)set->count;
    return DSCM_OK;
}

/* Files that people mistake for weights, named for what they are; NULL: not one of them. */
static const char *other_kind(const unsigned char *bytes, size_t size)
{
    static const struct {
        size_t at;
        const char *text, *kind;
    } kinds[] = {
        {0, "version https://git-lfs", "a git-lfs pointer, not the file; run git lfs pull"},
        {257, "ustar",
         "a tar archive, the PyTorch format before 0.4; save it again with a newer "
         "torch.save, or unpack it"},
        {0, "\x89HDF\r\n", "an HDF5 file (Keras); PyTorch or safetensors files are read"},
        {0, "GGUF", "a GGUF file; PyTorch or safetensors files are read"},
        {0, "\x1f\x8b", "a gzip file; unpack it"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t length = strlen(kinds[i].text);
        if (size >= kinds[i].at + length && memcmp(bytes + kinds[i].at, kinds[i].text, length) == 0)
            return kinds[i].kind;
    }
    size_t at = 0;
    while (at < size && at < 64 && strchr(" \t\r\n", bytes[at]) && bytes[at]) at++;
    if (size > at + 5 && (strncasecmp((const char *)bytes + at, "<!doc", 5) == 0 ||
                          strncasecmp((const char *)bytes + at, "<html", 5) == 0))
        return "a web page (HTML), not the file; the download needs another address or a login";
    return NULL;
}

static dscm_code read_content(dscm_tensors *set, dscm_error *err)
{
    const char *other = other_kind(set->bytes, set->size);
    if (other) return dscm_fail(err, DSCM_E_FORMAT, "%s: %s", set->path, other);
    if (set->size >= 4 && memcmp(set->bytes, "PK\3\4", 4) == 0) return dscm_torch_read(set, err);
    /* A safetensors header of 128 + 256n bytes begins with the same two bytes; its text tells. */
    bool text = set->size > 8 && set->bytes[8] == '{';
    if (!text && set->size >= 2 && set->bytes[0] == 0x80 && set->bytes[1] <= 5)
        return dscm_fail(
            err, DSCM_E_FORMAT,
            "%s: a bare pickle, the PyTorch format before 1.6; save it again with a newer "
            "torch.save",
            set->path);
    return dscm_safetensors_read(set, err);
}

dscm_code dscm_tensors_open_memory(dscm_tensors **out, const void *bytes, size_t size,
                                   const char *name, dscm_error *err)
{
    *out = NULL;
    dscm_tensors *set = dscm_alloc(1, sizeof *set, "tensor file", err);
    if (!set) return DSCM_E_MEMORY;
    set->bytes = bytes;
    set->size = size;
    dscm_code code = DSCM_E_MEMORY;
    set->path = dscm_strdup(name, err);
    if (set->path) code = read_content(set, err);
    if (code == DSCM_E_MEMORY && set->path) dscm_error_prefix(err, "%s", set->path);
    if (code != DSCM_OK) {
        dscm_tensors_free(set);
        return code;
    }
    *out = set;
    return DSCM_OK;
}

static dscm_code map_file(const char *path, void **bytes, size_t *size, dscm_error *err)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return dscm_fail(err, errno == ENOENT ? DSCM_E_NOT_FOUND : DSCM_E_IO, "%s: cannot open: %s",
                         path, strerror(errno));
    dscm_code code = DSCM_OK;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        code = dscm_fail(err, DSCM_E_IO, "%s: not a regular file", path);
    } else if (info.st_size == 0) {
        code = dscm_fail(err, DSCM_E_FORMAT, "%s: the file is empty", path);
    } else {
        *size = (size_t)info.st_size;
        *bytes = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (*bytes == MAP_FAILED)
            code = dscm_fail(err, DSCM_E_IO, "%s: cannot map: %s", path, strerror(errno));
    }
    close(fd);
    return code;
}

dscm_code dscm_tensors_open(dscm_tensors **out, const char *path, dscm_error *err)
{
    void *bytes = NULL;
    size_t size = 0;
    *out = NULL;
    dscm_code code = map_file(path, &bytes, &size, err);
    if (code != DSCM_OK) return code;
    code = dscm_tensors_open_memory(out, bytes, size, path, err);
    if (code != DSCM_OK)
        munmap(bytes, size);
    else
        (*out)->mapped = true;
    return code;
}

void dscm_tensors_free(dscm_tensors *set)
{
    if (!set) return;
    for (size_t i = 0; i < set->count; i++) dscm_free((char *)set->items[i].info.name);
    for (size_t i = 0; i < 2 * set->metadata_count; i++) dscm_free(set->metadata[i]);
    if (set->mapped) munmap((void *)set->bytes, set->size);
    dscm_free(set->metadata);
    dscm_free(set->items);
    dscm_free(set->slots);
    dscm_free(set->path);
    dscm_free(set);
}

void dscm_tensors_release(const dscm_tensors *set, const void *data, size_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)data, to = from + size;
    from = (from + page - 1) / page * page;
    to = to / page * page;
    if (set->mapped && from < to) madvise((void *)from, to - from, MADV_DONTNEED);
}

size_t dscm_tensors_count(const dscm_tensors *set)
{
    return set->count;
}

const dscm_tensor_info *dscm_tensors_info(const dscm_tensors *set, size_t index)
{
    return &set->items[index].info;
}

const dscm_tensor_info *dscm_tensors_find(const dscm_tensors *set, const char *name)
{
    uint32_t slot = set->count ? *find_slot(set, name) : 0;
    return slot ? &set->items[slot - 1].info : NULL;
}

const char *dscm_tensors_metadata(const dscm_tensors *set, const char *key)
{
    for (size_t i = 0; i < set->metadata_count; i++)
        if (strcmp(set->metadata[2 * i], key) == 0) return set->metadata[2 * i + 1];
    return NULL;
}

/* ---- conversion ---- */
static double element(dscm_dtype dtype, const unsigned char *p)
{
    uint16_t u16;
    float f32;
    double f64;
    int64_t i64;
    int32_t i32;
    int16_t i16;
    switch (dtype) {
    case DSCM_F16:
        memcpy(&u16, p, 2);
        return (double)dscm_half_to_float(u16);
    case DSCM_BF16:
        memcpy(&u16, p, 2);
        return (double)dscm_bf16_to_float(u16);
    case DSCM_F32:
        memcpy(&f32, p, 4);
        return (double)f32;
    case DSCM_F64:
        memcpy(&f64, p, 8);
        return f64;
    case DSCM_I64:
        memcpy(&i64, p, 8);
        return (double)i64;
    case DSCM_I32:
        memcpy(&i32, p, 4);
        return i32;
    case DSCM_I16:
        memcpy(&i16, p, 2);
        return i16;
    case DSCM_I8:
        return (signed char)*p;
    default:
        return *p;
    }
}

/* Where element `index` in C order is stored. */
static const unsigned char *place(const stored_tensor *t, size_t index)
{
    size_t at = index;
    if (!t->contiguous) {
        at = 0;
        for (int d = t->info.ndim - 1; d >= 0; d--) {
            at += index % t->info.dims[d] * t->strides[d];
            index /= t->info.dims[d];
        }
    }
    return t->data + at * dscm_dtype_size(t->info.dtype);
}

static const stored_tensor *stored(const dscm_tensor_info *info)
{
    return (const stored_tensor *)info; /* info is the first member */
}

dscm_code dscm_tensors_read_f32(const dscm_tensors *set, const dscm_tensor_info *info, float *out,
                                dscm_error *err)
{
    const stored_tensor *t = stored(info);
    (void)set;
    (void)err;
    if (t->contiguous && info->dtype == DSCM_F32) {
        memcpy(out, t->data, info->count * sizeof *out);
        return DSCM_OK;
    }
    for (size_t i = 0; i < info->count; i++) out[i] = (float)element(info->dtype, place(t, i));
    return DSCM_OK;
}

dscm_code dscm_tensors_read_f64(const dscm_tensors *set, const dscm_tensor_info *info, double *out,
                                dscm_error *err)
{
    (void)set;
    (void)err;
    for (size_t i = 0; i < info->count; i++) out[i] = element(info->dtype, place(stored(info), i));
    return DSCM_OK;
}

/* ---- parameter tables ---- */
static void shape_text(char *out, size_t size, const size_t *dims, int ndim)
{
    size_t used = (size_t)snprintf(out, size, "(");
    for (int d = 0; d < ndim && used < size; d++)
        used += (size_t)snprintf(out + used, size - used, d ? ",%zu" : "%zu", dims[d]);
    if (used < size) snprintf(out + used, size - used, ")");
}

/* The configuration key that decides a parameter's presence and shape most likely. */
static const char *likely_key(const char *name)
{
    static const char *const hints[][2] = {{"label_emb", "num_classes"},
                                           {".qkv", "attention_resolutions or channel_mult"},
                                           {".proj_out", "attention_resolutions"},
                                           {".op.", "resblock_updown or conv_resample"},
                                           {".conv.", "resblock_updown or conv_resample"},
                                           {"emb_layers", "use_scale_shift_norm or model_channels"},
                                           {"skip_connection", "channel_mult"},
                                           {"positional_embedding", "image_size or pool"},
                                           {"out.2", "out_channels, learn_sigma or pool"},
                                           {"out.", "pool or out_channels"},
                                           {"time_embed", "model_channels"},
                                           {"input_blocks.0", "in_channels or model_channels"}};
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++)
        if (strstr(name, hints[i][0])) return hints[i][1];
    return "channel_mult or num_res_blocks";
}

dscm_code dscm_params_find_tensor(const dscm_tensor_info **out, const dscm_param *p,
                                  const dscm_tensors *set, dscm_error *err)
{
    char want[96], got[96];
    const dscm_tensor_info *t = *out = dscm_tensors_find(set, p->name);
    shape_text(want, sizeof want, p->dims, p->ndim);
    if (!t)
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "%s: parameter \"%s\" %s is missing; check %s in the configuration",
                         set->path, p->name, want, likely_key(p->name));
    bool same = t->ndim == p->ndim;
    for (int d = 0; same && d < p->ndim; d++) same = t->dims[d] == p->dims[d];
    if (same) return DSCM_OK;
    shape_text(got, sizeof got, t->dims, t->ndim);
    return dscm_fail(err, DSCM_E_MISMATCH,
                     "%s: parameter \"%s\" has shape %s, the network needs %s; check %s in the "
                     "configuration",
                     set->path, p->name, got, want, likely_key(p->name));
}

void dscm_tensors_release_tensor(const dscm_tensors *set, const dscm_tensor_info *info)
{
    if (stored(info)->contiguous)
        dscm_tensors_release(set, stored(info)->data, info->count * dscm_dtype_size(info->dtype));
}

dscm_code dscm_params_view(const dscm_params *table, dscm_param_view *views, bool *viewable,
                           const dscm_tensors *set, dscm_error *err)
{
    *viewable = true;
    for (size_t i = 0; i < table->count; i++) {
        const dscm_tensor_info *info;
        dscm_code code = dscm_params_find_tensor(&info, &table->items[i], set, err);
        if (code != DSCM_OK) return code;
        const stored_tensor *t = stored(info);
        views[i] = (dscm_param_view){.data = t->data,
                                     .type = info->dtype == DSCM_F16    ? DSCM_STORE_F16
                                             : info->dtype == DSCM_BF16 ? DSCM_STORE_BF16
                                                                        : DSCM_STORE_F32};
        *viewable &= t->contiguous && info->dtype <= DSCM_F32;
    }
    return DSCM_OK;
}

dscm_code dscm_params_load(const dscm_params *table, float *values, const dscm_tensors *set,
                           size_t *unused, dscm_error *err)
{
    for (size_t i = 0; i < table->count; i++) {
        const dscm_tensor_info *t;
        dscm_code code = dscm_params_find_tensor(&t, &table->items[i], set, err);
        if (code == DSCM_OK)
            code = dscm_tensors_read_f32(set, t, values + table->items[i].offset, err);
        if (code != DSCM_OK) return code;
    }
    if (unused) *unused = set->count - table->count;
    return DSCM_OK;
}

static dscm_tensor_out *list_params(const dscm_params *table, const float *values, dscm_error *err)
{
    dscm_tensor_out *list = dscm_alloc(table->count, sizeof *list, "tensor list", err);
    for (size_t i = 0; list && i < table->count; i++)
        list[i] = (dscm_tensor_out){.name = table->items[i].name,
                                    .dims = table->items[i].dims,
                                    .ndim = table->items[i].ndim,
                                    .data = values ? values + table->items[i].offset : NULL};
    return list;
}

dscm_code dscm_params_save(const dscm_params *table, const float *values, const char *path,
                           dscm_dtype dtype, const char *const *metadata, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < table->count; i++)
        code = dscm_values_check(values + table->items[i].offset, table->items[i].count, dtype,
                                 path, table->items[i].name, err);
    if (code != DSCM_OK) return code;
    dscm_tensor_out *list = list_params(table, values, err);
    if (!list) return DSCM_E_MEMORY;
    code = dscm_safetensors_write(path, list, table->count, dtype, metadata, err);
    dscm_free(list);
    return code;
}

dscm_code dscm_params_header(unsigned char **header, size_t *size, const dscm_params *table,
                             dscm_dtype dtype, const char *path, dscm_error *err)
{
    dscm_tensor_out *list = list_params(table, NULL, err);
    if (!list) return DSCM_E_MEMORY;
    dscm_code code =
        dscm_safetensors_header(header, size, list, table->count, dtype, NULL, path, err);
    dscm_free(list);
    return code;
}
