/* What an evaluation measures beside one counterfactual per item: composition and reversibility,
 * seconds per image, the Fréchet distances, and whether results still know their factuals. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/evaluate.h"
#include "core/base/memory.h"
#include "core/base/team.h"
#include "core/eval/identity.h"
#include "core/io/file.h"
#include "core/io/text_stream.h"

/* ---- tables of numbers on disk ---- */
/* Reads whole rows of `width` numbers, at most `limit` of them. A missing file has none; a last
 * line that was cut off, and all after a line that is no row, is computed again. */
static size_t read_rows(const char *path, double *rows, size_t width, size_t limit)
{
    char line[4096];
    size_t count = 0;
    FILE *f = fopen(path, "r");
    while (f && count < limit && fgets(line, sizeof line, f)) {
        char *p = line, *end = line;
        size_t c = 0;
        while (c < width) {
            rows[count * width + c] = strtod(p, &end);
            if (end == p || *end != (c + 1 < width ? ',' : '\n')) break;
            p = end + 1;
            c++;
        }
        if (c < width) break;
        count++;
    }
    if (f) fclose(f);
    return count;
}

static dscm_code write_rows(const char *path, const double *rows, size_t width, size_t count,
                            dscm_error *err)
{
    dscm_text_stream text;
    dscm_code code = dscm_text_stream_open(&text, path, err);
    if (code != DSCM_OK) return code;
    for (size_t i = 0; i < count * width; i++)
        fprintf(text.file, "%.9g%c", rows[i], i % width + 1 < width ? ',' : '\n');
    code = dscm_text_stream_close(&text, path, err);
    const dscm_piece piece = {text.data, text.size};
    if (code == DSCM_OK) code = dscm_file_replace(path, &piece, 1, err);
    free(text.data);
    return code;
}

/* ---- composition and reversibility ---- */
static void study_part(void *arg, size_t index, int worker)
{
    evaluation *e = arg;
    dscm_error *err = &e->errors[worker];
    const dscm_eval_setting *setting = &e->run->setting;
    size_t first, count = eval_part(e, index, &first);
    if (err->code != DSCM_OK) return;
    double *out = e->run->study + first * EVAL_STUDY_WIDTH;
    double *column = dscm_alloc(count * EVAL_CYCLES, sizeof *column, "composition", err);
    dscm_code code = column ? DSCM_OK : DSCM_E_MEMORY;
    for (int guided = 0; code == DSCM_OK && guided < 2; guided++) {
        code = dscm_eval_composition(e->workers[worker], setting, first, count, EVAL_CYCLES, guided,
                                     column, err);
        for (size_t i = 0; code == DSCM_OK && i < count * EVAL_CYCLES; i++)
            out[i / EVAL_CYCLES * EVAL_STUDY_WIDTH + (size_t)guided * EVAL_CYCLES +
                i % EVAL_CYCLES] = column[i];
    }
    if (code == DSCM_OK)
        code = dscm_eval_reversibility(e->workers[worker], setting, first, count, column, err);
    for (size_t i = 0; code == DSCM_OK && i < count; i++)
        out[i * EVAL_STUDY_WIDTH + EVAL_STUDY_WIDTH - 1] = column[i];
    dscm_free(column);
}

