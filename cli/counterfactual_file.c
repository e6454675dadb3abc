/* Counterfactuals of an IDX file: parts of it are spread over sessions, which share the threads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/reply.h"
#include "cli/counterfactual_store.h"
#include "cli/counterfactual_table.h"
#include "core/base/memory.h"
#include "core/base/team.h"
#include "core/data/idx.h"
#include "core/io/text_stream.h"

typedef struct file_run {
    counterfactual_args *a;
    dscm_idx images, targets, result;
    counterfactual_table table;
    dscm_session *sessions[256];
    dscm_error errors[256];
    size_t sessions_count;
    dscm_target *wanted; /* (count) of no intervention for null counterfactuals */
    char **replies;      /* (count) JSON lines, or NULL where none are wanted; each with free */
    size_t count, parts, part;  /* images, their parts, images of the largest part */
    counterfactual_items items; /* for the store */
    cli_progress progress;
    _Atomic size_t finished; /* images, by all workers; worker 0 shows it */
} file_run;

/* ---- progress: of all images, shown by worker 0 ---- */
typedef struct part_watch {
    file_run *f;
    size_t count; /* images of the part */
    double done;  /* of them, by its progress */
    bool shows;
} part_watch;

static bool on_step(void *arg, const dscm_run_event *event)
{
    part_watch *w = arg;
    w->done = event->fraction * (double)w->count;
    return cli_watch_keep_going(NULL);
}

static bool keep_going(void *arg)
{
    part_watch *w = arg;
    if (w->shows) cli_progress_show(&w->f->progress, floor((double)w->f->finished + w->done), NULL);
    return cli_watch_keep_going(NULL);
}

/* ---- one part ---- */
static dscm_code take_results(file_run *f, const dscm_run_item *items, size_t first, size_t count,
                              dscm_error *err)
{
    const dscm_reply_ids ids = {NULL, NULL};
    size_t size = cli_image_size(&f->a->m);
    for (size_t i = 0; i < count; i++) {
        const dscm_result *result = items[i].result;
        dscm_pixels_from_float(f->result.data + (first + i) * size,
                               result->counterfactuals[0].image, size);
        if (!f->replies) continue;
        size_t length = 0;
        char *reply = dscm_reply_counterfactual(result, items[i].abduction, &ids, &length);
        f->replies[first + i] = reply;
        if (!reply) return dscm_fail(err, DSCM_E_MEMORY, "no memory for the scores");
    }
    return DSCM_OK;
}

/* What is asked about image `index`. */
static dscm_case case_of(void *arg, size_t index)
{
    const file_run *f = arg;
    const cli_model *m = &f->a->m;
    return (dscm_case){.pixels = f->images.data + index * cli_image_size(m),
                       .targets = f->wanted + index,
                       .targets_count = 1,
                       .factuals = f->table.used ? f->table.query.queries[index].factual : NULL,
                       .options = m->options,
                       .auto_scale = m->auto_scale && !f->a->null,
                       .noise_only = f->a->noise_only,
                       .wanted = f->replies ? DSCM_WANT_SCORES : DSCM_WANT_COUNTERFACTUAL};
}

static dscm_code run_items(file_run *f, dscm_run_item *items, size_t first, size_t count,
                           int worker, dscm_error *err)
{
    const cli_model *m = &f->a->m;
    part_watch watch = {.f = f, .count = count, .shows = worker == 0};
    const dscm_run_progress progress = {on_step, &watch, keep_going};
    for (size_t i = 0; i < count; i++) items[i].ask = case_of(f, first + i);
    dscm_code code = dscm_run(f->sessions[worker], m->bundle, items, count, &progress, err);
    if (code == DSCM_OK) code = take_results(f, items, first, count, err);
    for (size_t i = 0; i < count; i++) {
        dscm_result_free(items[i].result);
        dscm_abduction_free(items[i].abduction);
    }
    return code;
}

static void run_part(void *arg, size_t index, int worker)
{
    file_run *f = arg;
    size_t first = index * f->count / f->parts, end = (index + 1) * f->count / f->parts;
    dscm_error *err = &f->errors[worker];
    if (err->code != DSCM_OK) return;
    dscm_run_item *items = dscm_alloc(end - first, sizeof *items, "batch", err);
    dscm_code code = items ? run_items(f, items, first, end - first, worker, err) : DSCM_E_MEMORY;
    dscm_free(items);
    if (code != DSCM_OK) return;
    f->finished += end - first;
    if (worker == 0) cli_progress_show(&f->progress, (double)f->finished, NULL);
}

