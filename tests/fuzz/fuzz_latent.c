/* Serialised latents: a sound one of the shipped bundle with bytes changed. The input is a list of
 * (place, value), five bytes each, and ends with the new length where it is shorter than one of them. */
#include <stdlib.h>
#include <string.h>

#include "core/diffscm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static dscm_bundle *bundle;
static unsigned char *sound;
static size_t sound_size;

static void tidy(void)
{
    dscm_free(sound);
    dscm_bundle_free(bundle);
}

static void start(void)
{
    dscm_session *session = NULL;
    dscm_latent *latent = NULL;
    dscm_options options = dscm_options_defaults();
    options.steps = 2;
    void *bytes = NULL;
    if (dscm_bundle_open(&bundle, "models/mnist", NULL) != DSCM_OK ||
        dscm_session_open(&session, bundle, 1, 1, NULL) != DSCM_OK ||
        dscm_options_resolve(bundle, &options, NULL) != DSCM_OK ||
        dscm_latent_draw(session, &latent, 1, 1, 0, &options, NULL) != DSCM_OK ||
        dscm_latent_write(latent, &bytes, &sound_size, NULL) != DSCM_OK)
        abort();
    sound = bytes;
    dscm_latent_free(latent);
    dscm_session_free(session);
    atexit(tidy);
}

/* One item twice, and one that is not there. */
static void select_items(const dscm_latent *latent)
{
    const size_t twice[] = {0, 0}, beyond = dscm_latent_count(latent);
    dscm_latent *chosen = NULL;
    if (dscm_latent_select(&chosen, latent, twice, 2, NULL) == DSCM_OK &&
        dscm_latent_count(chosen) != 2)
        __builtin_trap();
    dscm_latent_free(chosen);
    chosen = NULL;
    if (dscm_latent_select(&chosen, latent, &beyond, 1, NULL) == DSCM_OK) __builtin_trap();
    dscm_latent_free(chosen);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dscm_latent *latent = NULL;
    dscm_error err = {0};
    if (!sound) start();
    size_t length = sound_size, i = 0;
    unsigned char *bytes = malloc(length);
    if (!bytes) return 0;
    memcpy(bytes, sound, length);
    for (; i + 5 <= size; i += 5) {
        uint32_t at;
        memcpy(&at, data + i, 4);
        if (at & 1u << 31) /* places near the start, where the header is */
            at &= 255;
        bytes[at % length] = data[i + 4];
    }
    if (i + 2 <= size) length = (data[i] | (size_t)data[i + 1] << 8) % (length + 1);
    if (dscm_latent_read(&latent, bundle, bytes, length, &err) == DSCM_OK) {
        if (dscm_latent_count(latent) < 1 || dscm_latent_bytes(latent) < 784) __builtin_trap();
        select_items(latent);
        dscm_latent_free(latent);
    } else if (!err.code || !err.message[0])
        __builtin_trap();
    free(bytes);
    return 0;
}
