#include "core/train/tasks.h"

#include <math.h>

#include "core/data/idx.h"
#include "core/models/gaussian.h"
#include "core/train/augment.h"

#define VAE_VARIANCE  0.1         /* of the reconstruction, on [-1,1] */
#define AUGMENT_NOISE 0x6d6f7665u /* separates the streams of flips and shifts from all others */
#define VAE_NOISE                                                                                  \
    0x766165u /* separates the streams of the code's noise from those of augmentation */

/* Pixels of image i of the pass, valid until the next call. Asked again they are the same: their
 * augmentation comes from a stream of the sample's own. */
static const uint8_t *pixels_of_image(const shard *s, size_t i)
{
    const uint8_t *pixels = s->data->pixels + (size_t)s->images[i] * s->pixels;
    if (!s->flip && !s->shift) return pixels;
    dscm_rng rng = dscm_rng_make(s->seed ^ AUGMENT_NOISE, s->first + i);
    dscm_picture p = {pixels, s->data->h, s->data->w, s->data->c};
    uint32_t range = 2 * (uint32_t)s->shift + 1;
    bool mirrored = s->flip && dscm_rng_below(&rng, 2);
    ptrdiff_t dy = (ptrdiff_t)dscm_rng_below(&rng, range) - (ptrdiff_t)s->shift;
    ptrdiff_t dx = (ptrdiff_t)dscm_rng_below(&rng, range) - (ptrdiff_t)s->shift;
    dscm_move_picture(s->moved, &p, mirrored, dy, dx);
    return s->moved;
}

/* ---- inputs ---- */
/* Values of the parents, each block dropped alone and all together at random (Ho & Salimans 2021). */
static void parent_inputs(shard *s, size_t i, dscm_rng *rng)
{
    size_t count = s->net->config.parents_count;
    bool all = count && (double)dscm_rng_uniform(rng) < s->parent_dropout;
    for (size_t p = 0; p < count; p++) {
        bool drop = (double)dscm_rng_uniform(rng) < s->parent_dropout && count > 1;
        double value = s->parents[(size_t)s->images[i] * count + p];
        dscm_net_set_parent(s->net, s->exec, p, i, all || drop ? (double)NAN : value);
    }
}

/* x_t = √ᾱ x_0 + √(1−ᾱ) ε with t uniform; s->noise becomes ε or v, see dscm_prediction. */
static void noised_inputs(shard *s)
{
    bool v = s->net->config.prediction == DSCM_PREDICT_V;
    float *x = dscm_exec_data(s->exec, s->net->x), *t = dscm_exec_data(s->exec, s->net->t);
    for (size_t i = 0; i < s->count; i++, x += s->pixels) {
        dscm_rng rng = dscm_rng_make(s->seed, s->first + i);
        float *noise = s->noise + i * s->pixels;
        size_t step = s->t_low + dscm_rng_below(&rng, (uint32_t)(s->t_high - s->t_low));
        if (s->clean_share > 0 && (double)dscm_rng_uniform(&rng) < s->clean_share) step = s->t_low;
        float signal = (float)sqrt(s->schedule->alphas_cumprod[step]);
        float sigma = (float)sqrt(1 - s->schedule->alphas_cumprod[step]);
        dscm_rng_normal(&rng, noise, s->pixels);
        dscm_pixels_to_float(x, pixels_of_image(s, i), s->pixels);
        for (size_t p = 0; p < s->pixels; p++) {
            float clean = x[p];
            x[p] = signal * clean + sigma * noise[p];
            if (v) noise[p] = signal * noise[p] - sigma * clean;
        }
        t[i] = (float)step;
        if (s->net->config.arch == DSCM_ARCH_UNET) parent_inputs(s, i, &rng);
    }
}

static const dscm_augmentation oracle_moves = {.angle = 0.26f, .scale = 0.12f, .shift = 2.5f};
/* Wide enough that the way a thing is placed says little about which picture it came from. */
static const dscm_augmentation vae_moves = {
    .angle = 0.35f, .scale = 0.3f, .shift = 3, .shear = 0.4f, .stretch = 0.3f};

static dscm_picture picture_of(const shard *s, size_t i)
{
    return (dscm_picture){pixels_of_image(s, i), s->data->h, s->data->w, s->data->c};
}

/* x: images, moved at random where the shard augments. */
static void clean_inputs_moved(shard *s, const dscm_augmentation *m)
{
    float *x = dscm_exec_data(s->exec, s->net->x);
    for (size_t i = 0; i < s->count; i++, x += s->pixels) {
        dscm_rng rng = dscm_rng_make(s->seed, s->first + i);
        dscm_picture p = picture_of(s, i);
        if (s->augment)
            dscm_augment_picture(x, &p, m, &rng);
        else
            dscm_pixels_to_float(x, p.pixels, s->pixels);
    }
}

static void clean_inputs(shard *s)
{
    clean_inputs_moved(s, &oracle_moves);
}

/* The decoder must draw the image as it is (s->noise holds it). Where the shard augments, the encoder
 * sees a moved copy: then the code has to say what is drawn rather than where and how slanted. */
static void vae_inputs(shard *s)
{
    dscm_tensor noise = dscm_graph_find(s->net->graph, "noise");
    size_t latent = s->net->config.latent;
    clean_inputs_moved(s, &vae_moves);
    for (size_t i = 0; i < s->count; i++) {
        dscm_rng rng = dscm_rng_make(s->seed ^ VAE_NOISE, s->first + i);
        dscm_rng_normal(&rng, dscm_exec_data(s->exec, noise) + i * latent, latent);
        dscm_picture p = picture_of(s, i);
        dscm_pixels_to_float(s->noise + i * s->pixels, p.pixels, s->pixels);
    }
}

