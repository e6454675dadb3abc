/* The file of a plan of `diffscm new`, and the plan as it is shown. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/json_file.h"
#include "cli/new.h"
#include "core/io/file.h"
#include "core/io/json.h"

#define FORMAT "diffscm-plan-4"

/* ---- what is left out ---- */
static const char *const skips[] = {"judges", "calibration", "measurement"}; /* by bit */
#define SKIPS (sizeof skips / sizeof skips[0])

dscm_code new_skip_parse(unsigned *skip, const char *text, dscm_error *err)
{
    *skip = 0;
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, ","), k = 0;
        while (k < SKIPS && (strlen(skips[k]) != n || memcmp(skips[k], p, n) != 0)) k++;
        if (k == SKIPS)
            return dscm_fail(err, DSCM_E_INVALID,
                             "--skip %s: \"%.*s\" cannot be left out; judges, calibration and "
                             "measurement can",
                             text, n < 64 ? (int)n : 64, p);
        *skip |= 1U << k;
        p += n + (p[n] == ',');
    }
    return DSCM_OK;
}

const char *new_skip_text(unsigned skip)
{
    static char text[64];
    size_t at = 0;
    text[0] = '\0';
    for (size_t k = 0; k < SKIPS; k++)
        if (skip >> k & 1)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", at ? "," : "", skips[k]);
    return text;
}

size_t new_stages_in_all(const new_plan *p)
{
    return p->stages_count + 1 + (p->fit != NULL) + !(p->skip & NEW_SKIP_CALIBRATION) +
           !(p->skip & NEW_SKIP_MEASUREMENT);
}

/* ---- writing ---- */
/* Where a table says what the variables are. */
static json_t *write_table(const new_plan *p)
{
    json_t *parents = json_array();
    for (size_t i = 0; i < p->parents_count; i++)
        json_array_append_new(parents, json_pack("{s:s, s:I}", "name", p->parents[i].name,
                                                 "classes", (json_int_t)p->parents[i].classes));
    return json_pack("{s:s, s:s, s:O, s:o}", "table", p->table, "graph", p->graph, "fit", p->fit,
                     "parents", parents);
}

dscm_code new_plan_write(const new_plan *p, const char *path, dscm_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < p->stages_count; i++) {
        const new_stage *s = &p->stages[i];
        json_t *cuts = json_array();
        for (size_t k = 0; k < s->cuts_count; k++)
            json_array_append_new(
                cuts, json_pack("[II]", (json_int_t)s->cuts[k].at, (json_int_t)s->cuts[k].samples));
        json_array_append_new(list,
                              json_pack("{s:s, s:O, s:I, s:I, s:o, s:f, s:f}", "name", s->name,
                                        "train", s->words, "samples", (json_int_t)s->samples,
                                        "batch", (json_int_t)s->batch, "cuts", cuts, "seconds",
                                        s->seconds, "fixed", s->fixed));
    }
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:[III], s:I, s:I, s:I, s:b, s:f, s:f, "
        "s:O, s:s, "
        "s:o}",
        "format", FORMAT, "data", p->data, "data_sha256", p->data_sha256, "variable", p->variable,
        "name", p->name, "effort", p->effort, "size", (json_int_t)p->size, "channels",
        (json_int_t)p->channels, "classes", (json_int_t)p->classes, "count", (json_int_t)p->count,
        "parts", (json_int_t)p->parts[0], (json_int_t)p->parts[1], (json_int_t)p->parts[2],
        "measured", (json_int_t)p->measured, "scales", (json_int_t)p->scales, "threads",
        (json_int_t)p->threads, "small", p->small, "seconds", p->seconds, "used", p->used, "labels",
        p->labels, "skip", new_skip_text(p->skip), "stages", list);
    if (root && p->fit) json_object_set_new(root, "variables", write_table(p));
    return cli_json_write(path, root, JSON_INDENT(1), err);
}

/* ---- reading ---- */
static bool read_words(json_t **out, json_t *list, size_t most)
{
    json_t *text;
    size_t i;
    if (!json_array_size(list) || json_array_size(list) > most) return false;
    json_array_foreach(list, i, text)
    {
        if (!json_is_string(text)) return false;
    }
    *out = json_incref(list);
    return true;
}

static bool read_cuts(new_stage *out, json_t *list)
{
    json_t *entry;
    size_t i;
    if (json_array_size(list) > NEW_CUTS_MAX) return false;
    json_array_foreach(list, i, entry)
    {
        json_int_t at, samples;
        if (json_unpack(entry, "[II]", &at, &samples) != 0 || at < 1 || samples < at ||
            (i && (size_t)at <= out->cuts[i - 1].at))
            return false;
        out->cuts[i] = (new_cut){(size_t)at, (size_t)samples};
    }
    out->cuts_count = json_array_size(list);
    return true;
}

static bool read_stage(new_stage *out, json_t *entry)
{
    const char *name;
    json_t *words, *cuts;
    json_int_t samples, batch;
    if (json_unpack(entry, "{s:s, s:o, s:I, s:I, s:o, s:F, s:F}", "name", &name, "train", &words,
                    "samples", &samples, "batch", &batch, "cuts", &cuts, "seconds", &out->seconds,
                    "fixed", &out->fixed) != 0 ||
        samples < 1 || batch < 1 || !(out->seconds > out->fixed) || !read_cuts(out, cuts) ||
        strlen(name) >= sizeof out->name || strchr(name, '/') ||
        !read_words(&out->words, words, 24))
        return false;
    snprintf(out->name, sizeof out->name, "%s", name);
    out->samples = (size_t)samples;
    out->batch = (size_t)batch;
    return true;
}

