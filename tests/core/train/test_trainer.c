#include <unistd.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/io/file.h"
#include "core/train/trainer_internal.h"
#include "tests/harness.h"

enum { SIDE = 8, IMAGES = 50, CLASSES = 3, BATCH = 36, STEPS = 6 };

/* A lying bar, a standing bar, a spot: the shape tells the class; `pixels` and `labels` are static.
 */
static dscm_dataset shapes(void)
{
    static uint8_t pixels[IMAGES * SIDE * SIDE], labels[IMAGES];
    dscm_rng rng = dscm_rng_make(99, 0);
    for (int i = 0; i < IMAGES; i++) {
        labels[i] = (uint8_t)(i % CLASSES);
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++) {
                float dy = (float)y - 3.5f, dx = (float)x - 3.5f;
                float d = labels[i] == 0 ? dy * dy : labels[i] == 1 ? dx * dx : dy * dy + dx * dx;
                float v = 200 * expf(-d / 2) + 40 * dscm_rng_uniform(&rng);
                pixels[(i * SIDE + y) * SIDE + x] = (uint8_t)v;
            }
    }
    return (dscm_dataset){.count = IMAGES,
                          .h = SIDE,
                          .w = SIDE,
                          .c = 1,
                          .pixels = pixels,
                          .labels = labels,
                          .sha256 = "shapes"};
}

static dscm_train_options small(dscm_task task, int threads)
{
    dscm_train_options o = dscm_train_defaults(task);
    o.net.image_size = SIDE;
    o.net.levels = 1;
    if (task == DSCM_TASK_ORACLE || task == DSCM_TASK_PREDICTOR) o.net.out_channels = CLASSES;
    if (task == DSCM_TASK_ORACLE || task == DSCM_TASK_VAE) o.net.model_channels = 8;
    if (task != DSCM_TASK_VAE && task != DSCM_TASK_AUTOENCODER) o.net.dropout = 0.2;
    o.net.latent = 4;
    o.batch = BATCH; /* more than one pass per thread, and a rest */
    o.samples = BATCH * STEPS;
    o.warmup = 3;
    o.threads = threads;
    o.seed = 5;
    return o;
}

static dscm_trainer *open_trainer(const dscm_train_options *o, const dscm_dataset *data)
{
    dscm_trainer *t = NULL;
    dscm_error err = {0};
    if (dscm_trainer_open(&t, o, data, &err) != DSCM_OK) TEST_FAIL_("%s", err.message);
    return t;
}

static void steps(dscm_trainer *t, int count, double *losses)
{
    dscm_step_report report;
    dscm_error err = {0};
    for (int i = 0; i < count; i++) {
        if (dscm_trainer_step(t, &report, &err) != DSCM_OK) TEST_FAIL_("%s", err.message);
        if (losses) losses[i] = report.loss;
    }
}

static char *temporary(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "/tmp/dscm-train-%ld-%s", (long)getpid(), name);
    return path;
}

/* ---- resuming ---- */
/* Broken in the middle and continued in a new trainer: the same bits as in one go. A held-out
 * evaluation on the way changes nothing. */
static void resumes_exactly(void)
{
    dscm_dataset data = shapes();
    for (int task = 0; task < DSCM_TASK_COUNT; task++) {
        dscm_train_options o = small((dscm_task)task, 2);
        dscm_error err = {0};
        dscm_held_out held;
        char *path = temporary("resume");
        dscm_trainer *whole = open_trainer(&o, &data), *first = open_trainer(&o, &data);
        dscm_trainer *second = open_trainer(&o, &data);
        REQUIRE(whole && first && second);
        steps(whole, STEPS, NULL);
        steps(first, STEPS / 2, NULL);
        CHECK(dscm_trainer_evaluate(first, &data, 20, &held, &err) == DSCM_OK);
        CHECK(dscm_trainer_save(first, path, &err) == DSCM_OK);
        if (dscm_trainer_load(second, path, &err) != DSCM_OK) TEST_FAIL_("%s", err.message);
        CHECK_INT(dscm_trainer_samples(second), BATCH * (STEPS / 2));
        steps(first, STEPS - STEPS / 2, NULL);
        steps(second, STEPS - STEPS / 2, NULL);
        size_t bytes = 4 * whole->state.floats * sizeof(float);
        if (memcmp(whole->memory, first->memory, bytes) != 0)
            TEST_FAIL_("%s: evaluating changed the run", dscm_task_name(o.task));
        if (memcmp(whole->memory, second->memory, bytes) != 0)
            TEST_FAIL_("%s: the continued run differs", dscm_task_name(o.task));
        dscm_trainer_free(whole);
        dscm_trainer_free(first);
        dscm_trainer_free(second);
        unlink(path);
    }
}

