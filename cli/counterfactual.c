/* diffscm counterfactual: one picture under one intervention or a fan of them. IDX files:
 * counterfactual_file.c. */
#include "cli/counterfactual.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/reply.h"
#include "cli/counterfactual_table.h"
#include "core/base/memory.h"
#include "core/data/idx.h"
#include "core/io/file.h"

dscm_code counterfactual_write_replies(const counterfactual_args *a, const char *text, size_t size,
                                       bool print, dscm_error *err)
{
    if (print) fwrite(text, 1, size, stdout); /* main() looks whether it arrived */
    if (!a->scores) return DSCM_OK;
    return dscm_file_replace(a->scores, &(dscm_piece){text, size}, 1, err);
}

/* ---- what is asked ---- */
/* The option of the fan, "VAR=*": its index among the interventions, or their count without one. */
static dscm_code find_star(const counterfactual_args *a, size_t *star, const dscm_variable **fanned,
                           dscm_error *err)
{
    *star = a->dos.count;
    *fanned = NULL;
    for (size_t i = 0; i < a->dos.count; i++) {
        const char *text = a->dos.items[i], *equals = strchr(text, '=');
        char name[64];
        int variable;
        if (!equals || strcmp(equals, "=*") != 0) continue;
        if (*fanned)
            return dscm_fail(err, DSCM_E_INVALID, "--do %s: one variable may be \"*\", and %s is",
                             text, (*fanned)->name);
        snprintf(name, sizeof name, "%.*s", (int)(equals - text), text);
        dscm_code code = dscm_variable_find(a->m.bundle, name, &variable, err);
        if (code != DSCM_OK) return code;
        *star = i;
        *fanned = &a->m.info->variables[variable];
        if ((*fanned)->kind != DSCM_CATEGORICAL)
            return dscm_fail(err, DSCM_E_INVALID,
                             "--do %s: only a variable with labels can be \"*\"", text);
        if ((*fanned)->labels_count > DSCM_REQUEST_FAN_MAX)
            return dscm_fail(err, DSCM_E_INVALID, "--do %s: %zu labels; a fan has at most %d", text,
                             (*fanned)->labels_count, DSCM_REQUEST_FAN_MAX);
    }
    return DSCM_OK;
}

/* One target, or one for each label of the variable that is "*". Release with dscm_free. */
static dscm_code parse_targets(const counterfactual_args *a, dscm_target **out, size_t *count,
                               dscm_error *err)
{
    const dscm_variable *fanned;
    option_list dos = a->dos;
    size_t star;
    char value[320];
    *out = NULL;
    dscm_code code = find_star(a, &star, &fanned, err);
    if (code != DSCM_OK) return code;
    *count = fanned ? fanned->labels_count : 1;
    *out = dscm_alloc(*count, sizeof **out, "interventions", err);
    if (!*out) return DSCM_E_MEMORY;
    for (size_t k = 0; code == DSCM_OK && k < *count; k++) {
        if (fanned) {
            snprintf(value, sizeof value, "%s=%s", fanned->name, fanned->labels[k]);
            dos.items[star] = value;
        }
        (*out)[k].count = dos.count;
        code = cli_parse_dos(&a->m, &dos, (*out)[k].items, err);
    }
    return code;
}

/* ---- what is said ---- */
static void print_target(const dscm_bundle_info *info, const dscm_target *target)
{
    for (size_t j = 0; j < target->count; j++) {
        const dscm_intervention *act = &target->items[j];
        const dscm_variable *v = &info->variables[act->variable];
        fprintf(stderr, "%s%s = ", j ? ", " : "", v->name);
        if (v->kind == DSCM_CATEGORICAL)
            fprintf(stderr, "%s", v->labels[(size_t)act->value]);
        else
            fprintf(stderr, "%g", act->value);
    }
    if (!target->count) fprintf(stderr, "nothing changed");
}

