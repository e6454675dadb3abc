/* diffscm counterfactual: one picture, or a whole IDX file. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/counterfactual_table.h"
#include "cli/watch.h"
#include "core/base/memory.h"
#include "core/base/team.h"
#include "core/data/idx.h"
#include "core/io/file.h"

typedef struct batch_run {
    cli_model m;
    option_list dos, rest;
    const char *out, *images, *targets, *scores, *preview, *do_file, *factuals_file, *parents;
    option_list factuals;
    size_t limit, sessions;
    bool resize, null, noise_only;
} batch_run;

/* ---- scores as JSON ---- */
static void set_real(json_t *object, const char *key, double v)
{
    if (isfinite(v)) json_object_set_new(object, key, json_real(v));
}

/* With more labels than this only the target's probabilities are printed. */
#define LISTED_LABELS 32

static json_t *probabilities(const float *p, size_t n)
{
    json_t *list = json_array();
    for (size_t k = 0; k < n; k++) json_array_append_new(list, json_real((double)p[k]));
    return list;
}

static size_t largest(const float *p, size_t n)
{
    size_t best = 0;
    for (size_t k = 1; k < n; k++)
        if (p[k] > p[best]) best = k;
    return best;
}

static json_t *scores_json(const dscm_variable *v, const float *before, const float *after,
                           int target, double scale, const dscm_scores *s)
{
    json_t *o = json_object();
    size_t n = v->labels_count;
    json_object_set_new(o, "variable", json_string(v->name));
    json_object_set_new(o, "target", json_string(v->labels[target]));
    json_object_set_new(o, "before", json_string(v->labels[largest(before, n)]));
    json_object_set_new(o, "after", json_string(v->labels[largest(after, n)]));
    json_object_set_new(o, "valid", json_boolean(s->valid));
    if (s->oracle_label >= 0)
        json_object_set_new(o, "oracle", json_string(v->labels[s->oracle_label]));
    set_real(o, "scale", scale);
    set_real(o, "l1", s->l1);
    set_real(o, "l2", s->l2);
    set_real(o, "changed_share", s->changed_share);
    set_real(o, "cld", s->cld);
    set_real(o, "cld_minimality", s->cld_minimality);
    set_real(o, "cld_departure", s->cld_departure);
    set_real(o, "im1", s->im1);
    set_real(o, "im2", s->im2);
    set_real(o, "probability_before", s->probability_before);
    set_real(o, "probability_after", s->probability_after);
    if (n > LISTED_LABELS) return o;
    json_object_set_new(o, "probabilities_before", probabilities(before, n));
    json_object_set_new(o, "probabilities_after", probabilities(after, n));
    return o;
}

static void print_json(FILE *f, json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(6) | JSON_PRESERVE_ORDER);
    if (text) fprintf(f, "%s\n", text);
    free(text);
    json_decref(object);
}

/* ---- one part of the work ---- */
typedef struct part {
    const batch_run *r;
    dscm_session *session;
    const float *images;     /* (count, size) */
    const int *targets;      /* (count), or NULL: queries are given */
    const dscm_query *query; /* one query for all, or NULL */
    float *out;              /* (count, size) */
    double *scales;          /* (count) */
    size_t count;
    const dscm_progress *progress;
} part;

static dscm_code run_part(part *p, dscm_error *err)
{
    const cli_model *m = &p->r->m;
    dscm_latent *latent = NULL;
    dscm_intervention *acts = dscm_alloc(p->count, sizeof *acts, "batch", err);
    dscm_query *queries = dscm_alloc(p->count, sizeof *queries, "batch", err);
    dscm_scale_result *found = dscm_alloc(p->count, sizeof *found, "batch", err);
    dscm_code code = acts && queries && found ? DSCM_OK : DSCM_E_MEMORY;
    for (size_t i = 0; code == DSCM_OK && i < p->count; i++) {
        p->scales[i] = m->options.scale;
        if (p->query) {
            queries[i] = *p->query;
        } else if (p->targets && !p->r->null) {
            acts[i] = (dscm_intervention){
                .variable = cli_scored_variable(m), .value = p->targets[i], .scale = (double)NAN};
            queries[i] = (dscm_query){.items = &acts[i], .count = 1};
        }
    }
    if (code == DSCM_OK)
        code = dscm_abduct(p->session, &latent, p->images, p->count, &m->options, p->progress, err);
    if (code == DSCM_OK && p->r->noise_only) code = dscm_latent_forget(p->session, latent, err);
    if (code == DSCM_OK && m->auto_scale && !p->r->null) {
        code = dscm_predict_search(p->session, p->out, found, latent, queries, &m->options, NULL,
                                   p->progress, err);
        for (size_t i = 0; code == DSCM_OK && i < p->count; i++) p->scales[i] = found[i].scale;
    } else if (code == DSCM_OK) {
        code = dscm_predict(p->session, p->out, latent, queries, &m->options, p->progress, err);
    }
    dscm_latent_free(latent);
    dscm_free(acts);
    dscm_free(queries);
    dscm_free(found);
    return code;
}

