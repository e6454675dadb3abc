/* The machine's own limits: multiply-add peak of every instruction set, bandwidth of the memory. */
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"
#include "core/base/memory.h"
#include "core/base/version.h"
#include "core/kernels/gemm.h"
#include "core/kernels/simd/peak_simd.h"

#define PEAK_SECONDS  0.003              /* of one sample */
#define STREAM_FLOATS ((size_t)32 << 20) /* 128 MiB: beyond the caches of a server's core */
#define STREAM_SLICES ((size_t)32)

typedef struct peak_job {
    const dscm_peak_kernels *kernels;
    dscm_team *team;
    size_t rounds, threads;
    volatile float sink[DSCM_TEAM_MAX];
} peak_job;

static void multiply_add(void *arg, size_t index, int worker)
{
    peak_job *p = arg;
    (void)worker;
    p->sink[index] = p->kernels->multiply_add(p->rounds);
}

static void multiply_add_all(void *arg)
{
    peak_job *p = arg;
    dscm_team_run(p->team, p->threads, multiply_add, p);
}

/* FLOP/s: the best of the repeats, because nothing but an interruption makes one slower. */
static double measure_peak(const bench *b, dscm_isa isa, size_t threads)
{
    peak_job p = {.kernels = dscm_peak_kernels_of(isa),
                  .team = threads > 1 ? b->team : NULL,
                  .rounds = 1 << 16,
                  .threads = threads};
    bench_time t = bench_measure(multiply_add_all, &p, 0.01);
    p.rounds = (size_t)((double)p.rounds * PEAK_SECONDS / t.low) + 1;
    t = bench_measure(multiply_add_all, &p, 0.25);
    return p.kernels->flops_per_round * (double)p.rounds * (double)threads / t.low;
}

typedef struct stream_job {
    const dscm_peak_kernels *kernels;
    dscm_team *team;
    float *from, *to; /* to NULL: read only */
    volatile float sink[STREAM_SLICES];
} stream_job;

static void stream(void *arg, size_t index, int worker)
{
    stream_job *s = arg;
    size_t count = STREAM_FLOATS / STREAM_SLICES, at = index * count;
    (void)worker;
    if (s->to)
        memcpy(s->to + at, s->from + at, count * sizeof *s->to);
    else
        s->sink[index] = s->kernels->read(s->from + at, count);
}

static void stream_all(void *arg)
{
    stream_job *s = arg;
    dscm_team_run(s->team, STREAM_SLICES, stream, s);
}

static void report_pair(bench *b, const char *list, const char *name, size_t threads, double value,
                        const char *unit)
{
    if (!b->json) {
        printf("%-24s %3zu thread%s %8.1f %s\n", name, threads, threads > 1 ? "s" : " ",
               value / 1e9, unit);
        return;
    }
    bench_append(b, list,
                 json_pack("{s:s, s:I, s:f}", "name", name, "threads", (json_int_t)threads,
                           "giga_per_second", value / 1e9));
}

static dscm_code bandwidth(bench *b, dscm_error *err)
{
    stream_job s = {.kernels = dscm_peak_kernels_of(b->isa)};
    float *block = dscm_alloc(2 * STREAM_FLOATS, sizeof *block, "memory to stream through", err);
    if (!block) return DSCM_E_MEMORY;
    for (size_t i = 0; i < 2 * STREAM_FLOATS; i++) block[i] = 1;
    for (size_t threads = 1;; threads = b->threads) {
        s.team = threads > 1 ? b->team : NULL;
        s.from = block;
        s.to = NULL;
        double bytes = (double)(STREAM_FLOATS * sizeof *block);
        bench_time t = bench_measure(stream_all, &s, 0.1);
        report_pair(b, "bandwidth", "read", threads, bytes / t.low, "GB/s");
        s.to = block + STREAM_FLOATS;
        t = bench_measure(stream_all, &s, 0.1);
        report_pair(b, "bandwidth", "copy", threads, 2 * bytes / t.low, "GB/s");
        if (threads == b->threads) break;
    }
    dscm_free(block);
    return DSCM_OK;
}

/* Of the first processor: its "model name", and on x86 family and model, since different generations
   share a name in virtual machines; "unknown" without /proc/cpuinfo. */
static void processor_name(char *out, size_t size)
{
    char line[256], name[80] = "unknown", family[16] = "", model[16] = "";
    const struct {
        const char *key;
        char *value;
        size_t size;
    } fields[] = {{"model name\t", name, sizeof name},
                  {"cpu family\t", family, sizeof family},
                  {"model\t", model, sizeof model}};
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f) && line[0] != '\n')
        for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
            const char *colon = strchr(line, ':');
            if (strncmp(line, fields[i].key, strlen(fields[i].key)) != 0 || !colon) continue;
            snprintf(fields[i].value, fields[i].size, "%.*s", (int)strcspn(colon + 2, "\n"),
                     colon + 2);
        }
    if (f) fclose(f);
    if (family[0] && model[0])
        snprintf(out, size, "%s (family %s, model %s)", name, family, model);
    else
        snprintf(out, size, "%s", name);
}

dscm_code bench_machine(bench *b, dscm_error *err)
{
    char cpu[128];
    processor_name(cpu, sizeof cpu);
    if (b->json)
        json_object_set_new(b->report, "machine",
                            json_pack("{s:s, s:s, s:s, s:I, s:s}", "version", DSCM_VERSION, "cpu",
                                      cpu, "isa", dscm_isa_name(b->isa), "threads",
                                      (json_int_t)b->threads, "gemm", dscm_gemm_library()));
    else
        printf("diffscm %s on %s, %zu threads, kernels for %s, %s\n\n", DSCM_VERSION, cpu,
               b->threads, dscm_isa_name(b->isa), dscm_gemm_library());
    for (int isa = 0; isa <= (int)dscm_cpu_best_isa(); isa++)
        for (size_t threads = 1;; threads = b->threads) {
            double peak = measure_peak(b, (dscm_isa)isa, threads);
            char name[48];
            snprintf(name, sizeof name, "multiply-add %s", dscm_isa_name((dscm_isa)isa));
            report_pair(b, "peak", name, threads, peak, "GFLOP/s");
            if (isa == (int)b->isa && threads == 1) b->peak_one = peak;
            if (isa == (int)b->isa) b->peak_all = peak;
            if (threads == b->threads) break;
        }
    return bandwidth(b, err);
}
