/* Accept, Prefer and media types. */
#include "server/negotiate.h"
#include "tests/harness.h"

static void the_best_quality_wins(void)
{
    CHECK_INT(dscm_media_negotiate(NULL), DSCM_MEDIA_JSON);
    CHECK_INT(dscm_media_negotiate("*/*"), DSCM_MEDIA_JSON);
    CHECK_INT(dscm_media_negotiate("image/png"), DSCM_MEDIA_PNG);
    CHECK_INT(dscm_media_negotiate("image/*;q=0.5, application/json;q=0.4"), DSCM_MEDIA_PNG);
    CHECK_INT(dscm_media_negotiate("text/event-stream, */*;q=0.1"), DSCM_MEDIA_EVENTS);
    CHECK_INT(dscm_media_negotiate("image/png;q=0.2, application/json;q=0.2"), DSCM_MEDIA_JSON);
    CHECK_INT(dscm_media_negotiate("IMAGE/PNG ; Q=0.9 ,*/*;q=0.1"), DSCM_MEDIA_PNG);
}

static void what_is_not_ours_is_none(void)
{
    static const char *const none[] = {"text/html",  "image/png;q=0", "",    ",,;q=;,",
                                       "image/pngx", "image",         "png", "image/jpeg",
                                       "*/png",      ";q=1",          "q=1"};
    for (size_t i = 0; i < TEST_COUNT(none); i++)
        if (dscm_media_negotiate(none[i]) != DSCM_MEDIA_NONE) TEST_FAIL_("\"%s\"", none[i]);
}

static void preferences_are_read_and_others_ignored(void)
{
    dscm_prefer prefer = dscm_prefer_parse("handling=lenient, wait=7, respond-async");
    CHECK(prefer.async);
    CHECK_INT(prefer.wait_s, 7);
    prefer = dscm_prefer_parse(NULL);
    CHECK(!prefer.async && prefer.wait_s == -1);
    CHECK(dscm_prefer_parse("Respond-Async").async);
    CHECK(!dscm_prefer_parse("respond-asynchronously").async);
    CHECK_INT(dscm_prefer_parse("wait=0").wait_s, 0);
    CHECK_INT(dscm_prefer_parse("wait=86400").wait_s, 86400);
    static const char *const wrong[] = {
        "wait=-1", "wait=5s", "wait=", "wait= 5", "wait=86401", "wait=99999999999999999999",
        "await=5"};
    for (size_t i = 0; i < TEST_COUNT(wrong); i++)
        CHECK_INT(dscm_prefer_parse(wrong[i]).wait_s, -1);
}

static void media_types_are_compared_without_parameters(void)
{
    CHECK(dscm_media_is("image/png; charset=x", "image/png"));
    CHECK(dscm_media_is("IMAGE/PNG", "image/"));
    CHECK(dscm_media_is("image/png\t", "image/png"));
    CHECK(!dscm_media_is("image/", "image/"));
    CHECK(!dscm_media_is("imagex/png", "image/png"));
    CHECK(!dscm_media_is("image/pngx", "image/png"));
    CHECK(!dscm_media_is("image/pn", "image/png"));
    CHECK(!dscm_media_is("", "image/png"));
    CHECK(!dscm_media_is(NULL, "image/png"));
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"the_best_quality_wins", the_best_quality_wins},
        {"what_is_not_ours_is_none", what_is_not_ours_is_none},
        {"preferences_are_read_and_others_ignored", preferences_are_read_and_others_ignored},
        {"media_types_are_compared_without_parameters",
         media_types_are_compared_without_parameters},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
