/* diffscm bench: what this machine can do, and how near the program comes. See bench.h for the
 * yardstick and docs/performance.md for what the figures mean. */
#include "cli/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/json_file.h"
#include "core/base/memory.h"

static const char *const sections[] = {"kernels", "networks", "training", "counterfactuals"};
#define SECTIONS (sizeof sections / sizeof sections[0])

static bool wants(const bench *b, const char *section)
{
    return !b->only || strcmp(b->only, section) == 0;
}

/* ---- options ---- */
static dscm_code parse_isa(bench *b, dscm_error *err)
{
    dscm_isa best = dscm_cpu_best_isa();
    b->isa = best;
    if (!b->isa_text) return DSCM_OK;
    for (int isa = 0; isa < DSCM_ISA_COUNT; isa++) {
        if (strcmp(b->isa_text, dscm_isa_name((dscm_isa)isa)) != 0) continue;
        if (isa > (int)best)
            return dscm_fail(err, DSCM_E_INVALID, "--isa %s: this processor runs %s at most",
                             b->isa_text, dscm_isa_name(best));
        b->isa = (dscm_isa)isa;
        return DSCM_OK;
    }
    return dscm_fail(err, DSCM_E_INVALID, "--isa %s: must be base, avx2 or avx512", b->isa_text);
}

static dscm_code parse_only(const bench *b, dscm_error *err)
{
    for (size_t i = 0; i < SECTIONS; i++)
        if (!b->only || strcmp(b->only, sections[i]) == 0) return DSCM_OK;
    return dscm_fail(err, DSCM_E_INVALID,
                     "--only %s: must be kernels, networks, training or counterfactuals", b->only);
}

static dscm_code open_all(bench *b, dscm_error *err)
{
    char dir[4096];
    dscm_load_options load = dscm_load_defaults();
    if (!b->threads) b->threads = (size_t)dscm_cpu_count();
    dscm_code code = parse_isa(b, err);
    load.isa = b->isa;
    load.threads = (int)b->threads;
    if (code == DSCM_OK) code = parse_only(b, err);
    if (code == DSCM_OK) code = cli_find(dir, sizeof dir, "models", b->model, b->data_dir, err);
    if (code == DSCM_OK) code = dscm_bundle_load(&b->bundle, dir, &load, err);
    if (code == DSCM_OK && b->threads > 1) code = dscm_team_open(&b->team, (int)b->threads, err);
    if (code == DSCM_OK && !(b->report = json_object()))
        code = dscm_fail(err, DSCM_E_MEMORY, "report: out of memory");
    if (code == DSCM_OK) b->image = &b->bundle->variables[b->bundle->info.image];
    return code;
}

static dscm_code run(bench *b, dscm_error *err)
{
    struct rusage usage;
    dscm_code code = bench_machine(b, err);
    if (code == DSCM_OK && wants(b, "kernels")) code = bench_kernels(b, err);
    if (code == DSCM_OK && wants(b, "networks")) code = bench_networks(b, err);
    if (code == DSCM_OK && wants(b, "training")) code = bench_training(b, err);
    if (code == DSCM_OK && wants(b, "counterfactuals")) code = bench_counterfactuals(b, err);
    if (code != DSCM_OK) return code;
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        bench_figure(b, "peak_memory_mib", "peak memory of this run, MiB",
                     (double)usage.ru_maxrss / 1024);
    if (!b->json) return DSCM_OK;
    char *text = NULL;
    code = cli_json_text(&text, json_incref(b->report), JSON_INDENT(1) | JSON_REAL_PRECISION(6),
                         "report", err);
    if (code == DSCM_OK) puts(text);
    free(text);
    return code;
}

int cmd_bench(int argc, char **argv)
{
    bench b = {.model = "mnist"};
    option_list rest = {.count = 0};
    const cli_option options[] = {
        {"model", OPT_TEXT, &b.model, 0, 0, "NAME|DIR", "the bundle (mnist)"},
        {"data-dir", OPT_TEXT, &b.data_dir, 0, 0, "DIR", "where models/ and static/ are"},
        {"threads", OPT_SIZE, &b.threads, 1, 256, "N", "\"all cores\" (all processors)"},
        {"isa", OPT_TEXT, &b.isa_text, 0, 0, "SET", "base, avx2, avx512 (the widest that runs)"},
        {"only", OPT_TEXT, &b.only, 0, 0, "PART",
         "kernels, networks, training, counterfactuals (all)"},
        {"quick", OPT_FLAG, &b.quick, 0, 0, NULL, "fewer repeats and rows: under a minute"},
        {"json", OPT_FLAG, &b.json, 0, 0, NULL, "one JSON object on standard output"},
        {.name = NULL}};
    int exit_code = cli_parse(argc, argv, "bench [--json] [--quick]", options, &rest);
    if (exit_code >= 0) return exit_code;
    if (rest.count) return cli_usage(argv[0], "\"%s\": takes options only", rest.items[0]);
    dscm_error err = {0};
    dscm_code code = open_all(&b, &err);
    if (code == DSCM_OK) code = run(&b, &err);
    json_decref(b.report);
    dscm_team_free(b.team);
    dscm_bundle_free(b.bundle);
    return code == DSCM_OK ? EXIT_DONE : cli_fail(argv[0], &err);
}