/* ---- the files ---- */
static dscm_code check_files(file_run *f, dscm_error *err)
{
    const counterfactual_args *a = f->a;
    const cli_model *m = &a->m;
    const dscm_variable *v = &m->info->variables[m->info->image];
    if (f->images.ndim < 3 || f->images.dims[1] != v->h || f->images.dims[2] != v->w ||
        f->images.count != f->images.dims[0] * cli_image_size(m))
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: images are not %zux%zux%zu as the model needs",
                         a->images, v->h, v->w, v->c);
    if (!f->count)
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "%s: holds no images (0 of %zux%zu); at least 1 is needed", a->images,
                         v->h, v->w);
    return DSCM_OK;
}

/* --targets: labels of the first categorical variable. */
static dscm_code take_targets(file_run *f, dscm_error *err)
{
    const counterfactual_args *a = f->a;
    const cli_model *m = &a->m;
    int scored = cli_scored_variable(m);
    if (!a->targets) return DSCM_OK;
    if (scored < 0)
        return dscm_fail(err, DSCM_E_INVALID, "the model has no categorical variable to set");
    if (f->targets.ndim != 1 || f->targets.dims[0] != f->images.dims[0])
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: %zu targets for %zu images", a->targets,
                         f->targets.ndim == 1 ? f->targets.dims[0] : 0, f->images.dims[0]);
    for (size_t i = 0; i < f->count; i++) {
        size_t label = f->targets.data[i], labels = m->info->variables[scored].labels_count;
        if (label >= labels)
            return dscm_fail(err, DSCM_E_INVALID, "%s: target %zu is %zu; allowed are 0..%zu",
                             a->targets, i, label, labels - 1);
        f->wanted[i].items[0] =
            (dscm_intervention){.variable = scored, .value = (double)label, .scale = (double)NAN};
        f->wanted[i].count = !a->null;
    }
    return DSCM_OK;
}

/* --do-file, whose rows may set several variables. */
static dscm_code take_queries(file_run *f, dscm_error *err)
{
    const counterfactual_args *a = f->a;
    dscm_code code = counterfactual_table_open(&f->table, a, f->images.dims[0], f->count, err);
    for (size_t i = 0; code == DSCM_OK && f->table.used && i < f->count; i++) {
        const dscm_query *q = &f->table.query.queries[i];
        if (q->count > DSCM_TARGET_VARIABLES_MAX)
            return dscm_fail(err, DSCM_E_LIMIT, "%s: line %zu sets %zu variables; at most %d",
                             a->do_file, f->table.dos.lines[i], q->count,
                             DSCM_TARGET_VARIABLES_MAX);
        memcpy(f->wanted[i].items, q->items, q->count * sizeof *q->items);
        f->wanted[i].count = q->count;
    }
    return code;
}

static dscm_code open_files(file_run *f, dscm_error *err)
{
    const counterfactual_args *a = f->a;
    dscm_code code = dscm_idx_read(&f->images, a->images, err);
    if (code == DSCM_OK && a->targets) code = dscm_idx_read(&f->targets, a->targets, err);
    if (code != DSCM_OK) return code;
    f->count = a->limit && a->limit < f->images.dims[0] ? a->limit : f->images.dims[0];
    f->wanted = dscm_alloc(f->count, sizeof *f->wanted, "targets", err);
    if (!f->wanted) return DSCM_E_MEMORY;
    code = check_files(f, err);
    if (code == DSCM_OK) code = take_targets(f, err);
    if (code == DSCM_OK) code = take_queries(f, err);
    if (code != DSCM_OK) return code;
    f->result = f->images;
    f->result.dims[0] = f->count;
    f->result.count = f->count * cli_image_size(&a->m);
    f->result.data = dscm_alloc(f->result.count, 1, "result", err);
    if (!f->result.data) return DSCM_E_MEMORY;
    if (!a->scores && !a->json) return DSCM_OK;
    f->replies = dscm_alloc(f->count, sizeof *f->replies, "scores", err);
    return f->replies ? DSCM_OK : DSCM_E_MEMORY;
}

