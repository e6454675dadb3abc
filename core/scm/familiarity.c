/* How an image looks to the score network: what the verdict "unfamiliar" is decided by. */
#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/image/blocks.h"
#include "core/scm/session.h"

#define LOSS_LEVELS 4 /* times, in the middles of as many equal parts of the schedule */
#define LOSS_SEED   16

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* x_t of `n` images with the noise of level k, the same for every image, at time t. */
static void add_noise(float *x, const float *images, const float *noise, size_t n, size_t size,
                      double signal)
{
    float keep = (float)sqrt(signal), add = (float)sqrt(1 - signal);
    for (size_t i = 0; i < n * size; i++) x[i] = keep * images[i] + add * noise[i % size];
}

static double squared_error(const float *eps, const float *noise, size_t size)
{
    double sum = 0;
    for (size_t i = 0; i < size; i++) {
        double gap = (double)eps[i] - (double)noise[i];
        sum += gap * gap;
    }
    return sum / (double)size;
}

dscm_code dscm_denoising_loss(dscm_session *s, double *out, const float *images, size_t count,
                              dscm_error *err)
{
    const dscm_schedule *schedule = &s->image->schedule;
    size_t batch = s->batch_max, size = s->size;
    float *memory = dscm_alloc((2 * batch + 1) * size, sizeof *memory, "denoising loss", err);
    if (!memory) return DSCM_E_MEMORY;
    float *x = memory, *eps = x + batch * size, *noise = eps + batch * size;
    dscm_code code = DSCM_OK;
    for (size_t i = 0; i < count; i++) out[i] = 0;
    for (size_t k = 0; code == DSCM_OK && k < LOSS_LEVELS; k++) {
        size_t t = (2 * k + 1) * schedule->steps / (2 * LOSS_LEVELS);
        dscm_rng rng = dscm_rng_make(LOSS_SEED, k);
        dscm_rng_normal(&rng, noise, size);
        for (size_t b = 0; code == DSCM_OK && b < count; b += batch) {
            size_t n = smaller(batch, count - b);
            add_noise(x, images + b * size, noise, n, size, schedule->alphas_cumprod[t]);
            code = dscm_session_eps(s, eps, x, (double)t, n, err);
            for (size_t i = 0; code == DSCM_OK && i < n; i++)
                out[b + i] += squared_error(eps + i * size, noise, size) / LOSS_LEVELS;
        }
    }
    dscm_free(memory);
    return code;
}

double dscm_contrast(const float *image, size_t count)
{
    double sum = 0, squares = 0, n = (double)count;
    for (size_t i = 0; i < count; i++) {
        double v = 127.5 * (double)image[i];
        sum += v;
        squares += v * v;
    }
    return count ? sqrt(fmax(squares / n - sum / n * (sum / n), 0)) : 0;
}

/* Cosine of the angle between two images' blocks; their means are taken less `a` and `b`. */
static double cosine(const float *x, const float *y, double a, double b)
{
    const size_t means = DSCM_BLOCKS_FEATURES / 2;
    double product = 0, xx = 0, yy = 0;
    for (size_t i = 0; i < DSCM_BLOCKS_FEATURES; i++) {
        double u = (double)x[i] - (i < means ? a : 0), v = (double)y[i] - (i < means ? b : 0);
        product += u * v;
        xx += u * u;
        yy += v * v;
    }
    return xx > 0 && yy > 0 ? product / sqrt(xx * yy) : 0;
}

static double mean_level(const float *blocks)
{
    const size_t means = DSCM_BLOCKS_FEATURES / 2;
    double sum = 0;
    for (size_t i = 0; i < means; i++) sum += (double)blocks[i];
    return sum / (double)means;
}

dscm_likeness dscm_likeness_of(const float *blocks, const float *references, size_t count)
{
    dscm_likeness out = {0, 0};
    double own = mean_level(blocks);
    for (size_t i = 0; i < count; i++, references += DSCM_BLOCKS_FEATURES) {
        out.plain = fmax(out.plain, cosine(blocks, references, 0, 0));
        out.centred = fmax(out.centred, cosine(blocks, references, own, mean_level(references)));
    }
    return out;
}

/* A copy of all items of a latent. */
static dscm_code copy_latent(dscm_latent **out, const dscm_latent *latent, dscm_error *err)
{
    size_t *all = dscm_alloc(latent->count, sizeof *all, "latent", err);
    if (!all) return DSCM_E_MEMORY;
    for (size_t i = 0; i < latent->count; i++) all[i] = i;
    dscm_code code = dscm_latent_select(out, latent, all, latent->count, err);
    dscm_free(all);
    return code;
}

dscm_code dscm_noise_only_error(dscm_session *s, double *out, const dscm_latent *latent,
                                const float *images, const dscm_progress *progress, dscm_error *err)
{
    dscm_latent *noise = NULL;
    size_t count = latent->count, floats = count * s->size;
    float *again = dscm_alloc(floats, sizeof *again, "reconstruction", err);
    dscm_query *nothing = dscm_alloc(count, sizeof *nothing, "reconstruction", err);
    dscm_code code = again && nothing ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = copy_latent(&noise, latent, err);
    if (code == DSCM_OK) code = dscm_latent_forget(s, noise, err);
    if (code == DSCM_OK)
        code = dscm_predict(s, again, noise, nothing, &latent->options, progress, err);
    if (code == DSCM_OK) dscm_images_round(again, floats);
    for (size_t i = 0; code == DSCM_OK && i < count; i++)
        out[i] = dscm_images_l1(again + i * s->size, images + i * s->size, s->size);
    dscm_latent_free(noise);
    dscm_free(again);
    dscm_free(nothing);
    return code;
}
