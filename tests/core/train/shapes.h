/* A small data set and trainers for it. */
#ifndef DSCM_TESTS_CORE_TRAIN_SHAPES_H
#define DSCM_TESTS_CORE_TRAIN_SHAPES_H

#include "core/base/rng.h"
#include "core/train/trainer_internal.h"
#include "tests/harness.h"

enum { SIDE = 8, IMAGES = 50, CLASSES = 3, BATCH = 36, STEPS = 6 };

/* A lying bar, a standing bar, a spot: the shape tells the class; `pixels` and `labels` are static.
 */
static inline dscm_dataset shapes(void)
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

static inline dscm_train_options small(dscm_task task, int threads)
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

static inline dscm_trainer *open_trainer(const dscm_train_options *o, const dscm_dataset *data)
{
    dscm_trainer *t = NULL;
    dscm_error err = {0};
    if (dscm_trainer_open(&t, o, data, &err) != DSCM_OK) TEST_FAIL_("%s", err.message);
    return t;
}

static inline void steps(dscm_trainer *t, int count, double *losses)
{
    dscm_step_report report;
    dscm_error err = {0};
    for (int i = 0; i < count; i++) {
        if (dscm_trainer_step(t, &report, &err) != DSCM_OK) TEST_FAIL_("%s", err.message);
        if (losses) losses[i] = report.loss;
    }
}

#endif
