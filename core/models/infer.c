#include "core/models/infer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/io/json.h"
#include "core/models/config.h"

#define BLOCKS_MAX (DSCM_LEVELS_MAX * 17) /* levels x (16 residual blocks + 1) */

typedef enum down_kind { DOWN_NONE, DOWN_POOL, DOWN_CONV, DOWN_RES } down_kind;

/* One input block as its tensors show it. */
typedef struct block {
    bool residual, conv, attention, skip;
    size_t width; /* output channels of a residual block */
} block;

/* Everything seen, before it is explained by levels and blocks. */
typedef struct detected {
    const dscm_tensors *set;
    const char *name;
    dscm_arch arch;
    block blocks[BLOCKS_MAX];
    size_t count;                        /* input blocks */
    down_kind up[BLOCKS_MAX];            /* per output block of a score network */
    size_t channels, in_channels, first; /* first: width of the first convolution */
    size_t bottom; /* side of the attention pool's image; 0: another pool or unknown */
} detected;

/* An explanation: levels of `depth` residual blocks each. */
typedef struct plan {
    size_t levels, depth;
    down_kind down;
} plan;

static const dscm_tensor_info *find(const dscm_tensors *set, const char *format, ...)
    DSCM_PRINTF(2, 3);
static const dscm_tensor_info *find(const dscm_tensors *set, const char *format, ...)
{
    char name[DSCM_PARAM_NAME_MAX];
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    return dscm_tensors_find(set, name);
}

static void look_at_input(detected *s)
{
    for (size_t i = 0; i < BLOCKS_MAX; i++) {
        block *b = &s->blocks[i];
        const dscm_tensor_info *w = find(s->set, "input_blocks.%zu.0.in_layers.2.weight", i);
        b->residual = w && w->ndim == 4;
        if (b->residual) b->width = w->dims[0];
        b->conv = find(s->set, "input_blocks.%zu.0.op.weight", i) != NULL;
        b->attention = find(s->set, "input_blocks.%zu.1.qkv.weight", i) != NULL;
        b->skip = find(s->set, "input_blocks.%zu.0.skip_connection.weight", i) != NULL;
        if (b->residual || b->conv || i == 0) s->count = i + 1;
    }
}

static void look_at_output(detected *s)
{
    for (size_t i = 0; i < BLOCKS_MAX; i++)
        for (int k = 1; k <= 2; k++) {
            if (find(s->set, "output_blocks.%zu.%d.in_layers.2.weight", i, k)) s->up[i] = DOWN_RES;
            if (find(s->set, "output_blocks.%zu.%d.conv.weight", i, k)) s->up[i] = DOWN_CONV;
        }
}

static dscm_code look(detected *s, dscm_error *err)
{
    const dscm_tensor_info *time = find(s->set, "time_embed.0.weight");
    const dscm_tensor_info *first = find(s->set, "input_blocks.0.0.weight");
    if (!time || time->ndim != 2 || time->dims[1] == 0 || !first || first->ndim != 4)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: no diffusion UNet or classifier: time_embed.0.weight or "
                         "input_blocks.0.0.weight is missing or misshapen",
                         s->name);
    s->channels = time->dims[1];
    s->first = first->dims[0];
    s->in_channels = first->dims[1];
    s->arch =
        find(s->set, "output_blocks.0.0.in_layers.2.weight") ? DSCM_ARCH_UNET : DSCM_ARCH_ENCODER;
    look_at_input(s);
    look_at_output(s);
    const dscm_tensor_info *position = find(s->set, "out.2.positional_embedding");
    if (position && position->ndim == 2)
        while ((s->bottom + 1) * (s->bottom + 1) + 1 <= position->dims[1]) s->bottom++;
    return DSCM_OK;
}

/* ---- explaining ---- */
/* The residual blocks of a level share width and attention; the block between two levels shrinks
 * the image and has neither attention nor another width. */
