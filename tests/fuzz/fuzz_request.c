/* Requests of any bytes, as JSON and as an image with a query: what is refused has a problem that
 * can be told, what is accepted stays within its limits. The first byte chooses the form. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/api/catalogue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the service asks of a request that was accepted. */
static void use(dscm_request *r)
{
    size_t size = dscm_request_abduction_key(r, NULL, 0);
    uint8_t *key = malloc(size);
    const dscm_case ask = dscm_request_case(r);
    if (dscm_request_cost(r) < 1 || ask.targets_count != r->targets_count) abort();
    if (key && dscm_request_abduction_key(r, key, size) != size) abort();
    bool known = key && r->pixels && dscm_request_take_factuals(r, key, size);
    if (known && dscm_request_abduction_key(r, key, size) != size) abort();
    if (key && size) { /* other bytes are refused, or read as other values */
        key[size / 2] ^= 1;
        (void)!dscm_request_take_factuals(r, key, size / 2);
    }
    (void)dscm_request_compatible(r, r);
    (void)dscm_request_fits(r, &r->options);
    free(key);
}

static void check(dscm_request *request, bool good, const dscm_problem *problem)
{
    if (good != (request != NULL) || good == (problem->code != DSCM_PROBLEM_NONE)) abort();
    if (good && (request->targets_count > DSCM_REQUEST_FAN_MAX ||
                 request->count > DSCM_SAMPLES_MAX || request->options.steps > 1000))
        abort();
    if (good) use(request);
    char *text = good ? NULL : dscm_problem_json(problem, "/x", NULL, NULL);
    if (!good && !text) text = dscm_problem_json(problem, "/x", NULL, NULL); /* memory was short */
    if (!good && !text) abort();
    free(text);
    dscm_request_free(request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dscm_problem problem = {0};
    dscm_request *request = NULL;
    if (size < 1) return 0;
    dscm_work work = (dscm_work)(data[0] / 2 % 3);
    if (data[0] % 2) {
        bool good = dscm_request_parse_json(&request, work, (const char *)data + 1, size - 1,
                                            test_catalogue(), &problem);
        check(request, good, &problem);
        return 0;
    }
    /* The query ends at the first newline; the rest is the image. */
    const uint8_t *end = memchr(data + 1, '\n', size - 1);
    size_t length = end ? (size_t)(end - data - 1) : size - 1;
    char *query = malloc(length + 1);
    if (!query) return 0;
    memcpy(query, data + 1, length);
    query[length] = '\0';
    size_t left = end ? size - length - 2 : 0;
    bool good = dscm_request_parse_image(&request, work, end ? end + 1 : data, left, query,
                                         test_catalogue(), &problem);
    check(request, good, &problem);
    free(query);
    return 0;
}
