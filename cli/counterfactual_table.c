#include "cli/counterfactual_table.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/watch.h"
#include "core/base/memory.h"
#include "core/base/team.h"
#include "core/data/idx.h"
#include "core/io/file.h"
#include "core/scm/table_query.h"

/* ---- predictions of a list of queries ---- */

/* Images of queries first .. first+count-1 from one abduction each, 8-bit levels. images, out: (count,
 * size). */
static dscm_code predict(dscm_session *s, const cli_model *m, const dscm_query *queries,
                         const double *factuals, const float *images, float *out, size_t count,
                         const dscm_progress *progress, dscm_error *err)
{
    dscm_latent *latent = NULL;
    dscm_scale_result *found = dscm_alloc(count, sizeof *found, "batch", err);
    bool acts = false;
    for (size_t i = 0; i < count; i++) acts |= queries[i].count > 0;
    dscm_code code =
        found ? dscm_abduct_given(s, &latent, images, factuals, count, &m->options, progress, err)
              : DSCM_E_MEMORY;
    if (code == DSCM_OK && m->auto_scale && acts)
        code =
            dscm_predict_search(s, out, found, latent, queries, &m->options, NULL, progress, err);
    else if (code == DSCM_OK)
        code = dscm_predict(s, out, latent, queries, &m->options, progress, err);
    dscm_latent_free(latent);
    dscm_free(found);
    return code;
}

/* ---- tables ---- */
typedef struct table_job {
    const cli_table_run *r;
    dscm_idx images;
    dscm_table factuals, dos;
    dscm_table_query query;
    float *in, *out; /* (rows, size) */
    double *values;  /* (rows, variables) after propagation */
    size_t size, sessions_count;
    dscm_session *sessions[256];
    dscm_error errors[256];
    cli_progress progress;
    dscm_progress stop;
    _Atomic size_t finished;
} table_job;

static void run_part(void *arg, size_t index, int worker)
{
    table_job *j = arg;
    const cli_model *m = j->r->m;
    size_t first = index * m->batch, rest = j->query.rows - first;
    size_t count = rest < m->batch ? rest : m->batch;
    if (j->errors[worker].code != DSCM_OK) return;
    if (predict(j->sessions[worker], m, j->query.queries + first,
                j->query.factuals + first * j->query.variables, j->in + first * j->size,
                j->out + first * j->size, count, &j->stop, &j->errors[worker]) != DSCM_OK)
        return;
    j->finished += count;
    if (worker == 0) cli_progress_show(&j->progress, (double)j->finished, NULL);
}

static dscm_code read_inputs(table_job *j, dscm_error *err)
{
    const cli_table_run *r = j->r;
    const cli_model *m = r->m;
    const dscm_variable *v = &m->info->variables[m->info->image];
    size_t rows = 0;
    dscm_code code = dscm_idx_read(&j->images, r->images, err);
    if (code == DSCM_OK &&
        (j->images.ndim < 3 || j->images.dims[1] != v->h || j->images.dims[2] != v->w ||
         !j->images.dims[0] || j->images.count != j->images.dims[0] * j->size))
        code = dscm_fail(err, DSCM_E_MISMATCH,
                         "%s: does not hold images of %zux%zux%zu as the model needs", r->images,
                         v->h, v->w, v->c);
    if (code == DSCM_OK) rows = j->images.dims[0];
    bool fewer = r->limit && r->limit < rows;
    if (code == DSCM_OK && r->factuals) code = dscm_table_read(&j->factuals, r->factuals, err);
    if (code == DSCM_OK && r->dos) code = dscm_table_read(&j->dos, r->dos, err);
    if (code == DSCM_OK && r->factuals)
        code = dscm_table_check_rows(&j->factuals, rows, "images", err);
    if (code == DSCM_OK && r->dos) code = dscm_table_check_rows(&j->dos, rows, "images", err);
    if (code != DSCM_OK) return code;
    if (fewer) rows = r->limit;
    code = dscm_table_query_open(&j->query, m->bundle, rows, r->factuals ? &j->factuals : NULL,
                                 r->dos ? &j->dos : NULL, fewer, err);
    if (code != DSCM_OK) return code;
    j->in = dscm_alloc(rows * j->size, sizeof(float), "images", err);
    j->out = dscm_alloc(rows * j->size, sizeof(float), "images", err);
    j->values = dscm_alloc(rows * j->query.variables, sizeof(double), "values", err);
    if (!j->in || !j->out || !j->values) return DSCM_E_MEMORY;
    dscm_pixels_to_float(j->in, j->images.data, rows * j->size);
    return DSCM_OK;
}