/* ---- one picture ---- */
/* Scores of each label that was set, as JSON lines: into --scores, else onto standard output
 * unless the picture goes there. */
static dscm_code write_single_scores(const batch_run *r, const dscm_query *query,
                                     dscm_session *session, const float *image, const float *out,
                                     double scale, dscm_error *err)
{
    char *text = NULL;
    size_t length = 0;
    if (!r->scores && strcmp(r->out, "-") == 0) return DSCM_OK;
    FILE *lines = r->scores ? open_memstream(&text, &length) : stdout;
    if (!lines) return dscm_fail(err, DSCM_E_MEMORY, "%s: no memory for the scores", r->scores);
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < query->count; i++) {
        int variable = query->items[i].variable;
        const dscm_variable *v = &r->m.info->variables[variable];
        if (v->kind != DSCM_CATEGORICAL) continue;
        int target = (int)query->items[i].value, factual;
        dscm_scores scores;
        float *before = dscm_alloc(2 * v->labels_count, sizeof *before, "scores", err);
        if (!before) code = DSCM_E_MEMORY;
        float *after = before ? before + v->labels_count : NULL;
        if (code == DSCM_OK) code = dscm_observe(session, variable, before, image, 1, err);
        if (code == DSCM_OK) code = dscm_observe(session, variable, after, out, 1, err);
        if (code == DSCM_OK) {
            factual = (int)largest(before, v->labels_count);
            code = dscm_score(session, &scores, image, out, variable, &target, &factual, 1, err);
        }
        if (code == DSCM_OK)
            print_json(lines, scores_json(v, before, after, target, scale, &scores));
        dscm_free(before);
    }
    if (r->scores && fclose(lines) != 0 && code == DSCM_OK)
        code = dscm_fail(err, DSCM_E_MEMORY, "%s: no memory for the scores", r->scores);
    if (r->scores && code == DSCM_OK)
        code = dscm_file_replace(r->scores, &(dscm_piece){text, length}, 1, err);
    free(text);
    return code;
}

static dscm_code run_single(batch_run *r, dscm_error *err)
{
    cli_model *m = &r->m;
    dscm_intervention acts[CLI_DOS_MAX];
    dscm_query query = {.items = acts, .count = r->dos.count};
    float *image = NULL, *out = dscm_alloc(cli_image_size(m), sizeof *out, "image", err);
    dscm_session *session = NULL;
    double scale = 0;
    cli_watch watch;
    dscm_code code = out ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = cli_parse_dos(m, &r->dos, acts, err);
    if (code == DSCM_OK) code = cli_read_image(m, r->rest.items[0], r->resize, &image, err);
    if (code == DSCM_OK) code = dscm_session_open(&session, m->bundle, 1, (int)m->threads, err);
    part p = {.r = r,
              .session = session,
              .images = image,
              .query = &query,
              .out = out,
              .scales = &scale,
              .count = 1,
              .progress = &watch.progress};
    cli_watch_start(&watch, m, r->preview);
    if (code == DSCM_OK) code = run_part(&p, err);
    cli_watch_end(&watch);
    if (code == DSCM_OK)
        dscm_images_round(out, cli_image_size(m)); /* scores are of what is written */
    if (code == DSCM_OK) code = cli_write_image(m, r->out, out, err);
    if (code == DSCM_OK) code = write_single_scores(r, &query, session, image, out, scale, err);
    dscm_session_free(session);
    dscm_free(image);
    dscm_free(out);
    return code;
}

