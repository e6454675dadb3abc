/* diffscm counterfactual: one picture under one intervention or a fan of them. IDX files:
 * counterfactual_file.c. */
#include "cli/counterfactual.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/image.h"
#include "api/reply.h"
#include "core/base/memory.h"
#include "core/data/idx.h"
#include "core/io/file.h"
#include "core/scm/sweep.h"

enum { PATIENCE_S = 60 };

dscm_code counterfactual_write_replies(const counterfactual_args *a, const char *text, size_t size,
                                       bool print, dscm_error *err)
{
    if (print) fwrite(text, 1, size, stdout); /* main() looks whether it arrived */
    if (!a->scores) return DSCM_OK;
    return dscm_file_replace(a->scores, &(dscm_piece){text, size}, 1, err);
}

/* ---- what is asked ---- */
/* The option that takes several values, "VAR=*" or "VAR=FROM..TO:COUNT". */
typedef struct fan {
    size_t option;                 /* its index among the interventions */
    const dscm_variable *variable; /* NULL: there is none */
    bool swept;
    dscm_sweep sweep;
    size_t count;
} fan;

static dscm_code read_fan(fan *f, const counterfactual_args *a, size_t option, dscm_error *err)
{
    const char *text = a->dos.items[option], *value = strchr(text, '=') + 1;
    char name[64];
    int variable;
    if (f->variable)
        return dscm_fail(err, DSCM_E_INVALID,
                         "--do %s: one variable may take several values, and %s does", text,
                         f->variable->name);
    snprintf(name, sizeof name, "%.*s", (int)(value - 1 - text), text);
    dscm_code code = dscm_variable_find(a->m.bundle, name, &variable, err);
    if (code != DSCM_OK) return code;
    const dscm_variable *v = &a->m.info->variables[variable];
    *f = (fan){.option = option, .variable = v, .swept = dscm_sweep_is(value)};
    if (f->swept) {
        code = dscm_sweep_parse(&f->sweep, value, err);
        if (code == DSCM_OK) code = dscm_sweep_check(&f->sweep, v, err);
        if (code != DSCM_OK) dscm_error_prefix(err, "--do %s", text);
        f->count = f->sweep.count;
        return code;
    }
    if (v->kind != DSCM_CATEGORICAL)
        return dscm_fail(err, DSCM_E_INVALID, "--do %s: only a variable with labels can be \"*\"",
                         text);
    if (v->labels_count > DSCM_REQUEST_FAN_MAX)
        return dscm_fail(err, DSCM_E_INVALID, "--do %s: %zu labels; a fan has at most %d", text,
                         v->labels_count, DSCM_REQUEST_FAN_MAX);
    f->count = v->labels_count;
    return DSCM_OK;
}

static dscm_code find_fan(const counterfactual_args *a, fan *f, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    *f = (fan){.option = a->dos.count, .count = 1};
    for (size_t i = 0; code == DSCM_OK && i < a->dos.count; i++) {
        const char *equals = strchr(a->dos.items[i], '=');
        if (equals && (strcmp(equals, "=*") == 0 || dscm_sweep_is(equals + 1)))
            code = read_fan(f, a, i, err);
    }
    return code;
}

/* One target, or one for each value of the variable that takes several. Release with dscm_free. */
static dscm_code parse_targets(const counterfactual_args *a, const fan *f, dscm_target **out,
                               dscm_error *err)
{
    option_list dos = a->dos;
    char value[320];
    dscm_code code = DSCM_OK;
    *out = dscm_alloc(f->count, sizeof **out, "interventions", err);
    if (!*out) return DSCM_E_MEMORY;
    for (size_t k = 0; code == DSCM_OK && k < f->count; k++) {
        if (f->swept)
            snprintf(value, sizeof value, "%s=%.17g", f->variable->name,
                     dscm_sweep_value(&f->sweep, k));
        else if (f->variable)
            snprintf(value, sizeof value, "%s=%s", f->variable->name, f->variable->labels[k]);
        if (f->variable) dos.items[f->option] = value;
        (*out)[k].count = dos.count;
        code = cli_parse_dos(&a->m, &dos, (*out)[k].items, err);
    }
    return code;
}

