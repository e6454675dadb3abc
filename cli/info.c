/* diffscm info: what a bundle is. */
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/json_file.h"
#include "cli/model.h"
#include "core/io/json.h"

static void print_variable(const dscm_bundle_info *info, const dscm_variable *v)
{
    static const char *const kinds[] = {"categorical", "continuous", "image"};
    printf("  %-12s %s", v->name, kinds[v->kind]);
    if (v->kind == DSCM_CATEGORICAL)
        printf(", %zu labels: %s … %s", v->labels_count, v->labels[0],
               v->labels[v->labels_count - 1]);
    if (v->kind == DSCM_CONTINUOUS) printf(", %g..%g", v->min, v->max);
    if (v->kind == DSCM_IMAGE) printf(", %zux%zux%zu", v->h, v->w, v->c);
    for (size_t i = 0; i < v->parents_count; i++)
        printf("%s%s", i ? ", " : "  <- ", info->variables[v->parents[i]].name);
    putchar('\n');
}

static bool contains(const char *text, const char *part)
{
    size_t n = strlen(part);
    for (; *text; text++) {
        size_t i = 0;
        while (i < n && text[i] &&
               tolower((unsigned char)text[i]) == tolower((unsigned char)part[i]))
            i++;
        if (i == n) return true;
    }
    return n == 0;
}

static int print_labels(const dscm_bundle_info *info, const char *part)
{
    size_t found = 0;
    for (size_t i = 0; i < info->variables_count; i++)
        for (size_t k = 0; k < info->variables[i].labels_count; k++) {
            if (!contains(info->variables[i].labels[k], part)) continue;
            printf("%s=%s  (index %zu)\n", info->variables[i].name, info->variables[i].labels[k],
                   k);
            found++;
        }
    if (!found) fprintf(stderr, "diffscm info: no label contains \"%s\"\n", part);
    return found ? EXIT_DONE : EXIT_FAILED;
}

static dscm_code print_all(const cli_model *m, dscm_error *err)
{
    char names[512];
    const dscm_bundle_info *info = m->info;
    dscm_code code = cli_find_names(names, sizeof names, "models", m->data_dir, err);
    if (code != DSCM_OK) return code;
    json_t *manifest = dscm_json_read(info->manifest, strlen(info->manifest), 0, NULL);
    code = cli_json_whole(info->dir, err);
    if (code != DSCM_OK) return code;
    printf("%s %s\n  %s\n  licence %s\n  %s\n  sha256 %s\n  %zu parameters", info->name,
           info->version, info->dir, info->licence, info->provenance, info->sha256,
           info->parameters);
    const char *warning = json_string_value(json_object_get(manifest, "warning"));
    if (warning) printf("\n  warning: %s", warning);
    json_decref(manifest);
    if (!m->describe)
        printf("\n  weights %.1f MB in memory, %.1f MB used from their files; all hashes agree",
               (double)info->bytes / 1e6, (double)info->mapped_bytes / 1e6);
    if (names[0]) printf("\n  models here: %s", names);
    printf("\n\nvariables\n");
    for (size_t i = 0; i < info->variables_count; i++) print_variable(info, &info->variables[i]);
    printf("\ndefaults: %s, %zu steps, ratio %g, smallest change %g, scale %s\ncalibrated scale",
           m->options.sampler, m->options.steps, m->options.ratio, m->options.min_change,
           info->auto_scale ? "auto" : "as calibrated");
    for (size_t i = 0; i < info->calibrations_count; i++)
        printf("%s %s %zu steps: %g", i ? "," : "", info->calibrations[i].sampler,
               info->calibrations[i].steps, info->calibrations[i].scale);
    if (!info->calibrations_count) printf(": none; without --scale it is %g", m->options.scale);
    printf("\nscores: L1, L2, validity%s%s%s\n", info->has_cld ? ", CLD" : "",
           info->has_im ? ", IM1, IM2" : "", info->has_oracle ? ", oracle" : "");
    return DSCM_OK;
}

int cmd_info(int argc, char **argv)
{
    cli_model m = CLI_MODEL_DEFAULTS;
    option_list rest = {.count = 0};
    const char *labels = NULL;
    bool manifest = false, check = false;
    const cli_option options[] = {
        {"labels", OPT_TEXT, &labels, 0, 0, "TEXT", "labels that contain this text"},
        {"manifest", OPT_FLAG, &manifest, 0, 0, NULL, "print the manifest itself"},
        {"check", OPT_FLAG, &check, 0, 0, NULL, "load all weights and compare their hashes"},
        {"memory", OPT_TEXT, &m.memory_text, 0, 0, "SIZE", "with --check: the limit, as 6G"},
        {"data-dir", OPT_TEXT, &m.data_dir, 0, 0, "DIR", "where models/ is"},
        {.name = NULL}};
    int exit_code = cli_parse(argc, argv, "info [MODEL]", options, &rest);
    if (exit_code >= 0) return exit_code;
    if (rest.count > 1) return cli_usage(argv[0], "one model at a time");
    if (rest.count) m.name = rest.items[0];
    m.describe = !check;
    dscm_error err = {0};
    if (cli_model_open(&m, &err) != DSCM_OK) {
        cli_model_close(&m);
        return cli_fail(argv[0], &err);
    }
    int code = EXIT_DONE;
    if (labels)
        code = print_labels(m.info, labels);
    else if (manifest)
        fputs(m.info->manifest, stdout);
    else if (print_all(&m, &err) != DSCM_OK)
        code = cli_fail(argv[0], &err);
    cli_model_close(&m);
    return code;
}
