/* What the files of `diffscm new` share: the plan, and what is done under it.
 *
 * A plan is made once from the data and this machine's speed, and stored before any network is
 * trained; a run that was ended in any way goes on under the stored plan. Sizes of the networks and
 * numbers of training samples are in the plan, never a time, so that the same plan gives the same
 * weights on the same thread count and instruction set.
 */
#ifndef DSCM_CLI_NEW_H
#define DSCM_CLI_NEW_H

#include <jansson.h>

#include "cli/cli.h"
#include "core/train/trainer.h"

enum { NEW_SCORE, NEW_PREDICTOR, NEW_ORACLE, NEW_VAE, NEW_TRAINED };

typedef struct new_stage {
    dscm_task task;
    const char *split; /* of the converted data: M trains the model, P its judges, S decides */
    size_t channels, batch, samples;
    double seconds; /* estimated */
} new_stage;

typedef struct new_plan {
    char data[4096], data_sha256[65], variable[64], name[256], effort[32];
    size_t size, channels, classes, count, threads;
    double seconds; /* asked for, all stages together */
    new_stage stages[NEW_TRAINED];
    json_t *labels; /* array of strings, owned */
} new_plan;

/* Chooses samples so that all stages together take about plan->seconds here. `set`: the data of M. */
dscm_code new_plan_make(new_plan *plan, const dscm_dataset *set, dscm_error *err) DSCM_MUST_CHECK;
dscm_code new_plan_write(const new_plan *plan, const char *path, dscm_error *err) DSCM_MUST_CHECK;
dscm_code new_plan_read(new_plan *plan, const char *path, dscm_error *err) DSCM_MUST_CHECK;
void new_plan_print(const new_plan *plan);
void new_plan_close(new_plan *plan); /* takes a zeroed one */

/* Reads the data and writes it as IDX files M, S and P (60, 15 and 25 per cent of each class) into
 * `folder`, of one size; fills the plan's fields about data. size 0: the pictures' own where they
 * are square, alike and at most 64 pixels wide, else 32. */
dscm_code new_convert(new_plan *plan, const char *folder, size_t size, const char *labels_file,
                      bool anew, dscm_error *err) DSCM_MUST_CHECK;

/* Finds the scale that a bundle needs, measures it on split S of `data`, and writes measured.json
 * for `diffscm bundle --measured` and a card. */
dscm_code new_measure(const new_plan *plan, const char *bundle, const char *data,
                      const char *measured, dscm_error *err) DSCM_MUST_CHECK;

#endif
