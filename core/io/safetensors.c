/* safetensors: an 8-byte length, a JSON header {name: {dtype, shape, data_offsets}}, then the data.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/io/file.h"
#include "core/io/json.h"
#include "core/io/tensors_internal.h"

#define HEADER_MAX       ((size_t)8 << 20)
#define HEADER_DEPTH_MAX 3 /* file object, tensor object, list of sizes */

static const char *const dtype_names[DSCM_DTYPE_COUNT] = {
    [DSCM_F16] = "F16", [DSCM_BF16] = "BF16", [DSCM_F32] = "F32", [DSCM_F64] = "F64",
    [DSCM_I64] = "I64", [DSCM_I32] = "I32",   [DSCM_I16] = "I16", [DSCM_I8] = "I8",
    [DSCM_U8] = "U8",   [DSCM_BOOL] = "BOOL"};

/* A non-negative integer of at most SIZE_MAX / 2, or false. */
static bool get_size(const json_t *value, size_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (size_t)json_integer_value(value);
    return true;
}

static dscm_code parse_shape(stored_tensor *t, const json_t *shape, const char *path,
                             const char *name, dscm_error *err)
{
    if (!json_is_array(shape) || json_array_size(shape) > DSCM_TENSOR_DIMS_MAX)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: tensor \"%s\": shape is not a list of at most %d sizes", path, name,
                         DSCM_TENSOR_DIMS_MAX);
    t->info.ndim = (int)json_array_size(shape);
    t->info.count = 1;
    for (int d = 0; d < t->info.ndim; d++)
        if (!get_size(json_array_get(shape, (size_t)d), &t->info.dims[d]) ||
            !dscm_size_mul(t->info.count, t->info.dims[d], &t->info.count))
            return dscm_fail(err, DSCM_E_FORMAT, "%s: tensor \"%s\": impossible size in its shape",
                             path, name);
    return DSCM_OK;
}

static dscm_code parse_tensor(dscm_tensors *set, const char *name, const json_t *entry,
                              size_t begin, dscm_error *err)
{
    stored_tensor t = {.contiguous = true};
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const json_t *offsets = json_object_get(entry, "data_offsets");
    size_t from = 0, to = 0, bytes = 0;
    int kind = 0;
    while (dtype && kind < DSCM_DTYPE_COUNT && strcmp(dtype, dtype_names[kind]) != 0) kind++;
    if (!dtype || kind == DSCM_DTYPE_COUNT)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: tensor \"%s\": dtype %s is not supported",
                         set->path, name, dtype ? dtype : "(none)");
    t.info.dtype = (dscm_dtype)kind;
    dscm_code code = parse_shape(&t, json_object_get(entry, "shape"), set->path, name, err);
    if (code != DSCM_OK) return code;
    bool good =
        json_array_size(offsets) == 2 && get_size(json_array_get(offsets, 0), &from) &&
        get_size(json_array_get(offsets, 1), &to) && from <= to && to <= set->size - begin &&
        dscm_size_mul(t.info.count, dscm_dtype_size(t.info.dtype), &bytes) && to - from == bytes;
    if (!good)
        return dscm_fail(
            err, DSCM_E_FORMAT,
            "%s: tensor \"%s\": data_offsets [%zu, %zu] do not fit its shape or the file's "
            "%zu data bytes",
            set->path, name, from, to, set->size - begin);
    t.data = set->bytes + begin + from;
    return dscm_tensors_add(set, name, &t, err);
}

static dscm_code parse_metadata(dscm_tensors *set, json_t *object, dscm_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return dscm_fail(err, DSCM_E_FORMAT, "%s: __metadata__ is not an object", set->path);
    set->metadata =
        dscm_alloc(2 * json_object_size(object), sizeof *set->metadata, "metadata", err);
    if (!set->metadata) return DSCM_E_MEMORY;
    json_object_foreach(object, key, value)
    {
        if (!json_is_string(value))
            return dscm_fail(err, DSCM_E_FORMAT, "%s: __metadata__ \"%s\" is not a string",
                             set->path, key);
        size_t at = 2 * set->metadata_count++;
        set->metadata[at] = dscm_strdup(key, err);
        set->metadata[at + 1] = dscm_strdup(json_string_value(value), err);
        if (!set->metadata[at] || !set->metadata[at + 1]) return DSCM_E_MEMORY;
    }
    return DSCM_OK;
}

static size_t byte_count(const stored_tensor *t)
{
    return t->info.count * dscm_dtype_size(t->info.dtype);
}

