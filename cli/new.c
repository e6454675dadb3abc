/* diffscm new: from a folder of pictures to a served model.
 *
 * OUT.work holds the plan, the data as IDX files, and per network a checkpoint and finished weights.
 * Every stage leaves a file that is written as a whole; a stage whose file is there is not done
 * again. The bundle is made in OUT.work and renamed to OUT as the last act. A stage that trains or
 * bundles is the command of that name in a child process, which ends with its parent.
 */
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

#include "cli/new.h"
#include "core/io/file.h"

#define ARGS_MAX 40

typedef struct new_job {
    const char *data, *out, *variable, *effort, *labels_file, *size_text;
    double time_limit; /* seconds; 0: by effort */
    size_t threads;
    char work[4096];
    new_plan plan;
    int lock;
} new_job;

typedef struct arguments {
    char *items[ARGS_MAX + 1];
    char text[ARGS_MAX][4200];
    int count;
} arguments;

static volatile sig_atomic_t child, stopped;

static void pass_on(int number)
{
    stopped = 1;
    if (child > 0) kill((pid_t)child, number);
}

static void add(arguments *a, const char *format, ...) DSCM_PRINTF(2, 3);
static void add(arguments *a, const char *format, ...)
{
    va_list list;
    if (a->count == ARGS_MAX) return;
    va_start(list, format);
    vsnprintf(a->text[a->count], sizeof a->text[0], format, list);
    va_end(list);
    a->items[a->count] = a->text[a->count];
    a->items[++a->count] = NULL;
}

/* Runs a command in a child; what it prints as result goes to `results` (NULL: nowhere). */
static dscm_code run_command(int (*command)(int, char **), arguments *a, const char *results,
                             dscm_error *err)
{
    pid_t parent = getpid(), pid;
    int status = 0;
    fflush(NULL);
    if (stopped) return dscm_fail(err, DSCM_E_CANCELED, "the same command goes on");
    pid = fork();
    if (pid < 0) return dscm_fail(err, DSCM_E_IO, "no process can be made: %s", strerror(errno));
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(EXIT_FAILED);
        if (!freopen(results ? results : "/dev/null", "w", stdout)) _exit(EXIT_FAILED);
        status = command(a->count, a->items);
        fflush(NULL);
        _exit(status);
    }
    child = pid;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    child = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_DONE) return DSCM_OK;
    if (stopped || (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_STOPPED))
        return dscm_fail(err, DSCM_E_CANCELED, "the same command goes on");
    if (WIFSIGNALED(status))
        return dscm_fail(err, DSCM_E_IO, "%s ended by signal %d; the same command goes on",
                         a->items[0], WTERMSIG(status));
    return dscm_fail(err, DSCM_E_IO, "%s failed, see above; the same command goes on", a->items[0]);
}

static dscm_code file_in(const new_job *j, char *path, size_t size, const char *name,
                         dscm_error *err)
{
    int n = snprintf(path, size, "%s/%s", j->work, name);
    return n > 0 && (size_t)n < size ? DSCM_OK
                                     : dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", j->work);
}

static bool is_there(const new_job *j, const char *name)
{
    char path[4200];
    return file_in(j, path, sizeof path, name, NULL) == DSCM_OK && access(path, F_OK) == 0;
}

/* ---- stages ---- */
static dscm_code train_stage(const new_job *j, const new_stage *s, dscm_error *err)
{
    static arguments a;
    const char *task = dscm_task_name(s->task);
    char done[64], results[4200];
    snprintf(done, sizeof done, "%s.st", task);
    if (is_there(j, done)) return DSCM_OK;
    snprintf(done, sizeof done, "%s.txt", task);
    dscm_code code = file_in(j, results, sizeof results, done, err);
    if (code != DSCM_OK) return code;
    a.count = 0;
    add(&a, "train");
    add(&a, "%s", task);
    add(&a, "--data=%s", j->work);
    add(&a, "--split=%s", s->split);
    add(&a, "--eval-split=S");
    add(&a, "--eval-limit=200");
    add(&a, "--out=%s/%s.st", j->work, task);
    add(&a, "--checkpoint=%s/%s.ck", j->work, task);
    add(&a, "--checkpoint-every=20");
    add(&a, "--log=%s/%s.csv", j->work, task);
    add(&a, "--channels=%zu", s->channels);
    add(&a, "--batch=%zu", s->batch);
    add(&a, "--samples=%zu", s->samples);
    add(&a, "--threads=%zu", j->plan.threads);
    if (s->task == DSCM_TASK_PREDICTOR || s->task == DSCM_TASK_ORACLE)
        add(&a, "--classes=%zu", j->plan.classes);
    return run_command(cmd_train, &a, results, err);
}

