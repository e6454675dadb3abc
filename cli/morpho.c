/* diffscm morpho: MorphoMNIST with thickness and intensity, rendered from any MNIST-like set, and
 * its measures. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "core/base/cpu.h"
#include "core/base/memory.h"
#include "core/base/team.h"
#include "core/data/idx.h"
#include "core/data/morpho.h"
#include "core/data/table.h"
#include "core/io/file.h"

#define CHUNK 512 /* images between two looks at the progress */

typedef struct job {
    const char *data_dir, *split, *images_file, *variables_file, *out;
    bool confounded;
    uint64_t seed;
    size_t threads;
    dscm_dataset set;
    double *thickness, *intensity; /* (count) */
    dscm_morphometry *measures;    /* (count) */
    uint8_t *pixels;               /* (count, h, w) rendered */
    dscm_morpho **scratch;         /* (threads) */
    dscm_team *team;
    size_t first;
} job;

static void job_close(job *j)
{
    for (size_t i = 0; j->scratch && i < j->threads; i++) dscm_morpho_free(j->scratch[i]);
    dscm_free(j->scratch);
    dscm_free(j->thickness);
    dscm_free(j->intensity);
    dscm_free(j->measures);
    dscm_free(j->pixels);
    dscm_team_free(j->team);
    dscm_dataset_free(&j->set);
}

static dscm_code open_team(job *j, dscm_error *err)
{
    const dscm_dataset *d = &j->set;
    if (d->c != 1)
        return dscm_fail(err, DSCM_E_MISMATCH, "images have %zu channels; morphometry is of 1",
                         d->c);
    if (!j->threads) j->threads = (size_t)dscm_cpu_count();
    j->scratch = dscm_alloc(j->threads, sizeof *j->scratch, "morphometry", err);
    if (!j->scratch) return DSCM_E_MEMORY;
    dscm_code code = dscm_team_open(&j->team, (int)j->threads, err);
    for (size_t i = 0; code == DSCM_OK && i < j->threads; i++)
        code = dscm_morpho_open(&j->scratch[i], d->h, d->w, err);
    return code;
}

static void run_all(job *j, const char *label, void (*one)(void *arg, size_t index, int worker))
{
    cli_progress progress;
    size_t count = j->set.count;
    cli_progress_start(&progress, label, "images", (double)count);
    for (j->first = 0; j->first < count; j->first += CHUNK) {
        size_t n = count - j->first < CHUNK ? count - j->first : CHUNK;
        dscm_team_run(j->team, n, one, j);
        cli_progress_show(&progress, (double)(j->first + n), NULL);
    }
    cli_progress_end(&progress);
}

/* ---- render ---- */

static void render_one(void *arg, size_t index, int worker)
{
    job *j = arg;
    size_t i = j->first + index, size = j->set.h * j->set.w;
    dscm_morpho_render(j->scratch[worker], j->pixels + i * size, j->set.pixels + i * size,
                       j->thickness[i], j->intensity[i]);
}

/* thickness and intensity out of a file, or drawn: image i from stream i. */
static dscm_code choose_variables(job *j, dscm_error *err)
{
    size_t count = j->set.count;
    j->thickness = dscm_alloc(count, sizeof *j->thickness, "variables", err);
    j->intensity = dscm_alloc(count, sizeof *j->intensity, "variables", err);
    if (!j->thickness || !j->intensity) return DSCM_E_MEMORY;
    for (size_t i = 0; !j->variables_file && i < count; i++) {
        dscm_rng rng = dscm_rng_make(j->seed, i);
        dscm_morpho_draw(&rng, j->set.labels[i], j->confounded, &j->thickness[i], &j->intensity[i]);
    }
    if (!j->variables_file) return DSCM_OK;
    const dscm_column wanted[] = {
        {.name = "thickness", .kind = DSCM_CONTINUOUS, .min = 0.01, .max = 100},
        {.name = "intensity", .kind = DSCM_CONTINUOUS, .min = 0, .max = 255}};
    dscm_table table;
    dscm_code code = dscm_table_read(&table, j->variables_file, err);
    if (code == DSCM_OK) code = dscm_table_check_rows(&table, count, "images", err);
    if (code == DSCM_OK) code = dscm_table_column(&table, &wanted[0], j->thickness, err);
    if (code == DSCM_OK) code = dscm_table_column(&table, &wanted[1], j->intensity, err);
    dscm_table_free(&table);
    return code;
}

