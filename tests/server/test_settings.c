/* Settings of the service: defaults, refusals, the environment. */
#include "server/settings.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* Flags win over the environment, that over the file, that over the defaults. */
static void the_strongest_source_wins(void)
{
    char path[] = "/tmp/diffscm-settings-XXXXXX", config[80], variable[80];
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    dprintf(fd, "# a comment\n  # another\nport = 1000\nbatch=2\n\nworkers = 3\n");
    close(fd);
    snprintf(config, sizeof config, "--config=%s", path);
    snprintf(variable, sizeof variable, "DIFFSCM_CONFIG=%s", path);
    char *flags[] = {config, "--port", "3000", "--trusted-proxy", "--port=3001"};
    char *environment[] = {"DIFFSCM_PORT=2000", "DIFFSCM_BATCH=4", "PATH=/bin", NULL};
    char *by_variable[] = {variable, NULL};
    dscm_settings s;
    dscm_error err = {0};
    CHECK_INT(dscm_settings_load(&s, 5, flags, environment, &err), DSCM_OK);
    CHECK_STR(err.message, "");
    CHECK_INT(s.port, 3001); /* the last flag */
    CHECK_INT(s.batch, 4);
    CHECK_INT(s.workers, 3);
    CHECK(s.trusted_proxy);
    CHECK_INT(s.threads, 0);
    CHECK_INT(dscm_settings_load(&s, 0, NULL, by_variable, &err), DSCM_OK);
    CHECK_INT(s.port, 1000);
    unlink(path);
    CHECK(dscm_settings_load(&s, 1, flags, NULL, &err) != DSCM_OK);
    CHECK_HAS(err.message, path);
}

static void files_name_the_line_that_is_wrong(void)
{
    static const struct {
        const char *text, *part;
    } wrong[] = {{"port = 1\nports = 2\n", ":2"},
                 {"port = 65536\n", "port"},
                 {"port\n", ":1"},
                 {"trusted-proxy = maybe\n", "allowed are on and off"}};
    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        char path[] = "/tmp/diffscm-settings-XXXXXX", config[80];
        int fd = mkstemp(path);
        REQUIRE(fd >= 0);
        dprintf(fd, "%s", wrong[i].text);
        close(fd);
        snprintf(config, sizeof config, "--config=%s", path);
        char *flags[] = {config};
        dscm_settings s;
        dscm_error err = {0};
        CHECK(dscm_settings_load(&s, 1, flags, NULL, &err) != DSCM_OK);
        CHECK_HAS(err.message, wrong[i].part);
        unlink(path);
    }
}

/* What is printed is read again as it was. */
static void printed_settings_are_a_file(void)
{
    char path[] = "/tmp/diffscm-settings-XXXXXX", config[80];
    int fd = mkstemp(path);
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    REQUIRE(out != NULL);
    char *flags[] = {"--host=::1", "--port=7", "--allow-anonymous", "--models=a, b"};
    dscm_settings before, after;
    dscm_error err = {0};
    REQUIRE(dscm_settings_load(&before, 4, flags, NULL, &err) == DSCM_OK);
    dscm_settings_print(&before, out);
    fclose(out);
    snprintf(config, sizeof config, "--config=%s", path);
    char *again[] = {config};
    CHECK_INT(dscm_settings_load(&after, 1, again, NULL, &err), DSCM_OK);
    CHECK_STR(err.message, "");
    CHECK_STR(after.host, "::1");
    CHECK_STR(after.models, "a, b");
    CHECK_INT(after.port, 7);
    CHECK(after.allow_anonymous && !after.trusted_proxy);
    CHECK_INT(after.queue_capacity, before.queue_capacity);
    unlink(path);
}

/* Each is fine alone. */
static void settings_that_contradict_each_other_are_refused(void)
{
    static const struct {
        const char *flags[3], *part;
    } wrong[] = {
        {{"--deadline-ms=5000", "--deadline-max-ms=4999"}, "more than deadline-max-ms (4999)"},
        {{"--wait-s=30", "--wait-max-s=29"}, "more than wait-max-s (29)"},
        {{"--role=api"}, "needs a store that processes share"},
        {{"--role=other"}, "allowed are both, api and work"},
        {{"--store=sqlite:"}, "store"},
        {{"--host=192.0.2.1"}, "give --keys-file"},
        {{"--cors-origins=https://a.example/path"}, "is not an origin"},
        {{"--cors-origins=a.example"}, "is not an origin"}};
    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        char *flags[3];
        int count = 0;
        for (; count < 3 && wrong[i].flags[count]; count++)
            flags[count] = (char *)(uintptr_t)wrong[i].flags[count];
        dscm_settings s;
        dscm_error err = {0};
        CHECK(dscm_settings_load(&s, count, flags, NULL, &err) != DSCM_OK);
        CHECK_HAS(err.message, wrong[i].part);
    }
    char *fine[] = {"--role=work", "--store=redis://h", "--host=192.0.2.1"}; /* does not listen */
    dscm_settings s;
    CHECK_INT(dscm_settings_load(&s, 3, fine, NULL, NULL), DSCM_OK);
    CHECK(dscm_settings_loopback("127.8.9.1") && dscm_settings_loopback("localhost"));
    CHECK(!dscm_settings_loopback("0.0.0.0") && !dscm_settings_loopback("::"));
}

static void the_table_documents_every_setting(void)
{
    char *text = NULL, row[100];
    size_t size;
    FILE *out = open_memstream(&text, &size);
    REQUIRE(out != NULL);
    dscm_settings_document(out);
    fclose(out);
    for (size_t i = 0; dscm_setting_at(i); i++) {
        snprintf(row, sizeof row, "| `--%s` | `DIFFSCM_", dscm_setting_at(i)->name);
        CHECK_HAS(text, row);
    }
    CHECK_HAS(text, "| `--queue-capacity` | `DIFFSCM_QUEUE_CAPACITY` | 256 | 1 – 100000 |");
    free(text);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"settings_have_sound_defaults", settings_have_sound_defaults},
        {"settings_refuse_what_is_wrong", settings_refuse_what_is_wrong},
        {"service_links_are_ignored", service_links_are_ignored},
        {"the_strongest_source_wins", the_strongest_source_wins},
        {"files_name_the_line_that_is_wrong", files_name_the_line_that_is_wrong},
        {"printed_settings_are_a_file", printed_settings_are_a_file},
        {"settings_that_contradict_each_other_are_refused",
         settings_that_contradict_each_other_are_refused},
        {"the_table_documents_every_setting", the_table_documents_every_setting},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
