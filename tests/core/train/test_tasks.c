/* What a task feeds its network, and the losses. */
#include "core/models/gaussian.h"
#include "core/train/augment.h"
#include "tests/core/train/shapes.h"

/* ---- inputs ---- */
/* Shard 0 of a trainer, at `count` images that start at sample `first`. */
static shard shard_of(dscm_trainer *t, const uint32_t *images, size_t count, uint64_t first)
{
    shard s = t->shards[0];
    s.batch = s.count = count;
    s.images = images;
    s.seed = t->options.seed;
    s.first = first;
    s.t_high = t->schedule.steps;
    return s;
}

/* The network is told the time its image was noised to, and every time can be drawn: training draws
 * from all of them, and a range of one gives its only member. */
static void times_are_those_of_the_noise(void)
{
    dscm_dataset data = shapes();
    uint32_t images[8] = {3, 1, 4, 15, 9, 2, 6, 5};
    dscm_train_options o = small(DSCM_TASK_PREDICTOR, 1);
    dscm_trainer *t = open_trainer(&o, &data);
    REQUIRE(t);
    steps(t, 1, NULL);
    CHECK_INT(t->shards[0].t_low, 0);
    CHECK_INT(t->shards[0].t_high, 1000);
    shard s = shard_of(t, images, 8, 40);
    const float *x = dscm_exec_data(s.exec, s.net->x), *time = dscm_exec_data(s.exec, s.net->t);
    static const size_t lows[] = {0, 0, 500, 999};
    static const size_t highs[] = {1000, 1, 501, 1000};
    for (int k = 0; k < 4; k++) {
        s.t_low = lows[k];
        s.t_high = highs[k];
        dscm_tasks[o.task].inputs(&s);
        for (size_t i = 0; i < 8; i++) {
            dscm_rng rng = dscm_rng_make(o.seed, 40 + i);
            size_t drawn = lows[k] + dscm_rng_below(&rng, (uint32_t)(highs[k] - lows[k]));
            CHECK_INT(time[i], drawn);
            double kept = t->schedule.alphas_cumprod[drawn];
            for (size_t p = i * s.pixels; p < (i + 1) * s.pixels; p++) {
                double clean = data.pixels[images[i] * s.pixels + p % s.pixels] / 127.5 - 1;
                CHECK_NEAR(x[p], sqrt(kept) * clean + sqrt(1 - kept) * (double)s.noise[p], 1e-6);
            }
        }
    }
    dscm_trainer_free(t);
}

/* A share of the images is without noise; it is the predictor's alone. */
static void a_share_of_images_is_clean(void)
{
    dscm_dataset data = shapes();
    uint32_t images[8] = {3, 1, 4, 15, 9, 2, 6, 5};
    dscm_train_options o = small(DSCM_TASK_PREDICTOR, 1);
    o.clean_share = 0.5;
    dscm_trainer *t = open_trainer(&o, &data);
    REQUIRE(t);
    size_t clean = 0, all = 0;
    for (uint64_t first = 0; first < 400; first += 8) {
        shard s = shard_of(t, images, 8, first);
        dscm_tasks[o.task].inputs(&s);
        const float *time = dscm_exec_data(s.exec, s.net->t);
        for (size_t i = 0; i < 8; i++, all++) clean += time[i] == 0;
    }
    CHECK_NEAR((double)clean / (double)all, 0.5, 0.1);
    dscm_trainer_free(t);
    o = small(DSCM_TASK_SCORE, 1);
    o.clean_share = 0.5;
    dscm_error err = {0};
    CHECK_INT(dscm_trainer_open(&t, &o, &data, &err), DSCM_E_INVALID);
    CHECK(strstr(err.message, "clean_share: 0.5"));
}

/* Autoencoders work on [0,1]. */
static void autoencoders_see_unit_pixels(void)
{
    dscm_dataset data = shapes();
    uint32_t images[2] = {7, 3};
    dscm_train_options o = small(DSCM_TASK_AUTOENCODER, 1);
    dscm_trainer *t = open_trainer(&o, &data);
    REQUIRE(t);
    shard s = shard_of(t, images, 2, 0);
    const float *x = dscm_exec_data(s.exec, s.net->x);
    dscm_tasks[o.task].inputs(&s);
    for (size_t p = 0; p < 2 * s.pixels; p++)
        CHECK_NEAR(x[p], data.pixels[images[p / s.pixels] * s.pixels + p % s.pixels] / 255.0, 1e-6);
    dscm_trainer_free(t);
}

static double draw(dscm_rng *rng, double limit)
{
    return limit * (2 * (double)dscm_rng_uniform(rng) - 1);
}

