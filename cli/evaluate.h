/* diffscm evaluate from the inside: the plan, the runs, the studies, and what the report is made
 * of.
 *
 * A plan is a list of methods. Each runs over the same items with the same targets and leaves one
 * record per item, kept in the report's folder so that an interrupted evaluation goes on. Threads:
 * the main thread owns everything here; a team of workers fills rows of one method at a time.
 */
#ifndef DSCM_CLI_EVALUATE_H
#define DSCM_CLI_EVALUATE_H

#include <jansson.h>
#include <stdio.h>

#include "cli/model.h"
#include "core/base/team.h"
#include "core/eval/evaluate.h"
#include "core/eval/stats.h"

enum { EVAL_METHODS_MAX = 128, EVAL_WORKERS_MAX = 256, EVAL_CYCLES = 10 };
/* Items of each target that diversity and identity rank compare with each other. */
enum { EVAL_GROUP = 100 };
/* A row of the composition study: L1 after 1 .. EVAL_CYCLES cycles without guidance, the same with,
 * and of reversibility. */
enum { EVAL_STUDY_WIDTH = 2 * EVAL_CYCLES + 1 };

/* Seconds per image, one thread. NaN: not measured. */
typedef struct eval_cost {
    double single, p50, p95; /* at batch 1 */
    double full;             /* at the largest batch */
} eval_cost;

typedef struct eval_method {
    char name[16];             /* "ours" */
    char title[128];           /* "diffscm: residual, 10 steps, ratio 0.95, scale 10" */
    char series[96];           /* the title without the scale: points of one curve share it */
    char slug[96];             /* file name part */
    bool curve;                /* a point of the frontier; else a line of the tables */
    dscm_eval_setting setting; /* options: resolved */
    size_t limit, count;       /* items wanted and done */
    dscm_record *rows;         /* (limit) */
    uint8_t *pixels;           /* (limit, size) results in the order of items */
    double *study;             /* (study_count, EVAL_STUDY_WIDTH) or NULL */
    size_t study_count;
    double fid;       /* split Fréchet distance; NaN: not measured */
    double diversity; /* of the results of one target; NaN: not measured */
    double *ranks;    /* (count) identity ranks, NaN where not measured; NULL for curves */
    eval_cost cost;
} eval_method;

typedef struct evaluation {
    /* options */
    cli_model m;
    const char *data_dir, *split, *pool_dir, *pool_split, *methods, *frontier, *report_dir;
    const char *sources_dir; /* of MorphoMNIST's digits: evaluation against the truth instead */
    size_t limit, slow_limit, curve_limit, study_limit, slow_study_limit;
    const char *judges; /* "panel", "selection"; NULL: the panel where the bundle has one */
    bool quick, no_sheets, no_cost;
    bool noise; /* what the abducted noise holds, instead */
    char command[2048];
    /* data */
    dscm_dataset items, pool;
    int *targets; /* (items) */
    dscm_eval_data data;
    char nets_sha256[65]; /* of the bundle's list of file hashes */
    /* work */
    dscm_eval_worker *workers[EVAL_WORKERS_MAX];
    dscm_error errors[EVAL_WORKERS_MAX];
    _Atomic size_t finished; /* items of this round, by all workers; worker 0 shows it */
    dscm_team *team;
    eval_method *run;  /* the method at hand */
    size_t earlier;    /* items that a run before this one has done */
    size_t first, end; /* the items of this round */
    cli_progress progress;
    /* results */
    eval_method *list; /* (EVAL_METHODS_MAX) */
    size_t count;
    size_t fid_count, fid_reals; /* counterfactuals and real images behind each distance */
    double fid_floor;
} evaluation;

/* Adds the methods of a comma-separated list of specifications such as
 * "ours:steps=5/10:scale=0/4/8": a name and settings, values divided by slashes, all combined. */
dscm_code eval_plan(evaluation *e, const char *list, bool curve, dscm_error *err) DSCM_MUST_CHECK;

/* Runs the items of a method that earlier runs have not left in the folder. */
dscm_code eval_run_method(evaluation *e, eval_method *r, dscm_error *err) DSCM_MUST_CHECK;
/* Refuses a folder that holds an evaluation of other networks, data or seed; marks a new one. */
dscm_code eval_claim_folder(evaluation *e, dscm_error *err) DSCM_MUST_CHECK;

/* Composition and reversibility of ours and published; seconds per image; Fréchet distances;
 * diversity and identity ranks of the tables' methods. */
dscm_code eval_study(evaluation *e, eval_method *r, size_t limit, dscm_error *err) DSCM_MUST_CHECK;
dscm_code eval_time(evaluation *e, eval_method *r, dscm_error *err) DSCM_MUST_CHECK;
dscm_code eval_distances(evaluation *e, dscm_error *err) DSCM_MUST_CHECK;
dscm_code eval_identity(evaluation *e, dscm_error *err) DSCM_MUST_CHECK;

/* Refuses judges that the bundle lacks; names the panel where nobody is named and there is one. */
dscm_code eval_judges_check(evaluation *e, dscm_error *err) DSCM_MUST_CHECK;
/* What the judges say of the tables' methods: DIR/judges.json and judges.md. */
dscm_code eval_judge(evaluation *e, dscm_error *err) DSCM_MUST_CHECK;

/* --sources: every intervention of the field's protocol against the truth that the renderer draws;
 * DIR/truth.json and truth.md, and the table on standard output. */
dscm_code eval_truth(evaluation *e, dscm_error *err) DSCM_MUST_CHECK;
/* --noise: what the abducted noise of every sampler holds, at 5 to 50 steps, with the items' labels known;
 * DIR/noise.json and noise.md, and the table on standard output. Model, items and targets are open. */
dscm_code eval_noise(evaluation *e, dscm_error *err) DSCM_MUST_CHECK;
/* Makes the report's folder where it is not there. */
dscm_code eval_make_folder(const evaluation *e, dscm_error *err) DSCM_MUST_CHECK;
/* Writes a file of that folder. */
dscm_code eval_write(const evaluation *e, const char *name, const char *text, size_t length,
                     dscm_error *err) DSCM_MUST_CHECK;
/* A number, or null where it was not measured. */
json_t *eval_number(double v);
/* A cell of a table with so many digits after the point, or a dash. */
void eval_cell(FILE *f, double v, int digits);

/* DIR/<what>-<slug><suffix> */
void eval_path(const evaluation *e, const char *what, const char *slug, const char *suffix,
               char *out, size_t size);
/* Items first .. first+count-1 of part `index` of this round. */
size_t eval_part(const evaluation *e, size_t index, size_t *first);
dscm_code eval_first_error(evaluation *e, dscm_error *err) DSCM_MUST_CHECK;
bool eval_is_diffusion(const eval_method *r); /* has a sampler and a scale */

#endif
