/* What one task does with one shard of a batch. Internal to core/train. */
#ifndef DSCM_CORE_TRAIN_TASKS_H
#define DSCM_CORE_TRAIN_TASKS_H

#include "core/train/trainer.h"

typedef struct shard {
    const dscm_net *net;
    const dscm_schedule *schedule;
    const dscm_dataset *data;
    dscm_exec *exec;
    size_t pixels;          /* floats of one image */
    size_t batch;           /* of the whole step: the loss is a mean over it */
    size_t count;           /* images of this pass */
    const uint32_t *images; /* (count) which images */
    uint64_t seed, first;   /* sample i draws from stream first + i */
    size_t t_low, t_high;   /* noised tasks: t uniform in [low, high) */
    const double *parents;  /* (images of data, parents of the network), or NULL */
    double parent_dropout;  /* probability of dropping a block alone, and all together */
    double clean_share;     /* noised tasks: probability of t_low instead of a random t */
    float *noise;           /* (count, pixels): what the network should answer */
    bool augment;           /* inputs are moved at random, by a task's own rule */
    bool flip;              /* images are mirrored at random, and moved by up to `shift` pixels */
    size_t shift;
    uint8_t *moved; /* (pixels) scratch of these two */
    size_t correct; /* classifiers: right answers; else values that are known */
    const double
        *credit; /* classifiers: of a right answer by label, summed in `balanced`; or NULL */
    double balanced;
    double error; /* predictors of a continuous variable: sum of |mean - value| */
} shard;

typedef struct task_ops {
    const char *name;
    bool noised, classifies;
    /* Fills the executor's inputs. */
    void (*inputs)(shard *s);
    /* Loss summed over the shard, divided by the batch; writes the output gradients when `grads`.
     */
    double (*loss)(shard *s, bool grads);
    const char *outputs[4]; /* of the network, NULL-terminated */
} task_ops;

extern const task_ops dscm_tasks[DSCM_TASK_COUNT];

#endif