static double tent(double d)
{
    return fmax(0, 1 - fabs(d));
}

/* A picture between its pixels: every pixel weighs in with its overlap, what lies outside is black. */
static double overlap(const uint8_t *pixels, double sy, double sx)
{
    double sum = 0;
    for (int q = 0; q < SIDE * SIDE; q++)
        sum += tent(sy - q / SIDE) * tent(sx - q % SIDE) * pixels[q];
    return sum / 127.5 - 1;
}

/* One pixel of a moved image: turned and scaled about the middle, then shifted. */
static double moved_pixel(const uint8_t *pixels, const double m[6], double y, double x)
{
    const double middle = (SIDE - 1) / 2.0;
    double v = y - middle, u = (x - middle) * m[5] + m[4] * v;
    double sy = m[1] * (cos(m[0]) * v + sin(m[0]) * u) + middle + m[3];
    double sx = m[1] * (cos(m[0]) * u - sin(m[0]) * v) + middle + m[2];
    return overlap(pixels, sy, sx);
}

/* Training's moves, against the formula: oracle's turn, scale and shift, the VAE's wider ones with
 * shear and stretch. */
static void moves_are_those_of_the_formula(void)
{
    static const double limits[2][6] = {{0.26, 0.12, 2.5, 2.5, 0, 0}, {0.35, 0.3, 3, 3, 0.4, 0.3}};
    dscm_dataset data = shapes();
    uint32_t images[8] = {3, 1, 4, 15, 9, 2, 6, 5};
    for (int vae = 0; vae < 2; vae++) {
        dscm_train_options o = small(vae ? DSCM_TASK_VAE : DSCM_TASK_ORACLE, 1);
        dscm_trainer *t = open_trainer(&o, &data);
        REQUIRE(t);
        shard s = shard_of(t, images, 8, 70);
        const float *x = dscm_exec_data(s.exec, s.net->x);
        s.augment = true;
        dscm_tasks[o.task].inputs(&s);
        for (size_t i = 0; i < 8; i++) {
            dscm_rng rng = dscm_rng_make(o.seed, 70 + i);
            double m[6] = {0};
            for (int n = 0; n < (vae ? 6 : 4); n++) m[n] = draw(&rng, limits[vae][n]);
            m[1] += 1;
            m[5] += 1;
            for (int p = 0; p < SIDE * SIDE; p++)
                CHECK_NEAR(x[i * s.pixels + (size_t)p],
                           moved_pixel(data.pixels + images[i] * s.pixels, m, p / SIDE, p % SIDE),
                           5e-5);
        }
        dscm_trainer_free(t);
    }
}

/* ---- losses ---- */
static void compare_gradient(shard *s, const task_ops *task, const char *output, size_t count)
{
    dscm_tensor tensor = dscm_graph_find(s->net->graph, output);
    float *x = dscm_exec_data(s->exec, tensor), *dx = dscm_exec_grad(s->exec, tensor);
    for (size_t i = 0; i < count; i++) {
        float kept = x[i], h = 0.01f;
        x[i] = kept + h;
        double high = task->loss(s, false), step = (double)(x[i]);
        x[i] = kept - h;
        double low = task->loss(s, false);
        step -= (double)x[i];
        x[i] = kept;
        double slope = (high - low) / step;
        CHECK_NEAR((double)dx[i], slope, 2e-4 * fabs(slope) + 2e-8);
    }
}

/* A predictor of a continuous variable: image i has the value i / 10, image 4 none. */
static dscm_train_options continuous(double *values)
{
    dscm_train_options o = small(DSCM_TASK_PREDICTOR, 1);
    o.net.out_channels = 2;
    o.net.target = (dscm_parent){.name = "thickness", .mean = 2.5, .std = 1.5};
    for (int i = 0; i < IMAGES; i++) values[i] = i == 4 ? (double)NAN : i / 10.0;
    o.parents = values;
    return o;
}

/* Negative log density of a normal distribution in the variable's unit, by its formula; the gradient
 * by central differences; an image whose value is missing takes no part. */
