/* Latents as values: selecting, writing, reading. */
#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/scm/session.h"

dscm_code dscm_latent_open(dscm_latent **out, size_t count, size_t size, size_t channels,
                           size_t extras, size_t conditions, dscm_error *err)
{
    size_t floats = 0;
    *out = NULL;
    if (!count || !dscm_size_mul(count, size, &floats) ||
        !dscm_size_mul(floats, 1 + extras, &floats))
        return dscm_fail(err, DSCM_E_INVALID, "latent: %zu items of %zu values", count, size);
    dscm_latent *l = dscm_alloc(1, sizeof *l, "latent", err);
    if (!l) return DSCM_E_MEMORY;
    l->x = dscm_alloc(floats, sizeof(float), "latent", err);
    if (conditions) l->factuals = dscm_alloc(count * conditions, sizeof(double), "latent", err);
    if (!l->x || (conditions && !l->factuals)) {
        dscm_latent_free(l);
        return DSCM_E_MEMORY;
    }
    l->count = count;
    l->size = size;
    l->channels = channels;
    l->extras = extras;
    l->conditions = conditions;
    l->extra = l->x + count * size;
    *out = l;
    return DSCM_OK;
}

void dscm_latent_free(dscm_latent *latent)
{
    if (!latent) return;
    dscm_free(latent->x);
    dscm_free(latent->factuals);
    dscm_free(latent);
}

size_t dscm_latent_count(const dscm_latent *latent)
{
    return latent->count;
}

size_t dscm_latent_bytes(const dscm_latent *latent)
{
    return sizeof *latent + latent->count * latent->conditions * sizeof(double) +
           (1 + latent->extras) * latent->count * latent->size * sizeof(float);
}

dscm_code dscm_latent_select(dscm_latent **out, const dscm_latent *latent, const size_t *items,
                             size_t count, dscm_error *err)
{
    size_t bytes = latent->size * sizeof(float);
    dscm_code code = dscm_latent_open(out, count, latent->size, latent->channels, latent->extras,
                                      latent->conditions, err);
    if (code != DSCM_OK) return code;
    (*out)->options = latent->options;
    memcpy((*out)->model, latent->model, sizeof latent->model);
    for (size_t i = 0; i < count; i++) {
        if (items[i] >= latent->count) {
            dscm_latent_free(*out);
            *out = NULL;
            return dscm_fail(err, DSCM_E_INVALID, "latent: item %zu of %zu", items[i],
                             latent->count);
        }
        memcpy((*out)->x + i * latent->size, latent->x + items[i] * latent->size, bytes);
        memcpy((*out)->extra + i * latent->extras * latent->size,
               latent->extra + items[i] * latent->extras * latent->size, latent->extras * bytes);
        for (size_t m = 0; m < latent->conditions; m++)
            (*out)->factuals[i * latent->conditions + m] =
                latent->factuals[items[i] * latent->conditions + m];
    }
    return DSCM_OK;
}

/* Serialised form, little endian: "DSCMLAT3", model sha256 (64), sampler index, steps, dynamic,
 * count, size, channels, extras, ratio (f64 bits), guidance (u64 each), then x and the extras (f32),
 * then what the score network was told, (count, conditions) f64 bits, NaN for the null block. */
#define MAGIC  "DSCMLAT3"
#define FIELDS 9
#define HEADER (8 + 64 + 8 * FIELDS)

static void put64(unsigned char *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) p[i] = (unsigned char)(v >> (8 * i));
}

static uint64_t get64(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static void put_floats(unsigned char *p, const float *in, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, in + i, 4);
        for (int k = 0; k < 4; k++) p[4 * i + (size_t)k] = (unsigned char)(bits >> (8 * k));
    }
}

