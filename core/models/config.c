#include "core/models/config.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/io/json.h"

typedef enum key_kind {
    K_SIZE,
    K_SIZE_OR_NONE, /* null or -1 mean 0 */
    K_REAL,
    K_BOOL,
    K_REALS, /* channel_mult */
    K_SIZES, /* attention_resolutions */
    K_ORDER, /* "new" is true */
    K_PREDICTION,
    K_PARENTS,
    K_TARGET,
    K_POOL
} key_kind;

typedef struct key {
    const char *name;
    key_kind kind;
    size_t at;
    unsigned archs; /* bit per architecture that knows the key */
} key;

#define UNET     (1u << DSCM_ARCH_UNET)
#define ENCODER  (1u << DSCM_ARCH_ENCODER)
#define RESIDUAL (UNET | ENCODER)
#define CNN      (1u << DSCM_ARCH_CNN | 1u << DSCM_ARCH_PLAIN_CNN | 1u << DSCM_ARCH_RESNET)
#define VAE      (1u << DSCM_ARCH_VAE | 1u << DSCM_ARCH_MLP_VAE)
#define AE       (1u << DSCM_ARCH_AUTOENCODER)
#define ALL      (RESIDUAL | CNN | VAE | AE)

/* The one list of keys: reading and writing walk it. */
static const key keys[] = {
    {"image_size", K_SIZE, offsetof(dscm_net_config, image_size), ALL},
    {"in_channels", K_SIZE, offsetof(dscm_net_config, in_channels), ALL},
    {"out_channels", K_SIZE, offsetof(dscm_net_config, out_channels), RESIDUAL | CNN},
    {"model_channels", K_SIZE, offsetof(dscm_net_config, model_channels), RESIDUAL | CNN | VAE},
    {"num_res_blocks", K_SIZE, offsetof(dscm_net_config, num_res_blocks), RESIDUAL},
    {"channel_mult", K_REALS, 0, RESIDUAL},
    {"attention_resolutions", K_SIZES, 0, RESIDUAL},
    {"num_heads", K_SIZE, offsetof(dscm_net_config, num_heads), RESIDUAL},
    {"num_head_channels", K_SIZE_OR_NONE, offsetof(dscm_net_config, num_head_channels), RESIDUAL},
    {"num_classes", K_SIZE_OR_NONE, offsetof(dscm_net_config, num_classes), UNET},
    {"parents", K_PARENTS, 0, UNET},
    {"prediction", K_PREDICTION, 0, UNET},
    {"target", K_TARGET, 0, ENCODER},
    {"learn_sigma", K_BOOL, offsetof(dscm_net_config, learn_sigma), UNET},
    {"conv_resample", K_BOOL, offsetof(dscm_net_config, conv_resample), RESIDUAL},
    {"use_scale_shift_norm", K_BOOL, offsetof(dscm_net_config, use_scale_shift_norm), RESIDUAL},
    {"resblock_updown", K_BOOL, offsetof(dscm_net_config, resblock_updown), RESIDUAL},
    {"attention_order", K_ORDER, offsetof(dscm_net_config, new_attention_order), RESIDUAL},
    {"pool", K_POOL, 0, ENCODER},
    {"pool_attention_order", K_ORDER, offsetof(dscm_net_config, pool_new_attention_order), ENCODER},
    {"latent", K_SIZE, offsetof(dscm_net_config, latent), VAE},
    {"deep", K_BOOL, offsetof(dscm_net_config, deep), AE},
    {"dropout", K_REAL, offsetof(dscm_net_config, dropout), RESIDUAL | CNN},
};
#define KEYS (sizeof keys / sizeof keys[0])

static const char *const pools[] = {"attention", "adaptive", "spatial"};

static dscm_code wrong(const char *where, const char *name, const char *allowed, dscm_error *err)
{
    return dscm_fail(err, DSCM_E_INVALID, "%s: %s must be %s", where, name, allowed);
}

bool dscm_config_list(const json_t *value, double *out, size_t *count)
{
    *count = 0;
    if (json_is_array(value)) {
        if (json_array_size(value) > DSCM_LEVELS_MAX) return false;
        for (; *count < json_array_size(value); ++*count) {
            const json_t *item = json_array_get(value, *count);
            if (!json_is_number(item)) return false;
            out[*count] = json_number_value(item);
        }
        return true;
    }
    if (!json_is_string(value)) return false;
    for (const char *p = json_string_value(value); *p;) {
        char *end;
        if (*count == DSCM_LEVELS_MAX) return false;
        out[(*count)++] = strtod(p, &end);
        if (end == p || (*end && *end != ',')) return false;
        p = *end ? end + 1 : end;
    }
    return true;
}