static bool read_table(new_plan *p, json_t *o)
{
    const char *table, *graph, *name;
    json_t *fit, *parents, *entry;
    size_t i;
    if (!o) return true;
    if (json_unpack(o, "{s:s, s:s, s:o, s:o}", "table", &table, "graph", &graph, "fit", &fit,
                    "parents", &parents) != 0 ||
        strlen(table) >= sizeof p->table || strlen(graph) >= sizeof p->graph ||
        !json_array_size(parents) || json_array_size(parents) > DSCM_PARENTS_MAX)
        return false;
    json_array_foreach(parents, i, entry)
    {
        json_int_t classes;
        new_parent *out = &p->parents[i];
        if (json_unpack(entry, "{s:s, s:I}", "name", &name, "classes", &classes) != 0 ||
            strlen(name) >= sizeof out->name || classes < 0 || classes > 256)
            return false;
        snprintf(out->name, sizeof out->name, "%s", name);
        out->classes = (size_t)classes;
    }
    p->parents_count = i;
    snprintf(p->table, sizeof p->table, "%s", table);
    snprintf(p->graph, sizeof p->graph, "%s", graph);
    return read_words(&p->fit, fit, 40);
}

static bool read_plan(new_plan *p, json_t *root)
{
    json_int_t size, channels, classes, count, measured, scales, threads, parts[3];
    const char *format, *data, *sha256, *variable, *name, *effort, *skip;
    json_t *labels, *list, *variables = json_object_get(root, "variables");
    int small;
    if (json_unpack(root,
                    "{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:[III], s:I, s:I, s:I, "
                    "s:b, s:F, s:F, "
                    "s:o, s:s, s:o}",
                    "format", &format, "data", &data, "data_sha256", &sha256, "variable", &variable,
                    "name", &name, "effort", &effort, "size", &size, "channels", &channels,
                    "classes", &classes, "count", &count, "parts", &parts[0], &parts[1], &parts[2],
                    "measured", &measured, "scales", &scales, "threads", &threads, "small", &small,
                    "seconds", &p->seconds, "used", &p->used, "labels", &labels, "skip", &skip,
                    "stages", &list) != 0 ||
        strcmp(format, FORMAT) != 0 || classes < (variables ? 0 : 2) || threads < 1 ||
        measured < 1 || scales < 1 || scales > NEW_SCALES || size < 4 || channels < 1 ||
        !json_array_size(list) || json_array_size(list) > NEW_STAGES_MAX ||
        json_array_size(labels) != (size_t)classes)
        return false;
    for (; p->stages_count < json_array_size(list); p->stages_count++)
        if (!read_stage(&p->stages[p->stages_count], json_array_get(list, p->stages_count)))
            return false;
    if (strcmp(new_plan_score(p)->name, "score") != 0 || !read_table(p, variables) ||
        new_skip_parse(&p->skip, skip, NULL) != DSCM_OK)
        return false;
    snprintf(p->data, sizeof p->data, "%s", data);
    snprintf(p->data_sha256, sizeof p->data_sha256, "%s", sha256);
    snprintf(p->variable, sizeof p->variable, "%s", variable);
    snprintf(p->name, sizeof p->name, "%s", name);
    snprintf(p->effort, sizeof p->effort, "%s", effort);
    for (int i = 0; i < 3; i++) p->parts[i] = (size_t)parts[i];
    p->size = (size_t)size;
    p->channels = (size_t)channels;
    p->classes = (size_t)classes;
    p->count = (size_t)count;
    p->threads = (size_t)threads;
    p->measured = (size_t)measured;
    p->scales = (size_t)scales;
    p->small = small;
    p->labels = json_incref(labels);
    return true;
}

dscm_code new_plan_read(new_plan *p, const char *path, dscm_error *err)
{
    json_error_t parse;
    json_t *root = dscm_json_read_file(path, JSON_REJECT_DUPLICATES, &parse);
    bool good = root && read_plan(p, root);
    json_decref(root);
    dscm_code code = cli_json_whole(path, err);
    if (code != DSCM_OK) return code;
    return good ? DSCM_OK
                : dscm_fail(err, DSCM_E_FORMAT,
                            "%s: not a plan of this version of diffscm new; remove it to begin "
                            "anew",
                            path);
}

void new_plan_print(const new_plan *p)
{
    double total = new_plan_rest(p);
    char what[NEW_GRAPH + 8];
    if (p->fit)
        snprintf(what, sizeof what, "%s", p->graph);
    else
        snprintf(what, sizeof what, "%zu classes", p->classes);
    fprintf(stderr,
            "plan: %zu images of %zux%zu, %s, %s; M %zu train the model, S %zu choose and "
            "measure, P %zu train its judges; %zu threads, effort %s\n",
            p->count, p->size, p->size, p->channels == 1 ? "grey" : "colour", what, p->parts[0],
            p->parts[1], p->parts[2], p->threads, p->effort);
    if (p->skip) fprintf(stderr, "  left out: %s\n", new_skip_text(p->skip));
    for (size_t i = 0; i < p->stages_count; i++) {
        const new_stage *s = &p->stages[i];
        fprintf(stderr, "  %-20s %8zu samples, about %.1f min\n", s->name, s->samples,
                s->seconds / 60);
        total += s->seconds;
    }
    fprintf(stderr, "  with calibration and measurement about %.0f min\n", ceil(total / 60));
}

void new_plan_close(new_plan *p)
{
    for (size_t i = 0; i < NEW_STAGES_MAX; i++) json_decref(p->stages[i].words);
    json_decref(p->labels);
    json_decref(p->fit);
    *p = (new_plan){.stages_count = 0};
}