static dscm_code open_sessions(table_job *j, dscm_error *err)
{
    const cli_model *m = j->r->m;
    size_t parts = (j->query.rows + m->batch - 1) / m->batch;
    size_t batch = j->query.rows < m->batch ? j->query.rows : m->batch;
    dscm_code code = DSCM_OK;
    j->sessions_count = m->threads < parts ? m->threads : parts;
    for (size_t i = 0; code == DSCM_OK && i < j->sessions_count; i++)
        code = dscm_session_open(&j->sessions[i], m->bundle, batch, 1, err);
    return code;
}

/* Says which values were read in the images instead of given. */
static dscm_code observe(table_job *j, dscm_error *err)
{
    const dscm_bundle_info *info = j->r->m->info;
    size_t *observed = dscm_alloc(j->query.variables, sizeof *observed, "values", err);
    dscm_code code = observed ? dscm_table_query_observe(&j->query, j->sessions[0], j->r->m->bundle,
                                                         j->in, observed, err)
                              : DSCM_E_MEMORY;
    for (size_t v = 0; code == DSCM_OK && v < j->query.variables; v++)
        if (observed[v])
            fprintf(stderr, "%s: %zu of %zu factual values read in the images by the predictor\n",
                    info->variables[v].name, observed[v], j->query.rows);
    dscm_free(observed);
    return code;
}

static dscm_code write_results(table_job *j, dscm_error *err)
{
    const cli_table_run *r = j->r;
    size_t length = 0;
    dscm_idx result = j->images;
    result.dims[0] = j->query.rows;
    result.count = j->query.rows * j->size;
    result.data = dscm_alloc(result.count, 1, "result", err);
    if (!result.data) return DSCM_E_MEMORY;
    dscm_pixels_from_float(result.data, j->out, result.count);
    dscm_code code = dscm_idx_write(&result, r->out, err);
    dscm_free(result.data);
    if (code != DSCM_OK || !r->parents) return code;
    char *text = dscm_table_query_csv(r->m->bundle, j->values, j->query.rows, &length);
    if (!text) return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", r->parents);
    code = dscm_file_replace(r->parents, &(dscm_piece){text, length}, 1, err);
    free(text);
    return code;
}

static dscm_code run_all(table_job *j, dscm_error *err)
{
    dscm_team *team = NULL;
    dscm_code code = dscm_team_open(&team, (int)j->sessions_count, err);
    if (code != DSCM_OK) return code;
    cli_progress_start(&j->progress, "counterfactual", "images", (double)j->query.rows);
    cli_watch_listen();
    j->stop = (dscm_progress){.keep_going = cli_watch_keep_going};
    double started = cli_seconds();
    dscm_team_run(team, (j->query.rows + j->r->m->batch - 1) / j->r->m->batch, run_part, j);
    cli_progress_end(&j->progress);
    for (size_t t = 0; code == DSCM_OK && t < j->sessions_count; t++)
        if (j->errors[t].code != DSCM_OK)
            code = dscm_fail(err, j->errors[t].code, "%s", j->errors[t].message);
    if (code == DSCM_OK)
        fprintf(stderr, "%zu images in %.3f s\n", j->query.rows, cli_seconds() - started);
    dscm_team_free(team);
    return code;
}

