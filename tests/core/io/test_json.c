/* JSON whose memory runs out while it is built, written or read: all of it or an error, never a part. */
#include <jansson.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "core/io/file.h"
#include "core/io/tensors.h"
#include "tests/harness.h"

/* ---- an allocator for the JSON library, of which one call fails ---- */
static long calls, fail_at;

static void *failing_malloc(size_t size)
{
    return ++calls == fail_at ? NULL : malloc(size);
}

static void fail_nth(long n)
{
    calls = 0;
    fail_at = n;
}

/* ---- files ---- */
static const char *scratch_path(void)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/dscm-json-%d", (int)getpid());
    return path;
}

static dscm_code write_weights(dscm_error *err)
{
    const size_t matrix[2] = {2, 3}, list[1] = {6}, image[4] = {1, 2, 1, 3};
    const float values[6] = {1, 2, 3, 4, 5, 6};
    const dscm_tensor_out tensors[] = {
        {"matrix", matrix, 2, values}, {"list", list, 1, values}, {"image", image, 4, values}};
    const char *const metadata[] = {"settings", "{}", "samples_done", "12", NULL};
    return dscm_safetensors_write(scratch_path(), tensors, 3, DSCM_F32, metadata, err);
}

static const struct {
    const char *name;
    dscm_code (*write)(dscm_error *err);
} writers[] = {{"safetensors", write_weights}};

/* Every call of the JSON library's allocator fails once: the file is the old one, or all of the new. */
static void files_are_whole_or_old(void)
{
    static const dscm_piece old = {"old", 3};
    for (size_t i = 0; i < TEST_COUNT(writers); i++) {
        unsigned char *whole = NULL, *got = NULL;
        size_t size = 0, got_size = 0;
        dscm_error err = {0};
        fail_nth(0);
        CHECK_INT(writers[i].write(&err), DSCM_OK);
        long all = calls;
        CHECK(all > 5);
        REQUIRE(dscm_file_read(scratch_path(), 1 << 20, &whole, &size, &err) == DSCM_OK);
        for (long n = 1; n <= all; n++) {
            REQUIRE(dscm_file_replace(scratch_path(), &old, 1, &err) == DSCM_OK);
            err = (dscm_error){0};
            fail_nth(n);
            dscm_code code = writers[i].write(&err);
            fail_nth(0);
            REQUIRE(dscm_file_read(scratch_path(), 1 << 20, &got, &got_size, &err) == DSCM_OK);
            bool same = got_size == size && memcmp(got, whole, size) == 0;
            if (code == DSCM_OK && !same)
                TEST_FAIL_("%s: allocation %ld of %ld: another file", writers[i].name, n, all);
            if (code != DSCM_OK) {
                CHECK_INT(code, DSCM_E_MEMORY);
                CHECK_HAS(err.message, "out of memory");
                CHECK(got_size == 3 && memcmp(got, "old", 3) == 0);
            }
            dscm_free(got);
        }
        dscm_free(whole);
    }
    unlink(scratch_path());
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"files_are_whole_or_old", files_are_whole_or_old},
    };
    json_set_alloc_funcs(failing_malloc, free);
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