dscm_code eval_study(evaluation *e, eval_method *r, size_t limit, dscm_error *err)
{
    char path[4096], label[160];
    if (limit > e->items.count) limit = e->items.count;
    if (!limit) return DSCM_OK;
    r->study = dscm_alloc(limit * EVAL_STUDY_WIDTH, sizeof *r->study, "composition", err);
    if (!r->study) return DSCM_E_MEMORY;
    eval_path(e, "study", r->slug, ".csv", path, sizeof path);
    r->study_count = read_rows(path, r->study, EVAL_STUDY_WIDTH, limit);
    e->run = r;
    e->earlier = r->study_count;
    if (r->study_count == limit) return DSCM_OK;
    snprintf(label, sizeof label, "composition, %s", r->title);
    cli_progress_start(&e->progress, label, "images", (double)(limit - e->earlier));
    while (r->study_count < limit) {
        size_t round = e->m.batch * e->m.threads;
        e->first = r->study_count;
        e->end = limit - e->first > round ? e->first + round : limit;
        dscm_team_run(e->team, (e->end - e->first + e->m.batch - 1) / e->m.batch, study_part, e);
        dscm_code code = eval_first_error(e, err);
        if (code != DSCM_OK) return code;
        r->study_count = e->end;
        code = write_rows(path, r->study, EVAL_STUDY_WIDTH, r->study_count, err);
        if (code != DSCM_OK) return code;
        cli_progress_show(&e->progress, (double)(r->study_count - e->earlier), NULL);
    }
    cli_progress_end(&e->progress);
    return DSCM_OK;
}

/* ---- seconds per image ---- */
enum {
    TIMED_MAX = 64,
    TIMED_WIDTH = 2,
    SLOW_BATCH = 20
}; /* rows of batch, seconds per image;
          batches that would take longer are not timed */

typedef struct timing {
    double rows[TIMED_MAX * TIMED_WIDTH];
    size_t count;
    dscm_record *records;
    uint8_t *pixels;
} timing;

/* Runs batches for about `seconds` on one thread. The first only warms up, unless it took long. */
static dscm_code time_batches(timing *t, dscm_eval_worker *w, const eval_method *r, size_t items,
                              size_t batch, size_t most, double seconds, dscm_error *err)
{
    double started = cli_seconds(), warm = 0;
    size_t kept = 0;
    for (size_t done = 0; kept < most && (!kept || cli_seconds() - started < seconds); done++) {
        size_t first = done * batch % (items - batch + 1);
        dscm_code code = dscm_eval_run(w, &r->setting, first, batch, t->records, t->pixels, err);
        if (code != DSCM_OK) return code;
        warm += t->records[0].values[DSCM_COL_SECONDS] * (double)batch;
        if (done == 0 && warm < 1) continue;
        t->rows[t->count * TIMED_WIDTH] = (double)batch;
        t->rows[t->count * TIMED_WIDTH + 1] = t->records[0].values[DSCM_COL_SECONDS];
        t->count++;
        kept++;
    }
    return DSCM_OK;
}

static void sum_up_times(const timing *t, eval_cost *cost)
{
    double single[TIMED_MAX], sum = 0, full = 0;
    size_t singles = 0, fulls = 0;
    for (size_t i = 0; i < t->count; i++) {
        double seconds = t->rows[i * TIMED_WIDTH + 1];
        if (t->rows[i * TIMED_WIDTH] > 1) {
            full += seconds;
            fulls++;
        } else {
            sum += seconds;
            single[singles++] = seconds;
        }
    }
    singles = dscm_sort_values(single, singles);
    *cost = (eval_cost){.single = singles ? sum / (double)singles : (double)NAN,
                        .p50 = dscm_quantile_sorted(single, singles, 0.5),
                        .p95 = dscm_quantile_sorted(single, singles, 0.95),
                        .full = fulls ? full / (double)fulls : (double)NAN};
}