/* Verdict and outcomes, for people: a line each. */
static void print_outcomes(const dscm_run_item *item)
{
    const dscm_abduction *from = item->abduction;
    if (from->verdict != DSCM_VERDICT_GOOD)
        fprintf(stderr, "image: %s. %s\n", dscm_verdict_name(from->verdict),
                dscm_verdict_words(from->verdict));
    for (size_t k = 0; k < item->result->count; k++) {
        const dscm_counterfactual *c = &item->result->counterfactuals[k];
        const char *words = dscm_outcome_words(&c->evidence);
        print_target(item->result->info, &c->target);
        fprintf(stderr, ": %s%s%s\n", dscm_outcome_name(c->outcome), words ? ". " : "",
                words ? words : "");
    }
}

/* ---- the picture ---- */
/* One counterfactual as it is; a fan as a sheet that begins with the factual image. */
static dscm_code write_pictures(const counterfactual_args *a, const dscm_run_item *item,
                                dscm_error *err)
{
    enum { COLUMNS = 11 };
    const float *cells[DSCM_REQUEST_FAN_MAX + COLUMNS] = {item->abduction->image};
    size_t count = item->result->count, columns = count + 1 < COLUMNS ? count + 1 : COLUMNS;
    if (count == 1)
        return cli_write_image(&a->m, a->out, item->result->counterfactuals[0].image, err);
    for (size_t k = 0; k < count; k++) cells[k + 1] = item->result->counterfactuals[k].image;
    return cli_write_sheet(&a->m, a->out, cells, (count + columns) / columns, columns, err);
}

static dscm_code write_results(const counterfactual_args *a, const dscm_run_item *item,
                               dscm_error *err)
{
    const dscm_reply_ids ids = {NULL, NULL};
    bool print = a->json || (!a->scores && strcmp(a->out, "-") != 0);
    size_t size = 0;
    dscm_code code = write_pictures(a, item, err);
    if (code != DSCM_OK || (!print && !a->scores)) return code;
    char *reply = dscm_reply_counterfactual(item->result, item->abduction, &ids, &size);
    if (!reply) return dscm_fail(err, DSCM_E_MEMORY, "no memory for the scores");
    code = counterfactual_write_replies(a, reply, size, print, err);
    free(reply);
    return code;
}

static dscm_code run_picture(counterfactual_args *a, dscm_error *err)
{
    cli_model *m = &a->m;
    dscm_target *targets = NULL;
    size_t count = 0, size = cli_image_size(m);
    bool inverted = false;
    float *image = NULL;
    uint8_t *pixels = dscm_alloc(size, 1, "image", err);
    dscm_session *session = NULL;
    dscm_run_item item = {.result = NULL};
    cli_watch watch;
    dscm_code code = pixels ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = parse_targets(a, &targets, &count, err);
    if (code == DSCM_OK)
        code = cli_read_image(m, a->rest.items[0], a->resize, &image, &inverted, err);
    cli_watch_start(&watch, m, "counterfactual", a->preview);
    if (code == DSCM_OK)
        code = dscm_session_open(&session, m->bundle, count < m->batch ? count : m->batch,
                                 (int)m->threads, err);
    if (code == DSCM_OK) {
        dscm_pixels_from_float(pixels, image, size);
        item.ask = (dscm_case){.pixels = pixels,
                               .inverted = inverted,
                               .targets = targets,
                               .targets_count = count,
                               .options = m->options,
                               .auto_scale = m->auto_scale && !a->null,
                               .noise_only = a->noise_only,
                               .wanted = DSCM_WANT_SCORES};
        code = dscm_run(session, m->bundle, &item, 1, &watch.progress, err);
    }
    cli_watch_end(&watch);
    if (code == DSCM_OK) code = write_results(a, &item, err);
    if (code == DSCM_OK) print_outcomes(&item);
    dscm_result_free(item.result);
    dscm_abduction_free(item.abduction);
    dscm_session_free(session);
    dscm_free(targets);
    dscm_free(image);
    dscm_free(pixels);
    return code;
}

/* ---- tables and sweeps ---- */
/* Queries over tables of variables, and sweeps: see counterfactual_table.h. */
static bool over_table(const counterfactual_args *a)
{
    return a->images && (a->do_file || a->factuals_file || a->parents);
}

static bool is_sweep(const counterfactual_args *a)
{
    bool sweep = a->factuals.count > 0;
    for (size_t i = 0; i < a->dos.count; i++) sweep |= cli_is_sweep(a->dos.items[i]);
    return sweep && !a->images;
}

