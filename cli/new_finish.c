/* The end of `diffscm new`: from trained networks to a model in its place. Every stage leaves a file, and
 * one whose file is there is not done again. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/new_job.h"
#include "cli/stage.h"
#include "core/base/memory.h"
#include "core/io/file.h"
#include "core/io/json.h"

/* ---- stages ---- */
static dscm_code write_labels(const new_job *j, const char *path, dscm_error *err)
{
    size_t i, length = 0;
    json_t *label;
    json_array_foreach(j->plan.labels, i, label) length += json_string_length(label) + 1;
    char *text = calloc(length + 1, 1);
    if (!text) return dscm_fail(err, DSCM_E_MEMORY, "out of memory");
    length = 0;
    json_array_foreach(j->plan.labels, i, label) length +=
        (size_t)sprintf(text + length, "%s\n", json_string_value(label));
    const dscm_piece piece = {text, length};
    dscm_code code = dscm_file_replace(path, &piece, 1, err);
    free(text);
    return code;
}

/* Mechanisms of the variables of a table. */
static dscm_code fit_stage(new_job *j, dscm_error *err)
{
    char model[NEW_PATH];
    dscm_code code = new_file_in(j, model, err, "mechanisms.json");
    if (code != DSCM_OK || access(model, F_OK) == 0) return code;
    new_arguments *a = new_begin("fit");
    for (size_t i = 0; i < json_array_size(j->plan.fit); i++)
        new_add(a, "%s", json_string_value(json_array_get(j->plan.fit, i)));
    new_add(a, "--table=%s/M-variables.csv", j->work);
    new_add(a, "--report=%s/mechanisms-report.json", j->work);
    new_add(a, "--out=%s", model);
    return new_run_command(a, NULL, err);
}

/* The variables and the networks that observe them. */
static dscm_code add_variables(const new_job *j, new_arguments *a, dscm_error *err)
{
    char labels[NEW_PATH];
    const new_plan *p = &j->plan;
    if (p->variable[0]) new_add(a, "--variable=%s", p->variable);
    if (p->parents_count) {
        new_add(a, "--causal=%s/mechanisms.json", j->work);
        for (size_t i = 0; i < p->parents_count; i++)
            new_add(a, "--predictor=%s=%s/predictor-%zu.st", p->parents[i].name, j->work, i);
        return DSCM_OK;
    }
    dscm_code code = new_file_in(j, labels, err, "labels.txt");
    if (code == DSCM_OK) code = write_labels(j, labels, err);
    new_add(a, "--labels-file=%s", labels);
    new_add(a, "--predictor=%s/predictor.st", j->work);
    return code;
}

static dscm_code bundle_stage(new_job *j, const char *bundle, dscm_error *err)
{
    char manifest[NEW_PATH];
    dscm_code code =
        new_file_in(j, manifest, err, "bundle-%zu/manifest.json", new_score_samples(j));
    if (code != DSCM_OK || access(manifest, F_OK) == 0) return code;
    new_arguments *a = new_begin("bundle");
    new_add(a, "--out=%s", bundle);
    new_add(a, "--name=%s", j->plan.name);
    code = add_variables(j, a, err);
    if (code != DSCM_OK) return code;
    new_add(a, "--licence=not stated");
    new_add(a, "--provenance=diffscm new, %zu images, pixels of SHA-256 %s", j->plan.count,
            j->plan.data_sha256);
    new_add(a, "--score=%s/score-%zu.st", j->work, new_score_samples(j));
    if (j->plan.classes) new_add(a, "--judges=%s", j->work);
    new_add(a, "--pool-data=%s", j->work);
    new_add(a, "--pool-split=P");
    new_add(a, "--sampler=implicit");
    new_add(a, "--steps=%d", NEW_STEPS);
    new_add(a, "--ratio=0.98");
    return new_run_command(a, NULL, err);
}

/* Puts the findings of a file into the bundle. */
static dscm_code take_findings(const char *bundle, const char *measured, dscm_error *err)
{
    new_arguments *a = new_begin("bundle");
    new_add(a, "--out=%s", bundle);
    new_add(a, "--measured=%s", measured);
    return new_run_command(a, NULL, err);
}

static dscm_code calibrate_stage(new_job *j, const char *bundle, dscm_error *err)
{
    char found[NEW_PATH];
    dscm_code code = new_file_in(j, found, err, "calibrated-%zu.json", new_score_samples(j));
    if (code != DSCM_OK) return code;
    if (access(found, F_OK) != 0) {
        new_arguments *a = new_begin("calibrate");
        new_add(a, "--data=%s", j->work);
        new_add(a, "--split=S");
        new_add(a, "--limit=2000");
        new_add(a, "--familiarity-limit=%zu", j->plan.measured * 2 / 3);
        new_add(a, "--references=M");
        new_add(a, "--model=%s", bundle);
        new_add(a, "--threads=%zu", j->plan.threads);
        new_add(a, "--out=%s", found);
        code = new_run_command(a, NULL, err);
    }
    return code == DSCM_OK ? take_findings(bundle, found, err) : code;
}