static void continuous_predictors_learn_a_density(void)
{
    dscm_dataset data = shapes();
    uint32_t images[8] = {3, 1, 4, 15, 9, 2, 6, 5};
    double values[IMAGES], want = 0;
    dscm_train_options o = continuous(values);
    dscm_trainer *t = open_trainer(&o, &data);
    REQUIRE(t);
    shard s = shard_of(t, images, 8, 0);
    const task_ops *task = &dscm_tasks[o.task];
    task->inputs(&s);
    dscm_exec_forward(s.exec, 8, 8);
    float *out = dscm_exec_data(s.exec, s.net->out), *dout = dscm_exec_grad(s.exec, s.net->out);
    for (int i = 0; i < 16; i++) out[i] = (float)(i % 5) - 1.7f; /* off the head's zeros */
    for (int i = 0; i < 8; i++) {
        if (images[i] == 4) continue;
        double mean = 2.5 + 1.5 * (double)out[2 * i];
        double variance = 1.5 * 1.5 * exp(-8 + 10 / (1 + exp(-(double)out[2 * i + 1])));
        double z = (values[images[i]] - mean) / sqrt(variance);
        want += (z * z / 2 + log(sqrt(variance * 2 * 3.14159265358979323846))) / 8;
    }
    CHECK_NEAR(task->loss(&s, true), want, 1e-6 * fabs(want));
    CHECK_INT(s.correct, 7);
    CHECK_NEAR(dout[4], 0, 0);
    CHECK_NEAR(dout[5], 0, 0);
    compare_gradient(&s, task, "out", 16);
    dscm_trainer_free(t);
}

/* However far the output goes, the variance stays within its limits, and a value far off does not
 * blow the gradient up beyond them. */
static void variances_are_limited(void)
{
    dscm_net_config c = {.target = {.name = "thickness", .mean = 2.5, .std = 0.5}};
    float dout[2], low[2] = {0, -1e6f}, high[2] = {0, 1e6f};
    dscm_gaussian sure = dscm_gaussian_head(&c, low), unsure = dscm_gaussian_head(&c, high);
    CHECK_NEAR(sure.log_variance, 2 * log(0.5) + DSCM_LOG_VARIANCE_MIN, 1e-9);
    CHECK_NEAR(unsure.log_variance, 2 * log(0.5) + DSCM_LOG_VARIANCE_MAX, 1e-9);
    CHECK(isfinite(dscm_gaussian_nll(&sure, 9, 1, dout)));
    CHECK_NEAR(dout[0], -(9 - 2.5) * exp(8) / 0.5, 1e-3 * 40000);
    CHECK_NEAR(dout[1], 0, 0);
    float raw[2] = {3, 0.25f}; /* without a target the outputs are mean and log variance */
    dscm_gaussian plain = dscm_gaussian_head(&(dscm_net_config){0}, raw);
    CHECK_NEAR(plain.mean, 3, 0);
    CHECK_NEAR(plain.log_variance, 0.25, 0);
}

/* The bars' brightest row or column tells their class; a predictor learns to say it as a number, and
 * the held-out error is in the variable's unit. */
static void continuous_predictors_are_measured(void)
{
    dscm_dataset data = shapes();
    double values[IMAGES];
    dscm_held_out held;
    dscm_error err = {0};
    dscm_train_options o = continuous(values);
    for (int i = 0; i < IMAGES; i++) values[i] = 10.0 * data.labels[i];
    o.net.target.mean = 10;
    o.net.target.std = 8;
    o.net.dropout = 0;
    o.samples = BATCH * 150;
    o.rate = 3e-3;
    o.ema_decay = 0.9;
    dscm_trainer *t = open_trainer(&o, &data);
    REQUIRE(t);
    REQUIRE(dscm_trainer_evaluate(t, &data, values, 0, &held, &err) == DSCM_OK);
    CHECK(held.error[0] > 5);
    steps(t, 150, NULL);
    REQUIRE(dscm_trainer_evaluate(t, &data, values, 0, &held, &err) == DSCM_OK);
    CHECK_NEAR(held.error[0], 0, 2);
    CHECK(isnan(held.accuracy[0]));
    CHECK(dscm_trainer_evaluate(t, &data, NULL, 0, &held, &err) == DSCM_E_INVALID);
    dscm_trainer_free(t);
}

/* Central differences of every task's loss in every output of its network. */
static void loss_gradients_are_slopes(void)
{
    dscm_dataset data = shapes();
    uint32_t images[8] = {3, 1, 4, 15, 9, 2, 6, 5};
    for (int k = 0; k <= DSCM_TASK_COUNT; k++) {
        dscm_task id = (dscm_task)(k % DSCM_TASK_COUNT);
        dscm_train_options o = small(id, 1);
        if (k == DSCM_TASK_COUNT) { /* learned variance: its channel has no part in the loss */
            o.net.learn_sigma = true;
            o.net.out_channels = 2;
        }
        dscm_trainer *t = open_trainer(&o, &data);
        REQUIRE(t);
        const task_ops *task = &dscm_tasks[id];
        shard s = shard_of(t, images, 8, 0);
        task->inputs(&s);
        dscm_exec_forward(s.exec, 8, task->noised ? 8 : 1);
        CHECK(task->loss(&s, true) > 0);
        for (int i = 0; task->outputs[i]; i++) compare_gradient(&s, task, task->outputs[i], 24);
        dscm_trainer_free(t);
    }
}

