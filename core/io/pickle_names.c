/* The names that the pickle of a checkpoint may refer to. */
#include <string.h>

#include "core/io/tensors_internal.h"

static const struct {
    const char *module, *name;
    dscm_pickle_kind kind;
    dscm_dtype dtype;
} globals[] = {
    {"torch._utils", "_rebuild_tensor_v2", DSCM_PICKLE_REBUILD_TENSOR, DSCM_F32},
    {"torch._utils", "_rebuild_parameter", DSCM_PICKLE_REBUILD_PARAMETER, DSCM_F32},
    {"collections", "OrderedDict", DSCM_PICKLE_ORDERED_DICT, DSCM_F32},
    {"torch", "FloatStorage", DSCM_PICKLE_STORAGE, DSCM_F32},
    {"torch", "HalfStorage", DSCM_PICKLE_STORAGE, DSCM_F16},
    {"torch", "BFloat16Storage", DSCM_PICKLE_STORAGE, DSCM_BF16},
    {"torch", "DoubleStorage", DSCM_PICKLE_STORAGE, DSCM_F64},
    {"torch", "LongStorage", DSCM_PICKLE_STORAGE, DSCM_I64},
    {"torch", "IntStorage", DSCM_PICKLE_STORAGE, DSCM_I32},
    {"torch", "ShortStorage", DSCM_PICKLE_STORAGE, DSCM_I16},
    {"torch", "CharStorage", DSCM_PICKLE_STORAGE, DSCM_I8},
    {"torch", "ByteStorage", DSCM_PICKLE_STORAGE, DSCM_U8},
    {"torch", "BoolStorage", DSCM_PICKLE_STORAGE, DSCM_BOOL},
};

/* Names beginning or ending as given here (NULL: any) stand for values that are not looked at. */
static const struct {
    const char *module, *begin, *end;
} others[] = {
    {"torch", NULL, "Storage"},
    {"torch", "float", NULL},
    {"torch", "bfloat", NULL},
    {"torch", "int", NULL},
    {"torch", "uint", NULL},
    {"torch", "complex", NULL},
    {"torch", "bool", NULL},
    {"torch", "device", NULL},
    {"torch", "Size", NULL},
    {"torch.storage", NULL, "Storage"},
    {"torch._utils", "_rebuild_", NULL},
    {"torch.serialization", "_get_layout", NULL},
    {"numpy", NULL, NULL},
    {"numpy.core.multiarray", NULL, NULL},
    {"numpy._core.multiarray", NULL, NULL},
    {"argparse", "Namespace", NULL},
    {"collections", "defaultdict", NULL},
    {"collections", "Counter", NULL},
    {"_codecs", "encode", NULL},
    {"builtins", "set", NULL},
    {"builtins", "dict", NULL},
    {"builtins", "list", NULL},
    {"pathlib", NULL, "Path"},
};

static bool is_text(const char *text, size_t length, const char *wanted)
{
    return strlen(wanted) == length && memcmp(wanted, text, length) == 0;
}

static bool is_other(const char *module, size_t module_length, const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        const char *begin = others[i].begin ? others[i].begin : "";
        const char *end = others[i].end ? others[i].end : "";
        size_t b = strlen(begin), e = strlen(end);
        if (is_text(module, module_length, others[i].module) && length >= b && length >= e &&
            memcmp(name, begin, b) == 0 && memcmp(name + length - e, end, e) == 0)
            return true;
    }
    return false;
}

bool dscm_pickle_name_find(dscm_pickle_kind *kind, dscm_dtype *dtype, const char *module,
                           size_t module_length, const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++) {
        if (!is_text(module, module_length, globals[i].module) ||
            !is_text(name, length, globals[i].name))
            continue;
        *kind = globals[i].kind;
        *dtype = globals[i].dtype;
        return true;
    }
    *kind = DSCM_PICKLE_OTHER;
    *dtype = DSCM_F32;
    return is_other(module, module_length, name, length);
}
