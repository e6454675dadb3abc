/* What the files that carry out a plan of `diffscm new` share: the job, and this program in a child
 * process. */
#ifndef DSCM_CLI_NEW_JOB_H
#define DSCM_CLI_NEW_JOB_H

#include "cli/new.h"

#define NEW_ARGS_MAX 48

typedef struct new_job {
    const char *data, *out, *effort, *limit_text, *skip_text;
    new_reading reading;
    double time_limit; /* seconds; 0: by effort */
    unsigned skip;
    size_t threads, samples;
    char work[4096];
    new_plan plan;
    int lock;
    double began, used_before; /* when this run began; seconds that earlier ones used of the plan */
    double estimated, took;    /* of what was trained here, what was trained last weighs most */
} new_job;

/* PATH of a file in OUT.work. */
dscm_code new_file_in(const new_job *j, char path[NEW_PATH], dscm_error *err, const char *format,
                      ...) DSCM_PRINTF(4, 5) DSCM_MUST_CHECK;
dscm_code new_store_plan(new_job *j, dscm_error *err) DSCM_MUST_CHECK;

/* ---- children ---- */
typedef struct new_arguments {
    char *items[NEW_ARGS_MAX + 1];
    char text[NEW_ARGS_MAX][NEW_PATH];
    int count;
} new_arguments;

void new_listen(void); /* SIGINT and SIGTERM reach the child, and no other one is started */
/* Words of a command; there is one at a time. */
new_arguments *new_begin(const char *command);
void new_add(new_arguments *a, const char *format, ...) DSCM_PRINTF(2, 3);
/* Runs it; what it prints as result goes to `results` (NULL: nowhere). */
dscm_code new_run_command(new_arguments *a, const char *results, dscm_error *err) DSCM_MUST_CHECK;

/* Whether a child ended with an error, of which it has told in its own line. */
bool new_child_failed(void);

/* ---- training ---- */
/* All networks in the plan's order; under a plan for a time, what is left is shortened where training
 * is late. */
dscm_code new_train_all(new_job *j, dscm_error *err) DSCM_MUST_CHECK;
/* Before calibration: so few images are measured as the time left allows, and stored. */
dscm_code new_shorten_measurement(new_job *j, dscm_error *err) DSCM_MUST_CHECK;
size_t new_score_samples(new_job *j);
/* More samples for the score network than the plan has, of which some may be trained already. */
dscm_code new_raise_samples(new_job *j, size_t samples, dscm_error *err) DSCM_MUST_CHECK;
/* As many more as can be trained in `seconds`. */
dscm_code new_raise_time(new_job *j, double seconds, dscm_error *err) DSCM_MUST_CHECK;

/* ---- the finished model ---- */
/* Mechanisms, bundle, calibration, measurement, and the model in its place at OUT. */
dscm_code new_finish(new_job *j, dscm_error *err) DSCM_MUST_CHECK;
/* What the manifest at OUT says of its quality, owned by the caller; NULL: there is no model. */
json_t *new_published(const new_job *j);
/* Whether that is the model of the plan. */
bool new_is_published(new_job *j, const json_t *quality);
void new_remove_old(const new_job *j); /* models that were replaced */

#endif
