/* Forms: parts lie within the body, in order, and fields become a query that can be read. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = {"multipart/form-data; boundary=XX",
                                        "multipart/form-data; boundary=\"-\""};
    if (!size) return 0;
    const char *type = types[data[0] & 1], *body = (const char *)data + 1, *at = body;
    dscm_multipart form;
    dscm_problem problem = {0};
    const dscm_part *picture;
    char query[DSCM_QUERY_SIZE_MAX + 1];
    if (!dscm_multipart_parse(&form, type, body, size - 1, &problem)) {
        if (problem.code != DSCM_PROBLEM_BAD_REQUEST) __builtin_trap();
        return 0;
    }
    for (size_t i = 0; i < form.count; i++) {
        const dscm_part *part = &form.parts[i];
        if (part->name < at || part->data < part->name + part->name_size ||
            part->data + part->size > body + size - 1)
            __builtin_trap();
        at = part->data + part->size;
    }
    if (!dscm_multipart_request(&form, "a=b", query, &picture, &problem)) return 0;
    dscm_query_string *pairs = malloc(sizeof *pairs);
    if (pairs && strlen(query) <= DSCM_QUERY_SIZE_MAX &&
        !dscm_query_parse(pairs, query, &problem) && problem.code != DSCM_PROBLEM_MALFORMED_QUERY)
        __builtin_trap();
    free(pairs);
    return 0;
}
