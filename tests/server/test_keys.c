/* Files of keys and the check of a request's key. */
#include <unistd.h>

#include "server/keys.h"
#include "tests/harness.h"

/* Opens a file of keys that holds `text`. */
static dscm_code open_keys(dscm_keys **keys, const char *text, dscm_error *err)
{
    char path[] = "/tmp/diffscm-keys-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) abort();
    dprintf(fd, "%s", text);
    close(fd);
    dscm_code code = dscm_keys_open(keys, path, err);
    unlink(path);
    return code;
}

#define SECRET "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b" /* of "secret" */

static void keys_are_compared_by_digest(void)
{
    char path[] = "/tmp/diffscm-keys-XXXXXX", name[DSCM_KEY_NAME_SIZE];
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    /* SHA-256 of "secret" */
    dprintf(fd, "# keys\nalice "
                "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n");
    close(fd);
    dscm_keys *keys;
    REQUIRE(dscm_keys_open(&keys, path, NULL) == DSCM_OK);
    CHECK(dscm_keys_check(keys, "Bearer secret", name));
    CHECK_STR(name, "alice");
    CHECK(dscm_keys_check(keys, "Bearer   secret", name));
    CHECK(!dscm_keys_check(keys, "Bearer secret2", name));
    CHECK(!dscm_keys_check(keys, "Basic secret", name));
    CHECK(!dscm_keys_check(keys, NULL, name));
    CHECK(!dscm_keys_check(keys, "Bearer ", name));
    CHECK(!dscm_keys_check(keys, "Bearer    ", name));
    unlink(path);
    size_t count;
    dscm_error err = {0};
    CHECK(dscm_keys_reload(keys, &count, &err) != DSCM_OK);
    CHECK(dscm_keys_check(keys, "bearer secret", name)); /* the old ones stay */
    dscm_keys_free(keys);
}

static void digest_of_an_empty_key_is_refused(void)
{
    char path[] = "/tmp/diffscm-keys-XXXXXX";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    dprintf(fd, "alice e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n");
    close(fd);
    dscm_keys *keys = NULL;
    dscm_error err = {0};
    CHECK_INT(dscm_keys_open(&keys, path, &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, ":1: key alice");
    unlink(path);
}

static void only_whole_files_of_keys_open(void)
{
    static const struct {
        const char *text, *part;
    } wrong[] = {{"# nobody\n\n", "holds no key"},          {"alice " SECRET " bob\n", ":1:"},
                 {"alice " SECRET "\nbob\n", ":2:"},        {"alice abc\n", "64 hexadecimal"},
                 {"alice " SECRET "0\n", "64 hexadecimal"}, {"al!ce " SECRET "\n", "name"}};
    char name[DSCM_KEY_NAME_SIZE];
    dscm_keys *keys;
    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        dscm_error err = {0};
        CHECK_INT(open_keys(&keys, wrong[i].text, &err), DSCM_E_FORMAT);
        CHECK_HAS(err.message, wrong[i].part);
    }
    REQUIRE(open_keys(&keys, "alice " SECRET " # hers\n", NULL) == DSCM_OK);
    CHECK(dscm_keys_check(keys, "Bearer secret", name));
    CHECK(!dscm_keys_check(keys, "Digest secret", name)); /* another scheme of as many letters */
    dscm_keys_free(keys);
    char text[2000]; /* a long line is one line */
    snprintf(text, sizeof text, "# %*s alice\nalice " SECRET " # %*s bob", 900, "", 600, "");
    REQUIRE(open_keys(&keys, text, NULL) == DSCM_OK);
    CHECK(dscm_keys_check(keys, "Bearer secret", name));
    dscm_keys_free(keys);
    REQUIRE(dscm_keys_open(&keys, "", NULL) == DSCM_OK); /* no file: everybody is let in, unnamed */
    CHECK(dscm_keys_check(keys, NULL, name));
    CHECK_STR(name, "");
    dscm_keys_free(keys);
}

static void keys_are_read_again(void)
{
    char path[] = "/tmp/diffscm-keys-XXXXXX", name[DSCM_KEY_NAME_SIZE];
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    dprintf(fd, "\xef\xbb\xbf"
                "alice " SECRET "\r\n"); /* as editors of other systems save it */
    dscm_keys *keys;
    size_t count = 0;
    dscm_error err = {0};
    REQUIRE(dscm_keys_open(&keys, path, NULL) == DSCM_OK);
    CHECK(dscm_keys_check(keys, "Bearer secret", name));
    REQUIRE(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    for (int i = 0; i < 3; i++) dprintf(fd, "bob-%d %064d\n", i, i);
    CHECK_INT(dscm_keys_reload(keys, &count, &err), DSCM_OK);
    CHECK_INT(count, 3);
    CHECK(!dscm_keys_check(keys, "Bearer secret", name));
    dprintf(fd, "broken\n");
    CHECK_INT(dscm_keys_reload(keys, &count, &err), DSCM_E_FORMAT);
    CHECK_HAS(err.message, ":4:");
    REQUIRE(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    for (int i = 0; i <= DSCM_KEYS_MAX; i++) dprintf(fd, "bob-%d %064d\n", i, i);
    err = (dscm_error){0};
    CHECK_INT(dscm_keys_reload(keys, &count, &err), DSCM_E_LIMIT);
    close(fd);
    unlink(path);
    dscm_keys_free(keys);
    err = (dscm_error){0};
    CHECK_INT(dscm_keys_open(&keys, "/tmp", &err), DSCM_E_INVALID); /* a folder */
    CHECK_HAS(err.message, "/tmp is no regular file");
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"keys_are_compared_by_digest", keys_are_compared_by_digest},
        {"digest_of_an_empty_key_is_refused", digest_of_an_empty_key_is_refused},
        {"only_whole_files_of_keys_open", only_whole_files_of_keys_open},
        {"keys_are_read_again", keys_are_read_again},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
