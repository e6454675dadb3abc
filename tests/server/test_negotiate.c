/* Accept, Prefer and media types. */
#include "server/negotiate.h"
#include "tests/harness.h"

static void accept_chooses_by_quality(void)
{
    CHECK_INT(dscm_media_negotiate(NULL), DSCM_MEDIA_JSON);
    CHECK_INT(dscm_media_negotiate("*/*"), DSCM_MEDIA_JSON);
    CHECK_INT(dscm_media_negotiate("image/png"), DSCM_MEDIA_PNG);
    CHECK_INT(dscm_media_negotiate("image/*;q=0.5, application/json;q=0.4"), DSCM_MEDIA_PNG);
    CHECK_INT(dscm_media_negotiate("text/event-stream, */*;q=0.1"), DSCM_MEDIA_EVENTS);
    CHECK_INT(dscm_media_negotiate("text/html"), DSCM_MEDIA_NONE);
    CHECK_INT(dscm_media_negotiate("image/png;q=0"), DSCM_MEDIA_NONE);
    CHECK_INT(dscm_media_negotiate(""), DSCM_MEDIA_NONE);
    CHECK_INT(dscm_media_negotiate(",,;q=;,"), DSCM_MEDIA_NONE);
    dscm_prefer prefer = dscm_prefer_parse("handling=lenient, wait=7, respond-async");
    CHECK(prefer.async);
    CHECK_INT(prefer.wait_s, 7);
    CHECK_INT(dscm_prefer_parse("wait=-1").wait_s, -1);
    CHECK_INT(dscm_prefer_parse("wait=5s").wait_s, -1);
    CHECK_INT(dscm_prefer_parse("wait=99999999999999999999").wait_s, -1);
    CHECK(dscm_media_is("image/png; charset=x", "image/png"));
    CHECK(dscm_media_is("IMAGE/PNG", "image/"));
    CHECK(!dscm_media_is("image/", "image/"));
    CHECK(!dscm_media_is("imagex/png", "image/png"));
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"accept_chooses_by_quality", accept_chooses_by_quality},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
