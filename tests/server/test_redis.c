/* Addresses of a Redis server and its password's file; a server that is not there. The shared store on a real
 * one: tests/http/cases_shared.py. */
#include "server/redis.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness.h"

static void addresses_are_read(void)
{
    static const struct {
        const char *url;
        dscm_redis_address want;
    } good[] = {
        {"redis://h", {.host = "h", .port = 6379}},
        {"redis://h:1", {.host = "h", .port = 1}},
        {"redis://h:65535/7", {.host = "h", .port = 65535, .db = 7}},
        {"redis://anna@store.example:6380/0",
         {.host = "store.example", .port = 6380, .user = "anna"}},
        {"redis://[::1]:6380/2", {.host = "::1", .port = 6380, .db = 2}},
        {"redis://[2001:db8::1]", {.host = "2001:db8::1", .port = 6379}},
        {"redis://h/", {.host = "h", .port = 6379}},
        {"redis+unix:///run/redis.sock", {.path = "/run/redis.sock", .port = 6379}},
        {"redis+unix:///s?db=3", {.path = "/s", .port = 6379, .db = 3}},
    };
    for (size_t i = 0; i < TEST_COUNT(good); i++) {
        dscm_redis_address got;
        dscm_error err = {0};
        if (dscm_redis_parse(&got, good[i].url, &err) != DSCM_OK) {
            TEST_FAIL_("%s", err.message);
            continue;
        }
        CHECK_STR(got.host, good[i].want.host);
        CHECK_STR(got.path, good[i].want.path);
        CHECK_STR(got.user, good[i].want.user);
        CHECK_STR(got.password, "");
        CHECK_INT(got.port, good[i].want.port);
        CHECK_INT(got.db, good[i].want.db);
    }
}

static void wrong_addresses_are_refused(void)
{
    static const char *const wrong[] = {"",
                                        "redis",
                                        "http://h",
                                        "redis://",
                                        "redis://:1",
                                        "redis://h:0",
                                        "redis://h:65536",
                                        "redis://h:x",
                                        "redis://h:",
                                        "redis://h/-1",
                                        "redis://h/x",
                                        "redis://@h",
                                        "redis://h/1000000",
                                        "redis+unix://sock",
                                        "redis+unix:///",
                                        "redis+unix:///s?db=",
                                        "redis+unix:///s?x=1"};
    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        dscm_redis_address got;
        dscm_error err = {0};
        if (dscm_redis_parse(&got, wrong[i], &err) == DSCM_OK)
            TEST_FAIL_("\"%s\" is taken", wrong[i]);
        else
            CHECK_HAS(err.message, "store");
    }
    char longest[600] = "redis://";
    memset(longest + 8, 'h', sizeof longest - 9);
    dscm_redis_address got;
    CHECK(dscm_redis_parse(&got, longest, NULL) != DSCM_OK);
    memcpy(longest, "redis+unix:///", 14);
    CHECK(dscm_redis_parse(&got, longest, NULL) != DSCM_OK);
}

/* Others can read an address: the message that refuses a password in it does not repeat it. */
static void a_password_has_no_place_in_an_address(void)
{
    dscm_redis_address got;
    dscm_error err = {0};
    CHECK_INT(dscm_redis_parse(&got, "redis://anna:hunter2@h", &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, "store-password-file");
    CHECK(!strstr(err.message, "hunter2"));
    CHECK_INT(dscm_redis_parse(&got, "rediss://h", &err), DSCM_E_INVALID);
}

static dscm_code password_of(const char *text, dscm_redis_address *address, dscm_error *err)
{
    char path[] = "/tmp/diffscm-password-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) abort();
    close(fd);
    dscm_code code = dscm_redis_password(address, path, err);
    unlink(path);
    return code;
}

static void a_password_is_the_first_line_of_a_file(void)
{
    dscm_redis_address address = {0};
    dscm_error err = {0};
    CHECK_INT(dscm_redis_password(&address, "", &err), DSCM_OK);
    CHECK_STR(address.password, "");
    CHECK_INT(password_of("with spaces \r\nmore\n", &address, &err), DSCM_OK);
    CHECK_STR(address.password, "with spaces ");
    CHECK_INT(password_of("no end", &address, &err), DSCM_OK);
    CHECK_STR(address.password, "no end");
    char longest[258] = ""; /* never a part of it */
    memset(longest, 'x', 255);
    for (int end = 0; end < 2; end++, longest[255] = '\n') {
        CHECK_INT(password_of(longest, &address, &err), DSCM_OK);
        CHECK_INT(strlen(address.password), 255);
    }
    longest[255] = 'x';
    for (int end = 0; end < 2; end++, longest[256] = '\n') {
        dscm_error why = {0};
        CHECK_INT(password_of(longest, &address, &why), DSCM_E_LIMIT);
        CHECK_HAS(why.message, "longer than 255 bytes");
    }
    CHECK_INT(password_of("\nsecond\n", &address, &err), DSCM_E_FORMAT);
    CHECK_INT(password_of("", &address, &err), DSCM_E_FORMAT);
    err = (dscm_error){0};
    CHECK_INT(dscm_redis_password(&address, "/tmp/diffscm-no-such-file", &err), DSCM_E_NOT_FOUND);
    CHECK_HAS(err.message, "/tmp/diffscm-no-such-file");
}

static void a_server_that_is_not_there_is_an_error(void)
{
    const dscm_redis_address address = {.path = "/tmp/diffscm-no-such-socket"};
    dscm_redis *redis = NULL;
    dscm_error err = {0};
    CHECK_INT(dscm_redis_open(&redis, &address, 1000, &err), DSCM_E_IO);
    CHECK_HAS(err.message, "store: cannot connect");
    CHECK(redis == NULL);
    dscm_redis_close(NULL);
    dscm_redis_reply_free(NULL);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"addresses_are_read", addresses_are_read},
        {"wrong_addresses_are_refused", wrong_addresses_are_refused},
        {"a_password_has_no_place_in_an_address", a_password_has_no_place_in_an_address},
        {"a_password_is_the_first_line_of_a_file", a_password_is_the_first_line_of_a_file},
        {"a_server_that_is_not_there_is_an_error", a_server_that_is_not_there_is_an_error},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