/* Threads change the order of sums and nothing else: the draws belong to the samples. */
static void threads_see_the_same_samples(void)
{
    dscm_dataset data = shapes();
    for (int task = 0; task < DSCM_TASK_COUNT; task++) {
        double alone[3], shared[3];
        dscm_train_options o = small((dscm_task)task, 1), p = small((dscm_task)task, 3);
        dscm_trainer *a = open_trainer(&o, &data), *b = open_trainer(&p, &data);
        REQUIRE(a && b);
        steps(a, 3, alone);
        steps(b, 3, shared);
        for (int i = 0; i < 3; i++) CHECK_NEAR(shared[i], alone[i], 2e-5 * fabs(alone[i]));
        dscm_trainer_free(a);
        dscm_trainer_free(b);
    }
}

static dscm_code load_bytes(dscm_trainer *t, const char *path, const unsigned char *bytes,
                            size_t size, dscm_error *err)
{
    const dscm_piece piece = {bytes, size};
    *err = (dscm_error){0};
    if (dscm_file_replace(path, &piece, 1, err) != DSCM_OK) TEST_FAIL_("%s", err->message);
    return dscm_trainer_load(t, path, err);
}

static void damaged_checkpoints_are_named(void)
{
    dscm_dataset data = shapes();
    dscm_train_options o = small(DSCM_TASK_VAE, 1), other = o;
    char *path = temporary("damaged");
    unsigned char *bytes;
    size_t size;
    dscm_error err = {0};
    dscm_trainer *t = open_trainer(&o, &data);
    REQUIRE(t);
    REQUIRE(dscm_trainer_save(t, path, &err) == DSCM_OK);
    REQUIRE(dscm_file_read(path, 1 << 26, &bytes, &size, &err) == DSCM_OK);
    const size_t cuts[] = {0, 7, 8, 60, 4000, size / 2, size - 1};
    for (size_t i = 0; i < TEST_COUNT(cuts); i++) {
        CHECK(load_bytes(t, path, bytes, cuts[i], &err) != DSCM_OK);
        CHECK_HAS(err.message, path);
    }
    for (size_t at = 0; at < 8; at++) { /* the header's length */
        bytes[at] ^= 0x40;
        CHECK(load_bytes(t, path, bytes, size, &err) != DSCM_OK);
        CHECK_HAS(err.message, path);
        bytes[at] ^= 0x40;
    }
    CHECK(load_bytes(t, path, bytes, size, &err) == DSCM_OK);
    CHECK(dscm_trainer_export(t, path, DSCM_F32, &err) == DSCM_OK);
    CHECK_INT(dscm_trainer_load(t, path, &err), DSCM_E_FORMAT);
    CHECK_HAS(err.message, "not a training checkpoint");
    other.seed = 6;
    dscm_trainer *u = open_trainer(&other, &data);
    REQUIRE(u);
    CHECK_INT(load_bytes(u, path, bytes, size, &err), DSCM_E_MISMATCH);
    CHECK_HAS(err.message, "\"seed\":5");
    dscm_free(bytes);
    dscm_trainer_free(t);
    dscm_trainer_free(u);
    unlink(path);
}

/* ---- losses ---- */
static void compare_gradient(shard *s, const task_ops *task, const char *output)
{
    dscm_tensor tensor = dscm_graph_find(s->net->graph, output);
    float *x = dscm_exec_data(s->exec, tensor), *dx = dscm_exec_grad(s->exec, tensor);
    for (size_t i = 0; i < 24; i++) {
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
        shard s = t->shards[0];
        s.batch = s.count = 8;
        s.images = images;
        s.seed = 5;
        s.t_high = t->schedule.steps;
        task->inputs(&s);
        dscm_exec_forward(s.exec, 8, task->noised ? 8 : 1);
        CHECK(task->loss(&s, true) > 0);
        for (int i = 0; task->outputs[i]; i++) compare_gradient(&s, task, task->outputs[i]);
        dscm_trainer_free(t);
    }
}

/* A VAE's encoder sees moved images, and its decoder is asked for them unmoved; held-out images and
 * those of `still` runs are not moved. */
static void vae_draws_what_was_not_moved(void)
{
    dscm_dataset data = shapes();
    uint32_t images[4] = {3, 1, 4, 15};
    dscm_train_options o = small(DSCM_TASK_VAE, 1);
    dscm_trainer *t = open_trainer(&o, &data);
    REQUIRE(t);
    shard s = t->shards[0];
    s.batch = s.count = 4;
    s.images = images;
    s.seed = 5;
    for (int moved = 0; moved < 2; moved++) {
        s.augment = moved;
        dscm_tasks[DSCM_TASK_VAE].inputs(&s);
        const float *x = dscm_exec_data(s.exec, s.net->x);
        for (size_t i = 0; i < 4; i++) {
            double gap = 0;
            for (size_t p = 0; p < s.pixels; p++) {
                float want = (float)data.pixels[images[i] * s.pixels + p] / 127.5f - 1;
                CHECK_NEAR(s.noise[i * s.pixels + p], want, 1e-6);
                gap += fabs((double)x[i * s.pixels + p] - (double)want);
            }
            CHECK(moved ? gap > 1 : gap < 1e-3);
        }
    }
    dscm_trainer_free(t);
}

