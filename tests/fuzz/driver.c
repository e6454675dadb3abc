/* A small mutating driver for LLVMFuzzerTestOneInput, for compilers without libFuzzer.
 *
 *   fuzz_x SECONDS INPUT_FILE [SEED_FILE...]
 *
 * Runs the seeds unchanged first, then mutations of them (and of what it made before) until the
 * time is over. INPUT_FILE is mapped and holds the current input, so that it survives a crash. The
 * sequence is the same in every run. One thread. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 1 << 16, POOL = 512 };

typedef struct input {
    uint8_t *data;
    size_t size;
} input;

static uint64_t next_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(uint64_t *state, size_t n)
{
    return n ? (size_t)(next_random(state) % n) : 0;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One random change of data[0..size): returns the new size, at most INPUT_MAX. */
static size_t mutate(uint8_t *data, size_t size, const input *other, uint64_t *state)
{
    static const uint64_t edges[] = {
        0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff, UINT64_MAX, (uint64_t)INT64_MAX};
    size_t at = below(state, size + 1), length = 1 + below(state, 16), from;
    switch (next_random(state) % 8) {
    case 0: /* flip a bit */
        if (at < size) data[at] ^= (uint8_t)(1u << below(state, 8));
        return size;
    case 1: /* another byte */
        if (at < size) data[at] = (uint8_t)next_random(state);
        return size;
    case 2: { /* a number at the edge of its range, either byte order */
        uint64_t v = edges[below(state, sizeof edges / sizeof edges[0])];
        size_t width = (size_t)1 << below(state, 4);
        bool swap = next_random(state) & 1;
        for (size_t i = 0; i < width && at + i < size; i++)
            data[at + i] = (uint8_t)(v >> (8 * (swap ? width - 1 - i : i)));
        return size;
    }
    case 3: /* cut the end */
        return at;
    case 4: /* take bytes out */
        if (at + length > size) return size;
        memmove(data + at, data + at + length, size - at - length);
        return size - length;
    case 5: /* put bytes in */
        if (size + length > INPUT_MAX) return size;
        memmove(data + at + length, data + at, size - at);
        for (size_t i = 0; i < length; i++) data[at + i] = (uint8_t)next_random(state);
        return size + length;
    case 6: /* repeat a piece */
        from = below(state, size);
        if (from + length > size || size + length > INPUT_MAX) return size;
        memmove(data + from + length, data + from, size - from);
        return size + length;
    default: /* the end of another input */
        if (at > other->size || other->size <= at) return size;
        memcpy(data + at, other->data + at, other->size - at);
        return other->size;
    }
}

static void load(input *in, const char *path)
{
    FILE *f = fopen(path, "rb");
    in->data = malloc(INPUT_MAX);
    in->size = f && in->data ? fread(in->data, 1, INPUT_MAX, f) : 0;
    if (f) fclose(f);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s SECONDS INPUT_FILE [SEED_FILE...]\n", argv[0]);
        return 2;
    }
    double end = now() + strtod(argv[1], NULL);
    int fd = open(argv[2], O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || ftruncate(fd, INPUT_MAX) != 0) return 2;
    uint8_t *kept = mmap(NULL, INPUT_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (kept == MAP_FAILED) return 2;
    input pool[POOL] = {{0}};
    size_t count = 0, runs = 0;
    for (int i = 3; i < argc && count < POOL; i++) load(&pool[count++], argv[i]);
    if (!count) pool[count++] = (input){.data = malloc(INPUT_MAX), .size = 0};
    uint64_t state = 1;
    const size_t seeds = count; /* all of them, however short the time is */
    while (runs < seeds || now() < end) {
        const input *base = &pool[runs < count ? runs : below(&state, count)];
        size_t size = base->size, rounds = runs < count ? 0 : 1 + below(&state, 6);
        memcpy(kept, base->data, size);
        for (size_t r = 0; r < rounds; r++)
            size = mutate(kept, size, &pool[below(&state, count)], &state);
        /* an exact heap block, so that the sanitizer sees reads one byte too far */
        uint8_t *exact = malloc(size ? size : 1);
        if (!exact) return 2;
        memcpy(exact, kept, size);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
        runs++;
        if (runs % 4096 == 0 && count < POOL) {
            pool[count].data = malloc(INPUT_MAX);
            if (!pool[count].data) return 2;
            memcpy(pool[count].data, kept, size);
            pool[count++].size = size;
        }
    }
    const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    for (size_t i = 0; i < count; i++) free(pool[i].data);
    munmap(kept, INPUT_MAX);
    close(fd);
    printf("%-28s %zu inputs without a finding\n", name, runs);
    return 0;
}