dscm_code cli_table_counterfactual(const cli_table_run *r, dscm_error *err)
{
    table_job *j = dscm_alloc(1, sizeof *j, "run", err);
    if (!j) return DSCM_E_MEMORY;
    j->r = r;
    j->size = cli_image_size(r->m);
    const dscm_table *rows = r->dos ? &j->dos : r->factuals ? &j->factuals : NULL;
    dscm_code code = read_inputs(j, err);
    if (code == DSCM_OK) code = open_sessions(j, err);
    if (code == DSCM_OK) code = observe(j, err);
    if (code == DSCM_OK)
        code = dscm_table_query_values(&j->query, r->m->bundle, rows, j->values, err);
    if (code == DSCM_OK) code = run_all(j, err);
    if (code == DSCM_OK) code = write_results(j, err);
    for (size_t t = 0; t < j->sessions_count; t++) dscm_session_free(j->sessions[t]);
    dscm_table_query_free(&j->query);
    dscm_table_free(&j->factuals);
    dscm_table_free(&j->dos);
    dscm_idx_free(&j->images);
    dscm_free(j->in);
    dscm_free(j->out);
    dscm_free(j->values);
    dscm_free(j);
    return code;
}

/* ---- sweeps ---- */
bool cli_is_sweep(const char *text)
{
    const char *equal = strchr(text, '='), *dots = equal ? strstr(equal, "..") : NULL;
    return dots && strchr(dots, ':');
}

typedef struct sweep {
    int variable;
    double from, to;
    size_t count;
} sweep;

static dscm_code parse_sweep(sweep *s, const cli_model *m, const char *text, dscm_error *err)
{
    char name[64] = "", from[64] = "", *end_from = NULL, *end_to = NULL, *end = NULL;
    const char *equal = strchr(text, '='), *dots = strstr(equal, "..");
    unsigned long count = 0;
    if (equal - text < (long)sizeof name && dots - equal < (long)sizeof from) {
        memcpy(name, text, (size_t)(equal - text));
        memcpy(from, equal + 1, (size_t)(dots - equal - 1));
        s->from = strtod(from, &end_from);
        s->to = strtod(dots + 2, &end_to);
        if (*end_to == ':') count = strtoul(end_to + 1, &end, 10);
    }
    if (!end || !*from || *end_from || end_to == dots + 2 || *end || count < 2 ||
        count > CLI_SWEEP_MAX)
        return dscm_fail(err, DSCM_E_INVALID,
                         "--do %.64s: must be NAME=FROM..TO:COUNT with 2..%d values", text,
                         CLI_SWEEP_MAX);
    dscm_code code = dscm_variable_find(m->bundle, name, &s->variable, err);
    if (code != DSCM_OK) return code;
    const dscm_variable *v = &m->info->variables[s->variable];
    if (v->kind != DSCM_CONTINUOUS)
        return dscm_fail(err, DSCM_E_INVALID, "--do %.64s: %s is not continuous", text, v->name);
    if (!(s->from >= v->min && s->from <= v->max && s->to >= v->min && s->to <= v->max))
        return dscm_fail(err, DSCM_E_INVALID, "--do %.64s: %s must stay in %g..%g", text, v->name,
                         v->min, v->max);
    s->count = count;
    return DSCM_OK;
}