static dscm_code read_lists(dscm_net_config *c, const key *k, const json_t *value,
                            const char *where, dscm_error *err)
{
    double list[DSCM_LEVELS_MAX];
    size_t count;
    if (!dscm_config_list(value, list, &count))
        return wrong(where, k->name, "a list of at most 8 numbers", err);
    if (k->kind == K_REALS) {
        memcpy(c->channel_mult, list, count * sizeof *list);
        c->levels = count;
        return DSCM_OK;
    }
    for (size_t i = 0; i < count; i++) {
        if (!(list[i] >= 1 && list[i] <= 65536) || list[i] != (double)(size_t)list[i])
            return wrong(where, k->name, "a list of positive integers", err);
        c->attention_resolutions[i] = (size_t)list[i];
    }
    c->attention_count = count;
    return DSCM_OK;
}

static dscm_code read_named(dscm_net_config *c, const key *k, const json_t *value,
                            const char *where, dscm_error *err)
{
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    if (k->kind == K_ORDER) {
        if (strcmp(text, "new") != 0 && strcmp(text, "legacy") != 0)
            return wrong(where, k->name, "\"legacy\" or \"new\"", err);
        *(bool *)((char *)c + k->at) = strcmp(text, "new") == 0;
        return DSCM_OK;
    }
    for (int i = 0; i < 3; i++)
        if (strcmp(text, pools[i]) == 0) {
            c->pool = (dscm_pool)i;
            return DSCM_OK;
        }
    return wrong(where, k->name, "\"attention\", \"adaptive\" or \"spatial\"", err);
}

static const char *const predictions[] = {"eps", "v"};

static dscm_code read_prediction(dscm_net_config *c, const json_t *value, const char *where,
                                 dscm_error *err)
{
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    for (int i = 0; i < 2; i++)
        if (strcmp(text, predictions[i]) == 0) {
            c->prediction = (dscm_prediction)i;
            return DSCM_OK;
        }
    return wrong(where, "prediction", "\"eps\" or \"v\"", err);
}

/* One of the objects below. */
static bool read_parent(dscm_parent *p, const json_t *item)
{
    const json_t *name = json_object_get(item, "name"), *mean = json_object_get(item, "mean"),
                 *std = json_object_get(item, "std"), *classes = json_object_get(item, "classes");
    bool continuous = json_is_number(mean) && json_is_number(std) && !classes;
    bool categorical = json_is_integer(classes) && json_integer_value(classes) > 0 && !mean;
    if (!json_is_string(name) || json_string_length(name) >= sizeof p->name ||
        !(continuous || categorical) || json_object_size(item) != (continuous ? 3 : 2))
        return false;
    *p = (dscm_parent){.classes = categorical ? (size_t)json_integer_value(classes) : 0,
                       .mean = json_number_value(mean),
                       .std = json_number_value(std)};
    memcpy(p->name, json_string_value(name), json_string_length(name) + 1);
    return true;
}

/* [{"name": "digit", "classes": 10}, {"name": "thickness", "mean": 2.5, "std": 0.6}] */
static dscm_code read_parents(dscm_net_config *c, const json_t *value, const char *where,
                              dscm_error *err)
{
    size_t i;
    const json_t *item;
    if (!json_is_array(value) || json_array_size(value) > DSCM_PARENTS_MAX)
        return wrong(where, "parents", "a list of at most 8 objects", err);
    c->parents_count = json_array_size(value);
    json_array_foreach(value, i, item)
    {
        if (!read_parent(&c->parents[i], item))
            return wrong(where, "parents",
                         "objects with a name of at most 39 characters and either classes or mean "
                         "and std",
                         err);
    }
    return DSCM_OK;
}

static dscm_code read_key(dscm_net_config *c, const key *k, const json_t *value, const char *where,
                          dscm_error *err)
{
    void *field = (char *)c + k->at;
    bool none = json_is_null(value) || (json_is_integer(value) && json_integer_value(value) == -1);
    switch (k->kind) {
    case K_SIZE_OR_NONE:
        if (none) {
            *(size_t *)field = 0;
            return DSCM_OK;
        } /* fall through */
    case K_SIZE:
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return wrong(where, k->name, "a non-negative integer", err);
        *(size_t *)field = (size_t)json_integer_value(value);
        return DSCM_OK;
    case K_REAL:
        if (!json_is_number(value)) return wrong(where, k->name, "a number", err);
        *(double *)field = json_number_value(value);
        return DSCM_OK;
    case K_BOOL:
        if (!json_is_boolean(value)) return wrong(where, k->name, "true or false", err);
        *(bool *)field = json_is_true(value);
        return DSCM_OK;
    case K_REALS:
    case K_SIZES:
        return read_lists(c, k, value, where, err);
    case K_PREDICTION:
        return read_prediction(c, value, where, err);
    case K_PARENTS:
        return read_parents(c, value, where, err);
    case K_TARGET:
        if (read_parent(&c->target, value) && !c->target.classes) return DSCM_OK;
        return wrong(where, "target", "an object with name, mean and std", err);
    default:
        return read_named(c, k, value, where, err);
    }
}

