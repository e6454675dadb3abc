/* Which pages may call: lists of origins, what browsers tell, names that point at this machine. */
#include "server/origin.h"

#include "tests/harness.h"

#define LIST "https://a.example, http://localhost:3000 https://b.example"

static void listed_origins_match_as_a_whole(void)
{
    CHECK(dscm_origin_listed(LIST, "https://a.example"));
    CHECK(dscm_origin_listed(LIST, "http://localhost:3000"));
    CHECK(dscm_origin_listed(LIST, "https://b.example"));
    CHECK(!dscm_origin_listed(LIST, "https://a.example.evil"));
    CHECK(!dscm_origin_listed(LIST, "https://a.exampl"));
    CHECK(!dscm_origin_listed(LIST, "http://a.example")); /* another scheme */
    CHECK(!dscm_origin_listed(LIST, "http://localhost"));
    CHECK(!dscm_origin_listed(LIST, "null"));
    CHECK(!dscm_origin_listed(LIST, ""));
    CHECK(!dscm_origin_listed("", "https://a.example"));
    CHECK(!dscm_origin_listed(" , ", "https://a.example"));
    CHECK(dscm_origin_listed("*", "https://anything.example"));
    CHECK(dscm_origin_listed("null", "null"));
}

static void pages_of_others_are_refused(void)
{
    static const struct {
        const char *origin, *site, *host;
        bool allowed;
    } calls[] = {
        {NULL, NULL, "127.0.0.1:8080", true}, /* no browser */
        {"https://a.example", "cross-site", "127.0.0.1:8080", true},
        {"https://evil.example", "cross-site", "127.0.0.1:8080", false},
        {"https://evil.example", NULL, "127.0.0.1:8080", false},
        {NULL, "cross-site", "127.0.0.1:8080", false}, /* an image or a link of another page */
        {NULL, "same-site", "127.0.0.1:8080", false},  /* another name below the same domain */
        {NULL, "same-origin", "127.0.0.1:8080", true},
        {NULL, "none", "127.0.0.1:8080", true}, /* typed by the user */
        {"http://127.0.0.1:8080", NULL, "127.0.0.1:8080", true},
        {"http://127.0.0.1:9999", NULL, "127.0.0.1:8080", false},
        {"HTTP://LOCALHOST:8080", NULL, "localhost:8080", true},
        {"http://127.0.0.1:8080", NULL, NULL, false},
        {"null", NULL, "127.0.0.1:8080", false}, /* of a file or a sandbox */
        /* what the browser found counts more than what the names look like */
        {"http://127.0.0.1:8080", "cross-site", "127.0.0.1:8080", false},
    };
    for (size_t i = 0; i < TEST_COUNT(calls); i++) {
        bool got = dscm_origin_allowed(LIST, calls[i].origin, calls[i].site, calls[i].host);
        if (got != calls[i].allowed) TEST_FAIL_("call %zu: %d", i, got);
    }
}

static void names_that_point_here_are_found(void)
{
    static const struct {
        const char *host;
        bool rebound;
    } hosts[] = {
        {"evil.example", true},
        {"evil.example:8080", true},
        {"a.example", false},
        {"A.EXAMPLE:8080", false}, /* listed */
        {"a.example.", false},
        {"own.example", false},
        {"localhost", false},
        {"machine", false},
        {"page.localhost:80", false},
        {"127.0.0.1:8080", false},
        {"[::1]:8080", false},
        {"[2001:db8::1]", false},
        {"127.0.0.1.evil.example", true},
        {"1.2.3.4.5", true},
        {"", false},
        {NULL, false},
    };
    char longest[400];
    for (size_t i = 0; i < TEST_COUNT(hosts); i++) {
        bool got = dscm_origin_rebound(LIST, hosts[i].host, "own.example");
        if (got != hosts[i].rebound)
            TEST_FAIL_("%s: %d", hosts[i].host ? hosts[i].host : "(none)", got);
    }
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = 0;
    CHECK(dscm_origin_rebound(LIST, longest, "own.example")); /* no name is so long */
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"listed_origins_match_as_a_whole", listed_origins_match_as_a_whole},
        {"pages_of_others_are_refused", pages_of_others_are_refused},
        {"names_that_point_here_are_found", names_that_point_here_are_found},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
