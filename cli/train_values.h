/* diffscm train: values of variables beside the images, out of the data set's table. */
#ifndef DSCM_CLI_TRAIN_VALUES_H
#define DSCM_CLI_TRAIN_VALUES_H

#include "core/data/dataset.h"
#include "core/models/net.h"

typedef struct train_values {
    const char *dir, *table; /* the data set; a CSV instead of its own, or NULL */
    const char *names;       /* variables, separated by commas */
    /* set by train_values_describe */
    dscm_parent parents[DSCM_PARENTS_MAX]; /* kinds, classes, mean and std of the training data */
    char **labels[DSCM_PARENTS_MAX];       /* (classes) of each, owned; NULL for continuous ones */
    size_t count;
} train_values;

/* Kinds, labels and scales of the variables, as `diffscm fit` takes them from a table, and their
 * values, (images, count), owned by the caller. */
dscm_code train_values_describe(train_values *v, double **values, const dscm_dataset *data,
                                const char *split, dscm_error *err) DSCM_MUST_CHECK;
/* The same variables of another split. */
dscm_code train_values_read(const train_values *v, double **values, const dscm_dataset *data,
                            const char *split, dscm_error *err) DSCM_MUST_CHECK;
void train_values_free(train_values *v);

#endif