static dscm_code write_labels(const new_job *j, char *path, size_t size, dscm_error *err)
{
    size_t i, length = 0;
    json_t *label;
    char *text = NULL;
    dscm_code code = file_in(j, path, size, "labels.txt", err);
    json_array_foreach(j->plan.labels, i, label) length += json_string_length(label) + 1;
    if (code == DSCM_OK && !(text = calloc(length + 1, 1)))
        code = dscm_fail(err, DSCM_E_MEMORY, "out of memory");
    if (code != DSCM_OK) return code;
    length = 0;
    json_array_foreach(j->plan.labels, i, label) length +=
        (size_t)sprintf(text + length, "%s\n", json_string_value(label));
    const dscm_piece piece = {text, length};
    code = dscm_file_replace(path, &piece, 1, err);
    free(text);
    return code;
}

static dscm_code bundle_stage(const new_job *j, dscm_error *err)
{
    static arguments a;
    char labels[4200];
    if (is_there(j, "bundle/manifest.json")) return DSCM_OK;
    dscm_code code = write_labels(j, labels, sizeof labels, err);
    if (code != DSCM_OK) return code;
    a.count = 0;
    add(&a, "bundle");
    add(&a, "--out=%s/bundle", j->work);
    add(&a, "--name=%s", j->plan.name);
    add(&a, "--variable=%s", j->plan.variable);
    add(&a, "--labels-file=%s", labels);
    add(&a, "--licence=not stated");
    add(&a, "--provenance=diffscm new, %zu images, pixels of SHA-256 %s", j->plan.count,
        j->plan.data_sha256);
    for (size_t i = 0; i < NEW_TRAINED; i++) {
        const char *task = dscm_task_name(j->plan.stages[i].task);
        add(&a, "--%s=%s/%s.st", task, j->work, task);
    }
    add(&a, "--pool-data=%s", j->work);
    add(&a, "--pool-split=P");
    add(&a, "--sampler=residual");
    add(&a, "--steps=20");
    add(&a, "--ratio=0.95");
    add(&a, "--limit");
    add(&a, "--noise-limit=2.5");
    add(&a, "--eta=0.3");
    return run_command(cmd_bundle, &a, NULL, err);
}

static dscm_code measure_stage(const new_job *j, dscm_error *err)
{
    static arguments a;
    char bundle[4200], measured[4200];
    dscm_code code = file_in(j, bundle, sizeof bundle, "bundle", err);
    if (code == DSCM_OK) code = file_in(j, measured, sizeof measured, "measured.json", err);
    if (code == DSCM_OK && !is_there(j, "measured.json"))
        code = new_measure(&j->plan, bundle, j->work, measured, err);
    if (code != DSCM_OK) return code;
    a.count = 0;
    add(&a, "bundle");
    add(&a, "--out=%s", bundle);
    add(&a, "--measured=%s", measured);
    code = run_command(cmd_bundle, &a, NULL, err);
    if (code == DSCM_OK && rename(bundle, j->out) != 0)
        code = dscm_fail(err, DSCM_E_IO, "%s: cannot be put in place: %s", j->out, strerror(errno));
    return code;
}

/* ---- the plan ---- */
static dscm_code make_plan(new_job *j, const char *path, dscm_error *err)
{
    dscm_dataset set = {0};
    size_t w = 0, h = 0;
    char folder[4096];
    new_plan *p = &j->plan;
    snprintf(p->data, sizeof p->data, "%s", j->data);
    snprintf(p->variable, sizeof p->variable, "%s", j->variable);
    snprintf(p->effort, sizeof p->effort, "%s", j->time_limit > 0 ? "by time limit" : j->effort);
    snprintf(folder, sizeof folder, "%s", j->out);
    snprintf(p->name, sizeof p->name, "%s", basename(folder));
    p->threads = j->threads;
    p->seconds = j->time_limit > 0                   ? j->time_limit
                 : strcmp(j->effort, "minutes") == 0 ? 8 * 60
                 : strcmp(j->effort, "hours") == 0   ? 4 * 3600
                                                     : 48 * 3600;
    dscm_code code = j->size_text ? cli_parse_size(j->size_text, &w, &h, err) : DSCM_OK;
    if (code == DSCM_OK && w != h)
        code =
            dscm_fail(err, DSCM_E_INVALID, "--size %s: models are of square images", j->size_text);
    if (code == DSCM_OK) code = new_convert(p, j->work, w, j->labels_file, true, err);
    if (code == DSCM_OK) code = dscm_dataset_open(&set, j->work, "M", err);
    if (code == DSCM_OK) code = new_plan_make(p, &set, err);
    if (code == DSCM_OK) code = new_plan_write(p, path, err);
    dscm_dataset_free(&set);
    return code;
}

