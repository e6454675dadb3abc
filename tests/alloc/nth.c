/* Drives a fuzz target over its seeds while the n-th allocation fails, n = 1, 2, 3 ...: every decoder and
 * parser that has a target. This program's allocator stands before the C library's, for libraries too.
 *
 *   nth_x STEP SEED_FILE...      STEP 1: every n; larger: about one of STEP
 *
 * The target itself checks that refusals say why. Here: no crash, and every block is given back. */
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);

static long calls, fail_at, live;

static bool fails(void)
{
    if (!fail_at || ++calls != fail_at) return false;
    errno = ENOMEM;
    return true;
}

static void *counted(void *block)
{
    live += block != NULL;
    return block;
}

void *malloc(size_t size)
{
    return fails() ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : counted(__libc_calloc(count, size));
}

void *realloc(void *block, size_t size)
{
    if (fails()) return NULL;
    void *moved = __libc_realloc(block, size);
    live += (moved && !block) - (block && !moved && !size);
    return moved;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : counted(__libc_memalign(alignment, size));
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *block = aligned_alloc(alignment, size);
    if (!block) return ENOMEM;
    *out = block;
    return 0;
}

void free(void *block)
{
    live -= block != NULL;
    __libc_free(block);
}

static size_t load(uint8_t *out, size_t size, const char *path)
{
    FILE *file = fopen(path, "rb");
    size_t got = file ? fread(out, 1, size, file) : 0;
    if (file) fclose(file);
    return got;
}

int main(int argc, char **argv)
{
    static uint8_t seed[1 << 16];
    enum { CALLS = 1000000000 }; /* so many are never made: all are counted and none fails */
    const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    long step = argc > 1 ? atol(argv[1]) : 1, tried = 0, failed = 0;
    for (int i = 2; i < argc; i++) {
        size_t size = load(seed, sizeof seed, argv[i]);
        for (int warm = 0; warm < 2; warm++) { /* what libraries keep for good is there then */
            fail_at = CALLS;
            calls = 0;
            LLVMFuzzerTestOneInput(seed, size);
        }
        long all = calls;
        for (long n = 1; n <= all; n += n < 50 ? 1 : step) {
            long before = live;
            calls = 0;
            fail_at = n;
            LLVMFuzzerTestOneInput(seed, size);
            fail_at = 0;
            tried++;
            if (live == before) continue;
            printf("  FAIL %s: allocation %ld of %ld leaves %+ld blocks\n", argv[i], n, all,
                   live - before);
            failed++;
        }
    }
    printf("%-28s %ld passed, %ld failed, 0 skipped\n", name, tried - failed, failed);
    return failed != 0;
}