/* Of the split's name without a slice: train[0:100] is written as a set of its own, train. */
static int name_length(const job *j)
{
    return (int)strcspn(j->split, "[");
}

static dscm_code write_idx(const job *j, const char *what, int ndim, uint8_t *data, dscm_error *err)
{
    char path[4096];
    const dscm_dataset *d = &j->set;
    dscm_idx idx = {.dims = {d->count, d->h, d->w}, .ndim = ndim, .count = d->count, .data = data};
    if (ndim == 3) idx.count *= d->h * d->w;
    if (snprintf(path, sizeof path, "%s/%.*s-%s-idx%d-ubyte.gz", j->out, name_length(j), j->split,
                 what, ndim) >= (int)sizeof path)
        return dscm_fail(err, DSCM_E_LIMIT, "--out %.64s…: the path is too long", j->out);
    return dscm_idx_write(&idx, path, err);
}

static dscm_code write_variables(const job *j, dscm_error *err)
{
    char path[4096], line[128];
    dscm_file_writer *w = NULL;
    if (snprintf(path, sizeof path, "%s/%.*s-variables.csv", j->out, name_length(j), j->split) >=
        (int)sizeof path)
        return dscm_fail(err, DSCM_E_LIMIT, "--out %.64s…: the path is too long", j->out);
    dscm_code code = dscm_file_begin(&w, path, err);
    if (code != DSCM_OK) return code;
    const char *head = "digit,thickness,intensity\n";
    code = dscm_file_put(w, head, strlen(head), err);
    for (size_t i = 0; code == DSCM_OK && i < j->set.count; i++) {
        int n = snprintf(line, sizeof line, "%d,%.9g,%.9g\n", j->set.labels[i], j->thickness[i],
                         j->intensity[i]);
        code = dscm_file_put(w, line, (size_t)n, err);
    }
    if (code == DSCM_OK) return dscm_file_commit(w, err);
    dscm_file_abandon(w);
    return code;
}

static dscm_code make_folder(const char *path, dscm_error *err)
{
    struct stat about;
    if (stat(path, &about) == 0 && S_ISDIR(about.st_mode)) return DSCM_OK;
    if (mkdir(path, 0777) == 0) return DSCM_OK;
    return dscm_fail(err, DSCM_E_IO, "--out %s: cannot make this folder: %s", path,
                     strerror(errno));
}

static dscm_code render(job *j, dscm_error *err)
{
    struct stat in, out;
    dscm_code code = dscm_dataset_open(&j->set, j->data_dir, j->split, err);
    if (code == DSCM_OK) code = choose_variables(j, err);
    if (code == DSCM_OK) code = make_folder(j->out, err);
    if (code == DSCM_OK && stat(j->data_dir, &in) == 0 && stat(j->out, &out) == 0 &&
        in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        code = dscm_fail(err, DSCM_E_INVALID,
                         "--out %s: is the folder of --data too; give it its own", j->out);
    if (code == DSCM_OK) code = open_team(j, err);
    if (code != DSCM_OK) return code;
    j->pixels = dscm_alloc(j->set.count, j->set.h * j->set.w, "rendered images", err);
    if (!j->pixels) return DSCM_E_MEMORY;
    run_all(j, "render", render_one);
    code = write_idx(j, "images", 3, j->pixels, err);
    if (code == DSCM_OK) code = write_idx(j, "labels", 1, j->set.labels, err);
    return code == DSCM_OK ? write_variables(j, err) : code;
}

/* ---- measure ---- */

static void measure_one(void *arg, size_t index, int worker)
{
    job *j = arg;
    size_t i = j->first + index;
    dscm_morpho_measure(j->scratch[worker], j->set.pixels + i * j->set.h * j->set.w,
                        &j->measures[i]);
}

/* The images of a data set, or of a file alone. */
static dscm_code open_images(job *j, dscm_error *err)
{
    dscm_idx idx;
    if (!j->images_file) return dscm_dataset_open(&j->set, j->data_dir, j->split, err);
    dscm_code code = dscm_idx_read(&idx, j->images_file, err);
    if (code != DSCM_OK) return code;
    if (idx.ndim != 3 || !idx.count) {
        dscm_idx_free(&idx);
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: not images (number, height, width)",
                         j->images_file);
    }
    j->set = (dscm_dataset){
        .count = idx.dims[0], .h = idx.dims[1], .w = idx.dims[2], .c = 1, .pixels = idx.data};
    return DSCM_OK;
}