static bool explains(const detected *s, plan *p)
{
    const block *first = NULL;
    for (size_t i = 1; i < s->count; i++) {
        const block *b = &s->blocks[i];
        size_t at = (i - 1) % (p->depth + 1);
        if (at == 0) first = b;
        if (at < p->depth) {
            if (!b->residual || b->width != first->width || b->attention != first->attention)
                return false;
            continue;
        }
        down_kind kind = b->conv ? DOWN_CONV : b->residual ? DOWN_RES : DOWN_POOL;
        if (p->down != DOWN_NONE && p->down != kind) return false;
        p->down = kind;
        if (b->attention || b->skip || (b->residual && b->width != first->width)) return false;
    }
    if (s->arch != DSCM_ARCH_UNET) return true;
    for (size_t i = 0; i < p->levels * (p->depth + 1); i++) {
        bool last = i % (p->depth + 1) == p->depth && i + 1 < p->levels * (p->depth + 1);
        down_kind wanted = !last || p->down == DOWN_POOL ? DOWN_NONE : p->down;
        if (s->up[i] != wanted) return false;
    }
    return true;
}

/* Side of the image at the bottom of a pyramid. */
static size_t shrunk(size_t side, size_t levels)
{
    return side >> (levels - 1);
}

static size_t given_size(const json_t *given, const char *key)
{
    json_int_t v = json_integer_value(json_object_get(given, key));
    return v > 0 ? (size_t)v : 0;
}

/* Finds the explanation. Several fit when no width or attention changes between levels; then the
 * image size or the given number of blocks decides. */
static dscm_code explain(const detected *s, const json_t *given, plan *out, dscm_error *err)
{
    size_t side = given_size(given, "image_size"), depth = given_size(given, "num_res_blocks");
    size_t found = 0, matching = 0;
    for (size_t levels = 1; levels <= DSCM_LEVELS_MAX; levels++) {
        plan p = {.levels = levels, .depth = s->count / levels - 1};
        if (s->count % levels || s->count / levels < 2 || !explains(s, &p)) continue;
        if (s->bottom && side && shrunk(side, levels) != s->bottom && found) continue;
        bool better = depth && p.depth == depth;
        if (s->bottom && side && shrunk(side, levels) == s->bottom) better = true;
        matching += better;
        if (!found || (better && matching == 1)) *out = p;
        found++;
    }
    if (!found)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: its %zu input blocks do not form levels of equal depth", s->name,
                         s->count);
    if (found > 1 && matching == 0)
        return dscm_fail(err, DSCM_E_INVALID,
                         "%s: num_res_blocks cannot be told from its %zu input blocks%s; give it",
                         s->name, s->count, depth ? " (the given one does not fit)" : "");
    return DSCM_OK;
}

/* ---- facts ---- */
static void put_size(json_t *facts, const char *key, size_t value)
{
    json_object_set_new(facts, key, json_integer((json_int_t)value));
}

static dscm_code classes_of(const detected *s, json_t *facts, dscm_error *err)
{
    const dscm_tensor_info *attention = find(s->set, "out.2.c_proj.weight");
    const dscm_tensor_info *adaptive = find(s->set, "out.3.weight");
    const dscm_tensor_info *last = find(s->set, "out.2.weight");
    if (s->arch == DSCM_ARCH_UNET) {
        const dscm_tensor_info *label = find(s->set, "label_emb.weight");
        if (!last || last->ndim != 4)
            return dscm_fail(err, DSCM_E_FORMAT, "%s: out.2.weight is missing or misshapen",
                             s->name);
        put_size(facts, "out_channels", last->dims[0]);
        json_object_set_new(facts, "learn_sigma",
                            json_boolean(last->dims[0] == 2 * s->in_channels));
        put_size(facts, "num_classes", label && label->ndim == 2 ? label->dims[0] : 0);
        return DSCM_OK;
    }
    const dscm_tensor_info *w = attention ? attention : adaptive ? adaptive : last;
    if (!w || w->ndim < 2)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: neither output blocks nor a classifier's pool (out.2, out.3)",
                         s->name);
    put_size(facts, "out_channels", w->dims[0]);
    json_object_set_new(facts, "pool",
                        json_string(attention  ? "attention"
                                    : adaptive ? "adaptive"
                                               : "spatial"));
    return DSCM_OK;
}