static dscm_code read_arch(dscm_arch *arch, const json_t *object, const char *where,
                           dscm_error *err)
{
    const json_t *value = json_object_get(object, "arch");
    if (!value) value = json_object_get(object, "kind");
    const char *text = json_is_string(value) ? json_string_value(value) : "(none)";
    dscm_code code = dscm_arch_parse(arch, text, err);
    if (code != DSCM_OK) dscm_error_prefix(err, "%s", where);
    return code;
}

/* Published configurations list the keys of score networks and classifiers together: one of the
 * other kind is passed over when its value switches nothing on. The pool of a score network never
 * does. */
static bool says_nothing(const char *name, const json_t *value, dscm_arch arch)
{
    if (!(RESIDUAL & 1u << arch)) return false;
    for (size_t i = 0; i < KEYS; i++)
        if (strcmp(name, keys[i].name) == 0 && keys[i].archs & RESIDUAL)
            return json_is_null(value) || json_is_false(value) || json_is_string(value) ||
                   (json_is_integer(value) && json_integer_value(value) <= 0);
    return false;
}

dscm_code dscm_net_config_parse(dscm_net_config *out, const json_t *object, const char *where,
                                dscm_error *err)
{
    dscm_arch arch = DSCM_ARCH_UNET;
    const char *name;
    json_t *value;
    if (!json_is_object(object)) return wrong(where, "the configuration", "an object", err);
    dscm_code code = read_arch(&arch, object, where, err);
    if (code != DSCM_OK) return code;
    *out = dscm_net_config_defaults(arch);
    json_object_foreach((json_t *)object, name, value)
    {
        size_t i = 0;
        if (strcmp(name, "arch") == 0 || strcmp(name, "kind") == 0) continue;
        while (i < KEYS && (strcmp(name, keys[i].name) != 0 || !(keys[i].archs & 1u << arch))) i++;
        if (i == KEYS && says_nothing(name, value, arch)) continue;
        if (i == KEYS)
            return dscm_fail(err, DSCM_E_UNKNOWN, "%s: unknown key \"%s\" for arch %s", where, name,
                             dscm_arch_name(arch));
        code = read_key(out, &keys[i], value, where, err);
        if (code != DSCM_OK) return code;
    }
    code = dscm_net_config_check(out, err);
    if (code != DSCM_OK) dscm_error_prefix(err, "%s", where);
    return code;
}

static json_t *write_parent(const dscm_parent *p)
{
    return p->classes
               ? json_pack("{s:s, s:I}", "name", p->name, "classes", (json_int_t)p->classes)
               : json_pack("{s:s, s:f, s:f}", "name", p->name, "mean", p->mean, "std", p->std);
}

static json_t *write_parents(const dscm_net_config *c)
{
    json_t *list = json_array();
    for (size_t i = 0; i < c->parents_count; i++)
        json_array_append_new(list, write_parent(&c->parents[i]));
    return list;
}

static json_t *write_key(const dscm_net_config *c, const key *k)
{
    const void *field = (const char *)c + k->at;
    json_t *list;
    switch (k->kind) {
    case K_SIZE:
    case K_SIZE_OR_NONE:
        return json_integer((json_int_t) * (const size_t *)field);
    case K_REAL:
        return json_real(*(const double *)field);
    case K_BOOL:
        return json_boolean(*(const bool *)field);
    case K_ORDER:
        return json_string(*(const bool *)field ? "new" : "legacy");
    case K_POOL:
        return json_string(pools[c->pool]);
    case K_PREDICTION:
        return json_string(predictions[c->prediction]);
    case K_PARENTS:
        return write_parents(c);
    case K_TARGET:
        return write_parent(&c->target);
    case K_REALS:
        list = json_array();
        for (size_t i = 0; i < c->levels; i++) {
            double v = c->channel_mult[i];
            json_array_append_new(list, v == (double)(int)v ? json_integer((int)v) : json_real(v));
        }
        return list;
    default:
        list = json_array();
        for (size_t i = 0; i < c->attention_count; i++)
            json_array_append_new(list, json_integer((json_int_t)c->attention_resolutions[i]));
        return list;
    }
}

/* Keys that came later are left out where they say nothing: configurations keep their text. */
static bool is_default(const dscm_net_config *c, const key *k)
{
    return (k->kind == K_PARENTS && !c->parents_count) ||
           (k->kind == K_TARGET && !c->target.name[0]) ||
           (k->kind == K_PREDICTION && c->prediction == DSCM_PREDICT_EPS);
}

json_t *dscm_net_config_to_json(const dscm_net_config *c)
{
    unsigned long mark = dscm_json_failures();
    json_t *object = json_object();
    json_object_set_new(object, "arch", json_string(dscm_arch_name(c->arch)));
    for (size_t i = 0; i < KEYS; i++)
        if (keys[i].archs & 1u << c->arch && !is_default(c, &keys[i]))
            json_object_set_new(object, keys[i].name, write_key(c, &keys[i]));
    return dscm_json_whole(object, mark);
}
