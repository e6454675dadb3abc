#include <unistd.h>

#include "core/base/memory.h"
#include "core/io/file.h"
#include "core/train/augment.h"
#include "tests/core/train/shapes.h"

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
        CHECK(dscm_trainer_evaluate(first, &data, NULL, 20, &held, &err) == DSCM_OK);
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
    CHECK_HAS(err.message, "seed is 5 there and 6 here");
    other.seed = 5;
    for (int more = 0; more < 2; more++) { /* a run may become longer or shorter */
        dscm_train_options length = other;
        length.samples = more ? other.samples + BATCH : other.samples - 1;
        dscm_trainer *v = open_trainer(&length, &data);
        REQUIRE(v);
        CHECK_INT(load_bytes(v, path, bytes, size, &err), DSCM_OK);
        CHECK_INT(dscm_trainer_samples(v), dscm_trainer_samples(t));
        dscm_trainer_free(v);
    }
    dscm_free(bytes);
    dscm_trainer_free(t);
    dscm_trainer_free(u);
    unlink(path);
}

/* ---- what the options reach ---- */
/* What the executor last saw is the images as they are. */
static bool saw_unmoved(const dscm_trainer *t, const uint32_t *images, size_t count)
{
    const float *x = dscm_exec_data(t->shards[0].exec, t->net->x);
    double gap = 0;
    for (size_t i = 0; i < count * SIDE * SIDE; i++) {
        size_t image = images[i / (SIDE * SIDE)];
        double clean = t->data->pixels[image * SIDE * SIDE + i % (SIDE * SIDE)] / 127.5 - 1;
        gap = fmax(gap, fabs((double)x[i] - clean));
    }
    return gap < 1e-6;
}

