/* diffscm verify: reference cases (a folder with config.json, weights, expected.safetensors)
 * against what this program computes. A kind of case is a line in the table. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/verify.h"
#include "core/base/memory.h"
#include "core/io/file.h"
#include "core/io/json.h"

/* ---- comparing ---- */
static double largest(const double *v, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++) most = fmax(most, fabs(v[i]));
    return most;
}

double *verify_expected(verify_case *c, const char *name, size_t *count, dscm_error *err)
{
    const dscm_tensor_info *info = dscm_tensors_find(c->expected, name);
    if (!info) {
        dscm_fail(err, DSCM_E_FORMAT, "%s: expected.safetensors lacks \"%s\"", c->dir, name);
        return NULL;
    }
    double *v = dscm_alloc(info->count, sizeof *v, name, err);
    if (v && dscm_tensors_read_f64(c->expected, info, v, err) != DSCM_OK) {
        dscm_free(v);
        return NULL;
    }
    *count = info->count;
    return v;
}

dscm_code verify_compare(verify_case *c, const char *name, const double *got, size_t count,
                         double tolerance, double least_size, dscm_error *err)
{
    size_t expected_count = 0;
    double *want = verify_expected(c, name, &expected_count, err);
    if (!want) return err->code;
    if (expected_count != count) {
        dscm_free(want);
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: \"%s\" has %zu elements, the network gives %zu",
                         c->dir, name, expected_count, count);
    }
    double size = fmax(largest(want, count), least_size), gap = 0;
    for (size_t i = 0; i < count && !isnan(gap); i++) /* a NaN stays: it fails the comparison */
        if (!(fabs(got[i] - want[i]) <= gap)) gap = fabs(got[i] - want[i]);
    double error = size > 0 ? gap / size : gap;
    bool pass = error <= tolerance;
    printf("%-4s %-56s error %9.3g  tolerance %.0e\n", pass ? "PASS" : "FAIL", name, error,
           tolerance);
    c->passed += pass;
    c->failed += !pass;
    dscm_free(want);
    return DSCM_OK;
}

dscm_code verify_compare_f32(verify_case *c, const char *name, const float *got, size_t count,
                             double tolerance, double least_size, dscm_error *err)
{
    double *wide = dscm_alloc(count, sizeof *wide, name, err);
    if (!wide) return DSCM_E_MEMORY;
    for (size_t i = 0; i < count; i++) wide[i] = (double)got[i];
    dscm_code code = verify_compare(c, name, wide, count, tolerance, least_size, err);
    dscm_free(wide);
    return code;
}

/* ---- layouts: reference tensors are (B,C,H,W), ours (B,H,W,C) ---- */
void verify_to_last(float *out, const float *in, size_t batch, size_t c, size_t pixels)
{
    for (size_t b = 0; b < batch; b++)
        for (size_t i = 0; i < c; i++)
            for (size_t p = 0; p < pixels; p++)
                out[(b * pixels + p) * c + i] = in[(b * c + i) * pixels + p];
}

void verify_to_first(float *out, const float *in, size_t batch, size_t c, size_t pixels)
{
    for (size_t b = 0; b < batch; b++)
        for (size_t i = 0; i < c; i++)
            for (size_t p = 0; p < pixels; p++)
                out[(b * c + i) * pixels + p] = in[(b * pixels + p) * c + i];
}

float *verify_tensor(verify_case *c, const char *name, size_t *count, dscm_error *err)
{
    const dscm_tensor_info *info = dscm_tensors_find(c->expected, name);
    if (!info) {
        dscm_fail(err, DSCM_E_FORMAT, "%s: expected.safetensors lacks \"%s\"", c->dir, name);
        return NULL;
    }
    float *v = dscm_alloc(info->count, sizeof *v, name, err);
    if (v && dscm_tensors_read_f32(c->expected, info, v, err) != DSCM_OK) {
        dscm_free(v);
        return NULL;
    }
    *count = info->count;
    return v;
}

/* ---- running ---- */
static const struct {
    const char *kind;
    dscm_code (*run)(verify_case *c, dscm_error *err);
} kinds[] = {{"unet", verify_network},
             {"encoder", verify_network},
             {"counterfactual", verify_counterfactual},
             {"schedule", verify_schedule}};

static dscm_code run_kind(verify_case *c, dscm_error *err)
{
    const char *kind = json_string_value(json_object_get(c->config, "kind"));
    for (size_t i = 0; kind && i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kind, kinds[i].kind) == 0) return kinds[i].run(c, err);
    return dscm_fail(err, DSCM_E_UNKNOWN, "%s/config.json: kind \"%s\" is not known", c->dir,
                     kind ? kind : "(none)");
}

static dscm_code run_case(verify_case *c, dscm_error *err)
{
    char path[4096];
    unsigned char *text = NULL;
    size_t size = 0;
    json_error_t parse;
    snprintf(path, sizeof path, "%s/config.json", c->dir);
    dscm_code code = dscm_file_read(path, 1 << 20, &text, &size, err);
    if (code != DSCM_OK) return code;
    c->config = dscm_json_read((const char *)text, size, JSON_REJECT_DUPLICATES, &parse);
    dscm_free(text);
    if (!c->config)
        return dscm_fail(err, dscm_json_code(&parse), "%s: line %d: %s", path, parse.line,
                         parse.text);
    snprintf(path, sizeof path, "%s/expected.safetensors", c->dir);
    code = dscm_tensors_open(&c->expected, path, err);
    return code == DSCM_OK ? run_kind(c, err) : code;
}

int cmd_verify(int argc, char **argv)
{
    static const cli_option options[] = {{.name = NULL}};
    option_list dirs = {.count = 0};
    int exit_code = cli_parse(argc, argv, "verify CASE_DIR...", options, &dirs);
    if (exit_code >= 0) return exit_code;
    if (!dirs.count)
        return cli_usage("verify", "no case given; a case is a folder with config.json");
    size_t passed = 0, failed = 0;
    for (size_t i = 0; i < dirs.count; i++) {
        struct stat info;
        if (stat(dirs.items[i], &info) == 0 && !S_ISDIR(info.st_mode)) {
            fprintf(stderr, "note: %s: not a folder, skipped\n", dirs.items[i]);
            continue;
        }
        verify_case c = {.dir = dirs.items[i]};
        dscm_error err = {0};
        printf("%s\n", c.dir);
        if (run_case(&c, &err) != DSCM_OK) {
            printf("FAIL %s\n", err.message);
            c.failed++;
        }
        json_decref(c.config);
        dscm_tensors_free(c.expected);
        passed += c.passed;
        failed += c.failed;
    }
    printf("%zu passed, %zu failed\n", passed, failed);
    if (passed + failed == 0) return cli_usage("verify", "none of the arguments is a folder");
    return failed ? EXIT_FAILED : EXIT_DONE;
}
