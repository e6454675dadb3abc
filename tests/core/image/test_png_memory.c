/* PNG coding and JPEG decoding when the n-th allocation fails, n = 1, 2, 3 …. This program's malloc, calloc and realloc
 * stand before the C library's, also for libpng and zlib. Sanitizers bring their own: there the same
 * calls run once without failures. */
#include <stdbool.h>

#include "core/image/jpeg.h"
#include "core/image/png.h"
#include "tests/core/image/jpeg_file.h"
#include "tests/harness.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAN_FAIL 0
#else
#define CAN_FAIL 1
#endif

static long fail_at; /* the call that fails; 0: none */
static long calls;

#if CAN_FAIL
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);

static bool fails(void)
{
    return fail_at && ++calls == fail_at;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
    return fails() ? NULL : __libc_realloc(block, size);
}
#endif

static void every_allocation_may_fail(void)
{
    uint8_t pixels[16 * 16];
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(7 * i);
    const dscm_picture picture = {.h = 16, .w = 16, .c = 1, .pixels = pixels};
    const dscm_picture_limits limits = {.side = 64, .pixels = 4096};
    uint8_t *bytes = NULL;
    size_t size = 0;
    dscm_error err = {0};
    REQUIRE(dscm_png_encode(&bytes, &size, &picture, &err) == DSCM_OK);
    long failed = 0, n = 0;
    for (bool all = false; !all && n < 200; n++) {
        dscm_picture back = {0};
        uint8_t *again = NULL;
        size_t again_size = 0;
        calls = 0;
        fail_at = CAN_FAIL ? n + 1 : 0;
        dscm_code read = dscm_png_decode(&back, bytes, size, 1, 0, &limits, &err);
        dscm_code written =
            read == DSCM_OK ? dscm_png_encode(&again, &again_size, &picture, &err) : read;
        all = !CAN_FAIL || calls < fail_at;
        fail_at = 0;
        failed += written != DSCM_OK;
        CHECK_INT(written, all ? DSCM_OK : written == DSCM_OK ? DSCM_OK : DSCM_E_MEMORY);
        if (read == DSCM_OK) CHECK(memcmp(back.pixels, pixels, sizeof pixels) == 0);
        free(back.pixels);
        free(again);
    }
    CHECK(n < 200);
    CHECK(!CAN_FAIL || failed > 5);
    free(bytes);
}

static void ramp(const jpeg_plan *plan, unsigned y, unsigned char *out)
{
    for (unsigned x = 0; x < plan->w; x++) out[x] = (unsigned char)(4 * x + y);
}

/* A JPEG file is never called damaged for want of memory. */
static void jpeg_allocations_may_fail(void)
{
    const jpeg_plan plan = {.w = 24, .h = 16, .channels = 1, .row = ramp};
    const dscm_picture_limits limits = {.side = 64, .pixels = 4096};
    buffer file = jpeg_file(&plan);
    long failed = 0, n = 0;
    for (bool all = false; !all && n < 200; n++) {
        dscm_picture back = {0};
        dscm_error err = {0};
        calls = 0;
        fail_at = CAN_FAIL ? n + 1 : 0;
        dscm_code code = dscm_jpeg_decode(&back, file.bytes, file.size, 1, 0, &limits, &err);
        all = !CAN_FAIL || calls < fail_at;
        fail_at = 0;
        failed += code != DSCM_OK;
        CHECK_INT(code, all ? DSCM_OK : code == DSCM_OK ? DSCM_OK : DSCM_E_MEMORY);
        free(back.pixels);
    }
    CHECK(n < 200);
    CHECK(!CAN_FAIL || failed > 3);
    buffer_free(&file);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"every_allocation_may_fail", every_allocation_may_fail},
                                      {"jpeg_allocations_may_fail", jpeg_allocations_may_fail}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