/* Multipliers of the levels, and attention places when the image size is known. */
static void level_facts(const detected *s, const plan *p, size_t side, json_t *facts)
{
    json_t *mult = json_array(), *places = json_array();
    for (size_t l = 0; l < p->levels; l++) {
        const block *b = &s->blocks[1 + l * (p->depth + 1)];
        double m = (double)b->width / (double)s->channels;
        json_array_append_new(mult, m == (double)(int)m ? json_integer((int)m) : json_real(m));
        if (b->attention && side >> l) json_array_append_new(places, json_integer(side >> l));
    }
    json_object_set_new(facts, "channel_mult", mult);
    if (side)
        json_object_set_new(facts, "attention_resolutions", places);
    else
        json_decref(places);
}

static dscm_code gather(const detected *s, const plan *p, size_t side, json_t *facts,
                        dscm_error *err)
{
    const dscm_tensor_info *emb = find(s->set, "middle_block.0.emb_layers.1.weight");
    const dscm_tensor_info *norm = find(s->set, "middle_block.0.out_layers.0.weight");
    if (!emb || emb->ndim != 2 || !norm || norm->ndim != 1)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: middle_block.0 is missing or misshapen", s->name);
    put_size(facts, "in_channels", s->in_channels);
    put_size(facts, "model_channels", s->channels);
    put_size(facts, "num_res_blocks", p->depth);
    json_object_set_new(facts, "use_scale_shift_norm",
                        json_boolean(emb->dims[0] == 2 * norm->dims[0]));
    if (p->levels > 1)
        json_object_set_new(facts, "resblock_updown", json_boolean(p->down == DOWN_RES));
    if (p->levels > 1 && p->down != DOWN_RES)
        json_object_set_new(facts, "conv_resample", json_boolean(p->down == DOWN_CONV));
    level_facts(s, p, side, facts);
    return classes_of(s, facts, err);
}

/* ---- comparing with what was given ---- */
/* Attention at a resolution that no level has is no attention: such entries do not count. */
static bool same_places(const double *given, size_t count, const json_t *fact, size_t side,
                        size_t levels)
{
    size_t real = 0;
    for (size_t l = 0; l < levels; l++)
        for (size_t i = 0; i < count; i++)
            if (given[i] >= 1 && given[i] <= 65536 && side / (size_t)given[i] == (size_t)1 << l) {
                const json_t *place = json_array_get(fact, real++);
                if (!place || (size_t)json_integer_value(place) != side >> l) return false;
                break;
            }
    return real == json_array_size(fact);
}

static bool same(const char *key, const json_t *given, const json_t *fact, size_t side,
                 size_t levels)
{
    double list[DSCM_LEVELS_MAX];
    size_t count = 0;
    if (json_is_array(fact)) {
        if (!dscm_config_list(given, list, &count)) return false;
        if (strcmp(key, "attention_resolutions") == 0)
            return same_places(list, count, fact, side, levels);
        bool equal = count == json_array_size(fact);
        for (size_t i = 0; equal && i < count; i++)
            equal = json_number_value(json_array_get(fact, i)) == list[i];
        return equal;
    }
    if (json_is_integer(fact) && json_is_null(given)) return json_integer_value(fact) == 0;
    if (json_is_number(fact)) {
        double v = json_number_value(given);
        return json_is_number(given) && (v == -1 ? 0 : v) == json_number_value(fact);
    }
    return json_equal(given, fact);
}

