/* Evaluation: any method over a data set, one record per item. One worker belongs to one thread.
 *
 * Methods are named "ours", "published", "pgd", "greedy" (Schut et al.), "prototype" (Van Looveren &
 * Klaise), "identity", "nearest" and "random" (images of the target class out of the pool) and "real" (a
 * random other item of the target class: the floor of IM1, IM2 and the Fréchet distance). Results
 * are rounded to 8 bits before they are scored: what a user receives is what is measured.
 */
#ifndef DSCM_CORE_EVAL_EVALUATE_H
#define DSCM_CORE_EVAL_EVALUATE_H

#include "core/data/dataset.h"
#include "core/diffscm.h"
#include "core/eval/records.h"

typedef struct dscm_eval_setting {
    const char *method;
    dscm_options options; /* resolved; for ours and published */
    bool search; /* a scale per item instead of options.scale: dscm_scale_search; ours only */
} dscm_eval_setting;

typedef struct dscm_eval_data {
    const dscm_bundle *bundle;
    const dscm_dataset *items; /* what is explained */
    const dscm_dataset *pool;  /* real images, disjoint from items */
    const int *targets;        /* (items) label indices other than the item's own */
    int variable;              /* categorical parent that is set */
    uint64_t seed;
} dscm_eval_data;

/* DSCM_E_UNKNOWN for a method that does not exist or needs nets that the bundle lacks. */
dscm_code dscm_eval_check(const dscm_bundle *bundle, const char *method,
                          dscm_error *err) DSCM_MUST_CHECK;

typedef struct dscm_eval_worker dscm_eval_worker;
/* data is borrowed. batch: items per network pass. */
dscm_code dscm_eval_worker_open(dscm_eval_worker **out, const dscm_eval_data *data, size_t batch,
                                dscm_error *err) DSCM_MUST_CHECK;
void dscm_eval_worker_free(dscm_eval_worker *w); /* takes NULL */

/* Runs a method on items first .. first+count-1 (count <= batch): rows (count), pixels
 * (count,H,W,C). */
dscm_code dscm_eval_run(dscm_eval_worker *w, const dscm_eval_setting *setting, size_t first,
                        size_t count, dscm_record *rows, uint8_t *pixels,
                        dscm_error *err) DSCM_MUST_CHECK;

/* Composition: L1 (0..255) of items to their image after 1 .. cycles null counterfactuals, guided
 * towards their own class when `guided`, rounded to 8 bits after each. distance: (count, cycles).
 */
dscm_code dscm_eval_composition(dscm_eval_worker *w, const dscm_eval_setting *setting, size_t first,
                                size_t count, size_t cycles, bool guided, double *distance,
                                dscm_error *err) DSCM_MUST_CHECK;
/* Reversibility: L1 (0..255) of items to do(y) after do(target), both rounded. distance: (count).
 */
dscm_code dscm_eval_reversibility(dscm_eval_worker *w, const dscm_eval_setting *setting,
                                  size_t first, size_t count, double *distance,
                                  dscm_error *err) DSCM_MUST_CHECK;

/* Features of images for the Fréchet distance: the oracle's last hidden layer. Width 0: the bundle
 * has no oracle, and there is nothing to compute. pixels (count,H,W,C), count <= batch; out
 * (count,width). */
size_t dscm_eval_features_width(const dscm_eval_worker *w);
void dscm_eval_features(dscm_eval_worker *w, const uint8_t *pixels, size_t count, float *out);
/* Memory of the worker's session, in bytes. */
size_t dscm_eval_worker_bytes(const dscm_eval_worker *w);

#endif
