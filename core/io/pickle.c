/* The pickle of a state dict, read without executing anything.
 *
 * A stack machine over plain values, protocols 2 to 5. Only the opcodes that torch.save emits for
 * checkpoints are known, and only the names of pickle_names.c may be referred to: they are
 * recognised, never called. Anything else is refused by its opcode or name. Tensors of types that no
 * network here uses are left out. Memory is bounded by the pickle's size.
 */
#include <stdio.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/io/tensors_internal.h"

#define PICKLE_MAX  ((size_t)2 << 20) /* the largest published network needs 0.15 MB */
#define DEPTH_MAX   8                 /* nested dictionaries */
#define COLLECT_MAX 128 /* dictionaries walked: shared ones could be met without end */
#define UNFOLD_MAX  4   /* times the file: tensors may share a storage, but not without end */

typedef enum value_kind {
    V_NONE,
    V_INT,
    V_TEXT,
    V_TUPLE,
    V_DICT,
    V_OPAQUE, /* lists, floats and objects that nothing needs */
    V_GLOBAL,
    V_STORAGE,
    V_TENSOR,
    V_MARK
} value_kind;

typedef struct value {
    value_kind kind;
    int64_t number;   /* int; dscm_pickle_kind; identity of a dict; index of a tensor */
    const char *text; /* text or storage key, inside the pickle */
    size_t length;    /* of text; items of a tuple; elements of a storage */
    size_t first;     /* tuple: first item in `pool` */
    dscm_dtype dtype; /* storage, and its class */
} value;

typedef struct list {
    void *items;
    size_t count, capacity, size;
} list;

typedef struct pair {
    int64_t dict;
    value key, item;
} pair;

typedef struct machine {
    dscm_tensors *set;
    const dscm_pickle_source *source;
    const unsigned char *p, *end;
    list stack, pool, memo, pairs, tensors; /* value, value, value, pair, stored_tensor */
    int64_t dicts;
    size_t collected; /* dictionaries walked */
    size_t unfolded;  /* bytes of the tensors found */
    dscm_error *err;
} machine;

static dscm_code bad(machine *m, const char *what)
{
    return dscm_fail(m->err, DSCM_E_FORMAT, "%s: data.pkl: %s", m->set->path, what);
}

static dscm_code push_item(machine *m, list *l, const void *item)
{
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 256;
        void *items = dscm_alloc(capacity, l->size, "pickle", m->err);
        if (!items) return DSCM_E_MEMORY;
        if (l->count) memcpy(items, l->items, l->count * l->size);
        dscm_free(l->items);
        l->items = items;
        l->capacity = capacity;
    }
    memcpy((char *)l->items + l->count++ * l->size, item, l->size);
    return DSCM_OK;
}

static dscm_code push(machine *m, value v)
{
    return push_item(m, &m->stack, &v);
}

static value *stack_at(machine *m, size_t from_top)
{
    return from_top < m->stack.count ? (value *)m->stack.items + m->stack.count - 1 - from_top
                                     : NULL;
}

static bool take(machine *m, size_t count, const unsigned char **bytes)
{
    if ((size_t)(m->end - m->p) < count) return false;
    *bytes = m->p;
    m->p += count;
    return true;
}

static uint64_t little(const unsigned char *p, size_t bytes)
{
    uint64_t v = 0;
    for (size_t i = bytes; i-- > 0;) v = v << 8 | p[i];
    return v;
}

/* ---- tuples, dictionaries, memo ---- */
static dscm_code make_tuple(machine *m, size_t count)
{
    if (count > m->stack.count) return bad(m, "tuple of more items than there are");
    value tuple = {.kind = V_TUPLE, .length = count, .first = m->pool.count};
    for (size_t i = 0; i < count; i++) {
        dscm_code code = push_item(m, &m->pool, stack_at(m, count - 1 - i));
        if (code != DSCM_OK) return code;
    }
    m->stack.count -= count;
    return push(m, tuple);
}

/* Items above the topmost mark, or false without one. */
static bool above_mark(machine *m, size_t *count)
{
    for (size_t i = 0; i < m->stack.count; i++)
        if (stack_at(m, i)->kind == V_MARK) {
            *count = i;
            return true;
        }
    return false;
}

