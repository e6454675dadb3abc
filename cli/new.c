/* diffscm new: from a folder of pictures to a served model.
 *
 * OUT.work holds the plan, the data as IDX files, and per network a checkpoint and finished weights.
 * Every stage leaves a file that is written as a whole and last; a stage whose file is there is not
 * done again. Files that depend on the score network carry its number of samples in their names, so
 * that a longer training makes them anew. The bundle is made in OUT.work and put to OUT as the last
 * act. A stage that trains, bundles or calibrates is this program in a child process, which ends with
 * its parent.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/new_job.h"
#include "core/io/file.h"

dscm_code new_file_in(const new_job *j, char path[NEW_PATH], dscm_error *err, const char *format,
                      ...)
{
    char name[100];
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    int n = snprintf(path, NEW_PATH, "%s/%s", j->work, name);
    return n > 0 && n < NEW_PATH ? DSCM_OK
                                 : dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", j->work);
}

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

static dscm_code bundle_stage(new_job *j, const char *bundle, dscm_error *err)
{
    char labels[NEW_PATH], manifest[NEW_PATH];
    dscm_code code = new_file_in(j, labels, err, "labels.txt");
    if (code == DSCM_OK)
        code = new_file_in(j, manifest, err, "bundle-%zu/manifest.json", new_score_samples(j));
    if (code != DSCM_OK || access(manifest, F_OK) == 0) return code;
    code = write_labels(j, labels, err);
    if (code != DSCM_OK) return code;
    new_arguments *a = new_begin("bundle");
    new_add(a, "--out=%s", bundle);
    new_add(a, "--name=%s", j->plan.name);
    new_add(a, "--variable=%s", j->plan.variable);
    new_add(a, "--labels-file=%s", labels);
    new_add(a, "--licence=not stated");
    new_add(a, "--provenance=diffscm new, %zu images, pixels of SHA-256 %s", j->plan.count,
            j->plan.data_sha256);
    new_add(a, "--score=%s/score-%zu.st", j->work, new_score_samples(j));
    new_add(a, "--predictor=%s/predictor.st", j->work);
    new_add(a, "--judges=%s", j->work);
    new_add(a, "--pool-data=%s", j->work);
    new_add(a, "--pool-split=P");
    new_add(a, "--sampler=implicit");
    new_add(a, "--steps=6");
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

static dscm_code measure_stage(new_job *j, const char *bundle, dscm_error *err)
{
    char found[NEW_PATH], card[NEW_PATH];
    new_figures figures;
    dscm_code code = new_file_in(j, found, err, "measured-%zu.json", new_score_samples(j));
    if (code == DSCM_OK)
        code = new_file_in(j, card, err, "bundle-%zu/card.md", new_score_samples(j));
    if (code == DSCM_OK && access(found, F_OK) != 0) {
        code = new_measure(&j->plan, bundle, j->work, &figures, err);
        if (code == DSCM_OK) code = new_write_card(&j->plan, &figures, card, err);
        if (code == DSCM_OK) code = new_write_measured(&j->plan, &figures, found, err);
    }
    return code == DSCM_OK ? take_findings(bundle, found, err) : code;
}

/* ---- the finished model ---- */
/* Samples that the model at OUT was trained on, by its manifest; 0: there is none. */
static size_t published_samples(const new_job *j, json_t **quality)
{
    char path[NEW_PATH];
    size_t samples = 0;
    *quality = NULL;
    if (snprintf(path, sizeof path, "%s/manifest.json", j->out) >= (int)sizeof path) return 0;
    json_t *root = json_load_file(path, 0, NULL);
    *quality = json_incref(json_object_get(root, "quality"));
    samples = (size_t)json_integer_value(json_object_get(*quality, "samples"));
    json_decref(root);
    return samples;
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

static void remove_folder(const char *path)
{
    char file[2 * NEW_PATH];
    DIR *folder = opendir(path);
    for (struct dirent *f; folder && (f = readdir(folder));) {
        snprintf(file, sizeof file, "%s/%s", path, f->d_name);
        unlink(file); /* refuses "." and ".." */
    }
    if (folder) closedir(folder);
    rmdir(path);
}

/* Models that were replaced. */
static void remove_old(const new_job *j)
{
    char path[NEW_PATH + 300];
    DIR *work = opendir(j->work);
    for (struct dirent *e; work && (e = readdir(work));) {
        snprintf(path, sizeof path, "%s/%s", j->work, e->d_name);
        if (strncmp(e->d_name, "bundle-", 7) == 0) remove_folder(path);
    }
    if (work) closedir(work);
}

static void tell(const new_job *j, const json_t *quality)
{
    const char *because = json_string_value(json_object_get(quality, "poor_because"));
    const char *help = json_string_value(json_object_get(quality, "would_help"));
    const char *here = strchr(j->out, '/') ? "" : "./";
    if (because) printf("%s is marked poor: %s. What would help: %s.\n", j->out, because, help);
    printf("%s is ready, %s/card.md tells what it is. Serve it:\n  diffscm serve --models %s%s\n"
           "%s goes on with --samples greater than %zu, and may be removed.\n",
           j->out, j->out, here, j->out, j->work,
           (size_t)json_integer_value(json_object_get(quality, "samples")));
}

/* ---- the plan ---- */
static dscm_code make_plan(new_job *j, const char *path, dscm_error *err)
{
    dscm_dataset set = {0};
    char folder[4096];
    new_plan *p = &j->plan;
    p->small = j->time_limit > 0 ? j->time_limit < 3600 : strcmp(j->effort, "minutes") == 0;
    snprintf(p->data, sizeof p->data, "%s", j->data);
    snprintf(p->variable, sizeof p->variable, "%s", j->variable);
    if (j->samples)
        snprintf(p->effort, sizeof p->effort, "%zu samples", j->samples);
    else if (j->time_limit > 0)
        snprintf(p->effort, sizeof p->effort, "%g s", j->time_limit);
    else
        snprintf(p->effort, sizeof p->effort, "%s", j->effort);
    snprintf(folder, sizeof folder, "%s", j->out);
    snprintf(p->name, sizeof p->name, "%s", basename(folder));
    p->threads = j->threads;
    p->seconds = j->samples                          ? 0
                 : j->time_limit > 0                 ? j->time_limit
                 : strcmp(j->effort, "minutes") == 0 ? 10 * 60
                 : strcmp(j->effort, "hours") == 0   ? 4 * 3600
                                                     : 48 * 3600;
    dscm_code code = new_convert(p, j->work, &j->reading, err);
    if (code == DSCM_OK) code = dscm_dataset_open(&set, j->work, "M", err);
    if (code == DSCM_OK) code = new_plan_make(p, &set, j->samples, err);
    if (code == DSCM_OK) code = new_plan_write(p, path, err);
    dscm_dataset_free(&set);
    if (code != DSCM_OK) remove_folder(j->work); /* holds nothing that a rerun would need */
    return code;
}

/* A stored plan counts; flags that contradict it are a mistake, but for more samples. */
static dscm_code take_plan(new_job *j, const char *path, dscm_error *err)
{
    dscm_code code = new_plan_read(&j->plan, path, err);
    if (code != DSCM_OK) return code;
    new_stage *score = new_plan_score(&j->plan);
    j->used_before = j->plan.used;
    if (strcmp(j->plan.data, j->data) != 0)
        return dscm_fail(err, DSCM_E_MISMATCH, "--data %s: %s was planned for %s", j->data, path,
                         j->plan.data);
    if (strcmp(j->plan.variable, j->variable) != 0)
        return dscm_fail(err, DSCM_E_MISMATCH, "--variable %s: %s was planned with %s", j->variable,
                         path, j->plan.variable);
    if (j->samples && j->samples < score->samples)
        return dscm_fail(err, DSCM_E_INVALID, "--samples %zu: %s has %zu, which can only be raised",
                         j->samples, path, score->samples);
    fprintf(stderr, "%s: going on under this plan\n", path);
    if (j->samples <= score->samples) return DSCM_OK;
    score->seconds *= (double)j->samples / (double)score->samples;
    score->samples = j->samples;
    j->plan.seconds = 0; /* as many as are asked for, whatever time it takes */
    snprintf(j->plan.effort, sizeof j->plan.effort, "%zu samples", j->samples);
    return new_plan_write(&j->plan, path, err);
}

static dscm_code open_work(new_job *j, dscm_error *err)
{
    char path[NEW_PATH];
    if (snprintf(j->work, sizeof j->work, "%s.work", j->out) >= (int)sizeof j->work)
        return dscm_fail(err, DSCM_E_LIMIT, "--out %.64s…: path too long", j->out);
    dscm_code code = new_file_in(j, path, err, "plan.json");
    if (code != DSCM_OK) return code;
    if (access(path, F_OK) != 0 && access(j->out, F_OK) == 0)
        return dscm_fail(err, DSCM_E_INVALID, "--out %s is there already; choose another folder",
                         j->out);
    if (mkdir(j->work, 0777) != 0 && errno != EEXIST)
        return dscm_fail(err, DSCM_E_IO, "%s: cannot make this folder: %s", j->work,
                         strerror(errno));
    code = new_file_in(j, path, err, "lock");
    if (code != DSCM_OK) return code;
    j->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (j->lock < 0) return dscm_fail(err, DSCM_E_IO, "%s: %s", path, strerror(errno));
    if (flock(j->lock, LOCK_EX | LOCK_NB) != 0)
        return dscm_fail(err, DSCM_E_INVALID, "%s: another run is at work there", j->work);
    return DSCM_OK;
}

/* ---- the whole ---- */
static dscm_code finish(new_job *j, dscm_error *err)
{
    char bundle[NEW_PATH];
    size_t n = j->plan.stages_count;
    dscm_code code = new_file_in(j, bundle, err, "bundle-%zu", new_score_samples(j));
    if (code == DSCM_OK) fprintf(stderr, "[%zu/%zu] bundle\n", n + 1, n + 3);
    if (code == DSCM_OK) code = bundle_stage(j, bundle, err);
    if (code == DSCM_OK) fprintf(stderr, "[%zu/%zu] calibration\n", n + 2, n + 3);
    if (code == DSCM_OK) code = new_shorten_measurement(j, err);
    if (code == DSCM_OK) code = calibrate_stage(j, bundle, err);
    if (code == DSCM_OK) fprintf(stderr, "[%zu/%zu] measurement\n", n + 3, n + 3);
    if (code == DSCM_OK) code = measure_stage(j, bundle, err);
    return code == DSCM_OK ? publish(j, bundle, err) : code;
}

static dscm_code run(new_job *j, dscm_error *err)
{
    char path[NEW_PATH];
    json_t *quality = NULL;
    j->began = cli_seconds();
    dscm_code code = open_work(j, err);
    if (code == DSCM_OK) code = new_file_in(j, path, err, "plan.json");
    if (code == DSCM_OK)
        code = access(path, F_OK) == 0 ? take_plan(j, path, err) : make_plan(j, path, err);
    if (code == DSCM_OK && published_samples(j, &quality) != new_score_samples(j)) {
        json_decref(quality);
        quality = NULL;
        new_plan_print(&j->plan);
        code = new_train_all(j, err);
        if (code == DSCM_OK) code = finish(j, err);
        if (code == DSCM_OK) published_samples(j, &quality);
    }
    if (code == DSCM_OK) remove_old(j);
    if (code == DSCM_OK) tell(j, quality);
    json_decref(quality);
    if (j->lock >= 0) close(j->lock);
    new_plan_close(&j->plan);
    return code;
}

/* "90", "90s", "15m", "4h", "2d" as seconds. */
static dscm_code parse_time(const char *text, double *seconds, dscm_error *err)
{
    char *end;
    double v = strtod(text, &end);
    double unit = *end == 'm' ? 60 : *end == 'h' ? 3600 : *end == 'd' ? 86400 : 1;
    bool good = end != text && (!*end || (strchr("smhd", *end) && !end[1]));
    *seconds = v * unit;
    if (good && *seconds >= 1 && *seconds <= 1e7) return DSCM_OK;
    return dscm_fail(err, DSCM_E_INVALID,
                     "--time-limit %s: must be seconds, or a number with s, m, h or d, of 1 second "
                     "to 115 days",
                     text);
}

/* Letters, digits, ".", "-", "_" and whatever is not ASCII. */
static bool is_word(const char *text)
{
    for (const char *p = text; *p; p++)
        if ((signed char)*p >= 0 && !isalnum((unsigned char)*p) && !strchr(".-_", *p)) return false;
    return *text && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}

/* Without slashes at the end: OUT.work lies beside OUT. */
static dscm_code take_out(new_job *j, dscm_error *err)
{
    static char out[4096];
    char folder[4096];
    size_t n = strlen(j->out);
    while (n > 1 && j->out[n - 1] == '/') n--;
    snprintf(out, sizeof out, "%.*s", n < sizeof out ? (int)n : 0, j->out);
    memcpy(folder, out, sizeof folder);
    if (!is_word(basename(folder)))
        return dscm_fail(err, DSCM_E_INVALID,
                         "--out %.64s: its last part becomes the model's name: letters, digits, "
                         "\".\", \"-\" and \"_\"",
                         j->out);
    j->out = out;
    return DSCM_OK;
}

static dscm_code check_names(new_job *j, dscm_error *err)
{
    dscm_code code = take_out(j, err);
    if (code != DSCM_OK) return code;
    if (!is_word(j->variable) || strcmp(j->variable, "image") == 0 ||
        strlen(j->variable) >= DSCM_PARENT_NAME)
        return dscm_fail(
            err, DSCM_E_INVALID,
            "--variable %s: must be a name of at most %d letters, digits, \".\", \"-\" "
            "and \"_\", other than image",
            j->variable, DSCM_PARENT_NAME - 1);
    if (strcmp(j->effort, "minutes") != 0 && strcmp(j->effort, "hours") != 0 &&
        strcmp(j->effort, "days") != 0)
        return dscm_fail(err, DSCM_E_INVALID, "--effort %s: must be minutes, hours or days",
                         j->effort);
    return DSCM_OK;
}

int cmd_new(int argc, char **argv)
{
    static new_job j = {.variable = "class", .effort = "minutes", .lock = -1};
    j.threads = (size_t)dscm_cpu_count();
    const cli_option options[] = {
        {"data", OPT_TEXT, &j.data, 0, 0, "DIR|FILE",
         "a folder per class of PNG and JPEG files, IDX files, or a tar archive of either"},
        {"out", OPT_TEXT, &j.out, 0, 0, "DIR",
         "the model; OUT.work holds what a rerun goes on from"},
        {"variable", OPT_TEXT, &j.variable, 0, 0, "NAME", "what the classes are (class)"},
        {"effort", OPT_TEXT, &j.effort, 0, 0, "LEVEL",
         "minutes (10, default), hours (4) or days (2): how long to plan for"},
        {"time-limit", OPT_TEXT, &j.limit_text, 0, 0, "TIME",
         "plan for this long instead: seconds, or 15m, 4h, 2d"},
        {"samples", OPT_SIZE, &j.samples, 1, 1e12, "N",
         "plan for so many images of the score network instead; more than a plan has goes on from "
         "it"},
        {"split", OPT_TEXT, &j.reading.split, 0, 0, "NAME",
         "of the data (train where there are splits, else all)"},
        {"labels-file", OPT_TEXT, &j.reading.labels_file, 0, 0, "FILE",
         "names of the classes, one a line (the folders' names, or numbers)"},
        {"size", OPT_TEXT, &j.reading.size, 0, 0, "N",
         "pictures become NxN (their own size where it fits, or 32)"},
        {"flip", OPT_FLAG, &j.plan.flip, 0, 0, NULL,
         "mirror pictures at random in training: where left and right mean nothing"},
        {"threads", OPT_SIZE, &j.threads, 1, DSCM_TEAM_MAX, "N", "threads (all processors)"},
        {.name = NULL}};
    option_list rest = {.count = 0};
    int exit_code =
        cli_parse(argc, argv, "new --data DIR|FILE --out DIR [options]", options, &rest);
    if (exit_code >= 0) return exit_code;
    if (rest.count) return cli_usage("new", "unexpected argument %s", rest.items[0]);
    if (!j.data || !j.out) return cli_usage("new", "--data and --out are needed");
    new_listen();
    dscm_error err = {0};
    dscm_code code = check_names(&j, &err);
    if (code == DSCM_OK && j.limit_text) code = parse_time(j.limit_text, &j.time_limit, &err);
    if (code == DSCM_OK) code = run(&j, &err);
    return code == DSCM_OK ? EXIT_DONE : cli_fail("new", &err);
}