/* Training moves its images unless told not to; held-out images stay as they are. */
static void only_training_moves_images(void)
{
    dscm_dataset data = shapes();
    const uint32_t first[4] = {0, 1, 2, 3};
    for (int still = 0; still < 2; still++) {
        dscm_train_options o = small(DSCM_TASK_ORACLE, 1);
        dscm_held_out held;
        dscm_error err = {0};
        o.batch = 8; /* one pass: the executor keeps all of it */
        o.still = still;
        dscm_trainer *t = open_trainer(&o, &data);
        REQUIRE(t);
        steps(t, 1, NULL);
        CHECK_INT(saw_unmoved(t, t->batch, 8), still);
        CHECK(dscm_trainer_evaluate(t, &data, NULL, 4, &held, &err) == DSCM_OK);
        CHECK(saw_unmoved(t, first, 4));
        dscm_trainer_free(t);
    }
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

/* One step of the score network from its start, with the given options. */
static dscm_trainer *stepped(const dscm_train_options *o, const dscm_dataset *data)
{
    dscm_trainer *t = open_trainer(o, data);
    if (t) steps(t, 1, NULL);
    return t;
}

static void options_reach_the_optimizer(void)
{
    dscm_dataset data = shapes();
    dscm_train_options o = small(DSCM_TASK_ORACLE, 1), decays = o, clips = o;
    o.batch = decays.batch = clips.batch = 8;
    o.rate = decays.rate = clips.rate = 0.01;
    o.warmup = decays.warmup = clips.warmup = 0;
    o.weight_decay = o.ema_decay = o.clip = 0;
    decays.weight_decay = 10;
    decays.clip = 0;
    clips.clip = 1e-12;
    dscm_trainer *start = open_trainer(&o, &data), *plain = stepped(&o, &data);
    dscm_trainer *decayed = stepped(&decays, &data), *clipped = stepped(&clips, &data);
    REQUIRE(start && plain && decayed && clipped);
    double moved = 0, average = 0, decay = 0, clip = 0, lag = 0;
    for (size_t i = 0; i < start->state.floats; i++) {
        double w = (double)start->state.values[i], p = (double)plain->state.values[i];
        moved = fmax(moved, fabs(p - w));
        average = fmax(average, fabs((double)plain->state.ema[i] - p));
        decay = fmax(decay, fabs((double)decayed->state.values[i] - (p - 0.1 * w)));
        lag = fmax(lag, fabs((double)(decayed->state.ema[i] - decayed->state.values[i])));
        clip = fmax(clip, fabs((double)clipped->state.values[i] - w));
    }
    CHECK_NEAR(moved, 0.01, 1e-4); /* Adam's first step is the rate */
    CHECK_NEAR(average, 0, 1e-6);  /* a decay of 0 keeps nothing */
    CHECK(lag > 0.005);            /* one of .999 most */
    CHECK_NEAR(decay, 0, 1e-6);    /* rate times decay of each weight is gone */
    CHECK(clip < 1e-5);            /* gradients far below Adam's epsilon move little */
    dscm_trainer_free(start);
    dscm_trainer_free(plain);
    dscm_trainer_free(decayed);
    dscm_trainer_free(clipped);
}

/* With averaged weights of zero a score network says 0, so its held-out loss is the mean square of
 * the noise drawn: of streams far from training's, others in each range of times, the same at every
 * check. */
static void held_out_figures_are_the_averages(void)
{
    enum { HELD = 11 };
    dscm_dataset data = shapes();
    dscm_train_options o = small(DSCM_TASK_SCORE, 2);
    dscm_error err = {0};
    dscm_held_out held;
    dscm_trainer *t = open_trainer(&o, &data);
    REQUIRE(t);
    for (int check = 0; check < 2; check++) {
        steps(t, 2 * check, NULL); /* the first before any step: a run just resumed */
        memset(t->state.ema, 0, t->state.floats * sizeof(float));
        REQUIRE(dscm_trainer_evaluate(t, &data, NULL, HELD, &held, &err) == DSCM_OK);
        CHECK_INT(held.ranges, 10);
        for (uint64_t range = 0; range < 10; range++) {
            double sum = 0;
            for (uint64_t i = 0; i < HELD; i++) {
                float noise[SIDE * SIDE];
                dscm_rng rng = dscm_rng_make(o.seed, ((uint64_t)1 << 61) + range * HELD + i);
                (void)dscm_rng_below(&rng, 100);
                dscm_rng_normal(&rng, noise, SIDE * SIDE);
                for (int p = 0; p < SIDE * SIDE; p++) sum += pow((double)noise[p], 2);
            }
            CHECK_NEAR(held.loss[range], sum / (HELD * SIDE * SIDE), 1e-5);
        }
        const float *time = dscm_exec_data(t->shards[1].exec, t->net->t); /* the last range's */
        for (int i = 0; i < HELD / 2; i++) CHECK(time[i] >= 900 && time[i] < 1000);
    }
    dscm_trainer_free(t);
}

/* The state of before the step is kept, so that what was saved last can be gone on with. */
static void a_loss_that_is_no_number_stops(void)
{
    dscm_dataset data = shapes();
    dscm_train_options o = small(DSCM_TASK_ORACLE, 1);
    dscm_step_report report;
    dscm_error err = {0};
    dscm_trainer *t = open_trainer(&o, &data);
    REQUIRE(t);
    steps(t, 1, NULL);
    for (size_t i = 0; i < t->state.floats; i++) t->state.values[i] = i % 2 ? INFINITY : NAN;
    dscm_weights_update(t->weights, t->state.values, t->team);
    CHECK_INT(dscm_trainer_step(t, &report, &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, "training diverged at step 2");
    CHECK_INT(dscm_trainer_samples(t), BATCH);
    for (size_t i = 0; i < t->state.floats; i++) CHECK(isfinite(t->state.ema[i]));
    dscm_trainer_free(t);
}

/* Weights of a network whose parents differ: what fits is taken, the rest begins anew and is named. */
static void begins_with_given_weights(void)
{
    dscm_dataset data = shapes();
    dscm_train_options o = small(DSCM_TASK_SCORE, 1);
    double parents[2 * 200];
    dscm_init_report report;
    dscm_error err = {0};
    char path[160];
    snprintf(path, sizeof path, "%s", temporary("init"));
    REQUIRE(data.count <= 200);
    for (size_t i = 0; i < data.count; i++) parents[i] = data.labels[i];
    o.net.parents_count = 1;
    o.net.parents[0] = (dscm_parent){.name = "shape", .classes = CLASSES};
    o.parents = parents;
    dscm_trainer *first = open_trainer(&o, &data);
    REQUIRE(first);
    steps(first, 3, NULL);
    CHECK_INT(dscm_trainer_export(first, path, DSCM_F32, &err), DSCM_OK);
    o.net.parents[0].classes = CLASSES + 1;
    o.seed = 9;
    dscm_trainer *plain = open_trainer(&o, &data), *second = open_trainer(&o, &data);
    REQUIRE(plain && second);
    if (dscm_trainer_init(second, path, &report, &err) != DSCM_OK) TEST_FAIL_("%s", err.message);
    CHECK_INT(report.taken + report.kept, second->net->params.count);
    CHECK(report.kept > 0 && report.kept <= 2 && report.unused == report.kept);
    for (size_t i = 0; i < second->net->params.count; i++) {
        const dscm_param *p = &second->net->params.items[i];
        const dscm_param *before = dscm_params_find(&first->net->params, p->name);
        bool same = before && before->count == p->count;
        const float *want =
            same ? first->state.ema + before->offset : plain->state.values + p->offset;
        CHECK(memcmp(second->state.values + p->offset, want, p->count * sizeof *want) == 0);
        CHECK(memcmp(second->state.ema + p->offset, want, p->count * sizeof *want) == 0);
        if (!same) CHECK_HAS(report.names, p->name);
    }
    steps(second, 1, NULL);
    CHECK(dscm_trainer_save(second, path, &err) == DSCM_OK);
    CHECK_INT(dscm_trainer_load(plain, path, &err), DSCM_E_MISMATCH); /* began otherwise */
    CHECK_HAS(err.message, "init");
    dscm_train_options other = small(DSCM_TASK_AUTOENCODER, 1);
    dscm_trainer *stranger = open_trainer(&other, &data);
    REQUIRE(stranger);
    err = (dscm_error){0};
    CHECK(dscm_trainer_export(first, path, DSCM_F32, &err) == DSCM_OK);
    CHECK_INT(dscm_trainer_init(stranger, path, &report, &err), DSCM_E_MISMATCH);
    CHECK_HAS(err.message, "none of its");
    dscm_trainer_free(first);
    dscm_trainer_free(plain);
    dscm_trainer_free(second);
    dscm_trainer_free(stranger);
    unlink(path);
}

/* One image in ten is of class 1: balanced draws show both classes alike, and all images. */
static void balanced_draws(void)
{
    dscm_dataset data = shapes();
    uint8_t labels[200];
    size_t seen[200] = {0}, of[2] = {0};
    REQUIRE(data.count <= 200);
    for (size_t i = 0; i < data.count; i++) labels[i] = i % 10 == 3;
    data.labels = labels;
    dscm_train_options o = small(DSCM_TASK_ORACLE, 1);
    o.balanced = true;
    dscm_trainer *t = open_trainer(&o, &data);
    REQUIRE(t);
    size_t rare = (data.count + 6) / 10, common = data.count - rare;
    CHECK_INT(t->pool_count, 2 * common);
    for (size_t i = 0; i < t->pool_count; i++) {
        seen[t->pool[i]]++;
        of[labels[t->pool[i]]]++;
    }
    CHECK_INT(of[0], common);
    CHECK_INT(of[1], common);
    for (size_t i = 0; i < data.count; i++)
        CHECK(labels[i] ? seen[i] == common / rare || seen[i] == common / rare + 1 : seen[i] == 1);
    dscm_trainer_free(t);
}

/* What a network is shown is the image, mirrored or moved; without the options it is the image. */
static void flips_and_shifts(void)
{
    static const uint8_t image[2 * 3] = {1, 2, 3, 4, 5, 6};
    const dscm_picture p = {image, 2, 3, 1};
    uint8_t out[6];
    dscm_move_picture(out, &p, false, 0, 0);
    CHECK(memcmp(out, image, 6) == 0);
    dscm_move_picture(out, &p, true, 0, 0);
    CHECK(memcmp(out, "\3\2\1\6\5\4", 6) == 0);
    dscm_move_picture(out, &p, false, 1, -1); /* down, to the left */
    CHECK(memcmp(out, "\2\3\3\2\3\3", 6) == 0);
    dscm_move_picture(out, &p, true, 0, 2);
    CHECK(memcmp(out, "\3\3\3\6\6\6", 6) == 0);
    dscm_dataset data = shapes();
    dscm_train_options o = small(DSCM_TASK_AUTOENCODER, 1);
    for (int moving = 0; moving < 2; moving++) {
        o.flip = moving;
        o.shift = moving ? 1 : 0;
        dscm_trainer *t = open_trainer(&o, &data);
        REQUIRE(t);
        steps(t, 1, NULL);
        const shard *s = &t->shards[0];
        size_t last = (BATCH - 1) / 8 * 8, same = 0, count = BATCH - last;
        const float *x = dscm_exec_data(s->exec, t->net->x);
        for (size_t i = 0; i < count; i++) { /* the last pass of the step */
            const uint8_t *pixels = data.pixels + (size_t)t->batch[last + i] * s->pixels;
            size_t equal = 0;
            for (size_t k = 0; k < s->pixels; k++)
                equal += fabsf(x[i * s->pixels + k] - (float)pixels[k] / 255.0f) < 1e-6f;
            same += equal == s->pixels;
        }
        CHECK(moving ? same < count : same == count);
        dscm_trainer_free(t);
    }
    o.shift = SIDE;
    dscm_trainer *t = NULL;
    dscm_error err = {0};
    CHECK_INT(dscm_trainer_open(&t, &o, &data, &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, "shift: ");
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
    REQUIRE(dscm_trainer_evaluate(t, &data, NULL, 0, &held, &err) == DSCM_OK);
    CHECK_INT(held.ranges, 1);
    CHECK(held.accuracy[0] > 0.95);
    CHECK(held.loss[0] < 0.3);
    CHECK(isnan(held.balanced[0])); /* of classes alike accuracy says all */
    /* Half of the larger class is wrong now: the classes' mean is 3/4, of all images 2/3 are right. */
    uint8_t labels[IMAGES];
    for (int i = 0; i < IMAGES; i++) labels[i] = data.labels[i] == 1 ? 0 : data.labels[i];
    data.labels = labels;
    REQUIRE(dscm_trainer_evaluate(t, &data, NULL, 0, &held, &err) == DSCM_OK);
    CHECK_NEAR(held.accuracy[0], 33. / IMAGES, .05);
    CHECK_NEAR(held.balanced[0], .75, .05);
    CHECK(held.balanced[0] > held.accuracy[0]);
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
        {"only_training_moves_images", only_training_moves_images},
        {"first_score_loss_is_the_noise", first_score_loss_is_the_noise},
        {"ten_recorded_losses", ten_recorded_losses},
        {"options_reach_the_optimizer", options_reach_the_optimizer},
        {"held_out_figures_are_the_averages", held_out_figures_are_the_averages},
        {"a_loss_that_is_no_number_stops", a_loss_that_is_no_number_stops},
        {"classifiers_learn", classifiers_learn},
        {"begins_with_given_weights", begins_with_given_weights},
        {"balanced_draws", balanced_draws},
        {"flips_and_shifts", flips_and_shifts},
        {"refusals_name_the_field", refusals_name_the_field}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
