/* What the files of `diffscm new` share: the plan, and what is done under it.
 *
 * A plan is made once from the data and this machine's speed, and stored before any network is
 * trained; a run that was ended in any way goes on under the stored plan. It holds the words that
 * `diffscm train` gets and numbers of training samples. A run that falls behind the time it was planned
 * for makes what is left of the plan shorter and stores it again before it goes on (cuts), so that the
 * same stored plan gives the same weights on the same thread count and instruction set.
 */
#ifndef DSCM_CLI_NEW_H
#define DSCM_CLI_NEW_H

#include <jansson.h>

#include "cli/cli.h"
#include "core/data/table.h"
#include "core/train/trainer.h"

enum {
    NEW_STAGES_MAX = 56,
    NEW_PATH = 4200,
    NEW_CUTS_MAX = 8,
    NEW_SCALES = 5,
    NEW_GRAPH = 4096,
    NEW_STEPS = 6
};

/* What may be left out. */
enum { NEW_SKIP_JUDGES = 1, NEW_SKIP_CALIBRATION = 2, NEW_SKIP_MEASUREMENT = 4 };

/* Up to sample `at` a network was trained as one of `samples`, then it became a shorter one. */
typedef struct new_cut {
    size_t at, samples;
} new_cut;

/* One network. The score network is the last stage. */
typedef struct new_stage {
    char name[40]; /* of its files: score, predictor, or as `bundle --judges` expects it */
    json_t *words; /* array of strings, owned: task and options of `diffscm train` */
    size_t samples, batch;
    new_cut cuts[NEW_CUTS_MAX]; /* ascending */
    size_t cuts_count;
    double seconds, fixed; /* estimated; what of it does not depend on the samples */
} new_stage;

/* A parent of the image where a table says what the variables are. */
typedef struct new_parent {
    char name[DSCM_PARENT_NAME];
    size_t classes; /* labels; 0: a number */
} new_parent;

typedef struct new_plan {
    char data[4096], data_sha256[65], name[256], effort[64];
    char variable[64]; /* whose labels the judges learn; "": every variable is a number */
    size_t size, channels, classes, count, threads;
    size_t parts[3]; /* images of M, S and P */
    size_t measured; /* images that are measured, besides a quarter as many that choose the scale */
    size_t scales;   /* that they choose among, at most: 1 .. NEW_SCALES */
    bool balance,
        flip;       /* of what is still to be planned: classes differ in size; mirrored images */
    bool small;     /* the networks of effort "minutes" */
    double seconds; /* asked for, all stages together; 0: samples were */
    double used;    /* of them, by all runs, when the plan was stored */
    new_stage stages[NEW_STAGES_MAX];
    size_t stages_count;
    json_t *labels; /* array of strings, owned */
    /* of a table; "" and 0 where the classes are the only variable: */
    char table[4096], graph[NEW_GRAPH];
    new_parent parents[DSCM_PARENTS_MAX];
    size_t parents_count;
    json_t *fit; /* array of strings, owned: options of `diffscm fit`; NULL without a table */
    unsigned skip;
} new_plan;

/* Chooses networks, and samples such that all stages together take about plan->seconds here, or with
 * `samples` > 0 so many for the score network and shares of them for the others. `m`: the data of M. */
dscm_code new_plan_make(new_plan *plan, const dscm_dataset *m, size_t samples,
                        dscm_error *err) DSCM_MUST_CHECK;
dscm_code new_plan_write(const new_plan *plan, const char *path, dscm_error *err) DSCM_MUST_CHECK;
dscm_code new_plan_read(new_plan *plan, const char *path, dscm_error *err) DSCM_MUST_CHECK;
void new_plan_print(const new_plan *plan);
void new_plan_close(new_plan *plan); /* takes a zeroed one */
new_stage *new_plan_score(new_plan *plan);
/* Images that the held-out figures of each network come from. */
size_t new_plan_held_out(const new_plan *plan);
/* Estimated seconds of calibration and measurement. */
double new_plan_rest(const new_plan *plan);
/* Estimated seconds of training from stage `first` on, of which `done` samples are there. */
double new_plan_needed(const new_plan *plan, size_t first, size_t done);
/* Gives the score network, of which nothing is trained yet, `seconds` more. */
void new_plan_lengthen(new_plan *plan, double seconds);
/* "judges,measurement" as bits; the text for bits ("" for none), static. */
dscm_code new_skip_parse(unsigned *skip, const char *text, dscm_error *err) DSCM_MUST_CHECK;
const char *new_skip_text(unsigned skip);
/* Networks, and what comes after them. */
size_t new_stages_in_all(const new_plan *plan);
/* Takes all but `share` (0..1) of the time away from what is left of stages `first` and later; of stage
 * `first` `done` samples are there. Each keeps a few steps. */