/* -1, or the exit code after a message about wrong usage. */
static int check_table_usage(const counterfactual_args *a, const char *command)
{
    if (!a->images && (a->do_file || a->factuals_file || a->parents))
        return cli_usage(command, "--factuals, --do-file and --parents go with --images");
    if (a->images && a->factuals.count)
        return cli_usage(command, "--factual goes with a picture; --images with --factuals FILE");
    if (over_table(a) && (a->targets || a->scores || a->json || a->noise_only || a->sessions))
        return cli_usage(command, "--factuals, --do-file and --parents do not go with --targets, "
                                  "--scores, --json, --noise-only or --sessions");
    if (over_table(a) && !a->do_file == !a->null)
        return cli_usage(command, "either --do-file or --null is needed");
    if (is_sweep(a) && (a->scores || a->json || a->preview || a->noise_only))
        return cli_usage(command, "--factual and sweeps do not go with --scores, --json, --preview "
                                  "or --noise-only");
    return -1;
}

static dscm_code run_over_table(counterfactual_args *a, dscm_error *err)
{
    const cli_table_run run = {.m = &a->m,
                               .images = a->images,
                               .factuals = a->factuals_file,
                               .dos = a->do_file,
                               .out = a->out,
                               .parents = a->parents,
                               .limit = a->limit};
    return cli_table_counterfactual(&run, err);
}

static dscm_code run_over_sweep(counterfactual_args *a, dscm_error *err)
{
    const cli_sweep_run run = {.m = &a->m,
                               .picture = a->rest.items[0],
                               .out = a->out,
                               .factuals = &a->factuals,
                               .dos = &a->dos,
                               .resize = a->resize};
    return cli_sweep(&run, err);
}

/* ---- the command ---- */
/* What does not go together; -1, or the exit code after a message. */
static int check_use(const char *name, const counterfactual_args *a)
{
    if (!a->out)
        return cli_usage(name, "--out (-o) is needed, as in: "
                               "diffscm counterfactual IMG.png --do digit=8 -o OUT.png");
    if (!a->images && a->rest.count != 1)
        return cli_usage(name, "give one picture, or --images with --targets or --null");
    if (!a->images && !a->dos.count && !a->null)
        return cli_usage(name, "--do is needed, for example --do digit=8");
    if (a->null && a->dos.count)
        return cli_usage(name, "--null changes nothing and --do %s does: give one of them",
                         a->dos.items[0]);
    if (a->dos.count > CLI_DOS_MAX)
        return cli_usage(name, "--do: given %zu times; at most %d", a->dos.count, CLI_DOS_MAX);
    if (!a->images && (a->targets || a->limit || a->sessions))
        return cli_usage(name, "--targets, --limit and --sessions go with --images");
    if (a->images && (a->preview || a->resize))
        return cli_usage(name, "--preview and --resize go with a picture, not with --images");
    if (a->images && strcmp(a->out, "-") == 0)
        return cli_usage(name, "--out -: only a picture goes to standard output");
    if (a->json && strcmp(a->out, "-") == 0)
        return cli_usage(name, "--json and --out - both go to standard output");
    if (a->images && ((!a->targets && !a->null && !a->do_file) || a->dos.count || a->rest.count))
        return cli_usage(name,
                         "--images goes with --targets or --null, and not with --do or a picture");
    return -1;
}

static dscm_code check_outputs(const counterfactual_args *a, dscm_error *err)
{
    dscm_code code = cli_check_output("out", a->out, true, err);
    if (code == DSCM_OK && !a->images) code = cli_check_picture("out", a->out, err);
    if (code == DSCM_OK) code = cli_check_output("parents", a->parents, false, err);
    if (code == DSCM_OK) code = cli_check_apart("parents", a->parents, "out", a->out, err);
    if (code == DSCM_OK) code = cli_check_output("scores", a->scores, false, err);
    if (code == DSCM_OK) code = cli_check_output("preview", a->preview, false, err);
    if (code == DSCM_OK) code = cli_check_apart("scores", a->scores, "out", a->out, err);
    if (code == DSCM_OK) code = cli_check_apart("scores", a->scores, "preview", a->preview, err);
    return code;
}