/* Known values of all variables, NaN where none is; to be freed. */
static dscm_code parse_factuals(const counterfactual_args *a, double **out, dscm_error *err)
{
    size_t variables = a->m.info->variables_count;
    double *values = *out = dscm_alloc(variables, sizeof *values, "factual values", err);
    if (!values) return DSCM_E_MEMORY;
    for (size_t v = 0; v < variables; v++) values[v] = (double)NAN;
    for (size_t i = 0; i < a->factuals.count; i++) {
        const char *text = a->factuals.items[i], *equal = strchr(text, '=');
        char name[64] = "";
        int v = -1;
        if (!equal || equal == text || equal - text >= (long)sizeof name)
            return dscm_fail(err, DSCM_E_INVALID, "--factual %.64s: must be NAME=VALUE", text);
        memcpy(name, text, (size_t)(equal - text));
        dscm_code code = dscm_variable_find(a->m.bundle, name, &v, err);
        if (code == DSCM_OK && v == a->m.info->image)
            code = dscm_fail(err, DSCM_E_INVALID, "an image cannot be given as a value");
        if (code == DSCM_OK && !isnan(values[v]))
            code = dscm_fail(err, DSCM_E_INVALID, "%s is given twice", name);
        if (code == DSCM_OK) code = dscm_value_parse(a->m.bundle, v, equal + 1, &values[v], err);
        if (code != DSCM_OK) {
            dscm_error_prefix(err, "--factual %.64s", text);
            return code;
        }
    }
    return DSCM_OK;
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
/* One counterfactual as it is; a sweep side by side; labels as a sheet that begins with the factual
 * image. */
static dscm_code write_pictures(const counterfactual_args *a, const dscm_run_item *item, bool swept,
                                dscm_error *err)
{
    enum { COLUMNS = 11 };
    const float *cells[DSCM_REQUEST_FAN_MAX + COLUMNS] = {item->abduction->image};
    size_t count = item->result->count, columns = count + 1 < COLUMNS ? count + 1 : COLUMNS;
    if (count == 1)
        return cli_write_image(&a->m, a->out, item->result->counterfactuals[0].image, err);
    for (size_t k = 0; k < count; k++) cells[k + 1] = item->result->counterfactuals[k].image;
    if (swept) return cli_write_sheet(&a->m, a->out, cells + 1, 1, count, err);
    return cli_write_sheet(&a->m, a->out, cells, (count + columns) / columns, columns, err);
}

/* --difference and --uncertainty: maps of the one counterfactual. */
static dscm_code write_maps(const counterfactual_args *a, const dscm_run_item *item,
                            dscm_error *err)
{
    const dscm_variable *v = &item->result->info->variables[item->result->info->image];
    const dscm_counterfactual *c = &item->result->counterfactuals[0];
    dscm_code code = DSCM_OK;
    for (int which = 0; code == DSCM_OK && which < 2; which++) {
        const char *path = which ? a->uncertainty : a->difference;
        uint8_t *png = NULL;
        dscm_piece piece = {NULL, 0};
        if (!path) continue;
        code = which ? dscm_image_encode_uncertainty(&png, &piece.size, c->uncertainty, v->h, v->w,
                                                     err)
                     : dscm_image_encode_difference(&png, &piece.size, item->abduction->image,
                                                    c->image, v->h, v->w, v->c, err);
        piece.data = png;
        if (code == DSCM_OK) code = dscm_file_replace(path, &piece, 1, err);
        free(png);
    }
    return code;
}

static dscm_code write_results(const counterfactual_args *a, const dscm_run_item *item, bool swept,
                               dscm_error *err)
{
    const dscm_reply_ids ids = {NULL, NULL};
    bool print = a->json || (!a->scores && strcmp(a->out, "-") != 0);
    size_t size = 0;
    dscm_code code = write_pictures(a, item, swept, err);
    if (code == DSCM_OK) code = write_maps(a, item, err);
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
    double *factuals = NULL;
    fan f;
    size_t size = cli_image_size(m);
    bool inverted = false;
    float *image = NULL;
    uint8_t *pixels = dscm_alloc(size, 1, "image", err);
    dscm_session *session = NULL;
    dscm_run_item item = {.result = NULL};
    cli_watch watch;
    dscm_code code = pixels ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = find_fan(a, &f, err);
    if (code == DSCM_OK && f.count > 1 && (a->difference || a->uncertainty))
        code = dscm_fail(err, DSCM_E_INVALID, "--%s: a map is of one value, and --do asks for %zu",
                         a->uncertainty ? "uncertainty" : "difference", f.count);
    if (code == DSCM_OK) code = parse_targets(a, &f, &targets, err);
    if (code == DSCM_OK) code = parse_factuals(a, &factuals, err);
    if (code == DSCM_OK)
        code = cli_read_image(m, a->rest.items[0], a->resize, &image, &inverted, err);
    cli_watch_start(&watch, m, "counterfactual", a->preview);
    if (code == DSCM_OK)
        code = dscm_session_open(&session, m->bundle, f.count < m->batch ? f.count : m->batch,
                                 (int)m->threads, err);
    if (code == DSCM_OK) {
        dscm_pixels_from_float(pixels, image, size);
        item.ask = (dscm_case){.pixels = pixels,
                               .inverted = inverted,
                               .targets = targets,
                               .targets_count = f.count,
                               .factuals = factuals,
                               .options = m->options,
                               .auto_scale = m->auto_scale && !a->null,
                               .noise_only = a->noise_only,
                               .wanted = a->uncertainty ? DSCM_WANT_SCORES | DSCM_WANT_UNCERTAINTY
                                                        : DSCM_WANT_SCORES};
        code = dscm_run(session, m->bundle, &item, 1, &watch.progress, err);
    }
    cli_watch_end(&watch);
    if (code == DSCM_OK) code = write_results(a, &item, f.swept, err);
    if (code == DSCM_OK) print_outcomes(&item);
    dscm_result_free(item.result);
    dscm_abduction_free(item.abduction);
    dscm_session_free(session);
    dscm_free(targets);
    dscm_free(factuals);
    dscm_free(image);
    dscm_free(pixels);
    return code;
}

/* ---- tables ---- */
static bool over_table(const counterfactual_args *a)
{
    return a->images && (a->do_file || a->factuals_file || a->parents);
}

/* -1, or the exit code after a message about wrong usage. */
static int check_table_usage(const counterfactual_args *a, const char *command)
{
    if (!a->images && (a->do_file || a->factuals_file || a->parents))
        return cli_usage(command, "--factuals, --do-file and --parents go with --images");
    if (a->images && a->factuals.count)
        return cli_usage(command, "--factual goes with a picture; --images with --factuals FILE");
    if (over_table(a) && a->targets)
        return cli_usage(command, "--factuals, --do-file and --parents do not go with --targets");
    if (over_table(a) && !a->do_file == !a->null)
        return cli_usage(command, "either --do-file or --null is needed");
    return -1;
}

/* ---- the command ---- */
static int check_store_usage(const counterfactual_args *a, const char *command)
{
    if (!a->store && (a->password_file || a->patience != PATIENCE_S))
        return cli_usage(command, "--store-password-file and --patience go with --store");
    if (a->store && !a->images) return cli_usage(command, "--store goes with --images");
    if (a->store && (a->noise_only || a->sessions))
        return cli_usage(command, "--noise-only and --sessions do not go with --store");
    return -1;
}

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
    if (a->images && (a->preview || a->resize || a->difference || a->uncertainty))
        return cli_usage(name, "--preview, --resize, --difference and --uncertainty go with a "
                               "picture, not with --images");
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
    const struct {
        const char *name, *path;
    } maps[] = {{"difference", a->difference}, {"uncertainty", a->uncertainty}};
    for (size_t i = 0; code == DSCM_OK && i < 2; i++) {
        code = cli_check_output(maps[i].name, maps[i].path, false, err);
        if (code == DSCM_OK) code = cli_check_picture(maps[i].name, maps[i].path, err);
        if (code == DSCM_OK) code = cli_check_apart(maps[i].name, maps[i].path, "out", a->out, err);
        if (code == DSCM_OK)
            code = cli_check_apart(maps[i].name, maps[i].path, "scores", a->scores, err);
    }
    if (code == DSCM_OK)
        code = cli_check_apart("uncertainty", a->uncertainty, "difference", a->difference, err);
    return code;
}