/* A VAE's decoder is asked for images as they are; its encoder sees moved copies in training unless the
 * images shall be still, and never of held-out images. */
static void vae_draws_what_was_not_moved(void)
{
    dscm_dataset data = shapes();
    uint32_t images[4] = {3, 1, 4, 15};
    for (int still = 0; still < 2; still++) {
        dscm_train_options o = small(DSCM_TASK_VAE, 1);
        o.still = still;
        dscm_trainer *t = open_trainer(&o, &data);
        REQUIRE(t);
        steps(t, 1, NULL);
        CHECK_INT(t->shards[0].augment, !still);
        shard s = shard_of(t, images, 4, 0);
        s.augment = t->shards[0].augment;
        dscm_tasks[DSCM_TASK_VAE].inputs(&s);
        const float *x = dscm_exec_data(s.exec, s.net->x);
        for (size_t i = 0; i < 4; i++) {
            double gap = 0;
            for (size_t q = 0; q < s.pixels; q++) {
                float own = (float)data.pixels[images[i] * s.pixels + q] / 127.5f - 1;
                CHECK_NEAR(s.noise[i * s.pixels + q], own, 1e-6);
                gap += fabs((double)x[i * s.pixels + q] - (double)own);
            }
            CHECK(still ? gap < 1e-3 : gap > 1);
        }
        dscm_trainer_free(t);
    }
}

/* Squared error over two variances of .1, and the code's divergence from a standard normal; the
 * code's noise is drawn apart from the moves. */
static void vae_loss_is_the_formula(void)
{
    dscm_dataset data = shapes();
    uint32_t images[4] = {3, 1, 4, 15};
    dscm_train_options o = small(DSCM_TASK_VAE, 1);
    dscm_trainer *t = open_trainer(&o, &data);
    REQUIRE(t);
    shard s = shard_of(t, images, 4, 20);
    const dscm_graph *g = s.net->graph;
    const float *noise = dscm_exec_data(s.exec, dscm_graph_find(g, "noise"));
    const float *mu = dscm_exec_data(s.exec, dscm_graph_find(g, "mu"));
    const float *logvar = dscm_exec_data(s.exec, dscm_graph_find(g, "logvar"));
    const float *out = dscm_exec_data(s.exec, s.net->out);
    double want = 0, spread = 0;
    dscm_tasks[o.task].inputs(&s);
    for (size_t i = 0; i < 4; i++) {
        float moves[4];
        dscm_rng rng = dscm_rng_make(o.seed, 20 + i);
        dscm_rng_normal(&rng, moves, 4);
        for (size_t k = 0; k < 4; k++) {
            spread += (double)noise[i * 4 + k] * (double)noise[i * 4 + k] / 16;
            CHECK(noise[i * 4 + k] != moves[k]);
            CHECK(i == 0 || noise[i * 4 + k] != noise[k]);
        }
    }
    CHECK(spread > 0.3 && spread < 3);
    dscm_exec_forward(s.exec, 4, 1);
    for (size_t p = 0; p < 4 * s.pixels; p++) {
        double clean = data.pixels[images[p / s.pixels] * s.pixels + p % s.pixels] / 127.5 - 1;
        want += pow((double)out[p] - clean, 2) / (2 * 0.1);
    }
    for (size_t k = 0; k < 4 * o.net.latent; k++)
        want += (pow((double)mu[k], 2) + exp((double)logvar[k]) - 1 - (double)logvar[k]) / 2;
    want /= 4 * (double)s.pixels;
    CHECK_NEAR(dscm_tasks[o.task].loss(&s, false), want, 1e-6 * want);
    dscm_trainer_free(t);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"times_are_those_of_the_noise", times_are_those_of_the_noise},
        {"a_share_of_images_is_clean", a_share_of_images_is_clean},
        {"autoencoders_see_unit_pixels", autoencoders_see_unit_pixels},
        {"moves_are_those_of_the_formula", moves_are_those_of_the_formula},
        {"continuous_predictors_learn_a_density", continuous_predictors_learn_a_density},
        {"variances_are_limited", variances_are_limited},
        {"continuous_predictors_are_measured", continuous_predictors_are_measured},
        {"loss_gradients_are_slopes", loss_gradients_are_slopes},
        {"vae_draws_what_was_not_moved", vae_draws_what_was_not_moved},
        {"vae_loss_is_the_formula", vae_loss_is_the_formula}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
