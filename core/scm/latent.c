/* Latents as values: selecting, writing, reading. */
#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/scm/session.h"

dscm_code dscm_latent_open(dscm_latent **out, size_t count, size_t size, size_t channels,
                           size_t extras, bool labels, dscm_error *err)
{
    size_t floats = 0;
    *out = NULL;
    if (!count || !dscm_size_mul(count, size, &floats) ||
        !dscm_size_mul(floats, 1 + extras, &floats))
        return dscm_fail(err, DSCM_E_INVALID, "latent: %zu items of %zu values", count, size);
    dscm_latent *l = dscm_alloc(1, sizeof *l, "latent", err);
    if (!l) return DSCM_E_MEMORY;
    l->x = dscm_alloc(floats, sizeof(float), "latent", err);
    l->roundtrip_verified = dscm_alloc(count, sizeof(bool), "latent", err);
    if (labels) l->labels = dscm_alloc(count, sizeof(double), "latent", err);
    if (!l->x || !l->roundtrip_verified || (labels && !l->labels)) {
        dscm_latent_free(l);
        return DSCM_E_MEMORY;
    }
    l->count = count;
    l->size = size;
    l->channels = channels;
    l->extras = extras;
    l->extra = l->x + count * size;
    *out = l;
    return DSCM_OK;
}

void dscm_latent_free(dscm_latent *latent)
{
    if (!latent) return;
    dscm_free(latent->x);
    dscm_free(latent->labels);
    dscm_free(latent->roundtrip_verified);
    dscm_free(latent);
}

size_t dscm_latent_count(const dscm_latent *latent)
{
    return latent->count;
}

bool dscm_latent_roundtrip_verified(const dscm_latent *latent, size_t item)
{
    return item < latent->count && latent->roundtrip_verified[item];
}

size_t dscm_latent_bytes(const dscm_latent *latent)
{
    size_t labels = latent->labels ? latent->count * sizeof(double) : 0;
    return sizeof *latent + labels +
           (1 + latent->extras) * latent->count * latent->size * sizeof(float);
}

dscm_code dscm_latent_select(dscm_latent **out, const dscm_latent *latent, const size_t *items,
                             size_t count, dscm_error *err)
{
    size_t bytes = latent->size * sizeof(float);
    dscm_code code = dscm_latent_open(out, count, latent->size, latent->channels, latent->extras,
                                      latent->labels != NULL, err);
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
        (*out)->roundtrip_verified[i] = latent->roundtrip_verified[items[i]];
        if (latent->labels) (*out)->labels[i] = latent->labels[items[i]];
    }
    return DSCM_OK;
}

/* Serialised form, little endian: "DSCMLAT2", model sha256 (64), sampler index, steps, dynamic,
 * count, size, channels, extras (u64 each), ratio (f64 bits), then x and the extras (f32), then for
 * a class-conditional network the items' classes (u64 each). */
#define MAGIC  "DSCMLAT2"
#define FIELDS 8
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
    *size = HEADER + 4 * floats + (l->labels ? 8 * l->count : 0);
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
                                     ratio};
    for (size_t i = 0; i < FIELDS; i++) put64(p + 72 + 8 * i, fields[i]);
    put_floats(p + HEADER, l->x, floats); /* extras follow x in one block */
    for (size_t i = 0; l->labels && i < l->count; i++)
        put64(p + HEADER + 4 * floats + 8 * i, (uint64_t)l->labels[i]);
    *bytes = p;
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
    if (f[0] >= DSCM_SAMPLERS || f[4] != want || f[5] != image->c || !f[3])
        return dscm_fail(err, DSCM_E_FORMAT, "latent: damaged");
    dscm_options options = {
        .sampler = dscm_sampler_name(f[0]), .steps = f[1], .scale = 1, .dynamic = f[2] != 0};
    memcpy(&options.ratio, &f[7], sizeof options.ratio);
    dscm_path path = {.t = NULL};
    dscm_code code =
        dscm_path_open(&path, &b->variables[b->info.image].schedule, (dscm_sampler)f[0],
                       options.steps, options.ratio, options.dynamic != 0, err);
    if (code != DSCM_OK) return code;
    size_t classes = b->variables[b->info.image].score.net->config.num_classes;
    size_t extras = dscm_path_extras(&path), item = 4 * want * (1 + extras) + (classes ? 8 : 0);
    dscm_path_close(&path);
    if (f[6] != extras || f[3] > (size - HEADER) / item || size - HEADER != item * f[3])
        return dscm_fail(err, DSCM_E_FORMAT, "latent: damaged or cut off");
    code = dscm_latent_open(out, f[3], want, f[5], extras, classes != 0, err);
    if (code != DSCM_OK) return code;
    size_t floats = (1 + extras) * f[3] * want;
    (*out)->options = options;
    memcpy((*out)->model, b->sha256, sizeof(*out)->model);
    get_floats((*out)->x, p + HEADER, floats);
    for (size_t i = 0; code == DSCM_OK && i < floats; i++)
        if (!isfinite((*out)->x[i]))
            code = dscm_fail(err, DSCM_E_FORMAT, "latent: value %zu is not finite", i);
    for (size_t i = 0; code == DSCM_OK && classes && i < f[3]; i++) {
        uint64_t label = get64(p + HEADER + 4 * floats + 8 * i);
        (*out)->labels[i] = (double)label;
        if (label >= classes)
            code = dscm_fail(err, DSCM_E_FORMAT, "latent: class %llu is not in 0..%zu",
                             (unsigned long long)label, classes - 1);
    }
    if (code != DSCM_OK) {
        dscm_latent_free(*out);
        *out = NULL;
    }
    return code;
}