static void get_floats(float *out, const unsigned char *p, size_t count)
{
    for (size_t i = 0; i < count; i++, p += 4) {
        uint32_t bits =
            (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        memcpy(out + i, &bits, 4);
    }
}

dscm_code dscm_latent_write(const dscm_latent *l, void **bytes, size_t *size, dscm_error *err)
{
    size_t floats = (1 + l->extras) * l->count * l->size;
    dscm_sampler sampler = DSCM_SAMPLER_OBELM;
    uint64_t ratio;
    dscm_code code = dscm_sampler_parse(&sampler, l->options.sampler, err);
    if (code != DSCM_OK) return code;
    *size = HEADER + 4 * floats + 8 * l->count * l->conditions;
    unsigned char *p = dscm_alloc(*size, 1, "latent", err);
    if (!p) return DSCM_E_MEMORY;
    memcpy(&ratio, &l->options.ratio, sizeof ratio);
    memcpy(p, MAGIC, 8);
    memcpy(p + 8, l->model, 64);
    const uint64_t fields[FIELDS] = {sampler,
                                     l->options.steps,
                                     l->options.dynamic != 0,
                                     l->count,
                                     l->size,
                                     l->channels,
                                     l->extras,
                                     ratio,
                                     l->options.guidance};
    for (size_t i = 0; i < FIELDS; i++) put64(p + 72 + 8 * i, fields[i]);
    put_floats(p + HEADER, l->x, floats); /* extras follow x in one block */
    for (size_t i = 0; i < l->count * l->conditions; i++) {
        uint64_t bits;
        memcpy(&bits, &l->factuals[i], sizeof bits);
        put64(p + HEADER + 4 * floats + 8 * i, bits);
    }
    *bytes = p;
    return DSCM_OK;
}

static dscm_code read_factuals(dscm_latent *l, const dscm_bundle *b, const unsigned char *p,
                               dscm_error *err)
{
    for (size_t i = 0; i < l->count * l->conditions; i++) {
        uint64_t bits = get64(p + 8 * i);
        double value;
        memcpy(&value, &bits, sizeof value);
        const dscm_variable *v = &b->infos[b->edges[b->condition_edges[i % l->conditions]].parent];
        bool label = v->kind == DSCM_CATEGORICAL && value >= 0 && value < (double)v->labels_count &&
                     value == floor(value);
        bool null = isnan(value) && dscm_bundle_has_null(b);
        if (!null && !label && !(v->kind == DSCM_CONTINUOUS && isfinite(value)))
            return dscm_fail(err, DSCM_E_FORMAT, "latent: %s: %g is no value of it", v->name,
                             value);
        l->factuals[i] = value;
    }
    return DSCM_OK;
}

dscm_code dscm_latent_read(dscm_latent **out, const dscm_bundle *b, const void *bytes, size_t size,
                           dscm_error *err)
{
    const unsigned char *p = bytes;
    const dscm_variable *image = &b->infos[b->info.image];
    uint64_t f[FIELDS];
    *out = NULL;
    if (size < HEADER || memcmp(p, MAGIC, 8) != 0)
        return dscm_fail(err, DSCM_E_FORMAT, "latent: not a serialised latent of this version");
    for (size_t i = 0; i < FIELDS; i++) f[i] = get64(p + 72 + 8 * i);
    if (memcmp(p + 8, b->sha256, 64) != 0)
        return dscm_fail(err, DSCM_E_MISMATCH, "latent: inferred with another model");
    size_t want = image->h * image->w * image->c;
    if (f[0] >= DSCM_SAMPLERS || f[4] != want || f[5] != image->c || !f[3] ||
        f[8] < DSCM_GUIDANCE_ANTI_CAUSAL || f[8] > DSCM_GUIDANCE_CONDITIONAL)
        return dscm_fail(err, DSCM_E_FORMAT, "latent: damaged");
    dscm_options options = {.sampler = dscm_sampler_name(f[0]),
                            .steps = f[1],
                            .scale = 1,
                            .guidance = (dscm_guidance)f[8],
                            .dynamic = f[2] != 0};
    memcpy(&options.ratio, &f[7], sizeof options.ratio);
    dscm_path path = {.t = NULL};
    dscm_code code =
        dscm_path_open(&path, &b->variables[b->info.image].schedule, (dscm_sampler)f[0],
                       options.steps, options.ratio, options.dynamic != 0, err);
    if (code != DSCM_OK) return code;
    size_t conditions = dscm_bundle_conditions(b), extras = dscm_path_extras(&path);
    size_t item = 4 * want * (1 + extras) + 8 * conditions;
    dscm_path_close(&path);
    if (f[6] != extras || f[3] > (size - HEADER) / item || size - HEADER != item * f[3])
        return dscm_fail(err, DSCM_E_FORMAT, "latent: damaged or cut off");
    code = dscm_latent_open(out, f[3], want, f[5], extras, conditions, err);
    if (code != DSCM_OK) return code;
    size_t floats = (1 + extras) * f[3] * want;
    (*out)->options = options;
    memcpy((*out)->model, b->sha256, sizeof(*out)->model);
    get_floats((*out)->x, p + HEADER, floats);
    for (size_t i = 0; code == DSCM_OK && i < floats; i++)
        if (!isfinite((*out)->x[i]))
            code = dscm_fail(err, DSCM_E_FORMAT, "latent: value %zu is not finite", i);
    if (code == DSCM_OK) code = read_factuals(*out, b, p + HEADER + 4 * floats, err);
    if (code != DSCM_OK) {
        dscm_latent_free(*out);
        *out = NULL;
    }
    return code;
}
