/* A library to be preloaded that makes allocations fail: each with a probability, or the n-th one alone.
 *
 *   FAILING_NTH=N       the N-th allocation of the process fails, and no other
 *   FAILING_PERMILLE=P  P of a thousand fail at random (FAILING_SEED: the same ones again)
 *   FAILING_AFTER=FILE  none fails before this file exists (random ones only)
 *   FAILING_CONTROL=FILE  16 bytes that another process changes: allocations counted since it wrote there,
 *                       and the number of the one that fails (0: none)
 *   FAILING_COUNT=FILE  at the exit, the number of allocations is written there
 *   FAILING_CALLERS=FILE  at the exit, 8 bytes for each allocation (of the first 2^20): a hash of the functions
 *                       that called for it; equal ones came the same way
 *
 * Allocations of the dynamic linker and of start-up code, before main, are counted too: whoever cannot start
 * ends with an error of the system. Those of other libraries fail like ours, but for OpenBLAS's. */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static atomic_ullong count, state = 88172645463325252u;
static unsigned long long nth, permille;
static const char *after;
static struct control {
    atomic_ullong count, nth;
} * control; /* of FAILING_CONTROL, or NULL */
static atomic_bool ready, open_gate;
#define CALLERS_MAX (1u << 20)
#define DEPTH       24
static uint64_t *callers; /* of FAILING_CALLERS, or NULL */

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("FAILING_NTH");
    nth = text ? strtoull(text, NULL, 10) : 0;
    text = getenv("FAILING_PERMILLE");
    permille = text ? strtoull(text, NULL, 10) : 0;
    text = getenv("FAILING_SEED");
    if (text) atomic_fetch_xor(&state, strtoull(text, NULL, 10) * 0x9e3779b97f4a7c15u);
    after = getenv("FAILING_AFTER");
    text = getenv("FAILING_CONTROL");
    int fd = text ? open(text, O_RDWR | O_CLOEXEC) : -1;
    void *shared = fd < 0 ? MAP_FAILED
                          : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    control = shared == MAP_FAILED ? NULL : shared;
    if (fd >= 0) close(fd);
    if (getenv("FAILING_CALLERS")) {
        void *first[1], *room = mmap(NULL, CALLERS_MAX * sizeof *callers, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        backtrace(first, 1); /* loads a library the first time */
        callers = room == MAP_FAILED ? NULL : room;
    }
    atomic_store(&ready, true);
}

static void note_callers(unsigned long long number)
{
    void *stack[DEPTH];
    if (!callers || number > CALLERS_MAX) return;
    uint64_t hash = 14695981039346656037u;
    int depth = backtrace(stack, DEPTH);
    for (int i = 2; i < depth; i++) hash = (hash ^ (uintptr_t)stack[i]) * 1099511628211u;
    callers[number - 1] = hash;
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("FAILING_CALLERS");
    char text[32];
    if (path && callers) {
        unsigned long long noted = atomic_load(&count);
        size_t bytes = (noted < CALLERS_MAX ? noted : CALLERS_MAX) * sizeof *callers;
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (fd >= 0 && write(fd, callers, bytes) == (ssize_t)bytes) close(fd);
    }
    path = getenv("FAILING_COUNT");
    if (!path) return;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    int size = snprintf(text, sizeof text, "%llu\n", atomic_load(&count));
    if (fd >= 0 && write(fd, text, (size_t)size) == size) close(fd);
}

static bool gate(void)
{
    if (!after || atomic_load(&open_gate)) return true;
    int saved = errno;
    bool there = access(after, F_OK) == 0;
    errno = saved;
    if (there) atomic_store(&open_gate, true);
    return there;
}

/* Small products of some of OpenBLAS's kernels ask for memory and do not look whether they got it. */
static bool survives(const void *caller)
{
    Dl_info about;
    return !dladdr(caller, &about) || !about.dli_fname || !strstr(about.dli_fname, "libopenblas");
}

static bool fails(const void *caller)
{
    if (!atomic_load(&ready)) return false;
    unsigned long long number = atomic_fetch_add(&count, 1) + 1;
    bool fail = nth && number == nth;
    note_callers(number);
    if (control) fail |= atomic_fetch_add(&control->count, 1) + 1 == atomic_load(&control->nth);
    if (permille && gate()) {
        uint64_t x = atomic_fetch_add(&state, 0x9e3779b97f4a7c15u);
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
        x = (x ^ x >> 27) * 0x94d049bb133111ebu;
        fail = (x ^ x >> 31) % 1000 < permille;
    }
    fail = fail && survives(caller);
    if (fail) errno = ENOMEM;
    return fail;
}

void *malloc(size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *block, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(block, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *block = fails(__builtin_return_address(0)) ? NULL : __libc_memalign(alignment, size);
    if (!block) return ENOMEM;
    *out = block;
    return 0;
}