int cmd_counterfactual(int argc, char **argv)
{
    counterfactual_args a = {.m = CLI_MODEL_DEFAULTS};
    a.m.batch = 8; /* the activations of more leave the caches; see docs/performance.md */
    const cli_option options[] = {
        {"do", OPT_LIST, &a.dos, 0, 0, "VAR=VALUE",
         "intervention on a picture; may be repeated; one may be VAR=*, a sheet of every label, or "
         "VAR=FROM..TO:COUNT, a strip of pictures"},
        {"factual", OPT_LIST, &a.factuals, 0, 0, "VAR=VALUE",
         "known value of a variable of a picture; others are read by the predictors"},
        {"out", OPT_TEXT, &a.out, 0, 0, "FILE",
         "result, PNG or IDX (also -o); - is standard output"},
        {"images", OPT_TEXT, &a.images, 0, 0, "FILE",
         "IDX file of factual images, instead of a picture"},
        {"targets", OPT_TEXT, &a.targets, 0, 0, "FILE", "IDX file of label indices, one per image"},
        {"factuals", OPT_TEXT, &a.factuals_file, 0, 0, "FILE",
         "CSV of known values, a column per variable, a row per image of --images"},
        {"do-file", OPT_TEXT, &a.do_file, 0, 0, "FILE",
         "CSV of interventions, alike; an empty cell is none"},
        {"parents", OPT_TEXT, &a.parents, 0, 0, "FILE",
         "CSV to write: values of all variables after propagation"},
        {"preview", OPT_TEXT, &a.preview, 0, 0, "FILE",
         "the current guess of a picture's result, rewritten after every step"},
        {"scores", OPT_TEXT, &a.scores, 0, 0, "FILE",
         "scores and verdicts as JSON lines, each as POST /counterfactual replies"},
        {"json", OPT_FLAG, &a.json, 0, 0, NULL,
         "the same on standard output (of a picture without --scores: always)"},
        {"limit", OPT_SIZE, &a.limit, 1, 1e9, "N", "only the first N images"},
        {"sessions", OPT_SIZE, &a.sessions, 1, 256, "N",
         "parts of --images worked on at a time (as many as threads); fewer share the threads"},
        {"null", OPT_FLAG, &a.null, 0, 0, NULL,
         "no guidance: the null counterfactual, for composition"},
        {"noise-only", OPT_FLAG, &a.noise_only, 0, 0, NULL,
         "only the top level of the noise is kept, nothing that a sampler stores beside it"},
        {"resize", OPT_FLAG, &a.resize, 0, 0, NULL, "fit a picture of another size to the model"},
        CLI_MODEL_OPTIONS(a.m),
        {.name = NULL}};
    int exit_code = cli_parse(argc, argv,
                              "counterfactual IMG.png --do digit=8 -o OUT.png (- is a pipe)\n"
                              "       diffscm counterfactual --images X-idx3-ubyte[.gz] \\\n"
                              "           --targets Y-idx1-ubyte[.gz] --out Z-idx3-ubyte\n"
                              "       diffscm counterfactual --images X-idx3-ubyte[.gz] \\\n"
                              "           --factuals F.csv --do-file D.csv --out Z-idx3-ubyte",
                              options, &a.rest);
    if (exit_code < 0) exit_code = check_table_usage(&a, argv[0]);
    if (exit_code < 0) exit_code = check_use(argv[0], &a);
    if (exit_code >= 0) return exit_code;
    dscm_error err = {0};
    dscm_code code = check_outputs(&a, &err);
    if (code == DSCM_OK) code = cli_model_open(&a.m, &err);
    if (code == DSCM_OK)
        code = over_table(&a) ? run_over_table(&a, &err)
               : is_sweep(&a) ? run_over_sweep(&a, &err)
               : a.images     ? counterfactual_file(&a, &err)
                              : run_picture(&a, &err);
    cli_model_close(&a.m);
    return code == DSCM_OK ? EXIT_DONE : cli_fail(argv[0], &err);
}