/* Puts the top 2n items into the dictionary below them (and below a mark). */
static dscm_code set_items(machine *m, size_t count, bool marked)
{
    value *dict = stack_at(m, count + marked);
    if (count % 2 == 0 && dict && dict->kind == V_OPAQUE) {
        m->stack.count -= count + marked;
        return DSCM_OK;
    }
    if (count % 2 || !dict || dict->kind != V_DICT)
        return bad(m, "items for something that is no dict");
    int64_t id = dict->number;
    for (size_t i = count; i > 0; i -= 2) {
        pair entry = {.dict = id, .key = *stack_at(m, i - 1), .item = *stack_at(m, i - 2)};
        dscm_code code = push_item(m, &m->pairs, &entry);
        if (code != DSCM_OK) return code;
    }
    m->stack.count -= count + marked;
    return DSCM_OK;
}

static dscm_code memo_put(machine *m, uint64_t index)
{
    value none = {.kind = V_NONE};
    if (!m->stack.count) return bad(m, "memo of nothing");
    /* Picklers count up by one; old ones start at 1. Gaps would let few bytes fill much memory. */
    if (index > m->memo.count + 1) return bad(m, "memo index out of order");
    while (m->memo.count <= index) {
        dscm_code code = push_item(m, &m->memo, &none);
        if (code != DSCM_OK) return code;
    }
    ((value *)m->memo.items)[index] = *stack_at(m, 0);
    return DSCM_OK;
}

static dscm_code memo_get(machine *m, uint64_t index)
{
    if (index >= m->memo.count) return bad(m, "memo index never written");
    return push(m, ((value *)m->memo.items)[index]);
}

/* ---- what torch builds ---- */
static const value *tuple_item(const machine *m, const value *tuple, size_t i)
{
    return (const value *)m->pool.items + tuple->first + i;
}

/* ("storage", storage class, key, location, elements) */
static dscm_code persistent(machine *m)
{
    value *id = stack_at(m, 0);
    if (!id || id->kind != V_TUPLE || id->length != 5) return bad(m, "unknown persistent object");
    const value *cls = tuple_item(m, id, 1), *key = tuple_item(m, id, 2),
                *count = tuple_item(m, id, 4);
    if (cls->kind == V_GLOBAL && cls->number == DSCM_PICKLE_OTHER) {
        *id = (value){.kind = V_OPAQUE};
        return DSCM_OK;
    }
    if (cls->kind != V_GLOBAL || cls->number != DSCM_PICKLE_STORAGE || key->kind != V_TEXT ||
        count->kind != V_INT || count->number < 0)
        return bad(m, "unknown persistent object");
    value storage = {
        .kind = V_STORAGE, .text = key->text, .dtype = cls->dtype, .number = count->number};
    storage.length = key->length;
    m->stack.count--;
    return push(m, storage);
}

/* Sizes and strides are tuples of non-negative integers of one length. */
static bool read_geometry(const machine *m, stored_tensor *t, const value *sizes,
                          const value *strides)
{
    if (sizes->kind != V_TUPLE || strides->kind != V_TUPLE || sizes->length != strides->length ||
        sizes->length > DSCM_TENSOR_DIMS_MAX)
        return false;
    t->info.ndim = (int)sizes->length;
    t->info.count = 1;
    for (size_t d = 0; d < sizes->length; d++) {
        const value *n = tuple_item(m, sizes, d), *s = tuple_item(m, strides, d);
        if (n->kind != V_INT || s->kind != V_INT || n->number < 0 || s->number < 0) return false;
        t->info.dims[d] = (size_t)n->number;
        t->strides[d] = (size_t)s->number;
        if (!dscm_size_mul(t->info.count, t->info.dims[d], &t->info.count)) return false;
    }
    size_t expected = 1;
    t->contiguous = true;
    for (size_t d = sizes->length; d-- > 0;) {
        t->contiguous &= t->info.dims[d] == 1 || t->strides[d] == expected;
        expected *= t->info.dims[d];
    }
    return true;
}

/* Last element's place plus one, or false on overflow. */
static bool extent(const stored_tensor *t, size_t offset, size_t *out)
{
    size_t last = offset;
    for (int d = 0; d < t->info.ndim; d++) {
        size_t step = 0;
        if (t->info.dims[d] == 0) {
            *out = offset;
            return true;
        }
        if (!dscm_size_mul(t->info.dims[d] - 1, t->strides[d], &step) ||
            !dscm_size_add(last, step, &last))
            return false;
    }
    return dscm_size_add(last, 1, out);
}