/* Fixed interventions and the sweep's into acts (count each of s->count queries). */
static dscm_code make_queries(const cli_sweep_run *r, sweep *s, dscm_intervention *acts,
                              dscm_query *queries, const double *factual, dscm_error *err)
{
    static option_list fixed; /* too large for a small stack */
    const char *moving = NULL;
    fixed.count = 0;
    for (size_t i = 0; i < r->dos->count; i++) {
        bool is = cli_is_sweep(r->dos->items[i]);
        if (is && moving)
            return dscm_fail(err, DSCM_E_INVALID, "--do %s: one sweep at a time; %s is one too",
                             r->dos->items[i], moving);
        if (is)
            moving = r->dos->items[i];
        else
            fixed.items[fixed.count++] = r->dos->items[i];
    }
    *s = (sweep){.variable = -1, .count = 1};
    dscm_code code = moving ? parse_sweep(s, r->m, moving, err) : DSCM_OK;
    if (code == DSCM_OK) code = cli_parse_dos(r->m, &fixed, acts, err);
    if (code != DSCM_OK) return code;
    size_t each = fixed.count + (moving != NULL);
    for (size_t i = 0; i < s->count; i++) {
        dscm_intervention *own = acts + i * CLI_DOS_MAX;
        if (i) memcpy(own, acts, fixed.count * sizeof *acts);
        if (moving)
            own[fixed.count] = (dscm_intervention){
                .variable = s->variable,
                .value = s->from + (s->to - s->from) * (double)i / (double)(s->count - 1),
                .scale = (double)NAN};
        queries[i] = (dscm_query){.items = own, .count = each, .factual = factual};
    }
    return DSCM_OK;
}

static dscm_code parse_factuals(const cli_sweep_run *r, double *factual, dscm_error *err)
{
    for (size_t v = 0; v < r->m->info->variables_count; v++) factual[v] = (double)NAN;
    for (size_t i = 0; i < r->factuals->count; i++) {
        const char *text = r->factuals->items[i], *equal = strchr(text, '=');
        char name[64] = "";
        int v = -1;
        if (!equal || equal == text || equal - text >= (long)sizeof name)
            return dscm_fail(err, DSCM_E_INVALID, "--factual %.64s: must be NAME=VALUE", text);
        memcpy(name, text, (size_t)(equal - text));
        dscm_code code = dscm_variable_find(r->m->bundle, name, &v, err);
        if (code == DSCM_OK && !isnan(factual[v]))
            code = dscm_fail(err, DSCM_E_INVALID, "--factual %.64s: %s is given twice", text, name);
        if (code == DSCM_OK) code = dscm_value_parse(r->m->bundle, v, equal + 1, &factual[v], err);
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}

static json_t *values_json(const dscm_bundle_info *info, const double *values)
{
    json_t *o = json_object();
    for (size_t v = 0; v < info->variables_count; v++) {
        const dscm_variable *about = &info->variables[v];
        if (about->kind == DSCM_IMAGE || isnan(values[v])) continue;
        json_object_set_new(o, about->name,
                            about->kind == DSCM_CATEGORICAL
                                ? json_string(about->labels[(size_t)values[v]])
                                : json_real(values[v]));
    }
    return o;
}

/* {"factuals": …, "observed": [names], "propagated": …} of each picture. */
static void print_values(const dscm_bundle_info *info, const double *given, const double *factual,
                         const double *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_t *observed = json_array();
        for (size_t v = 0; v < info->variables_count; v++)
            if (isnan(given[v]) && !isnan(factual[v]))
                json_array_append_new(observed, json_string(info->variables[v].name));
        json_t *line = json_pack("{s:o, s:o, s:o}", "factuals", values_json(info, factual),
                                 "observed", observed, "propagated",
                                 values_json(info, values + i * info->variables_count));
        char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9) | JSON_PRESERVE_ORDER);
        if (text) printf("%s\n", text);
        free(text);
        json_decref(line);
    }
}

typedef struct sweep_job {
    dscm_intervention acts[CLI_SWEEP_MAX * CLI_DOS_MAX];
    dscm_query queries[CLI_SWEEP_MAX];
    double given[64], values[CLI_SWEEP_MAX * 64];
    sweep s;
    dscm_table_query query; /* of the factual values */
    dscm_session *session;
    float *image, *out;
} sweep_job;

