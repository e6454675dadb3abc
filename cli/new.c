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
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/json_file.h"
#include "cli/new_job.h"
#include "cli/stage.h"
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

/* ---- the end ---- */
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
static double asked_seconds(const new_job *j)
{
    const char *effort = j->effort ? j->effort : "minutes";
    return j->time_limit > 0                ? j->time_limit
           : strcmp(effort, "minutes") == 0 ? 10 * 60
           : strcmp(effort, "hours") == 0   ? 4 * 3600
                                            : 48 * 3600;
}

static dscm_code make_plan(new_job *j, const char *path, dscm_error *err)
{
    dscm_dataset set = {0};
    char folder[4096];
    new_plan *p = &j->plan;
    p->seconds = asked_seconds(j);
    p->small = p->seconds < 3600;
    p->skip = j->skip;
    snprintf(p->data, sizeof p->data, "%s", j->data);
    if (j->samples)
        snprintf(p->effort, sizeof p->effort, "%zu samples", j->samples);
    else if (j->time_limit > 0)
        snprintf(p->effort, sizeof p->effort, "%g s", j->time_limit);
    else
        snprintf(p->effort, sizeof p->effort, "%s", j->effort ? j->effort : "minutes");
    snprintf(folder, sizeof folder, "%s", j->out);
    snprintf(p->name, sizeof p->name, "%s", basename(folder));
    p->threads = j->threads;
    if (j->samples) p->seconds = 0;
    dscm_code code = new_convert(p, j->work, &j->reading, err);
    if (code == DSCM_OK) code = dscm_dataset_open(&set, j->work, "M", err);
    if (code == DSCM_OK) code = new_plan_make(p, &set, j->samples, err);
    if (code == DSCM_OK) code = new_plan_write(p, path, err);
    dscm_dataset_free(&set);
    if (code != DSCM_OK) cli_remove_folder(j->work); /* holds nothing that a rerun would need */
    return code;
}

static dscm_code contradicts(const char *option, const char *given, const char *path,
                             const char *planned, dscm_error *err)
{
    if (!given || strcmp(given, planned) == 0) return DSCM_OK;
    return dscm_fail(err, DSCM_E_MISMATCH, "--%s %s: %s was planned with \"%s\"", option, given,
                     path, planned);
}

/* Judges cannot be added later; calibration and measurement can. */
static dscm_code take_skip(new_job *j, const char *path, dscm_error *err)
{
    if ((j->skip ^ j->plan.skip) & NEW_SKIP_JUDGES)
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "--skip %s: %s was planned %s judges; another --out plans anew",
                         j->skip_text ? j->skip_text : "(none)", path,
                         j->skip & NEW_SKIP_JUDGES ? "with" : "without");
    j->plan.skip = j->skip;
    return DSCM_OK;
}

/* More samples, or more time for them, than the stored plan has. */
static dscm_code grow(new_job *j, const char *path, dscm_error *err)
{
    new_plan *p = &j->plan;
    size_t before = new_score_samples(j);
    double more = p->seconds > 0 ? asked_seconds(j) - p->seconds : 0;
    char same[64]; /* the command again, where it asked for fewer than a plan may have */
    snprintf(same, sizeof same, "%zu samples", j->samples);
    if (strcmp(p->effort, same) == 0) return DSCM_OK;
    if (j->samples && j->samples < before)
        return dscm_fail(err, DSCM_E_INVALID, "--samples %zu: %s has %zu, which can only be raised",
                         j->samples, path, before);
    if (j->samples > before) {
        p->seconds = 0; /* as many as are asked for, whatever time it takes */
        snprintf(p->effort, sizeof p->effort, "%zu samples", j->samples);
        return new_raise_samples(j, j->samples, err);
    }
    if (j->samples || more <= 0) return DSCM_OK;
    p->seconds += more;
    if (j->time_limit > 0)
        snprintf(p->effort, sizeof p->effort, "%g s", j->time_limit);
    else
        snprintf(p->effort, sizeof p->effort, "%s", j->effort);
    return new_raise_time(j, more, err);
}