/* _rebuild_tensor_v2(storage, offset, sizes, strides, …) */
static dscm_code rebuild_tensor(machine *m, const value *args, value *out)
{
    stored_tensor t = {0};
    size_t need = 0, size = 0;
    if (args->length < 4) return bad(m, "tensor without storage, offset, size and stride");
    const value *storage = tuple_item(m, args, 0), *offset = tuple_item(m, args, 1);
    if (storage->kind == V_OPAQUE) return DSCM_OK; /* of another type */
    if (storage->kind != V_STORAGE || offset->kind != V_INT || offset->number < 0 ||
        !read_geometry(m, &t, tuple_item(m, args, 2), tuple_item(m, args, 3)))
        return bad(m, "tensor with impossible storage, offset, size or stride");
    dscm_code code =
        m->source->storage(m->source->ctx, storage->text, storage->length, &t.data, &size, m->err);
    if (code != DSCM_OK) return code;
    size_t width = dscm_dtype_size(storage->dtype);
    if (!extent(&t, (size_t)offset->number, &need) || need > (size_t)storage->number ||
        (size_t)storage->number > size / width)
        return dscm_fail(m->err, DSCM_E_FORMAT, "%s: a tensor reaches beyond its storage data/%.*s",
                         m->set->path, (int)storage->length, storage->text);
    if (t.info.count > (size_t)storage->number)
        return dscm_fail(m->err, DSCM_E_FORMAT,
                         "%s: a tensor has more elements than its storage data/%.*s", m->set->path,
                         (int)storage->length, storage->text);
    t.info.dtype = storage->dtype;
    t.data += (size_t)offset->number * width;
    *out = (value){.kind = V_TENSOR, .number = (int64_t)m->tensors.count};
    return push_item(m, &m->tensors, &t);
}

static dscm_code reduce(machine *m)
{
    value *args = stack_at(m, 0), *callee = stack_at(m, 1), out = {.kind = V_OPAQUE};
    if (!callee || callee->kind != V_GLOBAL || args->kind != V_TUPLE)
        return bad(m, "call of a non-global");
    dscm_code code = DSCM_OK;
    switch ((dscm_pickle_kind)callee->number) {
    case DSCM_PICKLE_ORDERED_DICT:
        out = (value){.kind = V_DICT, .number = m->dicts++};
        break;
    case DSCM_PICKLE_REBUILD_TENSOR:
        code = rebuild_tensor(m, args, &out);
        break;
    case DSCM_PICKLE_REBUILD_PARAMETER:
        if (args->length < 1) return bad(m, "parameter without a tensor");
        out = *tuple_item(m, args, 0);
        break;
    case DSCM_PICKLE_STORAGE:
        return bad(m, "call of a storage class");
    case DSCM_PICKLE_OTHER:
        break;
    }
    if (code != DSCM_OK) return code;
    m->stack.count -= 2;
    return push(m, out);
}

static dscm_code push_global(machine *m, const char *module, size_t module_length, const char *name,
                             size_t length)
{
    value v = {.kind = V_GLOBAL};
    dscm_pickle_kind kind;
    if (dscm_pickle_name_find(&kind, &v.dtype, module, module_length, name, length)) {
        v.number = kind;
        return push(m, v);
    }
    return dscm_fail(m->err, DSCM_E_FORMAT,
                     "%s: data.pkl refers to %.*s.%.*s, which a checkpoint does not need; refused "
                     "(save the state_dict alone)",
                     m->set->path, module_length < 80 ? (int)module_length : 80, module,
                     length < 80 ? (int)length : 80, name);
}

static dscm_code find_global(machine *m)
{
    const char *text = (const char *)m->p;
    const unsigned char *line = memchr(m->p, '\n', (size_t)(m->end - m->p));
    const unsigned char *stop = line ? memchr(line + 1, '\n', (size_t)(m->end - line - 1)) : NULL;
    if (!stop) return bad(m, "global name is cut off");
    m->p = stop + 1;
    return push_global(m, text, (size_t)(line - (const unsigned char *)text),
                       (const char *)line + 1, (size_t)(stop - line - 1));
}

/* Protocol 4: the two names are on the stack. */
static dscm_code stack_global(machine *m)
{
    const value *name = stack_at(m, 0), *module = stack_at(m, 1);
    if (!module || module->kind != V_TEXT || name->kind != V_TEXT)
        return bad(m, "global without a name");
    value a = *module, b = *name;
    m->stack.count -= 2;
    return push_global(m, a.text, a.length, b.text, b.length);
}

