/* Training: one loop for every network, a task per kind.
 *
 * A trainer splits each batch over its threads (one executor each), sums the gradients in a fixed
 * order and takes one AdamW step. Every random number comes from the stream of its training sample,
 * so a run depends on the seed and (through the order of float sums) the thread count, and on
 * nothing else: a run continued from a checkpoint gives the same weights as an unbroken one.
 * Nothing here prints. One thread drives it.
 */
#ifndef DSCM_CORE_TRAIN_TRAINER_H
#define DSCM_CORE_TRAIN_TRAINER_H

#include "core/data/dataset.h"
#include "core/diffusion/schedule.h"
#include "core/io/tensors.h"
#include "core/models/net.h"

typedef enum dscm_task {
    DSCM_TASK_SCORE, /* mean squared error of eps or v at (x_t, t [, parents]), t uniform over all T
                        (Ho et al. 2020) */
    DSCM_TASK_PREDICTOR,   /* cross-entropy, or with net.target the negative log density of a normal
                              distribution, on x_t, t uniform over all T */
    DSCM_TASK_ORACLE,      /* cross-entropy on clean images, slightly moved, turned and scaled */
    DSCM_TASK_VAE,         /* squared error / 2 sigma^2 + KL, per pixel */
    DSCM_TASK_AUTOENCODER, /* mean squared error on [0,1] */
    DSCM_TASK_COUNT
} dscm_task;

const char *dscm_task_name(dscm_task task); /* "score", "predictor", … */

typedef struct dscm_train_options {
    dscm_task task;
    dscm_net_config net;
    dscm_schedule_kind schedule; /* score and predictor; 1000 steps */
    size_t batch,
        samples; /* images per step; images in all: the learning rate reaches its end there */
    double rate, weight_decay, ema_decay, clip;
    size_t warmup; /* steps */
    uint64_t seed; /* not 0 */
    int threads;
    int only_class; /* -1: all */
    dscm_isa isa;   /* the widest one unless another is to be measured */
    bool still;     /* oracle, VAE: images as they are, without turns, scales and shifts */
    /* Conditional score networks (net.parents): values of the parents, (images, net.parents_count),
     * NaN where missing; predictors of a continuous variable (net.target): its values, (images);
     * borrowed for the trainer's life. Each block is dropped alone, and all
     * together, with this probability (Ho & Salimans 2021). */
    const double *parents;
    double parent_dropout; /* 0..1; 0.1 */
    double clean_share; /* predictors: share of the images at t = 0, where a predictor observes; the
                              others at uniform t. 0..1; 0 */
    bool
        balanced; /* every class is drawn as often as the largest one, its images again and again */
    bool flip;    /* each image is mirrored left to right, or not, at random */
    size_t shift; /* and moved by up to so many pixels each way; edges are repeated */
} dscm_train_options;

dscm_train_options dscm_train_defaults(dscm_task task);

typedef struct dscm_trainer dscm_trainer;

/* The data set is borrowed. */
dscm_code dscm_trainer_open(dscm_trainer **out, const dscm_train_options *options,
                            const dscm_dataset *data, dscm_error *err) DSCM_MUST_CHECK;
void dscm_trainer_free(dscm_trainer *t); /* takes NULL */

typedef struct dscm_step_report {
    size_t step, samples; /* done, this one included */
    double loss, rate, norm;
} dscm_step_report;
/* DSCM_E_INVALID when loss or gradient is not finite; the weights are then those of the step before. */
dscm_code dscm_trainer_step(dscm_trainer *t, dscm_step_report *report,
                            dscm_error *err) DSCM_MUST_CHECK;
size_t dscm_trainer_samples(const dscm_trainer *t);

/* Everything a run needs to go on, written atomically; loading refuses a checkpoint of other
 * options. */
dscm_code dscm_trainer_save(const dscm_trainer *t, const char *path,
                            dscm_error *err) DSCM_MUST_CHECK;
dscm_code dscm_trainer_load(dscm_trainer *t, const char *path, dscm_error *err) DSCM_MUST_CHECK;
/* Weights to begin with in place of random ones, for a trainer that has done no step: every tensor of
 * the file (safetensors) of a parameter's name and shape is taken, for values and average alike; the
 * other parameters keep their initial values. The file's SHA-256 joins the settings. */
typedef struct dscm_init_report {
    size_t taken, kept, unused; /* parameters found, parameters not found, tensors of no use */
    char names[256];            /* of those kept, the first ones */
} dscm_init_report;
/* DSCM_E_MISMATCH where nothing fits. */
dscm_code dscm_trainer_init(dscm_trainer *t, const char *path, dscm_init_report *report,
                            dscm_error *err) DSCM_MUST_CHECK;
/* The averaged weights with configuration and settings as metadata. */
dscm_code dscm_trainer_export(const dscm_trainer *t, const char *path, dscm_dtype dtype,
                              dscm_error *err) DSCM_MUST_CHECK;

/* Held-out figure of the averaged weights: mean loss, and for classifiers accuracy, over `limit`
 * images; for noised tasks in ten equal ranges of t. balanced: mean of the accuracies per class, where
 * the largest class has over 1.5 times the images of the smallest, else NaN. */
#define DSCM_HELD_OUT_RANGES 10
typedef struct dscm_held_out {
    size_t ranges; /* 1, or 10 for noised tasks */
    double loss[DSCM_HELD_OUT_RANGES], accuracy[DSCM_HELD_OUT_RANGES], /* NaN but for classifiers */
        balanced[DSCM_HELD_OUT_RANGES],
        error[DSCM_HELD_OUT_RANGES]; /* mean |mean - value|, NaN without net.target */
} dscm_held_out;
/* parents: values as in the options, of the images of `data`. */
dscm_code dscm_trainer_evaluate(dscm_trainer *t, const dscm_dataset *data, const double *parents,
                                size_t limit, dscm_held_out *out, dscm_error *err) DSCM_MUST_CHECK;

#endif
