/* Forms: parts and their frames, every truncation, what becomes of the fields. */
#include "api/multipart.h"

#include <stdlib.h>
#include <string.h>

#include "tests/harness.h"

#define TYPE "multipart/form-data; boundary=XX"

static const char good[] = "--XX\r\nContent-Disposition: form-data; name=\"do.digit\"\r\n\r\n8\r\n"
                           "--XX\r\ncontent-disposition: form-data; name=\"file\"; "
                           "filename=\"a;name=b.png\"\r\nContent-Type: image/png\r\n\r\n"
                           "\x89PNG\r\n--X\r\n\r\n"
                           "--XX\r\nContent-Disposition: form-data; name=steps\r\n\r\n\r\n"
                           "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\na b&c\r\n"
                           "--XX--\r\n";

static void parts_and_fields(void)
{
    static const char *const types[] = {TYPE, "Multipart/Form-Data;boundary=\"XX\"",
                                        "multipart/form-data; charset=utf-8; BOUNDARY=XX"};
    static const char *const before[] = {"", "\r\n", "some words\r\n"};
    for (size_t t = 0; t < TEST_COUNT(types); t++) {
        dscm_multipart form;
        dscm_problem problem = {0};
        const dscm_part *picture = NULL;
        char body[1024], query[DSCM_QUERY_SIZE_MAX + 1];
        int size = snprintf(body, sizeof body, "%s%s", before[t], good);
        REQUIRE(dscm_multipart_parse(&form, types[t], body, (size_t)size, &problem));
        CHECK_INT(form.count, 4);
        REQUIRE(dscm_multipart_request(&form, t ? "seed=1" : NULL, query, &picture, &problem));
        CHECK_STR(query, t ? "seed=1&do.digit=8&model=a%20b%26c" : "do.digit=8&model=a%20b%26c");
        REQUIRE(picture == &form.parts[1]);
        CHECK_INT(picture->size, 11);
        CHECK(memcmp(picture->data, "\x89PNG\r\n--X\r\n", 11) == 0);
    }
}

static void every_truncation_is_refused(void)
{
    for (size_t size = 0; size < sizeof good - 5; size++) {
        dscm_multipart form;
        dscm_problem problem = {0};
        char *copy = malloc(size ? size : 1); /* exact, for AddressSanitizer */
        memcpy(copy, good, size);
        CHECK(!dscm_multipart_parse(&form, TYPE, copy, size, &problem));
        CHECK_INT(problem.code, DSCM_PROBLEM_BAD_REQUEST);
        free(copy);
    }
}

#define PART(head) "--XX\r\n" head "\r\n\r\nx\r\n--XX--"

static void faults_are_named(void)
{
    static const struct {
        const char *type, *body, *words;
    } cases[] = {
        {"multipart/form-data", good, "boundary"},
        {"multipart/form-data; boundary=", good, "boundary"},
        {"multipart/form-data; boundary=YY", good, "boundary"},
        {TYPE, PART("Content-Type: image/png"), "no Content-Disposition"},
        {TYPE, PART("Content-Disposition: form-data; filename=\"a\""), "name"},
        {TYPE, PART("Content-Disposition: form-data; name=\"\""), "name"},
        {TYPE, PART("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64"),
         "Content-Transfer-Encoding"},
        {TYPE, "--XXx", "line end"}};
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        dscm_multipart form;
        dscm_problem problem = {0};
        CHECK(!dscm_multipart_parse(&form, cases[i].type, cases[i].body, strlen(cases[i].body),
                                    &problem));
        CHECK_HAS(problem.detail, cases[i].words);
    }
}

static void forms_have_limits(void)
{
    const dscm_part file = {"a", 1, "x", 1, true}, field = {"n", 1, "v", 1, false};
    dscm_multipart form = {.parts = {file, file}, .count = 2};
    dscm_problem problem = {0};
    const dscm_part *picture;
    char query[DSCM_QUERY_SIZE_MAX + 1], *text = calloc(5000, 1);
    CHECK(!dscm_multipart_request(&form, NULL, query, &picture, &problem));
    CHECK_HAS(problem.detail, "more than one picture");
    memset(text, 'v', 4999);
    for (size_t size = 4080; size < 4999; size++) {
        form = (dscm_multipart){.parts = {field, field}, .count = 2};
        form.parts[1].data = text;
        form.parts[1].size = size;
        problem = (dscm_problem){0};
        bool fits = dscm_multipart_request(&form, NULL, query, &picture, &problem);
        CHECK(!fits || strlen(query) == size + 6);
        CHECK(fits || problem.code == DSCM_PROBLEM_BAD_REQUEST);
        CHECK(size < 4200 || !fits);
    }
    form.parts[1].data = "\0";
    form.parts[1].size = 1;
    CHECK(!dscm_multipart_request(&form, NULL, query, &picture, &problem));
    CHECK(!dscm_multipart_request(&form, text, query, &picture, &problem));
    free(text);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"parts_and_fields", parts_and_fields},
                                      {"every_truncation_is_refused", every_truncation_is_refused},
                                      {"faults_are_named", faults_are_named},
                                      {"forms_have_limits", forms_have_limits}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