/* Even parts of at most the batch, as many for each session, and a session for each thread where
 * there are images enough; threads that are left over join the sessions' teams. */
static dscm_code open_sessions(file_run *f, dscm_error *err)
{
    const cli_model *m = &f->a->m;
    size_t sessions = f->a->sessions && f->a->sessions < m->threads ? f->a->sessions : m->threads;
    if (sessions > f->count) sessions = f->count;
    f->sessions_count = sessions;
    f->parts = ((f->count + m->batch - 1) / m->batch + sessions - 1) / sessions * sessions;
    if (f->parts > f->count) f->parts = f->count;
    f->part = (f->count + f->parts - 1) / f->parts;
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < f->sessions_count; i++) {
        size_t threads = (i + 1) * m->threads / f->sessions_count;
        threads -= i * m->threads / f->sessions_count;
        code = dscm_session_open(&f->sessions[i], m->bundle, f->part, (int)threads, err);
    }
    return code;
}

/* Each reply with the index of its image. */
static dscm_code write_replies(const file_run *f, dscm_error *err)
{
    dscm_text_stream text;
    dscm_code code = dscm_text_stream_open(&text, "scores", err);
    if (code != DSCM_OK) return code;
    for (size_t i = 0; i < f->count; i++)
        fprintf(text.file, "{\"index\":%zu,%s", i, f->replies[i] + 1);
    code = dscm_text_stream_close(&text, "scores", err);
    if (code == DSCM_OK)
        code = counterfactual_write_replies(f->a, text.data, text.size, f->a->json, err);
    free(text.data);
    return code;
}

static dscm_code run_parts(file_run *f, dscm_error *err)
{
    dscm_team *team = NULL;
    dscm_code code = dscm_team_open(&team, (int)f->sessions_count, err);
    if (code != DSCM_OK) return code;
    cli_progress_start(&f->progress, "counterfactual", "images", (double)f->count);
    cli_watch_listen();
    double started = cli_seconds();
    dscm_team_run(team, f->parts, run_part, f);
    cli_progress_end(&f->progress);
    dscm_team_free(team);
    for (size_t t = 0; t < f->sessions_count; t++)
        if (f->errors[t].code != DSCM_OK)
            return dscm_fail(err, f->errors[t].code, "%s", f->errors[t].message);
    fprintf(stderr, "%zu images in %.3f s\n", f->count, cli_seconds() - started);
    return DSCM_OK;
}

/* In this process, or by the workers of a store: then only tables need a session here. */
static dscm_code run_images(file_run *f, counterfactual_store **store, dscm_error *err)
{
    const counterfactual_args *a = f->a;
    const counterfactual_items items = {a, f->count, case_of, f, f->result.data, f->replies};
    dscm_code code = !a->store || f->table.used ? open_sessions(f, err) : DSCM_OK;
    if (code == DSCM_OK)
        code = counterfactual_table_observe(&f->table, a, f->sessions[0], f->images.data, err);
    if (code != DSCM_OK || !a->store) return code == DSCM_OK ? run_parts(f, err) : code;
    f->items = items;
    code = counterfactual_store_open(store, &f->items, err);
    return code == DSCM_OK ? counterfactual_store_run(*store, err) : code;
}

dscm_code counterfactual_file(counterfactual_args *a, dscm_error *err)
{
    counterfactual_store *store = NULL;
    file_run *f = dscm_alloc(1, sizeof *f, "run", err);
    if (!f) return DSCM_E_MEMORY;
    f->a = a;
    dscm_code code = open_files(f, err);
    if (code == DSCM_OK) code = run_images(f, &store, err);
    if (code == DSCM_OK && f->replies) code = write_replies(f, err);
    if (code == DSCM_OK) code = dscm_idx_write(&f->result, a->out, err);
    if (code == DSCM_OK) code = counterfactual_table_write(&f->table, a, err);
    counterfactual_store_close(store, code == DSCM_OK);
    for (size_t t = 0; t < 256; t++) dscm_session_free(f->sessions[t]);
    for (size_t i = 0; f->replies && i < f->count; i++) free(f->replies[i]);
    counterfactual_table_close(&f->table);
    dscm_idx_free(&f->images);
    dscm_idx_free(&f->targets);
    dscm_free(f->result.data);
    dscm_free(f->replies);
    dscm_free(f->wanted);
    dscm_free(f);
    return code;
}
