/* Taking a time and reporting a row: see bench.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"

#define SAMPLES_MAX   101
#define GROUP_SECONDS 1e-3

double bench_budget(const bench *b)
{
    return b->quick ? 0.06 : 0.2;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double time_group(void (*fn)(void *arg), void *arg, size_t group)
{
    double start = cli_seconds();
    for (size_t i = 0; i < group; i++) fn(arg);
    return (cli_seconds() - start) / (double)group;
}

bench_time bench_measure(void (*fn)(void *arg), void *arg, double seconds)
{
    double samples[SAMPLES_MAX] = {0};
    size_t count = 0, group = 1;
    fn(arg);
    double once = time_group(fn, arg, 1), start = cli_seconds();
    if (once < GROUP_SECONDS) group = (size_t)(GROUP_SECONDS / (once > 1e-7 ? once : 1e-7)) + 1;
    while (count < SAMPLES_MAX && (count < 3 || cli_seconds() - start < seconds))
        samples[count++] = time_group(fn, arg, group);
    qsort(samples, count, sizeof *samples, by_value);
    return (bench_time){.median = samples[count / 2],
                        .low = samples[0],
                        .high = samples[count - 1],
                        .repeats = count};
}

static void show_time(char *out, size_t size, double seconds)
{
    if (seconds < 1e-3)
        snprintf(out, size, "%.1f us", seconds * 1e6);
    else if (seconds < 1)
        snprintf(out, size, "%.2f ms", seconds * 1e3);
    else
        snprintf(out, size, "%.2f s", seconds);
}

static void heading(bench *b, const char *section)
{
    if (b->section && strcmp(b->section, section) == 0) return;
    b->section = section;
    printf("\n%-44s %5s %3s %10s %22s %9s %8s %6s %10s\n", section, "batch", "thr", "median",
           "min .. max", "MFLOP", "GFLOP/s", "ratio", "arena");
}

static void print_row(bench *b, const bench_row *r, double ratio)
{
    char name[160], median[24], low[24], high[24], range[64], arena[32] = "", rate[32] = "";
    heading(b, r->section);
    snprintf(name, sizeof name, "%s%s%s%s%s", r->name, *r->pass ? " " : "", r->pass,
             *r->algorithm ? " " : "", r->algorithm);
    show_time(median, sizeof median, r->time.median);
    show_time(low, sizeof low, r->time.low);
    show_time(high, sizeof high, r->time.high);
    snprintf(range, sizeof range, "%s .. %s", low, high);
    if (r->memory_bytes)
        snprintf(arena, sizeof arena, "%.1f MiB", (double)r->memory_bytes / 1048576);
    if (r->per_image)
        snprintf(rate, sizeof rate, "  %.4g images/s", (double)r->batch / r->time.median);
    else if (r->moved_bytes)
        snprintf(rate, sizeof rate, "  %.4g GB/s", (double)r->moved_bytes / r->time.median / 1e9);
    printf("%-44s %5zu %3zu %10s %22s", name, r->batch, r->threads, median, range);
    if (r->flops > 0)
        printf(" %9.4g %8.1f %6.2f", r->flops / 1e6, r->flops / r->time.median / 1e9, ratio);
    else
        printf(" %9s %8s %6s", "", "", "");
    printf(" %10s%s\n", arena, rate);
    fflush(stdout);
}

static void set_real(json_t *object, const char *key, double value)
{
    json_object_set_new(object, key, json_real(value));
}

void bench_append(bench *b, const char *list, json_t *item)
{
    if (!json_object_get(b->report, list)) json_object_set_new(b->report, list, json_array());
    json_array_append_new(json_object_get(b->report, list), item);
}

void bench_add(bench *b, const bench_row *r)
{
    double peak = r->threads > 1 ? b->peak_all : b->peak_one;
    double unit = r->flops > 0 ? r->flops / peak : 0; /* seconds at the peak */
    if (!b->json) {
        print_row(b, r, unit > 0 ? r->time.median / unit : 0);
        return;
    }
    json_t *row = json_object();
    json_object_set_new(row, "section", json_string(r->section));
    json_object_set_new(row, "name", json_string(r->name));
    json_object_set_new(row, "pass", json_string(r->pass));
    json_object_set_new(row, "algorithm", json_string(r->algorithm));
    json_object_set_new(row, "batch", json_integer((json_int_t)r->batch));
    json_object_set_new(row, "threads", json_integer((json_int_t)r->threads));
    set_real(row, "seconds", r->time.median);
    set_real(row, "seconds_min", r->time.low);
    set_real(row, "seconds_max", r->time.high);
    json_object_set_new(row, "repeats", json_integer((json_int_t)r->time.repeats));
    json_object_set_new(row, "arena_bytes", json_integer((json_int_t)r->memory_bytes));
    if (r->flops > 0) {
        set_real(row, "flops", r->flops);
        set_real(row, "gflops_per_second", r->flops / r->time.median / 1e9);
        set_real(row, "ratio", r->time.median / unit);
        set_real(row, "ratio_min", r->time.low / unit);
    }
    if (r->moved_bytes)
        set_real(row, "gigabytes_per_second", (double)r->moved_bytes / r->time.median / 1e9);
    if (r->per_image) set_real(row, "images_per_second", (double)r->batch / r->time.median);
    bench_append(b, "rows", row);
}

void bench_figure(bench *b, const char *key, const char *text, double value)
{
    if (b->json)
        set_real(b->report, key, value);
    else
        printf("%s: %.4g\n", text, value);
}