/* ---- an IDX file: parts are spread over sessions, which share the threads ---- */
typedef struct file_run {
    batch_run *r;
    dscm_idx images, targets, result;
    dscm_session *sessions[256];
    dscm_error errors[256];
    size_t sessions_count;
    float *in, *out;
    int *wanted; /* -1: what the image shows, found when it is scored */
    double *scales;
    size_t count, parts, part; /* images, their parts, images of the largest part */
    cli_progress progress;
    dscm_progress stop;
    _Atomic size_t finished; /* images, by all workers; worker 0 shows it */
} file_run;

static void run_file_part(void *arg, size_t index, int worker)
{
    file_run *f = arg;
    size_t size = cli_image_size(&f->r->m), first = index * f->count / f->parts;
    dscm_error *err = &f->errors[worker];
    if (err->code != DSCM_OK) return;
    part p = {.r = f->r,
              .session = f->sessions[worker],
              .images = f->in + first * size,
              .targets = f->wanted + first,
              .out = f->out + first * size,
              .scales = f->scales + first,
              .count = (index + 1) * f->count / f->parts - first,
              .progress = &f->stop};
    if (run_part(&p, err) != DSCM_OK) return;
    f->finished += p.count;
    if (worker == 0) cli_progress_show(&f->progress, (double)f->finished, NULL);
}

static dscm_code check_files(file_run *f, dscm_error *err)
{
    const cli_model *m = &f->r->m;
    const dscm_variable *v = &m->info->variables[m->info->image];
    int scored = cli_scored_variable(m);
    if (f->images.ndim < 3 || f->images.dims[1] != v->h || f->images.dims[2] != v->w ||
        f->images.count != f->images.dims[0] * cli_image_size(m))
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: images are not %zux%zux%zu as the model needs",
                         f->r->images, v->h, v->w, v->c);
    if (scored < 0)
        return dscm_fail(err, DSCM_E_INVALID, "the model has no categorical variable to set");
    if (!f->count)
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "%s: holds no images (0 of %zux%zu); at least 1 is needed", f->r->images,
                         v->h, v->w);
    if (!f->r->targets) { /* a null counterfactual: scored against what the image shows */
        for (size_t i = 0; i < f->count; i++) f->wanted[i] = -1;
        return DSCM_OK;
    }
    if (f->targets.ndim != 1 || f->targets.dims[0] != f->images.dims[0])
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: %zu targets for %zu images", f->r->targets,
                         f->targets.ndim == 1 ? f->targets.dims[0] : 0, f->images.dims[0]);
    for (size_t i = 0; i < f->count; i++) {
        f->wanted[i] = f->targets.data[i];
        if ((size_t)f->wanted[i] >= m->info->variables[scored].labels_count)
            return dscm_fail(err, DSCM_E_INVALID, "%s: target %zu is %d; allowed are 0..%zu",
                             f->r->targets, i, f->wanted[i],
                             m->info->variables[scored].labels_count - 1);
    }
    return DSCM_OK;
}

/* Scores of all images, in parts: a signal may end it between two. */
static dscm_code score_all(file_run *f, const float *shown, float *before, float *after,
                           dscm_scores *scores, dscm_error *err)
{
    enum { PART = 64 };
    const cli_model *m = &f->r->m;
    int scored = cli_scored_variable(m), factual[PART];
    size_t n = m->info->variables[scored].labels_count, size = cli_image_size(m);
    dscm_session *s = f->sessions[0];
    dscm_code code = DSCM_OK;
    for (size_t at = 0; code == DSCM_OK && at < f->count; at += PART) {
        size_t count = f->count - at < PART ? f->count - at : PART;
        if (!f->stop.keep_going(f->stop.arg))
            return dscm_fail(err, DSCM_E_CANCELED, "canceled after %zu of %zu scores", at,
                             f->count);
        const float *in = f->in + at * size, *out = shown + at * size;
        code = dscm_observe(s, scored, before + at * n, in, count, err);
        if (code == DSCM_OK) code = dscm_observe(s, scored, after + at * n, out, count, err);
        for (size_t i = 0; code == DSCM_OK && i < count; i++)
            factual[i] = (int)largest(before + (at + i) * n, n);
        for (size_t i = 0; code == DSCM_OK && i < count; i++)
            if (f->wanted[at + i] < 0) f->wanted[at + i] = factual[i];
        if (code == DSCM_OK)
            code = dscm_score(s, scores + at, in, out, scored, f->wanted + at, factual, count, err);
    }
    return code;
}