/* The card lies beside what was measured and is copied: a bundle may be made again. */
static dscm_code take_card(const char *bundle, const char *card, dscm_error *err)
{
    char path[NEW_PATH + 16];
    unsigned char *text = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/card.md", bundle);
    dscm_code code = dscm_file_read(card, (size_t)1 << 20, &text, &size, err);
    const dscm_piece piece = {text, size};
    if (code == DSCM_OK) code = dscm_file_replace(path, &piece, 1, err);
    dscm_free(text);
    return code;
}

/* Without measurement the files have other names, so that it can be made up for. */
static dscm_code measure_stage(new_job *j, const char *bundle, dscm_error *err)
{
    char found[NEW_PATH], card[NEW_PATH];
    new_figures figures = new_no_figures();
    size_t samples = new_score_samples(j);
    bool skipped = j->plan.skip & NEW_SKIP_MEASUREMENT;
    const char *what = skipped ? "unmeasured" : "measured";
    dscm_code code = new_file_in(j, found, err, "%s-%zu.json", what, samples);
    if (code == DSCM_OK) code = new_file_in(j, card, err, "%s-%zu.md", what, samples);
    if (code == DSCM_OK && (skipped || access(found, F_OK) != 0)) {
        if (!skipped) code = new_measure(&j->plan, bundle, j->work, &figures, err);
        if (code == DSCM_OK) code = new_write_card(&j->plan, &figures, card, err);
        if (code == DSCM_OK) code = new_write_measured(&j->plan, &figures, found, err);
    }
    if (code == DSCM_OK) code = take_card(bundle, card, err);
    return code == DSCM_OK ? take_findings(bundle, found, err) : code;
}

/* ---- the finished model ---- */
json_t *new_published(const new_job *j)
{
    char path[NEW_PATH];
    if (snprintf(path, sizeof path, "%s/manifest.json", j->out) >= (int)sizeof path) return NULL;
    json_t *root = dscm_json_read_file(path, 0, NULL);
    json_t *quality = json_incref(json_object_get(root, "quality"));
    json_decref(root);
    return quality;
}

bool new_is_published(new_job *j, const json_t *quality)
{
    const char *skipped = json_string_value(json_object_get(quality, "left_out"));
    json_int_t samples = json_integer_value(json_object_get(quality, "samples"));
    return (size_t)samples == new_score_samples(j) &&
           strcmp(skipped ? skipped : "", new_skip_text(j->plan.skip)) == 0;
}

/* The model of a shorter training gives way in one step; it is removed afterwards. */
static dscm_code publish(const new_job *j, const char *bundle, dscm_error *err)
{
    int done = rename(bundle, j->out);
    if (done != 0 && (errno == ENOTEMPTY || errno == EEXIST))
        done = renameat2(AT_FDCWD, bundle, AT_FDCWD, j->out, RENAME_EXCHANGE);
    return done == 0 ? DSCM_OK
                     : dscm_fail(err, DSCM_E_IO, "%s: cannot be put in place: %s", j->out,
                                 strerror(errno));
}

/* What a killed command left in its bundle: a folder .PID.tmp (cli/stage.c), which no model holds. */
static void remove_unfinished(const char *bundle)
{
    char path[NEW_PATH + 300];
    DIR *folder = opendir(bundle);
    for (struct dirent *f; folder && (f = readdir(folder));) {
        size_t length = strlen(f->d_name);
        if (f->d_name[0] != '.' || length < 5 || strcmp(f->d_name + length - 4, ".tmp") != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", bundle, f->d_name);
        cli_remove_folder(path);
    }
    if (folder) closedir(folder);
}

void new_remove_old(const new_job *j)
{
    char path[NEW_PATH + 300];
    DIR *work = opendir(j->work);
    for (struct dirent *e; work && (e = readdir(work));) {
        snprintf(path, sizeof path, "%s/%s", j->work, e->d_name);
        if (strncmp(e->d_name, "bundle-", 7) == 0) cli_remove_folder(path);
    }
    if (work) closedir(work);
}

/* ---- the whole ---- */
dscm_code new_finish(new_job *j, dscm_error *err)
{
    char bundle[NEW_PATH];
    size_t all = new_stages_in_all(&j->plan), n = j->plan.stages_count;
    dscm_code code = new_file_in(j, bundle, err, "bundle-%zu", new_score_samples(j));
    if (code == DSCM_OK && j->plan.fit) {
        fprintf(stderr, "[%zu/%zu] mechanisms\n", ++n, all);
        code = fit_stage(j, err);
    }
    if (code == DSCM_OK) fprintf(stderr, "[%zu/%zu] bundle\n", ++n, all);
    if (code == DSCM_OK) code = bundle_stage(j, bundle, err);
    if (code == DSCM_OK) code = new_shorten_measurement(j, err);
    if (code == DSCM_OK && !(j->plan.skip & NEW_SKIP_CALIBRATION)) {
        fprintf(stderr, "[%zu/%zu] calibration\n", ++n, all);
        code = calibrate_stage(j, bundle, err);
    }
    if (code == DSCM_OK && !(j->plan.skip & NEW_SKIP_MEASUREMENT))
        fprintf(stderr, "[%zu/%zu] measurement\n", ++n, all);
    if (code == DSCM_OK) code = measure_stage(j, bundle, err);
    if (code == DSCM_OK) remove_unfinished(bundle);
    return code == DSCM_OK ? publish(j, bundle, err) : code;
}