static dscm_code contradiction(const char *name, const char *key, const json_t *given,
                               const json_t *fact, dscm_error *err)
{
    char left[128] = "", right[128] = "";
    size_t l = json_dumpb(given, left, sizeof left - 1, JSON_ENCODE_ANY | JSON_COMPACT);
    size_t r = json_dumpb(fact, right, sizeof right - 1, JSON_ENCODE_ANY | JSON_COMPACT);
    return dscm_fail(err, DSCM_E_MISMATCH, "%s: %s is given as %s, but the tensors show %s", name,
                     key, l < sizeof left ? left : "(long)", r < sizeof right ? right : "(long)");
}

static dscm_code need(const detected *s, const json_t *given, dscm_error *err)
{
    if (!json_object_get(given, "attention_order"))
        return dscm_fail(err, DSCM_E_INVALID,
                         "%s: attention_order cannot be told from the tensors; give legacy or new",
                         s->name);
    if (!json_object_get(given, "num_heads") && !json_object_get(given, "num_head_channels"))
        return dscm_fail(err, DSCM_E_INVALID,
                         "%s: the number of heads cannot be told from the tensors; give num_heads "
                         "or num_head_channels",
                         s->name);
    return DSCM_OK;
}

/* The image size: given, or shown by the attention pool. */
static dscm_code find_side(const detected *s, const plan *p, const json_t *given, size_t *side,
                           dscm_error *err)
{
    *side = given_size(given, "image_size");
    if (*side && s->bottom && shrunk(*side, p->levels) != s->bottom)
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "%s: image_size is given as %zu, but the pool and %zu levels show %zu",
                         s->name, *side, p->levels, s->bottom << (p->levels - 1));
    if (!*side && s->bottom) *side = s->bottom << (p->levels - 1);
    if (*side) return DSCM_OK;
    return dscm_fail(err, DSCM_E_INVALID, "%s: image_size cannot be told from the tensors; give it",
                     s->name);
}

static dscm_code enough_memory(const detected *s, unsigned long mark, dscm_error *err)
{
    if (dscm_json_failures() == mark) return DSCM_OK;
    return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", s->name);
}

/* Facts win the merge: what was given has been compared with them. */
static dscm_code merge(dscm_net_config *out, const detected *s, const plan *p, size_t side,
                       const json_t *given, json_t *facts, unsigned long mark, dscm_error *err)
{
    const char *key;
    json_t *fact;
    json_object_set_new(facts, "arch", json_string(dscm_arch_name(s->arch)));
    put_size(facts, "image_size", side);
    dscm_code code = gather(s, p, side, facts, err);
    if (code == DSCM_OK) code = enough_memory(s, mark, err);
    if (code != DSCM_OK) return code;
    json_object_foreach(facts, key, fact)
    {
        const json_t *value = json_object_get(given, key);
        if (value && !same(key, value, fact, side, p->levels))
            return contradiction(s->name, key, value, fact, err);
    }
    if (given) json_object_update_missing(facts, (json_t *)given);
    code = enough_memory(s, mark, err);
    return code == DSCM_OK ? dscm_net_config_parse(out, facts, s->name, err) : code;
}

dscm_code dscm_net_config_infer(dscm_net_config *out, const dscm_tensors *set, const char *name,
                                const json_t *given, dscm_error *err)
{
    detected s = {.set = set, .name = name};
    plan p = {0};
    size_t side = 0;
    dscm_code code = look(&s, err);
    if (code == DSCM_OK) code = explain(&s, given, &p, err);
    if (code == DSCM_OK) code = find_side(&s, &p, given, &side, err);
    if (code == DSCM_OK) code = need(&s, given, err);
    if (code != DSCM_OK) return code;
    unsigned long mark = dscm_json_failures();
    json_t *facts = json_object();
    code = merge(out, &s, &p, side, given, facts, mark, err);
    json_decref(facts);
    return code;
}
