/* A catalogue without networks for tests of the parser: a digit, a thickness and a small image. */
#ifndef DSCM_TESTS_API_CATALOGUE_H
#define DSCM_TESTS_API_CATALOGUE_H

#include "api/request.h"

static inline const dscm_catalogue *test_catalogue(void)
{
    static const char *const labels[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
    static const int parents[] = {0, 1};
    static const dscm_variable variables[] = {
        {.name = "digit", .kind = DSCM_CATEGORICAL, .labels_count = 10, .labels = labels},
        {.name = "thickness", .kind = DSCM_CONTINUOUS, .min = 0.5, .max = 6},
        {.name = "image",
         .kind = DSCM_IMAGE,
         .h = 4,
         .w = 4,
         .c = 1,
         .parents = parents,
         .parents_count = 2}};
    static const dscm_bundle_info info = {.name = "toy",
                                          .version = "1",
                                          .sha256 = "0",
                                          .variables = variables,
                                          .variables_count = 3,
                                          .image = 2};
    static const dscm_model_entry entry = {.info = &info};
    static const dscm_catalogue catalogue = {.models = &entry, .count = 1};
    return &catalogue;
}

#endif