/* ---- opcodes ---- */
static dscm_code push_text(machine *m, size_t length_bytes)
{
    const unsigned char *raw, *text;
    if (!take(m, length_bytes, &raw)) return bad(m, "cut off");
    uint64_t length = little(raw, length_bytes);
    if (length > (uint64_t)(m->end - m->p) || !take(m, (size_t)length, &text))
        return bad(m, "cut off");
    return push(m, (value){.kind = V_TEXT, .text = (const char *)text, .length = (size_t)length});
}

static dscm_code push_int(machine *m, size_t bytes, bool is_signed)
{
    const unsigned char *raw;
    if (!take(m, bytes, &raw)) return bad(m, "cut off");
    int64_t v = (int64_t)little(raw, bytes);
    if (is_signed && bytes == 4) v = (int32_t)v;
    return push(m, (value){.kind = V_INT, .number = v});
}

static dscm_code push_long(machine *m)
{
    const unsigned char *size, *raw;
    if (!take(m, 1, &size) || !take(m, *size, &raw)) return bad(m, "cut off");
    if (*size > 8) return bad(m, "integer of more than 8 bytes");
    int64_t v = (int64_t)little(raw, *size);
    if (*size && *size < 8 && raw[*size - 1] & 0x80) v -= (int64_t)1 << (8 * *size);
    return push(m, (value){.kind = V_INT, .number = v});
}

static dscm_code memo_op(machine *m, size_t bytes, bool put)
{
    const unsigned char *raw;
    if (!take(m, bytes, &raw)) return bad(m, "cut off");
    return put ? memo_put(m, little(raw, bytes)) : memo_get(m, little(raw, bytes));
}

/* Bytes and long integers, which nothing needs. */
static dscm_code push_bytes(machine *m, size_t length_bytes)
{
    dscm_code code = push_text(m, length_bytes);
    if (code == DSCM_OK) *stack_at(m, 0) = (value){.kind = V_OPAQUE};
    return code;
}

static dscm_code drop(machine *m, size_t count)
{
    if (count > m->stack.count) return bad(m, "stack runs empty");
    m->stack.count -= count;
    return DSCM_OK;
}

static dscm_code marked_op(machine *m, int opcode)
{
    size_t count = 0;
    if (!above_mark(m, &count)) return bad(m, "no mark");
    if (opcode == 'u') return set_items(m, count, true);
    if (opcode == 'e' || opcode == 0x90) /* appends to a list or set that nobody reads */
        return drop(m, count + 1);
    if (opcode == 0x91) { /* FROZENSET */
        m->stack.count -= count + 1;
        return push(m, (value){.kind = V_OPAQUE});
    }
    dscm_code code = make_tuple(m, count);
    if (code != DSCM_OK) return code;
    value tuple = *stack_at(m, 0);
    m->stack.count -= 2; /* the mark, too */
    return push(m, tuple);
}

/* PROTO, and the opcodes of protocol 4 and 5. */
static dscm_code newer_step(machine *m, int opcode)
{
    const unsigned char *skipped;
    switch (opcode) {
    case 0x80:
        if (!take(m, 1, &skipped)) return bad(m, "cut off");
        return *skipped <= 5 ? DSCM_OK : bad(m, "pickle protocol above 5");
    case 0x95: /* FRAME */
        return take(m, 8, &skipped) ? DSCM_OK : bad(m, "cut off");
    case 0x94: /* MEMOIZE */
        return memo_put(m, m->memo.count);
    case 0x93:
        return stack_global(m);
    case 0x8c: /* SHORT_BINUNICODE */
        return push_text(m, 1);
    case 0x8d: /* BINUNICODE8 */
        return push_text(m, 8);
    case 'C': /* SHORT_BINBYTES */
        return push_bytes(m, 1);
    case 'B':  /* BINBYTES */
    case 0x8b: /* LONG4 */
        return push_bytes(m, 4);
    case 0x8e: /* BINBYTES8 */
    case 0x96: /* BYTEARRAY8 */
        return push_bytes(m, 8);
    case 0x8f: /* EMPTY_SET */
        return push(m, (value){.kind = V_OPAQUE});
    case 0x90:
    case 0x91:
        return marked_op(m, opcode);
    case 0x81: /* NEWOBJ: as a call */
        return reduce(m);
    default:
        break;
    }
    return dscm_fail(m->err, DSCM_E_FORMAT,
                     "%s: data.pkl: opcode 0x%02x is not allowed in a state dict", m->set->path,
                     (unsigned)opcode);
}