/* The score network starts at zero output: its first loss is the mean square of the noise drawn. */
static void first_score_loss_is_the_noise(void)
{
    dscm_dataset data = shapes();
    dscm_train_options o = small(DSCM_TASK_SCORE, 2);
    dscm_trainer *t = open_trainer(&o, &data);
    double loss, sum = 0;
    float noise[SIDE * SIDE];
    REQUIRE(t);
    steps(t, 1, &loss);
    for (uint64_t n = 0; n < BATCH; n++) {
        dscm_rng rng = dscm_rng_make(o.seed, n);
        (void)dscm_rng_below(&rng, 1000);
        dscm_rng_normal(&rng, noise, SIDE * SIDE);
        for (int i = 0; i < SIDE * SIDE; i++) sum += (double)noise[i] * (double)noise[i];
    }
    CHECK_NEAR(loss, sum / (BATCH * SIDE * SIDE), 1e-5);
    dscm_trainer_free(t);
}

static void ten_recorded_losses(void)
{
    static const double recorded[10] = {1.0068453,   0.971736744, 0.939724991, 0.887839496,
                                        0.828707235, 0.796381218, 0.731346904, 0.720998785,
                                        0.741432247, 0.698432581};
    dscm_dataset data = shapes();
    dscm_train_options o = small(DSCM_TASK_SCORE, 1);
    double losses[10];
    o.samples = 10 * BATCH;
    dscm_trainer *t = open_trainer(&o, &data);
    REQUIRE(t);
    steps(t, 10, losses);
    for (int i = 0; i < 10; i++) CHECK_NEAR(losses[i], recorded[i], 1e-4 * recorded[i]);
    dscm_trainer_free(t);
}

static void classifiers_learn(void)
{
    dscm_dataset data = shapes();
    dscm_train_options o = small(DSCM_TASK_ORACLE, 2);
    dscm_held_out held;
    dscm_error err = {0};
    o.samples = 60 * BATCH;
    o.rate = 3e-3;
    dscm_trainer *t = open_trainer(&o, &data);
    REQUIRE(t);
    steps(t, 60, NULL);
    REQUIRE(dscm_trainer_evaluate(t, &data, 0, &held, &err) == DSCM_OK);
    CHECK_INT(held.ranges, 1);
    CHECK(held.accuracy[0] > 0.95);
    CHECK(held.loss[0] < 0.3);
    dscm_trainer_free(t);
}

static void refusals_name_the_field(void)
{
    dscm_dataset data = shapes();
    dscm_trainer *t = NULL;
    dscm_error err = {0};
    dscm_train_options o = small(DSCM_TASK_SCORE, 1);
    o.net.image_size = 16;
    CHECK_INT(dscm_trainer_open(&t, &o, &data, &err), DSCM_E_MISMATCH);
    CHECK_HAS(err.message, "8x8x1");
    o = small(DSCM_TASK_ORACLE, 1);
    o.net.out_channels = 2;
    err = (dscm_error){0};
    CHECK_INT(dscm_trainer_open(&t, &o, &data, &err), DSCM_E_MISMATCH);
    CHECK_HAS(err.message, "label 2");
    o = small(DSCM_TASK_AUTOENCODER, 1);
    o.only_class = 7;
    err = (dscm_error){0};
    CHECK_INT(dscm_trainer_open(&t, &o, &data, &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, "class 7");
    o = small(DSCM_TASK_VAE, 8);
    o.batch = 4;
    err = (dscm_error){0};
    CHECK_INT(dscm_trainer_open(&t, &o, &data, &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, "batch: 4");
    CHECK(t == NULL);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"resumes_exactly", resumes_exactly},
        {"threads_see_the_same_samples", threads_see_the_same_samples},
        {"damaged_checkpoints_are_named", damaged_checkpoints_are_named},
        {"loss_gradients_are_slopes", loss_gradients_are_slopes},
        {"vae_draws_what_was_not_moved", vae_draws_what_was_not_moved},
        {"first_score_loss_is_the_noise", first_score_loss_is_the_noise},
        {"ten_recorded_losses", ten_recorded_losses},
        {"classifiers_learn", classifiers_learn},
        {"refusals_name_the_field", refusals_name_the_field}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
