#include "core/data/pictures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/image/jpeg.h"
#include "core/image/png.h"
#include "core/image/resize.h"

#define FILE_LIMIT  ((size_t)256 << 20)
#define BATCH_FILES 256 /* as dscm_source_read promises */
#define SAMPLE      256 /* pictures that decide between grey and colour */
/* Channels that differ by more show colour; compression alone stays below. */
#define COLOUR_DIFFERENCE 24

/* What became of one file of a batch. */
typedef struct decoded {
    dscm_picture picture; /* of its own size, or fitted */
    bool resized, coloured;
    dscm_error error;
} decoded;

typedef struct reading {
    dscm_pictures *p;
    const dscm_source *source;
    const dscm_source_piece *pieces; /* of this batch */
    decoded *results;                /* (BATCH_FILES) */
    dscm_team *team;
    size_t channels;
    bool fit;          /* h and w were given */
    const char *first; /* name of the picture that gave the size */
} reading;

void dscm_pictures_close(dscm_pictures *p)
{
    dscm_free(p->pixels);
    dscm_free(p->missing);
    p->pixels = NULL;
    p->missing = NULL;
}

static bool shows_colour(const dscm_picture *p)
{
    if (p->c != 3) return false;
    for (size_t i = 0; i < p->h * p->w; i++) {
        const uint8_t *v = p->pixels + 3 * i;
        if (abs(v[0] - v[1]) > COLOUR_DIFFERENCE || abs(v[1] - v[2]) > COLOUR_DIFFERENCE ||
            abs(v[0] - v[2]) > COLOUR_DIFFERENCE)
            return true;
    }
    return false;
}

static dscm_code decode(decoded *d, const dscm_source_piece *piece, const reading *r,
                        dscm_error *err)
{
    const dscm_picture_limits limits = {.side = 65500, .pixels = (size_t)1 << 27};
    size_t side = r->fit ? (r->p->h > r->p->w ? r->p->h : r->p->w) : 0;
    if (dscm_png_is(piece->bytes, piece->size))
        return dscm_png_decode(&d->picture, piece->bytes, piece->size, r->channels,
                               r->channels == 1 ? 0 : 255, &limits, err);
    if (dscm_jpeg_is(piece->bytes, piece->size))
        return dscm_jpeg_decode(&d->picture, piece->bytes, piece->size, r->channels, side, &limits,
                                err);
    return dscm_fail(err, DSCM_E_FORMAT, "neither a PNG nor a JPEG file");
}

static dscm_code fit(decoded *d, size_t h, size_t w, dscm_error *err)
{
    dscm_picture out = {.h = h, .w = w, .c = d->picture.c, .pixels = malloc(h * w * d->picture.c)};
    if (!out.pixels) return dscm_fail(err, DSCM_E_MEMORY, "no memory for an image");
    dscm_code code = out.c == 1 ? dscm_resize_fit(out.pixels, h, w, &d->picture, 0, err)
                                : dscm_resize_crop(out.pixels, h, w, &d->picture, err);
    dscm_picture_free(&d->picture);
    d->picture = out;
    d->resized = true;
    return code;
}

static void decode_one(void *arg, size_t i, int worker)
{
    reading *r = arg;
    decoded *d = &r->results[i];
    const dscm_source_piece *piece = &r->pieces[i];
    (void)worker;
    *d = (decoded){.error = piece->error};
    if (!piece->bytes || decode(d, piece, r, &d->error) != DSCM_OK) return;
    d->coloured = shows_colour(&d->picture);
    if (r->fit && (d->picture.h != r->p->h || d->picture.w != r->p->w))
        (void)fit(d, r->p->h, r->p->w, &d->error); /* a failure stays in d->error */
}

/* ---- grey or colour ---- */
static dscm_code look(void *arg, const dscm_source_piece *pieces, size_t count, dscm_error *err)
{
    reading *r = arg;
    (void)err;
    r->pieces = pieces;
    dscm_team_run(r->team, count, decode_one, r);
    for (size_t i = 0; i < count; i++) {
        r->p->looked_at += r->results[i].error.code == DSCM_OK;
        r->p->coloured += r->results[i].coloured;
        dscm_picture_free(&r->results[i].picture);
    }
    return DSCM_OK;
}