dscm_code eval_time(evaluation *e, eval_method *r, dscm_error *err)
{
    char path[4096];
    size_t full = e->m.batch < e->items.count ? e->m.batch : e->items.count;
    timing *t = dscm_alloc(1, sizeof *t, "timing", err);
    if (!t) return DSCM_E_MEMORY;
    t->records = dscm_alloc(full, sizeof *t->records, "timing", err);
    t->pixels = dscm_alloc(full * cli_image_size(&e->m), 1, "timing", err);
    dscm_code code = t->records && t->pixels ? DSCM_OK : DSCM_E_MEMORY;
    eval_path(e, "times", r->slug, ".csv", path, sizeof path);
    t->count = read_rows(path, t->rows, TIMED_WIDTH, TIMED_MAX);
    if (code == DSCM_OK && !t->count) {
        code = time_batches(t, e->workers[0], r, e->items.count, 1, TIMED_MAX / 2, 4, err);
        sum_up_times(t, &r->cost);
        if (code == DSCM_OK && full > 1 && r->cost.single * (double)full < SLOW_BATCH)
            code = time_batches(t, e->workers[0], r, e->items.count, full, TIMED_MAX / 8, 4, err);
        if (code == DSCM_OK) code = write_rows(path, t->rows, TIMED_WIDTH, t->count, err);
    }
    if (code == DSCM_OK) sum_up_times(t, &r->cost);
    dscm_free(t->records);
    dscm_free(t->pixels);
    dscm_free(t);
    return code;
}

/* ---- Fréchet distances ---- */
/* Features of every second image, from `parity` on: out (…, width). Returns how many. */
static size_t half_features(evaluation *e, const uint8_t *pixels, size_t count, size_t parity,
                            float *out)
{
    size_t size = cli_image_size(&e->m), done = 0;
    size_t width = dscm_eval_features_width(e->workers[0]);
    for (size_t i = parity; i < count; i += 2, done++)
        dscm_eval_features(e->workers[0], pixels + i * size, 1, out + done * width);
    return done;
}

/* Counterfactuals of the even items against the real images of the odd ones: a distance of
 * counterfactuals to their own factuals' set would flatter near-copies. Every method is measured on
 * as many items as the shortest has, since the distance falls with their number. */
dscm_code eval_distances(evaluation *e, dscm_error *err)
{
    size_t width = dscm_eval_features_width(e->workers[0]), n = e->items.count;
    e->fid_floor = (double)NAN;
    if (!width) return DSCM_OK;
    for (size_t i = 0; i < e->count; i++)
        if (!e->list[i].curve && e->list[i].count >= 4 * width && e->list[i].count < n)
            n = e->list[i].count;
    if (n < 4 * width) return DSCM_OK; /* covariances of fewer images than features say nothing */
    float *real = dscm_alloc(e->items.count * width, sizeof *real, "features", err);
    float *mine = dscm_alloc(n * width, sizeof *mine, "features", err);
    dscm_code code = real && mine ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) {
        e->fid_reals = half_features(e, e->items.pixels, e->items.count, 1, real);
        e->fid_count = half_features(e, e->items.pixels, n, 0, mine);
        code = dscm_frechet_distance(&e->fid_floor, mine, e->fid_count, real, e->fid_reals, width,
                                     err);
    }
    for (size_t i = 0; code == DSCM_OK && i < e->count; i++) {
        if (e->list[i].curve || e->list[i].count < n) continue;
        half_features(e, e->list[i].pixels, n, 0, mine);
        code = dscm_frechet_distance(&e->list[i].fid, mine, e->fid_count, real, e->fid_reals, width,
                                     err);
    }
    dscm_free(real);
    dscm_free(mine);
    return code;
}

/* ---- identity ---- */
/* From the results in the folder, anew each time: it takes a fraction of a second per method. */
dscm_code eval_identity(evaluation *e, dscm_error *err)
{
    dscm_result_set set = {.factuals = e->items.pixels,
                           .targets = e->targets,
                           .labels = e->m.info->variables[e->data.variable].labels_count,
                           .size = cli_image_size(&e->m),
                           .most = EVAL_GROUP};
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < e->count; i++) {
        eval_method *r = &e->list[i];
        if (r->curve) continue;
        r->ranks = dscm_alloc(r->count, sizeof *r->ranks, "identity ranks", err);
        if (!r->ranks) return DSCM_E_MEMORY;
        set.results = r->pixels;
        set.count = r->count;
        code = dscm_diversity(&r->diversity, &set, err);
        if (code == DSCM_OK) code = dscm_identity_ranks(r->ranks, &set, err);
    }
    return code;
}
