/* The table of variables beside the images of a data set: DIR/SPLIT-variables.csv, or else
 * DIR/variables.csv; row k belongs to image k of the split's file. Read-only once open. */
#ifndef DSCM_CORE_DATA_VARIABLES_H
#define DSCM_CORE_DATA_VARIABLES_H

#include "core/data/dataset.h"
#include "core/data/table.h"

/* Where the split's table is: writes its path, of the two above the one that is there, else the
 * second. split: a name without a slice. */
dscm_code dscm_variables_path(char *path, size_t size, const char *dir, const char *split,
                              dscm_error *err) DSCM_MUST_CHECK;
/* The rows of the images of `set`, which was read from this split (a slice keeps its rows). file: the
 * table, or NULL: the split's. Fails unless the file has a row for each image of the whole split. */
dscm_code dscm_variables_read(dscm_table *out, const dscm_dataset *set, const char *dir,
                              const char *split, const char *file, dscm_error *err) DSCM_MUST_CHECK;

#endif
