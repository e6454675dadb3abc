/* Query strings of any bytes: parsed within bounds, or refused with a problem. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dscm_query_string query;
    dscm_problem problem = {0};
    char *text = malloc(size + 1);
    if (!text) return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    bool good = dscm_query_parse(&query, text, &problem);
    if (good != (problem.code == DSCM_PROBLEM_NONE)) abort();
    for (size_t i = 0; good && i < query.count; i++)
        if (dscm_query_get(&query, query.names[i]) != query.values[i]) abort();
    free(text);
    return 0;
}