/* One abduction, its latent once per query. */
static dscm_code run_sweep(sweep_job *j, const cli_sweep_run *r, const dscm_progress *progress,
                           dscm_error *err)
{
    const cli_model *m = r->m;
    const size_t items[CLI_SWEEP_MAX] = {0};
    dscm_latent *one = NULL, *all = NULL;
    dscm_scale_result found[CLI_SWEEP_MAX];
    dscm_code code = dscm_abduct_given(j->session, &one, j->image, j->query.factuals, 1,
                                       &m->options, progress, err);
    if (code == DSCM_OK) code = dscm_latent_select(&all, one, items, j->s.count, err);
    if (code == DSCM_OK && m->auto_scale)
        code = dscm_predict_search(j->session, j->out, found, all, j->queries, &m->options, NULL,
                                   progress, err);
    else if (code == DSCM_OK)
        code = dscm_predict(j->session, j->out, all, j->queries, &m->options, progress, err);
    dscm_latent_free(one);
    dscm_latent_free(all);
    return code;
}

static dscm_code open_sweep(sweep_job *j, const cli_sweep_run *r, dscm_error *err)
{
    size_t observed[64] = {0}, n = r->m->info->variables_count;
    dscm_code code = dscm_table_query_open(&j->query, r->m->bundle, 1, NULL, NULL, false, err);
    if (code == DSCM_OK) code = parse_factuals(r, j->given, err);
    if (code != DSCM_OK) return code;
    memcpy(j->query.factuals, j->given, n * sizeof(double));
    code = make_queries(r, &j->s, j->acts, j->queries, j->query.factuals, err);
    if (code == DSCM_OK) code = cli_read_image(r->m, r->picture, r->resize, &j->image, NULL, err);
    if (code == DSCM_OK)
        code = dscm_session_open(&j->session, r->m->bundle,
                                 j->s.count < r->m->batch ? j->s.count : r->m->batch,
                                 (int)r->m->threads, err);
    if (code == DSCM_OK)
        code =
            dscm_table_query_observe(&j->query, j->session, r->m->bundle, j->image, observed, err);
    for (size_t i = 0; code == DSCM_OK && i < j->s.count; i++)
        code = dscm_query_values(r->m->bundle, &j->queries[i], j->values + i * n, err);
    if (code != DSCM_OK) return code;
    j->out = dscm_alloc(j->s.count * cli_image_size(r->m), sizeof(float), "images", err);
    return j->out ? DSCM_OK : DSCM_E_MEMORY;
}

dscm_code cli_sweep(const cli_sweep_run *r, dscm_error *err)
{
    const float *pictures[CLI_SWEEP_MAX];
    size_t size = cli_image_size(r->m);
    cli_watch watch;
    sweep_job *j = dscm_alloc(1, sizeof *j, "sweep", err);
    if (!j) return DSCM_E_MEMORY;
    dscm_code code = open_sweep(j, r, err);
    cli_watch_start(&watch, r->m, "counterfactual", NULL);
    const dscm_progress progress = cli_watch_engine(&watch);
    if (code == DSCM_OK) code = run_sweep(j, r, &progress, err);
    cli_watch_end(&watch);
    if (code == DSCM_OK) dscm_images_round(j->out, j->s.count * size);
    for (size_t i = 0; code == DSCM_OK && i < j->s.count; i++) pictures[i] = j->out + i * size;
    if (code == DSCM_OK)
        code = j->s.count == 1 ? cli_write_image(r->m, r->out, j->out, err)
                               : cli_write_sheet(r->m, r->out, pictures, 1, j->s.count, err);
    if (code == DSCM_OK && strcmp(r->out, "-") != 0)
        print_values(r->m->info, j->given, j->query.factuals, j->values, j->s.count);
    dscm_session_free(j->session);
    dscm_table_query_free(&j->query);
    dscm_free(j->image);
    dscm_free(j->out);
    dscm_free(j);
    return code;
}
