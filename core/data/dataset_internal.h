/* Parts of reading a data set. Internal to core/data. */
#ifndef DSCM_CORE_DATA_DATASET_INTERNAL_H
#define DSCM_CORE_DATA_DATASET_INTERNAL_H

#include "core/data/dataset.h"
#include "core/data/layout.h"
#include "core/data/split.h"

/* Pictures of a folder per class, in the set's order, all of the layout's. */
dscm_code dscm_dataset_from_folders(dscm_dataset *out, const dscm_source *source,
                                    const dscm_layout *layout, const dscm_dataset_options *o,
                                    dscm_error *err) DSCM_MUST_CHECK;
/* Keeps the images that the split selects. */
dscm_code dscm_dataset_keep(dscm_dataset *set, const dscm_split *split,
                            dscm_error *err) DSCM_MUST_CHECK;

/* Decoded pictures kept between runs. key: 64 hex digits that name everything they depend on. */
bool dscm_dataset_cache_load(dscm_dataset *set, const char *folder, const char *key);
/* A cache that cannot be written is none: failures are ignored. */
void dscm_dataset_cache_save(const dscm_dataset *set, const char *folder, const char *key);

#endif
