/* Settings of the service: defaults, refusals, the environment. */
#include "server/settings.h"
#include "tests/harness.h"

static void settings_have_sound_defaults(void)
{
    dscm_settings settings;
    dscm_error err = {0};
    dscm_settings_defaults(&settings);
    for (size_t i = 0; dscm_setting_at(i); i++) {
        const dscm_setting *s = dscm_setting_at(i);
        CHECK_INT(dscm_settings_set(&settings, s->name, s->value, "default", &err), DSCM_OK);
    }
    CHECK_STR(err.message, "");
    CHECK_INT(settings.port, 8080);
    CHECK_STR(settings.host, "127.0.0.1");
}

static void settings_refuse_what_is_wrong(void)
{
    dscm_settings settings;
    static const char *const bad[][2] = {
        {"--port", "65536"},    {"--port", "-1"},      {"--port", "80x"},
        {"--port", ""},         {"--batch", "0"},      {"--trusted-proxy=maybe", "x"},
        {"--log-level", "all"}, {"--host", "0.0.0.0"}, {"--host", "1270.0.0.1"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        dscm_error err = {0};
        char *argv[] = {(char *)(uintptr_t)bad[i][0], (char *)(uintptr_t)bad[i][1]};
        int argc = strchr(bad[i][0], '=') ? 1 : 2;
        CHECK(dscm_settings_load(&settings, argc, argv, NULL, &err) != DSCM_OK);
        CHECK(err.message[0]);
    }
    dscm_error err = {0};
    char name[DSCM_SETTING_TEXT + 1], *long_name[] = {"--data-dir", name};
    for (size_t length = DSCM_SETTING_TEXT - 1; length <= DSCM_SETTING_TEXT; length++) {
        memset(name, 'x', length);
        name[length] = 0;
        CHECK_INT(dscm_settings_load(&settings, 2, long_name, NULL, &err),
                  length < DSCM_SETTING_TEXT ? DSCM_OK : DSCM_E_LIMIT);
    }
    CHECK_HAS(err.message, "longer than 255");
    err = (dscm_error){0};
    char *argv[] = {"--port"};
    CHECK_INT(dscm_settings_load(&settings, 1, argv, NULL, &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, "needs a value");
}

static void service_links_are_ignored(void)
{
    dscm_settings settings;
    dscm_error err = {0};
    char *links[] = {"DIFFSCM_SERVICE_HOST=10.96.0.12",
                     "DIFFSCM_SERVICE_PORT=8080",
                     "DIFFSCM_PORT=tcp://10.96.0.12:8080",
                     "DIFFSCM_PORT_8080_TCP=tcp://10.96.0.12:8080",
                     "DIFFSCM_PORT_8080_TCP_ADDR=10.96.0.12",
                     "DIFFSCM_QUEUE_CAPACITY=7",
                     NULL};
    CHECK_INT(dscm_settings_load(&settings, 0, NULL, links, &err), DSCM_OK);
    CHECK_INT(settings.port, 8080);
    CHECK_INT(settings.queue_capacity, 7);
    CHECK_INT(settings.service_links, 5);
    char *unknown[] = {"DIFFSCM_PORTS=1", NULL}, *wrong[] = {"DIFFSCM_PORT_TCP=1", NULL};
    CHECK_INT(dscm_settings_load(&settings, 0, NULL, unknown, &err), DSCM_E_UNKNOWN);
    CHECK_INT(dscm_settings_load(&settings, 0, NULL, wrong, &err), DSCM_E_UNKNOWN);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"settings_have_sound_defaults", settings_have_sound_defaults},
        {"settings_refuse_what_is_wrong", settings_refuse_what_is_wrong},
        {"service_links_are_ignored", service_links_are_ignored},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