void new_plan_shorten(new_plan *plan, size_t first, size_t done, double share);
/* As many images, and for their scale as many tries, as can be measured in this time, within the bounds of
 * a plan; never more than it has. */
void new_plan_fit_measurement(new_plan *plan, double seconds);

/* How the data is read. */
typedef struct new_reading {
    const char *size; /* "32", or NULL: the pictures' own where they are square and fit, else 32 */
    const char *labels_file; /* names of the classes, or NULL */
    const char *split;       /* of the data, or NULL: "train" where there are splits, else all */
    const char *table; /* of variables, or NULL: SPLIT-variables.csv or variables.csv of the data */
    const char *graph; /* of its variables and the image, or NULL: every one is its parent */
    const char
        *variable; /* of the classes, or the one of the table that is judged; NULL: "class" */
} new_reading;
/* Reads the data, says what was understood and writes it as IDX files M, S and P (60, 15 and 25 per
 * cent of each class, in the set's order) into `folder`; fills the plan's fields about data. */
dscm_code new_convert(new_plan *plan, const char *folder, const new_reading *reading,
                      dscm_error *err) DSCM_MUST_CHECK;

/* The table of variables beside the images of `set`, which was read from `split` of plan->data. Does
 * nothing but empty *table where there is none. Else images without a row are left out, the set's labels
 * become those of the variable that is judged, the plan's fields of a table are set, and *table holds a
 * row per image. The caller closes it. */
dscm_code new_table_take(dscm_table *table, new_plan *plan, dscm_dataset *set, const char *split,
                         const new_reading *reading, dscm_error *err) DSCM_MUST_CHECK;
/* Writes rows[0 .. count - 1] as FOLDER/SPLIT-variables.csv. */
dscm_code new_table_write(const dscm_table *table, const uint32_t *rows, size_t count,
                          const char *folder, const char *split, dscm_error *err) DSCM_MUST_CHECK;
/* Refuses a table in `folder` of which M alone would be understood in another way than the whole. */
dscm_code new_table_check(const new_plan *plan, const char *folder,
                          dscm_error *err) DSCM_MUST_CHECK;

/* How well a number that is asked for is met, by the model's own predictor. */
typedef struct new_number {
    char name[DSCM_PARENT_NAME];
    double error; /* mean distance */
    double range; /* of the variable */
    double met;   /* share within the tolerance */
} new_number;

/* What was measured of the finished model. Shares are 0..1, NaN where nothing could be measured. */
typedef struct new_figures {
    const char *sampler;            /* borrowed */
    size_t steps, chosen_by, count; /* images that chose the scale; that were measured */
    double scale, accepted;         /* chosen, and what the acceptance nets say of it */
    double accuracy, valid; /* means over the panel's classifiers: of real images, of results */
    double precision, real_precision, cld, im1, l1, null_l1;
    new_number numbers[DSCM_PARENTS_MAX];
    size_t numbers_count;
    char poor[400]; /* why, or empty */
    char help[400]; /* what would help, or empty */
} new_figures;
/* Finds the scale that a bundle needs, on a part of split S of `data`, and measures the model on the
 * rest of it. *out begins as new_no_figures. */
dscm_code new_measure(const new_plan *plan, const char *bundle, const char *data, new_figures *out,
                      dscm_error *err) DSCM_MUST_CHECK;
new_figures new_no_figures(void);
/* measured.json for `diffscm bundle --measured`; card.md of the bundle. */
dscm_code new_write_measured(const new_plan *plan, const new_figures *figures, const char *path,
                             dscm_error *err) DSCM_MUST_CHECK;
dscm_code new_write_card(const new_plan *plan, const new_figures *figures, const char *path,
                         dscm_error *err) DSCM_MUST_CHECK;

#endif