static dscm_code write_scores(file_run *f, const float *shown, dscm_error *err)
{
    const cli_model *m = &f->r->m;
    const dscm_variable *v = &m->info->variables[cli_scored_variable(m)];
    size_t n = v->labels_count, length = 0;
    char *text = NULL;
    float *before = dscm_alloc(2 * f->count * n, sizeof *before, "scores", err);
    dscm_scores *scores = dscm_alloc(f->count, sizeof *scores, "scores", err);
    dscm_code code = before && scores ? DSCM_OK : DSCM_E_MEMORY;
    float *after = before ? before + f->count * n : NULL;
    if (code == DSCM_OK) code = score_all(f, shown, before, after, scores, err);
    FILE *lines = code == DSCM_OK ? open_memstream(&text, &length) : NULL;
    if (code == DSCM_OK && !lines)
        code = dscm_fail(err, DSCM_E_MEMORY, "%s: no memory for the scores", f->r->scores);
    for (size_t i = 0; lines && i < f->count; i++) {
        json_t *o =
            scores_json(v, before + i * n, after + i * n, f->wanted[i], f->scales[i], &scores[i]);
        json_object_set_new(o, "index", json_integer((json_int_t)i));
        print_json(lines, o);
    }
    if (lines && fclose(lines) != 0)
        code = dscm_fail(err, DSCM_E_MEMORY, "%s: no memory for the scores", f->r->scores);
    if (code == DSCM_OK)
        code = dscm_file_replace(f->r->scores, &(dscm_piece){text, length}, 1, err);
    free(text);
    dscm_free(before);
    dscm_free(scores);
    return code;
}

static dscm_code write_file(file_run *f, dscm_error *err)
{
    size_t size = cli_image_size(&f->r->m);
    f->result = f->images;
    f->result.dims[0] = f->count;
    f->result.count = f->count * size;
    f->result.data = dscm_alloc(f->result.count, 1, "result", err);
    if (!f->result.data) return DSCM_E_MEMORY;
    dscm_pixels_from_float(f->result.data, f->out, f->result.count);
    dscm_code code = DSCM_OK;
    if (f->r->scores) { /* of the 8-bit images that are written */
        dscm_pixels_to_float(f->out, f->result.data, f->result.count);
        code = write_scores(f, f->out, err);
    }
    if (code == DSCM_OK) code = dscm_idx_write(&f->result, f->r->out, err);
    dscm_free(f->result.data);
    return code;
}

/* Even parts of at most the batch, as many for each session, and a session for each thread where
 * there are images enough; threads that are left over join the sessions' teams. */