static dscm_code step(machine *m, int opcode)
{
    const unsigned char *skipped;
    switch (opcode) {
    case 'c':
        return find_global(m);
    case 'q':
        return memo_op(m, 1, true);
    case 'r':
        return memo_op(m, 4, true);
    case 'h':
        return memo_op(m, 1, false);
    case 'j':
        return memo_op(m, 4, false);
    case '(':
        return push(m, (value){.kind = V_MARK});
    case ')':
        return make_tuple(m, 0);
    case 0x85:
        return make_tuple(m, 1);
    case 0x86:
        return make_tuple(m, 2);
    case 0x87:
        return make_tuple(m, 3);
    case 't':
    case 'u':
    case 'e':
        return marked_op(m, opcode);
    case '}':
        return push(m, (value){.kind = V_DICT, .number = m->dicts++});
    case ']':
        return push(m, (value){.kind = V_OPAQUE});
    case 's':
        return set_items(m, 2, false);
    case 'a':
        return drop(m, 1);
    case 'X':
        return push_text(m, 4);
    case 'J':
        return push_int(m, 4, true);
    case 'K':
        return push_int(m, 1, false);
    case 'M':
        return push_int(m, 2, false);
    case 0x8a:
        return push_long(m);
    case 'G': /* float: read over */
        return take(m, 8, &skipped) ? push(m, (value){.kind = V_OPAQUE}) : bad(m, "cut off");
    case 0x88:
        return push(m, (value){.kind = V_INT, .number = 1});
    case 0x89:
        return push(m, (value){.kind = V_INT});
    case 'N':
        return push(m, (value){.kind = V_NONE});
    case 'Q':
        return persistent(m);
    case 'R':
        return reduce(m);
    case 'b':
        return drop(m, 1); /* state of an ordered dict: _metadata */
    default:
        return newer_step(m, opcode);
    }
}

/* Adds the tensors of a dictionary; nested ones get "key." in front, except below "state_dict". */
static dscm_code collect(machine *m, int64_t dict, const char *prefix, int depth)
{
    if (depth > DEPTH_MAX) return bad(m, "dictionaries nest too deep");
    if (m->collected++ == COLLECT_MAX) return bad(m, "more than 128 nested dictionaries");
    for (size_t i = 0; i < m->pairs.count; i++) {
        const pair *entry = (const pair *)m->pairs.items + i;
        char name[256];
        if (entry->dict != dict || entry->key.kind != V_TEXT) continue;
        int length =
            snprintf(name, sizeof name, "%s%.*s", prefix, (int)entry->key.length, entry->key.text);
        if (length < 0 || (size_t)length >= sizeof name - 1) return bad(m, "name too long");
        dscm_code code = DSCM_OK;
        if (entry->item.kind == V_TENSOR) {
            const stored_tensor *t = (const stored_tensor *)m->tensors.items + entry->item.number;
            m->unfolded += t->info.count * dscm_dtype_size(t->info.dtype);
            if (m->unfolded / UNFOLD_MAX > m->set->size)
                return bad(m, "tensors that share storages unfold to more than 4 times the file");
            code = dscm_tensors_add(m->set, name, t, m->err);
        } else if (entry->item.kind == V_DICT) {
            bool plain = strcmp(name, "state_dict") == 0;
            if (!plain) memcpy(name + length, ".", 2);
            code = collect(m, entry->item.number, plain ? "" : name, depth + 1);
        }
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}

static dscm_code run(machine *m)
{
    while (m->p < m->end) {
        int opcode = *m->p++;
        if (opcode == '.') {
            const value *top = stack_at(m, 0);
            if (!top || top->kind != V_DICT)
                return bad(m, "the file holds no dictionary of tensors");
            return collect(m, top->number, "", 0);
        }
        dscm_code code = step(m, opcode);
        if (code != DSCM_OK) return code;
    }
    return bad(m, "cut off");
}

dscm_code dscm_pickle_read(dscm_tensors *set, const unsigned char *bytes, size_t size,
                           const dscm_pickle_source *source, dscm_error *err)
{
    machine m = {.set = set,
                 .source = source,
                 .p = bytes,
                 .end = bytes + size,
                 .stack.size = sizeof(value),
                 .pool.size = sizeof(value),
                 .memo.size = sizeof(value),
                 .pairs.size = sizeof(pair),
                 .tensors.size = sizeof(stored_tensor),
                 .err = err};
    dscm_code code = size <= PICKLE_MAX ? run(&m) : bad(&m, "larger than 2 MiB");
    dscm_free(m.stack.items);
    dscm_free(m.pool.items);
    dscm_free(m.memo.items);
    dscm_free(m.pairs.items);
    dscm_free(m.tensors.items);
    return code;
}