static int by_place(const void *left, const void *right)
{
    const stored_tensor *a = *(const stored_tensor *const *)left;
    const stored_tensor *b = *(const stored_tensor *const *)right;
    if (a->data != b->data) return a->data < b->data ? -1 : 1;
    return (byte_count(a) > byte_count(b)) - (byte_count(a) < byte_count(b));
}

/* Tensors must follow each other without overlap or hole, in any order. */
static dscm_code check_layout(const dscm_tensors *set, size_t begin, dscm_error *err)
{
    const stored_tensor **order = dscm_alloc(set->count, sizeof *order, "tensor order", err);
    if (!order) return DSCM_E_MEMORY;
    for (size_t i = 0; i < set->count; i++) order[i] = &set->items[i];
    qsort(order, set->count, sizeof *order, by_place);
    const unsigned char *at = set->bytes + begin;
    dscm_code code = DSCM_OK;
    for (size_t i = 0; i < set->count && code == DSCM_OK; i++) {
        if (order[i]->data < at)
            code = dscm_fail(err, DSCM_E_FORMAT, "%s: tensors \"%s\" and \"%s\" overlap", set->path,
                             order[i - 1]->info.name, order[i]->info.name);
        else if (order[i]->data > at)
            code = dscm_fail(err, DSCM_E_FORMAT,
                             "%s: %zu data bytes before tensor \"%s\" belong to no tensor",
                             set->path, (size_t)(order[i]->data - at), order[i]->info.name);
        at = order[i]->data + byte_count(order[i]);
    }
    dscm_free(order);
    if (code == DSCM_OK && at != set->bytes + set->size)
        code = dscm_fail(err, DSCM_E_FORMAT, "%s: the last %zu data bytes belong to no tensor",
                         set->path, (size_t)(set->bytes + set->size - at));
    return code;
}

/* Nesting and number of lists and objects before the JSON library sees the text: a header of many
 * empty objects would unfold to a hundred times its size. */
static bool plausible_header(const unsigned char *text, size_t length)
{
    size_t depth = 0, opened = 0;
    bool quoted = false;
    for (size_t i = 0; i < length; i++) {
        if (quoted && text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            quoted = !quoted;
        } else if (!quoted && (text[i] == '{' || text[i] == '[')) {
            opened++;
            if (++depth > HEADER_DEPTH_MAX) return false;
        } else if (!quoted && depth && (text[i] == '}' || text[i] == ']')) {
            depth--;
        }
    }
    return opened <= 3 * (size_t)DSCM_TENSORS_MAX + 2;
}

static dscm_code parse_header(dscm_tensors *set, json_t *header, size_t begin, dscm_error *err)
{
    const char *name;
    json_t *entry;
    if (!json_is_object(header))
        return dscm_fail(err, DSCM_E_FORMAT, "%s: the header is not a JSON object", set->path);
    json_object_foreach(header, name, entry)
    {
        dscm_code code = strcmp(name, "__metadata__") == 0
                             ? parse_metadata(set, entry, err)
                             : parse_tensor(set, name, entry, begin, err);
        if (code != DSCM_OK) return code;
    }
    return check_layout(set, begin, err);
}

dscm_code dscm_safetensors_read(dscm_tensors *set, dscm_error *err)
{
    uint64_t length = 0;
    if (set->size >= 8)
        for (int i = 7; i >= 0; i--) length = length << 8 | set->bytes[i];
    if (set->size < 10 || length < 2 || length > set->size - 8 || length > HEADER_MAX)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: neither safetensors nor a PyTorch file, or cut off (%zu bytes)",
                         set->path, set->size);
    if (!plausible_header(set->bytes + 8, (size_t)length))
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: the safetensors header nests deeper than %d or lists more than %d "
                         "tensors",
                         set->path, HEADER_DEPTH_MAX, DSCM_TENSORS_MAX);
    json_error_t parse;
    json_t *header = dscm_json_read((const char *)set->bytes + 8, (size_t)length,
                                    JSON_REJECT_DUPLICATES, &parse);
    if (!header)
        return dscm_fail(err, dscm_json_code(&parse), "%s: safetensors header: %s at byte %d",
                         set->path, parse.text, parse.position);
    dscm_code code = parse_header(set, header, (size_t)length + 8, err);
    json_decref(header);
    return code;
}

/* ---- writing ---- */
static void convert(unsigned char *out, const float *in, size_t count, dscm_dtype dtype)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t v = dtype == DSCM_F16 ? dscm_float_to_half(in[i]) : dscm_float_to_bf16(in[i]);
        memcpy(out + 2 * i, &v, 2);
    }
}

