/* Targets of requests: percent escapes and absolute forms. */
#include <string.h>

#include "server/http_internal.h"
#include "tests/harness.h"

static void decodes_to(const char *path, const char *want)
{
    char text[64];
    snprintf(text, sizeof text, "%s", path);
    dscm_http_decode_path_(text);
    CHECK_STR(text, want);
}

static void escapes_are_undone_once(void)
{
    decodes_to("/models/a%20b", "/models/a b");
    decodes_to("/%41%4a%4A", "/AJJ");
    decodes_to("/%e2%82%ac", "/\xe2\x82\xac");
    decodes_to("/%2541", "/%41"); /* not twice */
    decodes_to("", "");
}

static void what_would_make_another_path_stays(void)
{
    decodes_to("/a%2fb", "/a%2fb");
    decodes_to("/a%2Fb", "/a%2Fb");
    decodes_to("/a%00b", "/a%00b");
    decodes_to("/%2e%2e/x", "/../x"); /* no file system behind it */
}

static void broken_escapes_stay(void)
{
    static const char *const paths[] = {"/%", "/%4", "/%zz", "/%4g", "/%%41", "%"};
    static const char *const wanted[] = {"/%", "/%4", "/%zz", "/%4g", "/%A", "%"};
    for (size_t i = 0; i < TEST_COUNT(paths); i++) decodes_to(paths[i], wanted[i]);
}

static void absolute_targets_name_their_path(void)
{
    CHECK_STR(dscm_http_local_target_("/jobs/1?x=http://y/"), "/jobs/1?x=http://y/");
    CHECK_STR(dscm_http_local_target_("http://host:80/jobs/1?x=1"), "/jobs/1?x=1");
    CHECK_STR(dscm_http_local_target_("HTTPS://host/a"), "/a");
    CHECK_STR(dscm_http_local_target_("http://host"), "/");
    CHECK_STR(dscm_http_local_target_("http://host?x=1"), "/");
    CHECK_STR(dscm_http_local_target_("ftp://host/a"), "ftp://host/a");
    CHECK_STR(dscm_http_local_target_("*"), "*");
    CHECK_STR(dscm_http_local_target_(""), "");
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"escapes_are_undone_once", escapes_are_undone_once},
        {"what_would_make_another_path_stays", what_would_make_another_path_stays},
        {"broken_escapes_stay", broken_escapes_stay},
        {"absolute_targets_name_their_path", absolute_targets_name_their_path},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
