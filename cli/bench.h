/* What the files of `diffscm bench` share: the run's settings, how a time is taken, how a row is
 * reported.
 *
 * The yardstick is ratio = time / (direct FLOPs / multiply-add peak): it does not depend on the
 * machine's speed, because the peak is measured in the same run, for the same instruction set and
 * the same number of threads. One thread drives a run.
 */
#ifndef DSCM_CLI_BENCH_H
#define DSCM_CLI_BENCH_H

#include <jansson.h>

#include "cli/cli.h"
#include "core/base/cpu.h"
#include "core/bundle/bundle.h"

typedef struct bench {
    const char *model, *data_dir, *isa_text, *only;
    bool json, quick;
    size_t threads;
    dscm_isa isa;
    dscm_bundle *bundle;
    const bundle_variable *image; /* the bundle's image variable */
    dscm_team *team;              /* `threads` threads */
    double peak_one, peak_all;    /* FLOP/s of one thread, of all */
    json_t *report;               /* what --json prints */
    const char *section;          /* the heading printed last */
} bench;

/* Seconds of one run: over repeats that follow each other. */
typedef struct bench_time {
    double median, low, high;
    size_t repeats;
} bench_time;

/* Runs fn(arg) once to warm up and then for about `seconds`, at least three times. Short runs are
 * timed in groups, so that the clock's own cost does not count. */
bench_time bench_measure(void (*fn)(void *arg), void *arg, double seconds);
/* Seconds to spend on a row: less with --quick. */
double bench_budget(const bench *b);

/* A row of the report. Texts are copied. */
typedef struct bench_row {
    const char *section, *name;
    const char *pass;      /* "forward", "input gradient" …; may be "" */
    const char *algorithm; /* of a convolution, else "" */
    size_t batch, threads;
    bench_time time;
    double flops;        /* direct multiplications and additions of one run; 0: no ratio */
    size_t memory_bytes; /* arena; 0: none of its own */
    size_t moved_bytes;  /* read and written by what is bound by memory; 0: not said */
    bool per_image;      /* images per second matter */
} bench_row;
void bench_add(bench *b, const bench_row *row);
/* Adds to a list of the JSON report, which is begun where it is not there. Takes the item. */
void bench_append(bench *b, const char *list, json_t *item);
/* A figure that is not a row, such as a throughput ratio: printed in one line. */
void bench_figure(bench *b, const char *key, const char *text, double value);

/* bench_machine.c: processor, peaks, bandwidth; fills peak_one and peak_all. */
dscm_code bench_machine(bench *b, dscm_error *err) DSCM_MUST_CHECK;
/* bench_kernels.c: each convolution shape of the score network and the predictors, norm, products.
 */
dscm_code bench_kernels(bench *b, dscm_error *err) DSCM_MUST_CHECK;
/* bench_networks.c: each network of the bundle, and a training step. */
dscm_code bench_networks(bench *b, dscm_error *err) DSCM_MUST_CHECK;
dscm_code bench_training(bench *b, dscm_error *err) DSCM_MUST_CHECK;
/* bench_counterfactual.c: whole counterfactuals, fans, several workers. */
dscm_code bench_counterfactuals(bench *b, dscm_error *err) DSCM_MUST_CHECK;

#endif