static dscm_code write_measures(const job *j, dscm_error *err)
{
    char line[128];
    dscm_file_writer *w = NULL;
    bool labelled = j->set.classes > 0;
    const char *head =
        labelled ? "digit,thickness,intensity,slant\n" : "thickness,intensity,slant\n";
    bool stream = !j->out || strcmp(j->out, "-") == 0;
    dscm_code code = stream ? DSCM_OK : dscm_file_begin(&w, j->out, err);
    if (code == DSCM_OK && stream) fputs(head, stdout);
    if (code == DSCM_OK && w) code = dscm_file_put(w, head, strlen(head), err);
    for (size_t i = 0; code == DSCM_OK && i < j->set.count; i++) {
        const dscm_morphometry *m = &j->measures[i];
        int at = labelled ? snprintf(line, sizeof line, "%d,", j->set.labels[i]) : 0;
        int n = at + snprintf(line + at, sizeof line - (size_t)at, "%.9g,%.9g,%.9g\n", m->thickness,
                              m->intensity, m->slant);
        if (stream) fputs(line, stdout);
        if (w) code = dscm_file_put(w, line, (size_t)n, err);
    }
    if (code == DSCM_OK) return w ? dscm_file_commit(w, err) : DSCM_OK;
    dscm_file_abandon(w);
    return code;
}

static dscm_code measure(job *j, dscm_error *err)
{
    dscm_code code = open_images(j, err);
    if (code == DSCM_OK) code = cli_check_output("out", j->out, true, err);
    if (code == DSCM_OK) code = open_team(j, err);
    if (code != DSCM_OK) return code;
    j->measures = dscm_alloc(j->set.count, sizeof *j->measures, "measures", err);
    if (!j->measures) return DSCM_E_MEMORY;
    run_all(j, "measure", measure_one);
    return write_measures(j, err);
}

int cmd_morpho(int argc, char **argv)
{
    job j = {.split = "train", .seed = 1};
    option_list rest = {.count = 0};
    const cli_option options[] = {
        {"data", OPT_TEXT, &j.data_dir, 0, 0, "DIR",
         "the data set: SPLIT-images-idx3-ubyte[.gz] …"},
        {"split", OPT_TEXT, &j.split, 0, 0, "NAME", "part of it (train)"},
        {"images", OPT_TEXT, &j.images_file, 0, 0, "FILE",
         "measure: an IDX file of images instead"},
        {"variables", OPT_TEXT, &j.variables_file, 0, 0, "FILE",
         "render: a CSV with thickness and intensity per image (drawn)"},
        {"confounded", OPT_FLAG, &j.confounded, 0, 0, NULL,
         "render: draw thickness that follows the digit, 1 + .3 digit + .3 noise in .9..5.5"},
        {"out", OPT_TEXT, &j.out, 0, 0, "DIR",
         "render: folder of images, labels and variables; measure: a CSV (also -o; - and default: "
         "standard output)"},
        {"seed", OPT_SEED, &j.seed, 0, 0, "N", "seed (1)"},
        {"threads", OPT_SIZE, &j.threads, 1, DSCM_TEAM_MAX, "N", "threads (all processors)"},
        {.name = NULL}};
    const char *what = argc > 1 && argv[1][0] != '-' ? argv[1] : NULL;
    if (what) {
        argv[1] = argv[0];
        argc--, argv++;
    }
    int exit_code = cli_parse(
        argc, argv, "morpho render|measure --data DIR [--split NAME] [--out …]", options, &rest);
    if (exit_code >= 0) return exit_code;
    bool renders = what && strcmp(what, "render") == 0;
    if (rest.count) return cli_usage("morpho", "unexpected argument %s", rest.items[0]);
    if (!renders && (!what || strcmp(what, "measure") != 0))
        return cli_usage("morpho", "%s: must be render or measure", what ? what : "no task");
    if (renders && (!j.data_dir || !j.out || j.images_file))
        return cli_usage("morpho", "render needs --data and --out, and no --images");
    if (!renders && !j.data_dir == !j.images_file)
        return cli_usage("morpho", "measure needs either --data or --images");
    if (j.variables_file && j.confounded)
        return cli_usage("morpho", "--variables and --confounded exclude each other");
    dscm_error err = {0};
    dscm_code code = renders ? render(&j, &err) : measure(&j, &err);
    job_close(&j);
    return code == DSCM_OK ? EXIT_DONE : cli_fail("morpho", &err);
}