static dscm_code open_sessions(file_run *f, dscm_error *err)
{
    const cli_model *m = &f->r->m;
    size_t sessions = f->r->sessions && f->r->sessions < m->threads ? f->r->sessions : m->threads;
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

static dscm_code run_file(batch_run *r, dscm_error *err)
{
    cli_model *m = &r->m;
    size_t size = cli_image_size(m);
    dscm_team *team = NULL;
    file_run *f = dscm_alloc(1, sizeof *f, "run", err);
    if (!f) return DSCM_E_MEMORY;
    f->r = r;
    dscm_code code = dscm_idx_read(&f->images, r->images, err);
    if (code == DSCM_OK && r->targets) code = dscm_idx_read(&f->targets, r->targets, err);
    if (code == DSCM_OK) {
        f->count = r->limit && r->limit < f->images.dims[0] ? r->limit : f->images.dims[0];
        f->in = dscm_alloc(f->count * size, sizeof(float), "images", err);
        f->out = dscm_alloc(f->count * size, sizeof(float), "images", err);
        f->wanted = dscm_alloc(f->count, sizeof(int), "targets", err);
        f->scales = dscm_alloc(f->count, sizeof(double), "scales", err);
        code = f->in && f->out && f->wanted && f->scales ? check_files(f, err) : DSCM_E_MEMORY;
    }
    if (code == DSCM_OK) code = open_sessions(f, err);
    if (code == DSCM_OK) code = dscm_team_open(&team, (int)f->sessions_count, err);
    if (code == DSCM_OK) {
        dscm_pixels_to_float(f->in, f->images.data, f->count * size);
        cli_progress_start(&f->progress, "counterfactual", "images", (double)f->count);
        f->stop = cli_watch_stop_only();
        double started = cli_seconds();
        dscm_team_run(team, f->parts, run_file_part, f);
        cli_progress_end(&f->progress);
        for (size_t t = 0; code == DSCM_OK && t < f->sessions_count; t++)
            if (f->errors[t].code != DSCM_OK)
                code = dscm_fail(err, f->errors[t].code, "%s", f->errors[t].message);
        if (code == DSCM_OK)
            fprintf(stderr, "%zu images in %.3f s\n", f->count, cli_seconds() - started);
    }
    if (code == DSCM_OK) code = write_file(f, err);
    for (size_t t = 0; t < 256; t++) dscm_session_free(f->sessions[t]);
    dscm_team_free(team);
    dscm_idx_free(&f->images);
    dscm_idx_free(&f->targets);
    dscm_free(f->in);
    dscm_free(f->out);
    dscm_free(f->wanted);
    dscm_free(f->scales);
    dscm_free(f);
    return code;
}

/* Queries over tables of variables, and sweeps: see counterfactual_table.h. */
static bool over_table(const batch_run *r)
{
    return r->images && (r->do_file || r->factuals_file || r->parents);
}

static bool is_sweep(const batch_run *r)
{
    bool sweep = r->factuals.count > 0;
    for (size_t i = 0; i < r->dos.count; i++) sweep |= cli_is_sweep(r->dos.items[i]);
    return sweep && !r->images;
}

/* -1, or the exit code after a message about wrong usage. */
static int check_table_usage(const batch_run *r, const char *command)
{
    if (!r->images && (r->do_file || r->factuals_file || r->parents))
        return cli_usage(command, "--factuals, --do-file and --parents go with --images");
    if (r->images && r->factuals.count)
        return cli_usage(command, "--factual goes with a picture; --images with --factuals FILE");
    if (over_table(r) && (r->targets || r->scores || r->noise_only || r->sessions))
        return cli_usage(command, "--factuals, --do-file and --parents do not go with --targets, "
                                  "--scores, --noise-only or --sessions");
    if (over_table(r) && !r->do_file == !r->null)
        return cli_usage(command, "either --do-file or --null is needed");
    if (is_sweep(r) && (r->scores || r->preview || r->noise_only))
        return cli_usage(command, "--factual and sweeps do not go with --scores, --preview or "
                                  "--noise-only");
    return -1;
}

static dscm_code run_over_table(batch_run *r, dscm_error *err)
{
    const cli_table_run run = {.m = &r->m,
                               .images = r->images,
                               .factuals = r->factuals_file,
                               .dos = r->do_file,
                               .out = r->out,
                               .parents = r->parents,
                               .limit = r->limit};
    return cli_table_counterfactual(&run, err);
}

static dscm_code run_over_sweep(batch_run *r, dscm_error *err)
{
    const cli_sweep_run run = {.m = &r->m,
                               .picture = r->rest.items[0],
                               .out = r->out,
                               .factuals = &r->factuals,
                               .dos = &r->dos,
                               .resize = r->resize};
    return cli_sweep(&run, err);
}

int cmd_counterfactual(int argc, char **argv)
{
    batch_run r = {.m = CLI_MODEL_DEFAULTS};
    r.m.batch = 8; /* the activations of more leave the caches; see docs/performance.md */
    const cli_option options[] = {
        {"do", OPT_LIST, &r.dos, 0, 0, "VAR=VALUE",
         "intervention on a picture; may be repeated; one may be VAR=FROM..TO:COUNT, a strip of "
         "pictures"},
        {"factual", OPT_LIST, &r.factuals, 0, 0, "VAR=VALUE",
         "known value of a variable of a picture; others are read by the predictors"},
        {"out", OPT_TEXT, &r.out, 0, 0, "FILE",
         "result, PNG or IDX (also -o); - is standard output"},
        {"images", OPT_TEXT, &r.images, 0, 0, "FILE",
         "IDX file of factual images, instead of a picture"},
        {"targets", OPT_TEXT, &r.targets, 0, 0, "FILE", "IDX file of label indices, one per image"},
        {"factuals", OPT_TEXT, &r.factuals_file, 0, 0, "FILE",
         "CSV of known values, a column per variable, a row per image of --images"},
        {"do-file", OPT_TEXT, &r.do_file, 0, 0, "FILE",
         "CSV of interventions, alike; an empty cell is none"},
        {"parents", OPT_TEXT, &r.parents, 0, 0, "FILE",
         "CSV to write: values of all variables after propagation"},
        {"preview", OPT_TEXT, &r.preview, 0, 0, "FILE",
         "the current guess of a picture's result, rewritten after every step"},
        {"scores", OPT_TEXT, &r.scores, 0, 0, "FILE",
         "scores as JSON lines (of a picture: standard output)"},
        {"limit", OPT_SIZE, &r.limit, 1, 1e9, "N", "only the first N images"},
        {"sessions", OPT_SIZE, &r.sessions, 1, 256, "N",
         "parts of --images worked on at a time (as many as threads); fewer share the threads"},
        {"null", OPT_FLAG, &r.null, 0, 0, NULL,
         "no guidance: the null counterfactual, for composition"},
        {"noise-only", OPT_FLAG, &r.noise_only, 0, 0, NULL,
         "only the top level of the noise is kept, nothing that a sampler stores beside it"},
        {"resize", OPT_FLAG, &r.resize, 0, 0, NULL, "fit a picture of another size to the model"},
        CLI_MODEL_OPTIONS(r.m),
        {.name = NULL}};
    int exit_code = cli_parse(argc, argv,
                              "counterfactual IMG.png --do digit=8 -o OUT.png (- is a pipe)\n"
                              "       diffscm counterfactual --images X-idx3-ubyte[.gz] \\\n"
                              "           --targets Y-idx1-ubyte[.gz] --out Z-idx3-ubyte\n"
                              "       diffscm counterfactual --images X-idx3-ubyte[.gz] \\\n"
                              "           --factuals F.csv --do-file D.csv --out Z-idx3-ubyte",
                              options, &r.rest);
    if (exit_code < 0) exit_code = check_table_usage(&r, argv[0]);
    if (exit_code >= 0) return exit_code;
    if (!r.out)
        return cli_usage(argv[0], "--out (-o) is needed, as in: "
                                  "diffscm counterfactual IMG.png --do digit=8 -o OUT.png");
    if (!r.images && r.rest.count != 1)
        return cli_usage(argv[0], "give one picture, or --images with --targets or --null");
    if (!r.images && !r.dos.count && !r.null)
        return cli_usage(argv[0], "--do is needed, for example --do digit=8");
    if (r.null && r.dos.count)
        return cli_usage(argv[0], "--null changes nothing and --do %s does: give one of them",
                         r.dos.items[0]);
    if (!r.images && (r.targets || r.limit || r.sessions))
        return cli_usage(argv[0], "--targets, --limit and --sessions go with --images");
    if (r.images && (r.preview || r.resize))
        return cli_usage(argv[0], "--preview and --resize go with a picture, not with --images");
    if (r.images && strcmp(r.out, "-") == 0)
        return cli_usage(argv[0], "--out -: only a picture goes to standard output");
    if (r.images && ((!r.targets && !r.null && !r.do_file) || r.dos.count || r.rest.count))
        return cli_usage(argv[0],
                         "--images goes with --targets or --null, and not with --do or a picture");
    dscm_error err = {0};
    dscm_code code = cli_check_output("out", r.out, true, &err);
    if (code == DSCM_OK && !r.images) code = cli_check_picture("out", r.out, &err);
    if (code == DSCM_OK) code = cli_check_output("parents", r.parents, false, &err);
    if (code == DSCM_OK) code = cli_check_apart("parents", r.parents, "out", r.out, &err);
    if (code == DSCM_OK) code = cli_check_output("scores", r.scores, false, &err);
    if (code == DSCM_OK) code = cli_check_output("preview", r.preview, false, &err);
    if (code == DSCM_OK) code = cli_check_apart("scores", r.scores, "out", r.out, &err);
    if (code == DSCM_OK) code = cli_check_apart("scores", r.scores, "preview", r.preview, &err);
    if (code == DSCM_OK) code = cli_model_open(&r.m, &err);
    if (code == DSCM_OK)
        code = over_table(&r) ? run_over_table(&r, &err)
               : is_sweep(&r) ? run_over_sweep(&r, &err)
               : r.images     ? run_file(&r, &err)
                              : run_single(&r, &err);
    cli_model_close(&r.m);
    return code == DSCM_OK ? EXIT_DONE : cli_fail(argv[0], &err);
}