int cmd_counterfactual(int argc, char **argv)
{
    counterfactual_args a = {.m = CLI_MODEL_DEFAULTS, .patience = PATIENCE_S};
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
        {"difference", OPT_TEXT, &a.difference, 0, 0, "FILE",
         "signed difference of a picture's result as PNG: red was added, blue taken away"},
        {"uncertainty", OPT_TEXT, &a.uncertainty, 0, 0, "FILE",
         "standard deviation of each pixel over half to twice the strength, four times, as PNG: "
         "where the result depends on the strength"},
        {"limit", OPT_SIZE, &a.limit, 1, 1e9, "N", "only the first N images"},
        {"sessions", OPT_SIZE, &a.sessions, 1, 256, "N",
         "parts of --images worked on at a time (as many as threads); fewer share the threads"},
        {"null", OPT_FLAG, &a.null, 0, 0, NULL,
         "no guidance: the null counterfactual, for composition"},
        {"noise-only", OPT_FLAG, &a.noise_only, 0, 0, NULL,
         "only the top level of the noise is kept, nothing that a sampler stores beside it"},
        {"store", OPT_TEXT, &a.store, 0, 0, "URL",
         "redis://… or redis+unix://…: workers there run --images, and the same command goes on "
         "after an "
         "interruption"},
        {"store-password-file", OPT_TEXT, &a.password_file, 0, 0, "FILE",
         "file with the store's password"},
        {"patience", OPT_SIZE, &a.patience, 0, 1000000, "S",
         "seconds that the store or its workers may be away (60)"},
        {"resize", OPT_FLAG, &a.resize, 0, 0, NULL, "fit a picture of another size to the model"},
        CLI_MODEL_OPTIONS(a.m),
        {.name = NULL}};
    int exit_code = cli_parse(argc, argv,
                              "counterfactual IMG.png --do digit=8 -o OUT.png (- is a pipe)\n"
                              "       diffscm counterfactual --images X-idx3-ubyte[.gz] \\\n"
                              "           --targets Y-idx1-ubyte[.gz] --out Z-idx3-ubyte\n"
                              "       diffscm counterfactual --images X-idx3-ubyte[.gz] \\\n"
                              "           --factuals F.csv --do-file D.csv --out Z-idx3-ubyte\n"
                              "       diffscm counterfactual --images … --store redis://HOST",
                              options, &a.rest);
    if (exit_code < 0) exit_code = check_table_usage(&a, argv[0]);
    if (exit_code < 0) exit_code = check_store_usage(&a, argv[0]);
    if (exit_code < 0) exit_code = check_use(argv[0], &a);
    if (exit_code >= 0) return exit_code;
    dscm_error err = {0};
    dscm_code code = check_outputs(&a, &err);
    if (code == DSCM_OK) code = cli_model_open(&a.m, &err);
    if (code == DSCM_OK) code = a.images ? counterfactual_file(&a, &err) : run_picture(&a, &err);
    cli_model_close(&a.m);
    return code == DSCM_OK ? EXIT_DONE : cli_fail(argv[0], &err);
}