static dscm_code decide_channels(reading *r, const dscm_layout *l, dscm_error *err)
{
    dscm_pictures *p = r->p;
    bool *sample = dscm_alloc(r->source->count, sizeof *sample, r->source->path, err);
    if (!sample) return DSCM_E_MEMORY;
    for (size_t i = 0; i < r->source->count; i++)
        sample[i] = l->wanted[i] && (p->count <= SAMPLE || p->places[i] < SAMPLE);
    r->channels = 3;
    dscm_code code = dscm_source_read(r->source, sample, FILE_LIMIT, look, r, err);
    dscm_free(sample);
    p->c = 100 * p->coloured > p->looked_at ? 3 : 1;
    return code;
}

/* ---- reading ---- */
static void note_unreadable(reading *r, size_t place, const char *name, const dscm_error *why)
{
    dscm_pictures *p = r->p;
    p->missing[place] = true;
    if (p->unreadable++ == 0)
        snprintf(p->first_unreadable, sizeof p->first_unreadable, "%s: %s", name, why->message);
}

/* The first picture decides the size when none was given. */
static dscm_code settle_size(reading *r, const dscm_picture *first, const char *name,
                             dscm_error *err)
{
    dscm_pictures *p = r->p;
    size_t size;
    if (!r->fit) {
        p->h = first->h;
        p->w = first->w;
    }
    r->first = name;
    if (!dscm_size_mul(p->h * p->w, p->c * p->count, &size) || size > (size_t)64 << 30)
        return dscm_fail(err, DSCM_E_LIMIT,
                         "%s: %zu pictures of %zux%zu are more than 64 GiB; --size makes them "
                         "smaller",
                         r->source->path, p->count, p->w, p->h);
    p->pixels = dscm_alloc(size, 1, r->source->path, err);
    return p->pixels ? DSCM_OK : DSCM_E_MEMORY;
}

static dscm_code place_one(reading *r, const dscm_source_piece *piece, decoded *d, dscm_error *err)
{
    dscm_pictures *p = r->p;
    const char *name = r->source->files[piece->file].name;
    size_t place = p->places[piece->file];
    dscm_code code = DSCM_OK;
    if (d->error.code == DSCM_E_MEMORY)
        return dscm_fail(err, d->error.code, "%s", d->error.message);
    if (d->error.code != DSCM_OK) {
        note_unreadable(r, place, name, &d->error);
        return DSCM_OK;
    }
    if (!p->pixels) code = settle_size(r, &d->picture, name, err);
    if (code != DSCM_OK) return code;
    if (d->picture.h != p->h || d->picture.w != p->w)
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "%s: pictures of different sizes: %s has %zux%zu pixels, %s %zux%zu; "
                         "--size N or WIDTHxHEIGHT brings them to one",
                         r->source->path, r->first, p->w, p->h, name, d->picture.w, d->picture.h);
    size_t pixels = p->h * p->w * p->c;
    memcpy(p->pixels + place * pixels, d->picture.pixels, pixels);
    p->resized += d->resized;
    return DSCM_OK;
}

static dscm_code take(void *arg, const dscm_source_piece *pieces, size_t count, dscm_error *err)
{
    reading *r = arg;
    dscm_code code = DSCM_OK;
    r->pieces = pieces;
    dscm_team_run(r->team, count, decode_one, r);
    for (size_t i = 0; i < count; i++) {
        if (code == DSCM_OK) code = place_one(r, &pieces[i], &r->results[i], err);
        dscm_picture_free(&r->results[i].picture);
    }
    return code;
}

static dscm_code check_unreadable(const dscm_pictures *p, const char *path, dscm_error *err)
{
    if (p->unreadable < p->count && (p->unreadable <= 1 || 100 * p->unreadable <= p->count))
        return DSCM_OK;
    return dscm_fail(err, DSCM_E_FORMAT, "%s: %zu of %zu pictures cannot be read, the first is %s",
                     path, p->unreadable, p->count, p->first_unreadable);
}

dscm_code dscm_pictures_read(dscm_pictures *p, const dscm_source *source, const dscm_layout *layout,
                             dscm_team *team, dscm_error *err)
{
    reading r = {.p = p, .source = source, .team = team, .fit = p->h != 0};
    p->count = layout->count;
    p->missing = dscm_alloc(p->count, sizeof *p->missing, source->path, err);
    r.results = dscm_alloc(BATCH_FILES, sizeof *r.results, source->path, err);
    dscm_code code = p->missing && r.results ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK && !p->c) code = decide_channels(&r, layout, err);
    r.channels = p->c;
    if (code == DSCM_OK) code = dscm_source_read(source, layout->wanted, FILE_LIMIT, take, &r, err);
    if (code == DSCM_OK) code = check_unreadable(p, source->path, err);
    dscm_free(r.results);
    if (code != DSCM_OK) dscm_pictures_close(p);
    return code;
}
