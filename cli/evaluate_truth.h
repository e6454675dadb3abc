/* diffscm evaluate --sources from the inside: what is measured, and the report made of it. */
#ifndef DSCM_CLI_EVALUATE_TRUTH_H
#define DSCM_CLI_EVALUATE_TRUTH_H

#include "cli/evaluate.h"
#include "core/eval/judges.h"
#include "core/eval/truth.h"

enum { TRUTH_LINES_MAX = 5 * DSCM_TRUTH_KINDS, TRUTH_STRIP = 12 };
enum { TRUTH_DIGIT, TRUTH_THICKNESS, TRUTH_INTENSITY, TRUTH_PARENTS };

/* What a method's images cost, per image. */
typedef struct truth_cost {
    double passes, gradients, observations; /* as dscm_session_work */
    double ms;                              /* processor time */
} truth_cost;

/* A line of the tables: means over its images, NaN where nothing is measured. */
typedef struct truth_line {
    const char *method, *act;
    dscm_truth_row mean;
    double digit;          /* share of images whose digit is read as asked, mean of the judges */
    dscm_calls calls;      /* of each classifier of a panel */
    double precision, cld; /* by the panel */
    double propagated;     /* |intensity - true one| */
    double reversibility;  /* L1 to the factual after the way back */
    truth_cost cost;
} truth_line;

/* The real images, as they are. */
typedef struct truth_real {
    double thickness, intensity, digit;
    dscm_calls calls;
} truth_real;

typedef struct truth_run {
    evaluation *e;
    dscm_dataset sources;
    size_t count, size;
    int variables[TRUTH_PARENTS];
    double *factuals;                          /* (count, variables) */
    dscm_morpho_parents *people, *set, *asked; /* (count): factual, set, all after propagation */
    dscm_target *targets;                      /* (count) */
    uint8_t *out;                              /* (count, size) results */
    uint8_t *truth, *other;                    /* (count, size): drawn; of a method without model */
    double *propagated;                        /* (count) intensity */
    const uint8_t *in;                         /* (count, size) images that are asked about */
    const double *known;                       /* (count, variables) their factual values */
    bool noise_only;
    dscm_session *sessions[EVAL_WORKERS_MAX];
    dscm_judges *judges; /* NULL: the bundle has no panel */
    uint8_t *labels;     /* (count) digits, for the judges */
    dscm_morpho *morpho;
    truth_real real;
    truth_line lines[TRUTH_LINES_MAX];
    size_t lines_count;
    double composition[3]; /* L1 after 1 and 10 null cycles, and from the noise alone */
    double *measured;      /* (kinds, 2, count): asked and measured thickness (do(thickness)) or
                              intensity (else) of the model's images */
    uint32_t strip[TRUTH_STRIP]; /* images of the strips */
    size_t strip_count;
    dscm_morpho_parents strip_asked[DSCM_TRUTH_KINDS][TRUTH_STRIP]; /* after propagation */
} truth_run;

/* Whether the renderer can draw what such an intervention asks for. */
bool truth_is_drawn(dscm_truth_kind kind);
/* "thickness", "intensity", "digit", "joint" */
const char *truth_slug(dscm_truth_kind kind);

/* DIR/truth.md, truth.html, truth.json, the charts, and the tables on standard output. */
dscm_code truth_report(const truth_run *t, dscm_error *err) DSCM_MUST_CHECK;
/* DIR/truth-<slug>.png of the results at hand: a column per image of the strip; rows: factual,
 * counterfactual, truth where it is drawn, the counterfactual less each of the others. */
dscm_code truth_strip(const truth_run *t, dscm_truth_kind kind, dscm_error *err) DSCM_MUST_CHECK;

#endif
