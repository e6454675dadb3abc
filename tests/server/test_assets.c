/* Files of the page: what is served of a folder, under which name and tag. */
#include "server/assets.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/harness.h"

static char root[] = "/tmp/diffscm-assets-XXXXXX";

static void put(const char *path, const char *text)
{
    char full[256];
    snprintf(full, sizeof full, "%s/%s", root, path);
    FILE *out = fopen(full, "w");
    REQUIRE(out != NULL);
    fputs(text, out);
    fclose(out);
}

static void folder(const char *path)
{
    char full[256];
    snprintf(full, sizeof full, "%s/%s", root, path);
    REQUIRE(mkdir(full, 0700) == 0);
}

static char *below(const char *path)
{
    static char full[2][256]; /* a call may name two */
    static int turn;
    turn = !turn;
    snprintf(full[turn], sizeof full[turn], "%s/%s", root, path);
    return full[turn];
}

static void has(const dscm_assets *assets, const char *path, const char *type, const char *text)
{
    const dscm_asset *asset = dscm_assets_find(assets, path);
    if (!asset) {
        TEST_FAIL_("%s is missing", path);
        return;
    }
    CHECK_STR(asset->type, type);
    CHECK_INT(asset->size, strlen(text));
    CHECK(memcmp(asset->data, text, asset->size) == 0);
}

static void only_known_files_are_served(void)
{
    dscm_assets *assets = NULL;
    dscm_error err = {0};
    REQUIRE(dscm_assets_open(&assets, below("page"), below("pictures"), &err) == DSCM_OK);
    has(assets, "/index.html", "text/html; charset=utf-8", "<p>");
    has(assets, "/", "text/html; charset=utf-8", "<p>");
    has(assets, "/sub/a.js", "text/javascript; charset=utf-8", "1;");
    has(assets, "/examples/shoes/ankle boot.png", "image/png", "PNG");
    static const char *const missing[] = {"/secret.key",
                                          "/.hidden.html",
                                          "/link.html",
                                          "/sub",
                                          "/sub/",
                                          "/examples/",
                                          "index.html",
                                          "",
                                          "/../page/index.html"};
    for (size_t i = 0; i < TEST_COUNT(missing); i++)
        if (dscm_assets_find(assets, missing[i])) TEST_FAIL_("%s is served", missing[i]);
    dscm_assets_free(assets);
}

static void examples_are_listed_escaped_and_in_order(void)
{
    dscm_assets *assets = NULL;
    dscm_error err = {0};
    REQUIRE(dscm_assets_open(&assets, NULL, below("pictures"), &err) == DSCM_OK);
    has(assets, "/examples/index.json", "application/json; charset=utf-8",
        "{\"digits\":[\"1.png\",\"2.png\"],\"shoes\":[\"ankle%20boot.png\"]}\n");
    dscm_assets_free(assets);
    REQUIRE(dscm_assets_open(&assets, NULL, below("none"), &err) == DSCM_OK); /* need not exist */
    has(assets, "/examples/index.json", "application/json; charset=utf-8", "{}\n");
    dscm_assets_free(assets);
}

static void a_missing_page_is_an_error(void)
{
    dscm_assets *assets = NULL;
    dscm_error err = {0};
    CHECK_INT(dscm_assets_open(&assets, below("none"), NULL, &err), DSCM_E_NOT_FOUND);
    CHECK_HAS(err.message, "none: No such file");
    CHECK(assets == NULL);
    dscm_assets_free(NULL);
}

static void too_many_or_too_large_files_are_refused(void)
{
    dscm_assets *assets = NULL;
    dscm_error err = {0};
    char name[32];
    folder("large");
    put("large/huge.txt", "");
    REQUIRE(truncate(below("large/huge.txt"), (8 << 20) + 1) == 0);
    CHECK_INT(dscm_assets_open(&assets, below("large"), NULL, &err), DSCM_E_LIMIT);
    CHECK_HAS(err.message, "huge.txt has 8388609 bytes, allowed are 8388608");
    unlink(below("large/huge.txt"));
    err = (dscm_error){0};
    for (int i = 0; i < 257; i++) {
        snprintf(name, sizeof name, "large/%d.txt", i);
        put(name, "");
    }
    CHECK_INT(dscm_assets_open(&assets, below("large"), NULL, &err), DSCM_E_LIMIT);
    CHECK_HAS(err.message, "more than 256");
    unlink(below("large/256.txt")); /* 256 files, and no place for the list of examples */
    CHECK_INT(dscm_assets_open(&assets, below("large"), NULL, &err), DSCM_E_LIMIT);
    unlink(below("large/255.txt"));
    CHECK_INT(dscm_assets_open(&assets, below("large"), NULL, &err), DSCM_OK);
    dscm_assets_free(assets);
}

static void tags_follow_the_bytes(void)
{
    char a[36], b[36], other[36];
    dscm_etag_make(a, "one", 3);
    dscm_etag_make(b, "one", 3);
    dscm_etag_make(other, "onf", 3);
    CHECK_STR(a, b);
    CHECK(strcmp(a, other) != 0);
    CHECK_INT(strlen(a), 34);
    CHECK(a[0] == '"' && a[33] == '"');
    char list[120];
    snprintf(list, sizeof list, "%s, %s", other, a);
    CHECK(dscm_etag_matches(list, a));
    CHECK(dscm_etag_matches("*", a));
    CHECK(!dscm_etag_matches(other, a));
    CHECK(!dscm_etag_matches(NULL, a));
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"only_known_files_are_served", only_known_files_are_served},
        {"examples_are_listed_escaped_and_in_order", examples_are_listed_escaped_and_in_order},
        {"a_missing_page_is_an_error", a_missing_page_is_an_error},
        {"too_many_or_too_large_files_are_refused", too_many_or_too_large_files_are_refused},
        {"tags_follow_the_bytes", tags_follow_the_bytes},
    };
    if (!mkdtemp(root)) return 1;
    folder("page");
    folder("page/sub");
    folder("pictures");
    folder("pictures/shoes");
    folder("pictures/digits");
    put("page/index.html", "<p>");
    put("page/secret.key", "key");
    put("page/.hidden.html", "no");
    put("page/sub/a.js", "1;");
    put("pictures/shoes/ankle boot.png", "PNG");
    put("pictures/digits/2.png", "two");
    put("pictures/digits/1.png", "one");
    if (symlink("/etc/passwd", below("page/link.html")) != 0) return 1;
    int status = test_main(argc, argv, cases, TEST_COUNT(cases));
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command) == 0 ? status : 1;
}
