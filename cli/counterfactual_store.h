/* `diffscm counterfactual --images --store redis://…`: each image is a job of the store's workers.
 *
 * What was collected is kept beside --out, in OUT.part, until the output is written: the same command goes
 * on where it was ended. One process writes it at a time. */
#ifndef DSCM_CLI_COUNTERFACTUAL_STORE_H
#define DSCM_CLI_COUNTERFACTUAL_STORE_H

#include "cli/counterfactual.h"

typedef struct counterfactual_store counterfactual_store;

/* What is to be done, and where results go; all borrowed until the close. */
typedef struct counterfactual_items {
    const counterfactual_args *a;
    size_t count;
    dscm_case (*ask)(void *arg, size_t index);
    void *arg;
    uint8_t *result; /* (count,H,W,C) */
    char **replies;  /* (count) JSON lines, each from malloc, or NULL: not wanted */
} counterfactual_items;

/* Opens OUT.part and takes over what it has of this very work; of other work it is begun anew. */
dscm_code counterfactual_store_open(counterfactual_store **out, const counterfactual_items *items,
                                    dscm_error *err) DSCM_MUST_CHECK;
dscm_code counterfactual_store_run(counterfactual_store *s, dscm_error *err) DSCM_MUST_CHECK;
/* written: the output is, and OUT.part is removed. Takes NULL. */
void counterfactual_store_close(counterfactual_store *s, bool written);

#endif