/* A stored plan counts; flags that contradict it are a mistake, but for more samples or time. */
static dscm_code take_plan(new_job *j, const char *path, dscm_error *err)
{
    dscm_code code = new_plan_read(&j->plan, path, err);
    if (code != DSCM_OK) return code;
    const new_reading *r = &j->reading;
    const char *variable = r->variable || j->plan.fit ? r->variable : "class";
    j->used_before = j->plan.used;
    code = contradicts("data", j->data, path, j->plan.data, err);
    if (code == DSCM_OK) code = contradicts("variable", variable, path, j->plan.variable, err);
    if (code == DSCM_OK) code = contradicts("graph", r->graph, path, j->plan.graph, err);
    if (code == DSCM_OK) code = contradicts("table", r->table, path, j->plan.table, err);
    if (code == DSCM_OK) code = take_skip(j, path, err);
    if (code == DSCM_OK) code = grow(j, path, err);
    if (code != DSCM_OK) return code;
    fprintf(stderr, "%s: going on under this plan\n", path);
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
static dscm_code run(new_job *j, dscm_error *err)
{
    char path[NEW_PATH];
    json_t *quality = NULL;
    j->began = cli_seconds();
    dscm_code code = open_work(j, err);
    if (code == DSCM_OK) code = new_file_in(j, path, err, "plan.json");
    if (code == DSCM_OK)
        code = access(path, F_OK) == 0 ? take_plan(j, path, err) : make_plan(j, path, err);
    if (code == DSCM_OK) quality = new_published(j);
    if (code == DSCM_OK) code = cli_json_whole(path, err); /* of the plan and the manifest */
    if (code == DSCM_OK && !new_is_published(j, quality)) {
        json_decref(quality);
        new_plan_print(&j->plan);
        code = new_train_all(j, err);
        if (code == DSCM_OK) code = new_finish(j, err);
        quality = code == DSCM_OK ? new_published(j) : NULL;
    }
    if (code == DSCM_OK) new_remove_old(j);
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

/* Without slashes at the end: OUT.work lies beside OUT. */
static dscm_code take_out(new_job *j, dscm_error *err)
{
    static char out[4096];
    char folder[4096];
    size_t n = strlen(j->out);
    while (n > 1 && j->out[n - 1] == '/') n--;
    snprintf(out, sizeof out, "%.*s", n < sizeof out ? (int)n : 0, j->out);
    memcpy(folder, out, sizeof folder);
    if (!cli_is_word(basename(folder)))
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
    const char *variable = j->reading.variable, *effort = j->effort;
    if (variable && (!cli_is_word(variable) || strcmp(variable, "image") == 0 ||
                     strlen(variable) >= DSCM_PARENT_NAME))
        return dscm_fail(
            err, DSCM_E_INVALID,
            "--variable %s: must be a name of at most %d letters, digits, \".\", \"-\" "
            "and \"_\", other than image",
            variable, DSCM_PARENT_NAME - 1);
    if (effort && strcmp(effort, "minutes") != 0 && strcmp(effort, "hours") != 0 &&
        strcmp(effort, "days") != 0)
        return dscm_fail(err, DSCM_E_INVALID, "--effort %s: must be minutes, hours or days",
                         effort);
    return j->skip_text ? new_skip_parse(&j->skip, j->skip_text, err) : DSCM_OK;
}

int cmd_new(int argc, char **argv)
{
    static new_job j = {.lock = -1};
    j.threads = (size_t)dscm_cpu_count();
    const cli_option options[] = {
        {"data", OPT_TEXT, &j.data, 0, 0, "DIR|FILE",
         "a folder per class of PNG and JPEG files, IDX files, or a tar archive of either; a "
         "folder "
         "may hold a table of variables, variables.csv"},
        {"out", OPT_TEXT, &j.out, 0, 0, "DIR",
         "the model; OUT.work holds what a rerun goes on from"},
        {"variable", OPT_TEXT, &j.reading.variable, 0, 0, "NAME",
         "what the classes are (class); of a table: the labels that judges learn (class, or the "
         "first)"},
        {"table", OPT_TEXT, &j.reading.table, 0, 0, "FILE",
         "CSV of the variables (SPLIT-variables.csv or variables.csv in DIR): a row per image, or "
         "a "
         "column \"file\" that names pictures"},
        {"graph", OPT_TEXT, &j.reading.graph, 0, 0, "TEXT",
         "of the table's variables: \"a -> b; a, b -> image\" (every column is a parent of the "
         "image, and of nothing else)"},
        {"skip", OPT_TEXT, &j.skip_text, 0, 0, "LIST",
         "leave out judges (panel and selection: training is shorter, nothing is scored), "
         "calibration (of familiarity) or measurement (of the scale and quality)"},
        {"effort", OPT_TEXT, &j.effort, 0, 0, "LEVEL",
         "minutes (10, default), hours (4) or days (2): how long to plan for"},
        {"time-limit", OPT_TEXT, &j.limit_text, 0, 0, "TIME",
         "plan for this long instead: seconds, or 15m, 4h, 2d; more than a plan has goes on from "
         "it"},
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
    if (code != DSCM_OK && new_child_failed()) {
        fprintf(stderr, "%s keeps what is done; the same command goes on\n", j.work);
        return EXIT_FAILED;
    }
    return code == DSCM_OK ? EXIT_DONE : cli_fail("new", &err);
}
