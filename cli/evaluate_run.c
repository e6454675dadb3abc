/* Running methods: rounds over a team, results of each round kept so that a killed run goes on. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/evaluate.h"
#include "cli/json_file.h"
#include "core/base/memory.h"
#include "core/base/team.h"
#include "core/data/idx.h"
#include "core/io/file.h"
#include "core/io/json.h"
#include "core/io/sha256.h"

void eval_path(const evaluation *e, const char *what, const char *slug, const char *suffix,
               char *out, size_t size)
{
    snprintf(out, size, "%s/%s-%s%s", e->report_dir, what, slug, suffix);
}

size_t eval_part(const evaluation *e, size_t index, size_t *first)
{
    *first = e->first + index * e->m.batch;
    return e->end - *first < e->m.batch ? e->end - *first : e->m.batch;
}

dscm_code eval_first_error(evaluation *e, dscm_error *err)
{
    for (size_t t = 0; t < e->m.threads; t++)
        if (e->errors[t].code != DSCM_OK)
            return dscm_fail(err, e->errors[t].code, "%s", e->errors[t].message);
    return DSCM_OK;
}

/* ---- one method ---- */
static void run_part(void *arg, size_t index, int worker)
{
    evaluation *e = arg;
    eval_method *r = e->run;
    size_t first, count = eval_part(e, index, &first);
    if (e->errors[worker].code != DSCM_OK) return;
    dscm_code code = dscm_eval_run(e->workers[worker], &r->setting, first, count, r->rows + first,
                                   r->pixels + first * cli_image_size(&e->m), &e->errors[worker]);
    if (code != DSCM_OK) return;
    e->finished += count;
    if (worker == 0)
        cli_progress_show(&e->progress, (double)(e->first - e->earlier + e->finished), NULL);
}

/* Results of earlier runs with the same folder: records and pictures of whole rounds. */
static dscm_code load_earlier(evaluation *e, eval_method *r, dscm_error *err)
{
    char path[4096];
    dscm_idx idx = {.count = 0};
    dscm_record *rows = NULL;
    size_t size = cli_image_size(&e->m);
    eval_path(e, "records", r->slug, ".csv", path, sizeof path);
    dscm_code code = dscm_records_read(path, &rows, &r->count, r->limit, err);
    if (code != DSCM_OK || !r->count) {
        dscm_free(rows);
        return code;
    }
    eval_path(e, "images", r->slug, "", path, sizeof path);
    if (dscm_idx_read(&idx, path, NULL) == DSCM_OK && idx.count >= r->count * size) {
        memcpy(r->rows, rows, r->count * sizeof *rows);
        memcpy(r->pixels, idx.data, r->count * size);
    } else {
        r->count = 0;
    }
    dscm_idx_free(&idx);
    dscm_free(rows);
    return DSCM_OK;
}

/* Pictures first: records without their pictures would count as done. */
static dscm_code keep_round(evaluation *e, eval_method *r, size_t from, dscm_error *err)
{
    char path[4096];
    const dscm_dataset *d = &e->items;
    dscm_idx idx = {.dims = {r->count, d->h, d->w, d->c},
                    .ndim = d->c == 1 ? 3 : 4,
                    .count = r->count * cli_image_size(&e->m),
                    .data = r->pixels};
    eval_path(e, "images", r->slug, "", path, sizeof path);
    dscm_code code = dscm_idx_write(&idx, path, err);
    eval_path(e, "records", r->slug, ".csv", path, sizeof path);
    if (code == DSCM_OK && from == 0) remove(path);
    return code == DSCM_OK ? dscm_records_append(path, r->rows + from, r->count - from, err) : code;
}

dscm_code eval_run_method(evaluation *e, eval_method *r, dscm_error *err)
{
    size_t size = cli_image_size(&e->m), round = 4 * e->m.batch * e->m.threads;
    r->rows = dscm_alloc(r->limit, sizeof *r->rows, "records", err);
    r->pixels = dscm_alloc(r->limit * size, 1, "results", err);
    dscm_code code = r->rows && r->pixels ? load_earlier(e, r, err) : DSCM_E_MEMORY;
    if (code != DSCM_OK) return code;
    e->run = r;
    e->earlier = r->count;
    if (r->count == r->limit) return DSCM_OK;
    cli_progress_start(&e->progress, r->title, "images", (double)(r->limit - r->count));
    while (r->count < r->limit) {
        e->first = r->count;
        e->end = r->limit - r->count > round ? r->count + round : r->limit;
        e->finished = 0;
        dscm_team_run(e->team, (e->end - e->first + e->m.batch - 1) / e->m.batch, run_part, e);
        code = eval_first_error(e, err);
        if (code != DSCM_OK) return code;
        r->count = e->end;
        code = keep_round(e, r, e->first, err);
        if (code != DSCM_OK) return code;
    }
    cli_progress_show(&e->progress, (double)(r->limit - e->earlier), NULL);
    cli_progress_end(&e->progress);
    return DSCM_OK;
}

/* ---- the folder ---- */
/* The networks' identity: the hash of the manifest's list of file hashes. The manifest's own hash
 * would change with every calibrated scale, which a resumed evaluation names itself. */
static dscm_code hash_networks(evaluation *e, dscm_error *err)
{
    json_t *manifest = dscm_json_read(e->m.info->manifest, strlen(e->m.info->manifest), 0, NULL);
    char *files =
        dscm_json_write(json_object_get(manifest, "files"), JSON_SORT_KEYS | JSON_COMPACT, 0);
    json_decref(manifest);
    dscm_code code = cli_json_whole("manifest", err);
    if (code != DSCM_OK) {
        free(files);
        return code;
    }
    if (!files) return dscm_fail(err, DSCM_E_FORMAT, "manifest: no list of files");
    dscm_sha256_hex(e->nets_sha256, files, strlen(files));
    free(files);
    return DSCM_OK;
}

dscm_code eval_claim_folder(evaluation *e, dscm_error *err)
{
    char path[4096], mine[512];
    unsigned char *bytes = NULL;
    size_t size = 0;
    dscm_code code = hash_networks(e, err);
    if (code != DSCM_OK) return code;
    snprintf(mine, sizeof mine,
             "{\"networks\": \"%s\", \"items\": \"%s\", \"pool\": \"%s\", \"seed\": %llu}\n",
             e->nets_sha256, e->items.sha256, e->pool.sha256, (unsigned long long)e->m.seed);
    snprintf(path, sizeof path, "%s/evaluation.json", e->report_dir);
    code = dscm_file_read(path, 4096, &bytes, &size, NULL);
    if (code == DSCM_E_NOT_FOUND) {
        const dscm_piece piece = {mine, strlen(mine)};
        return dscm_file_replace(path, &piece, 1, err);
    }
    bool same = code == DSCM_OK && strcmp((const char *)bytes, mine) == 0;
    dscm_free(bytes);
    if (same) return DSCM_OK;
    return dscm_fail(err, DSCM_E_MISMATCH,
                     "%s: belongs to an evaluation of other networks, images or seed; give another "
                     "--report folder",
                     path);
}