/* A stored plan counts; flags that contradict it are a mistake. */
static dscm_code take_plan(new_job *j, const char *path, dscm_error *err)
{
    dscm_code code = new_plan_read(&j->plan, path, err);
    if (code != DSCM_OK) return code;
    if (strcmp(j->plan.data, j->data) != 0)
        return dscm_fail(err, DSCM_E_MISMATCH, "--data %s: %s was planned for %s", j->data, path,
                         j->plan.data);
    if (strcmp(j->plan.variable, j->variable) != 0)
        return dscm_fail(err, DSCM_E_MISMATCH, "--variable %s: %s was planned with %s", j->variable,
                         path, j->plan.variable);
    fprintf(stderr, "%s: going on under this plan\n", path);
    return DSCM_OK;
}

static dscm_code open_work(new_job *j, dscm_error *err)
{
    char path[4200];
    if (access(j->out, F_OK) == 0)
        return dscm_fail(err, DSCM_E_INVALID, "--out %s is there already; choose another folder",
                         j->out);
    if (snprintf(j->work, sizeof j->work, "%s.work", j->out) >= (int)sizeof j->work)
        return dscm_fail(err, DSCM_E_LIMIT, "--out %.64s…: path too long", j->out);
    if (mkdir(j->work, 0777) != 0 && errno != EEXIST)
        return dscm_fail(err, DSCM_E_IO, "%s: cannot make this folder: %s", j->work,
                         strerror(errno));
    dscm_code code = file_in(j, path, sizeof path, "lock", err);
    if (code != DSCM_OK) return code;
    j->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (j->lock < 0) return dscm_fail(err, DSCM_E_IO, "%s: %s", path, strerror(errno));
    if (flock(j->lock, LOCK_EX | LOCK_NB) != 0)
        return dscm_fail(err, DSCM_E_INVALID, "%s: another run is at work there", j->work);
    return DSCM_OK;
}

static dscm_code run(new_job *j, dscm_error *err)
{
    char path[4200];
    dscm_code code = open_work(j, err);
    if (code == DSCM_OK) code = file_in(j, path, sizeof path, "plan.json", err);
    if (code == DSCM_OK)
        code = access(path, F_OK) == 0 ? take_plan(j, path, err) : make_plan(j, path, err);
    if (code == DSCM_OK) new_plan_print(&j->plan);
    for (size_t i = 0; code == DSCM_OK && i < NEW_TRAINED; i++) {
        fprintf(stderr, "stage %zu of %d: %s\n", i + 1, NEW_TRAINED + 2,
                dscm_task_name(j->plan.stages[i].task));
        code = train_stage(j, &j->plan.stages[i], err);
    }
    if (code == DSCM_OK)
        fprintf(stderr, "stage %d of %d: bundle\n", NEW_TRAINED + 1, NEW_TRAINED + 2);
    if (code == DSCM_OK) code = bundle_stage(j, err);
    if (code == DSCM_OK)
        fprintf(stderr, "stage %d of %d: calibration\n", NEW_TRAINED + 2, NEW_TRAINED + 2);
    if (code == DSCM_OK) code = measure_stage(j, err);
    if (code == DSCM_OK)
        printf(
            "%s is ready (%s/card.md): diffscm serve --models %s%s\n%s holds checkpoints and may "
            "be removed\n",
            j->out, j->out, strchr(j->out, '/') ? "" : "./", j->out, j->work);
    if (j->lock >= 0) close(j->lock);
    new_plan_close(&j->plan);
    return code;
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
        {"effort", OPT_TEXT, &j.effort, 0, 0, "LEVEL", "minutes (default), hours or days"},
        {"time-limit", OPT_REAL, &j.time_limit, 1, 1e7, "SECONDS", "plan for this long instead"},
        {"variable", OPT_TEXT, &j.variable, 0, 0, "NAME", "what the classes are (class)"},
        {"labels-file", OPT_TEXT, &j.labels_file, 0, 0, "FILE",
         "names of the classes, one a line (the folders' names, or numbers)"},
        {"size", OPT_TEXT, &j.size_text, 0, 0, "N", "pictures become NxN (their own size, or 32)"},
        {"threads", OPT_SIZE, &j.threads, 1, DSCM_TEAM_MAX, "N", "threads (all processors)"},
        {.name = NULL}};
    option_list rest = {.count = 0};
    int exit_code =
        cli_parse(argc, argv, "new --data DIR|FILE --out DIR [options]", options, &rest);
    if (exit_code >= 0) return exit_code;
    if (rest.count) return cli_usage("new", "unexpected argument %s", rest.items[0]);
    if (!j.data || !j.out) return cli_usage("new", "--data and --out are needed");
    if (strcmp(j.effort, "minutes") != 0 && strcmp(j.effort, "hours") != 0 &&
        strcmp(j.effort, "days") != 0)
        return cli_usage("new", "--effort %s: must be minutes, hours or days", j.effort);
    struct sigaction action = {.sa_handler = pass_on};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    dscm_error err = {0};
    dscm_code code = run(&j, &err);
    return code == DSCM_OK ? EXIT_DONE : cli_fail("new", &err);
}
