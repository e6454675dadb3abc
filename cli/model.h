/* What the commands that run a model share: its options, opening it, reading images and
 * interventions. */
#ifndef DSCM_CLI_MODEL_H
#define DSCM_CLI_MODEL_H

#include "cli/cli.h"
#include "core/scm/pipeline.h"

typedef struct cli_model {
    const char *name, *data_dir, *sampler, *guidance, *scale_text, *memory_text;
    size_t steps, batch, threads;
    double ratio, min_change;
    bool dynamic, no_dynamic, auto_scale;
    bool draws;    /* options are those of samples, see dscm_options_draw */
    bool describe; /* only the manifest: enough to look at a model, not to run it */
    uint64_t seed;
    dscm_bundle *bundle;
    const dscm_bundle_info *info;
    dscm_options options; /* resolved */
} cli_model;

#define CLI_MODEL_DEFAULTS                                                                         \
    {                                                                                              \
        .name = "mnist", .batch = 16, .seed = 1, .min_change = -1                                  \
    }

/* Lines of an option table; m is a cli_model. */
#define CLI_MODEL_OPTIONS(m)                                                                       \
    {"model", OPT_TEXT, &(m).name, 0, 0, "NAME|DIR", "the bundle (mnist)"},                        \
        {"data-dir", OPT_TEXT, &(m).data_dir, 0, 0, "DIR", "where models/ and static/ are"},       \
        {"sampler",                                                                                \
         OPT_TEXT,                                                                                 \
         &(m).sampler,                                                                             \
         0,                                                                                        \
         0,                                                                                        \
         "NAME",                                                                                   \
         "implicit, residual, obelm, bdia, ddim, published"},                                      \
        {"guidance",                                                                               \
         OPT_TEXT,                                                                                 \
         &(m).guidance,                                                                            \
         0,                                                                                        \
         0,                                                                                        \
         "KIND",                                                                                   \
         "anti-causal (gradients of the predictors) or conditional (the bundle's default)"},       \
        {"steps",                                                                                  \
         OPT_SIZE,                                                                                 \
         &(m).steps,                                                                               \
         2,                                                                                        \
         100000,                                                                                   \
         "N",                                                                                      \
         "kept levels (the bundle's default; of samples at least 20)"},                            \
        {"scale",                                                                                  \
         OPT_TEXT,                                                                                 \
         &(m).scale_text,                                                                          \
         0,                                                                                        \
         0,                                                                                        \
         "S",                                                                                      \
         "guidance scale: a number, calibrated, or auto: the smallest that convinces, per image, " \
         "not of samples (the bundle's default)"},                                                 \
        {"ratio", OPT_REAL, &(m).ratio, 0.001, 1, "L", "how far up the walk goes, 0..1"},          \
        {"min-change",                                                                             \
         OPT_REAL,                                                                                 \
         &(m).min_change,                                                                          \
         0,                                                                                        \
         255,                                                                                      \
         "LEVELS",                                                                                 \
         "pixels of a counterfactual that change by at most so many grey levels keep their "       \
         "factual value (the bundle's default)"},                                                  \
        {"dynamic", OPT_FLAG, &(m).dynamic, 0, 0, NULL, "dynamic normalisation (published)"},      \
        {"no-dynamic", OPT_FLAG, &(m).no_dynamic, 0, 0, NULL, "published without it"},             \
        {"seed", OPT_SEED, &(m).seed, 0, 0, "N", "seed (1)"},                                      \
        {"batch",                                                                                  \
         OPT_SIZE,                                                                                 \
         &(m).batch,                                                                               \
         1,                                                                                        \
         4096,                                                                                     \
         "N",                                                                                      \
         "images per network pass (16; counterfactual: 8)"},                                       \
        {"memory",                                                                                 \
         OPT_TEXT,                                                                                 \
         &(m).memory_text,                                                                         \
         0,                                                                                        \
         0,                                                                                        \
         "SIZE",                                                                                   \
         "limit for weights and buffers, as 6G or 800M (large weights stay mapped)"},              \
    {                                                                                              \
        "threads", OPT_SIZE, &(m).threads, 1, 256, "N", "threads (all processors)"                 \
    }

/* Finds and opens the bundle and resolves the options; closes with cli_model_close in any case. */
dscm_code cli_model_open(cli_model *m, dscm_error *err) DSCM_MUST_CHECK;
void cli_model_close(cli_model *m);

/* A guidance scale as --scale takes it: a number, "calibrated" (*scale NaN) or "auto" (NaN, and
 * *search: see dscm_scale_search). The message leaves out where the text came from. */
dscm_code cli_parse_scale(const char *text, double *scale, bool *search,
                          dscm_error *err) DSCM_MUST_CHECK;
/* The interventions of --do options such as "digit=8", each of another variable, into acts
 * (CLI_DOS_MAX). */
#define CLI_DOS_MAX DSCM_TARGET_VARIABLES_MAX
dscm_code cli_parse_dos(const cli_model *m, const option_list *dos, dscm_intervention *acts,
                        dscm_error *err) DSCM_MUST_CHECK;
/* A PNG or JPEG file as one image of the model in [-1,1]; of another size only when `resize`.
 * Dark ink on light paper is inverted where the model knows light ink: *inverted (may be NULL) and a
 * line on standard error say so. Release with dscm_free. */
dscm_code cli_read_image(const cli_model *m, const char *path, bool resize, float **out,
                         bool *inverted, dscm_error *err) DSCM_MUST_CHECK;
dscm_code cli_write_image(const cli_model *m, const char *path, const float *image,
                          dscm_error *err) DSCM_MUST_CHECK;
/* A sheet of rows x columns images, white lines between them; NULL entries stay empty. */
dscm_code cli_write_sheet(const cli_model *m, const char *path, const float *const *images,
                          size_t rows, size_t columns, dscm_error *err) DSCM_MUST_CHECK;
size_t cli_image_size(const cli_model *m); /* floats */
/* The one categorical parent of the image, or -1. */
int cli_scored_variable(const cli_model *m);

#endif