static void unit_inputs(shard *s)
{
    float *x = dscm_exec_data(s->exec, s->net->x);
    for (size_t i = 0; i < s->count; i++)
        for (size_t p = 0; p < s->pixels; p++)
            x[i * s->pixels + p] = (float)pixels_of_image(s, i)[p] / 255.0f;
}

/* ---- losses ---- */
/* mean over pixels of (out - target)^2; out may have more channels than the image (learned
 * variance, which this objective leaves alone). */
static double squared_loss(shard *s, const float *target, double weight, bool grads)
{
    size_t ci = s->data->c, co = s->net->config.out_channels, points = s->pixels / ci;
    const float *out = dscm_exec_data(s->exec, s->net->out);
    float *dout = grads ? dscm_exec_grad(s->exec, s->net->out) : NULL;
    double sum = 0, scale = weight / ((double)s->batch * (double)s->pixels);
    if (s->net->config.arch != DSCM_ARCH_UNET) co = ci;
    for (size_t p = 0; p < s->count * points; p++)
        for (size_t k = 0; k < co; k++) {
            float gap = k < ci ? out[p * co + k] - target[p * ci + k] : 0;
            sum += (double)gap * (double)gap;
            if (dout) dout[p * co + k] = (float)(2 * scale) * gap;
        }
    return sum * scale;
}

static double score_loss(shard *s, bool grads)
{
    return squared_loss(s, s->noise, 1, grads);
}

static double reconstruction_loss(shard *s, bool grads)
{
    return squared_loss(s, dscm_exec_data(s->exec, s->net->x), 1, grads);
}

/* -log softmax at the label */
static double class_loss(shard *s, bool grads)
{
    size_t classes = s->net->config.out_channels;
    const float *logits = dscm_exec_data(s->exec, s->net->out);
    float *dlogits = grads ? dscm_exec_grad(s->exec, s->net->out) : NULL;
    double sum = 0;
    for (size_t i = 0; i < s->count; i++, logits += classes) {
        size_t label = s->data->labels[s->images[i]], best = 0;
        double total = 0;
        for (size_t k = 1; k < classes; k++)
            if (logits[k] > logits[best]) best = k;
        for (size_t k = 0; k < classes; k++) total += exp((double)(logits[k] - logits[best]));
        sum += log(total) - (double)(logits[label] - logits[best]);
        s->correct += best == label;
        if (s->credit && best == label) s->balanced += s->credit[label];
        for (size_t k = 0; dlogits && k < classes; k++) {
            double p = exp((double)(logits[k] - logits[best])) / total;
            dlogits[i * classes + k] = (float)((p - (k == label)) / (double)s->batch);
        }
    }
    return sum / (double)s->batch;
}

/* Predictors: classes, or a continuous variable by its normal distribution; images whose value is
 * missing take no part. */
static double predictor_loss(shard *s, bool grads)
{
    const dscm_net_config *c = &s->net->config;
    if (!c->target.name[0]) return class_loss(s, grads);
    const float *out = dscm_exec_data(s->exec, s->net->out);
    float *dout = grads ? dscm_exec_grad(s->exec, s->net->out) : NULL;
    double sum = 0, weight = 1 / (double)s->batch;
    for (size_t i = 0; i < s->count; i++, out += 2) {
        double value = s->parents[s->images[i]];
        dscm_gaussian g = dscm_gaussian_head(c, out);
        if (!isnan(value)) {
            sum += weight * dscm_gaussian_nll(&g, value, weight, dout ? dout + 2 * i : NULL);
            s->error += fabs(g.mean - value);
            s->correct++;
        } else if (dout) {
            dout[2 * i] = dout[2 * i + 1] = 0;
        }
    }
    return sum;
}

/* squared error against what is to be drawn / 2 sigma^2 + KL(N(mu, e^logvar) || N(0, 1)), both divided by the pixels */
static double vae_loss(shard *s, bool grads)
{
    double sum = squared_loss(s, s->noise, 0.5 / VAE_VARIANCE, grads);
    dscm_tensor tm = dscm_graph_find(s->net->graph, "mu"),
                tv = dscm_graph_find(s->net->graph, "logvar");
    const float *mu = dscm_exec_data(s->exec, tm), *logvar = dscm_exec_data(s->exec, tv);
    float *dmu = grads ? dscm_exec_grad(s->exec, tm) : NULL;
    float *dlogvar = grads ? dscm_exec_grad(s->exec, tv) : NULL;
    double scale = 1 / ((double)s->batch * (double)s->pixels);
    for (size_t i = 0; i < s->count * s->net->config.latent; i++) {
        double m = (double)mu[i], v = exp((double)logvar[i]);
        sum += scale * 0.5 * (m * m + v - 1 - (double)logvar[i]);
        if (dmu) dmu[i] = (float)(scale * m);
        if (dlogvar) dlogvar[i] = (float)(scale * 0.5 * (v - 1));
    }
    return sum;
}

const task_ops dscm_tasks[DSCM_TASK_COUNT] = {
    [DSCM_TASK_SCORE] = {"score", true, false, noised_inputs, score_loss, {"out"}},
    [DSCM_TASK_PREDICTOR] = {"predictor", true, true, noised_inputs, predictor_loss, {"out"}},
    [DSCM_TASK_ORACLE] = {"oracle", false, true, clean_inputs, class_loss, {"out"}},
    [DSCM_TASK_VAE] = {"vae", false, false, vae_inputs, vae_loss, {"out", "mu", "logvar"}},
    [DSCM_TASK_AUTOENCODER] =
        {"autoencoder", false, false, unit_inputs, reconstruction_loss, {"out"}},
};

const char *dscm_task_name(dscm_task task)
{
    return dscm_tasks[task].name;
}