static size_t element_count(const dscm_tensor_out *t)
{
    size_t count = 1;
    for (int d = 0; d < t->ndim; d++) count *= t->dims[d];
    return count;
}

/* "__metadata__", as pairs of names and texts; NULL: no memory for all of them. */
static json_t *metadata_object(const char *const *metadata)
{
    json_t *object = json_object();
    bool whole = object != NULL;
    for (size_t i = 0; whole && metadata[i]; i += 2)
        whole = json_object_set_new(object, metadata[i], json_string(metadata[i + 1])) == 0;
    if (whole) return object;
    json_decref(object);
    return NULL;
}

/* Header text, or NULL: no memory for all of it. */
static char *header_text(const dscm_tensor_out *tensors, size_t count, dscm_dtype dtype,
                         const char *const *metadata)
{
    unsigned long mark = dscm_json_failures();
    json_t *header = json_object();
    size_t at = 0;
    if (metadata && metadata[0])
        json_object_set_new(header, "__metadata__", metadata_object(metadata));
    for (size_t i = 0; i < count; i++) {
        json_t *shape = json_array();
        for (int d = 0; d < tensors[i].ndim; d++)
            json_array_append_new(shape, json_integer((json_int_t)tensors[i].dims[d]));
        size_t end = at + element_count(&tensors[i]) * dscm_dtype_size(dtype);
        json_object_set_new(header, tensors[i].name,
                            json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtype_names[dtype], "shape",
                                      shape, "data_offsets", (json_int_t)at, (json_int_t)end));
        at = end;
    }
    bool whole = json_object_size(header) == count + (metadata && metadata[0] ? 1 : 0);
    char *text = whole ? dscm_json_write(header, JSON_COMPACT, mark) : NULL;
    json_decref(header);
    return text;
}

/* Data pieces behind the header: float32 tensors as they lie in memory, others converted into one
 * block that the caller releases. */
static dscm_code data_pieces(dscm_piece *pieces, unsigned char **block,
                             const dscm_tensor_out *tensors, size_t count, dscm_dtype dtype,
                             dscm_error *err)
{
    size_t width = dscm_dtype_size(dtype), total = 0;
    for (size_t i = 0; i < count; i++) total += element_count(&tensors[i]) * width;
    if (dtype != DSCM_F32) {
        *block = dscm_alloc(total, 1, "converted tensors", err);
        if (!*block) return DSCM_E_MEMORY;
    }
    unsigned char *at = *block;
    for (size_t i = 0; i < count; i++) {
        size_t elements = element_count(&tensors[i]);
        pieces[i] = (dscm_piece){.data = tensors[i].data, .size = elements * width};
        if (dtype == DSCM_F32) continue;
        convert(at, tensors[i].data, elements, dtype);
        pieces[i].data = at;
        at += elements * width;
    }
    return DSCM_OK;
}

dscm_code dscm_safetensors_header(unsigned char **header, size_t *size,
                                  const dscm_tensor_out *tensors, size_t count, dscm_dtype dtype,
                                  const char *const *metadata, const char *path, dscm_error *err)
{
    char *text = header_text(tensors, count, dtype, metadata);
    size_t length = text ? strlen(text) : 0, padded = (length + 7) / 8 * 8;
    *size = 8 + padded;
    *header = text ? dscm_alloc(*size, 1, path, err) : NULL;
    if (!*header) {
        free(text);
        return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", path);
    }
    for (int i = 0; i < 8; i++) (*header)[i] = (unsigned char)((uint64_t)padded >> (8 * i));
    memset(*header + 8, ' ', padded);
    memcpy(*header + 8, text, length);
    free(text);
    return DSCM_OK;
}

dscm_code dscm_safetensors_write(const char *path, const dscm_tensor_out *tensors, size_t count,
                                 dscm_dtype dtype, const char *const *metadata, dscm_error *err)
{
    unsigned char *header = NULL, *block = NULL;
    size_t size = 0;
    dscm_code code =
        dscm_safetensors_header(&header, &size, tensors, count, dtype, metadata, path, err);
    if (code != DSCM_OK) return code;
    dscm_piece *pieces = dscm_alloc(count + 1, sizeof *pieces, path, err);
    code = pieces ? data_pieces(pieces + 1, &block, tensors, count, dtype, err) : DSCM_E_MEMORY;
    if (code == DSCM_OK) {
        pieces[0] = (dscm_piece){header, size};
        code = dscm_file_replace(path, pieces, count + 1, err);
    }
    dscm_free(header);
    dscm_free(block);
    dscm_free(pieces);
    return code;
}
