/* diffscm import as a program: small random networks become a bundle that loads; every wrong use
 * ends in one line that names the mistake, and leaves no manifest behind. */
#include <math.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "core/diffscm.h"
#include "core/io/file.h"
#include "core/io/tensors.h"
#include "core/models/net.h"
#include "tests/harness.h"

static char program[512], dir[64], output[8192];

static void write_network(const char *name, const dscm_net_config *config, double bad_value)
{
    char path[128];
    dscm_net *net = NULL;
    dscm_error err = {0};
    REQUIRE(dscm_net_open(&net, config, &err) == DSCM_OK);
    float *values = dscm_alloc(net->params.floats, sizeof *values, "test", &err);
    dscm_params_init(&net->params, values, 3);
    if (bad_value != 0) values[7] = (float)bad_value;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    /* Not dscm_params_save, which refuses bad values. */
    dscm_tensor_out *list = dscm_alloc(net->params.count, sizeof *list, "test", &err);
    REQUIRE(list != NULL);
    for (size_t i = 0; i < net->params.count; i++) {
        const dscm_param *p = &net->params.items[i];
        list[i] = (dscm_tensor_out){p->name, p->dims, p->ndim, values + p->offset};
    }
    CHECK(dscm_safetensors_write(path, list, net->params.count, DSCM_F32, NULL, &err) == DSCM_OK);
    dscm_free(list);
    dscm_free(values);
    dscm_net_free(net);
}

static void write_networks(void)
{
    dscm_net_config score = dscm_net_config_defaults(DSCM_ARCH_UNET);
    dscm_net_config predictor = dscm_net_config_defaults(DSCM_ARCH_ENCODER);
    score.image_size = predictor.image_size = 16;
    score.in_channels = predictor.in_channels = score.out_channels = 3;
    predictor.out_channels = 4;
    write_network("score.st", &score, 0);
    write_network("predictor.st", &predictor, 0);
    write_network("nan.st", &score, (double)NAN);
    write_network("nan-predictor.st", &predictor, (double)NAN);
    write_network("large.st", &score, 1e5);
    predictor.in_channels = 1;
    write_network("grey.st", &predictor, 0);
}

/* Runs "diffscm import" in the folder with the words of both texts; its messages are in `output`. */
static int import_under(const char *licence, const char *line)
{
    char command[2048];
    snprintf(command, sizeof command, "cd %s && '%s' import %s %s 2>&1", dir, program, licence,
             line);
    FILE *pipe = popen(command, "r");
    if (!pipe) return -1;
    size_t got = fread(output, 1, sizeof output - 1, pipe);
    output[got] = '\0';
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int import(const char *line)
{
    return import_under("--licence MIT", line);
}

#define FILES "--score score.st --predictor predictor.st "
#define KEYS  "--schedule cosine --set image_size=16 --set attention_order=legacy --set num_heads=1 "

static void bundles_load(void)
{
    static const char *const types[] = {"f32", "f16", "bf16"};
    for (size_t i = 0; i < TEST_COUNT(types); i++) {
        char line[512], path[128];
        snprintf(line, sizeof line, FILES KEYS "--dtype %s --out %s --variable species", types[i],
                 types[i]);
        CHECK_INT(import(line), 0);
        CHECK_HAS(output, "4 classes, 16x16 images");
        dscm_bundle *bundle = NULL;
        dscm_error err = {0};
        snprintf(path, sizeof path, "%s/%s", dir, types[i]);
        CHECK_INT(dscm_bundle_open(&bundle, path, &err), DSCM_OK);
        CHECK_STR(err.message, "");
        REQUIRE(bundle != NULL);
        int variable = -1;
        CHECK_INT(dscm_variable_find(bundle, "species", &variable, &err), DSCM_OK);
        CHECK_INT(dscm_bundle_describe(bundle)->variables[variable].labels_count, 4);
        CHECK_STR(dscm_bundle_describe(bundle)->name, types[i]);
        CHECK_STR(dscm_bundle_describe(bundle)->licence, "MIT");
        dscm_bundle_free(bundle);
    }
    CHECK_INT(import(FILES KEYS "--out f32"), 2);
    CHECK_HAS(output, "holds a bundle already");
}

static void labels(void)
{
    char path[128];
    dscm_error err = {0};
    const dscm_piece four[] = {{"ant\nbee\r\ncow\ndeer", 17}}, three[] = {{"ant\nbee\ncow\n", 12}};
    snprintf(path, sizeof path, "%s/four.txt", dir);
    CHECK_INT(dscm_file_replace(path, four, 1, &err), DSCM_OK);
    snprintf(path, sizeof path, "%s/three.txt", dir);
    CHECK_INT(dscm_file_replace(path, three, 1, &err), DSCM_OK);
    CHECK_INT(import(FILES KEYS "--labels three.txt --out l3"), 1);
    CHECK_HAS(output, "three.txt: 3 labels");
    CHECK_INT(import(FILES KEYS "--labels four.txt --out l4"), 0);
    dscm_bundle *bundle = NULL;
    snprintf(path, sizeof path, "%s/l4", dir);
    CHECK_INT(dscm_bundle_open(&bundle, path, &err), DSCM_OK);
    REQUIRE(bundle != NULL);
    double value = -1;
    CHECK_INT(dscm_value_parse(bundle, 0, "bee", &value, &err), DSCM_OK);
    CHECK_NEAR(value, 1, 0);
    dscm_bundle_free(bundle);
}

/* Names in a folder, one after another; "" also when there is none. */
static const char *names_in(const char *name)
{
    static char names[512];
    char command[256];
    snprintf(command, sizeof command, "ls -A '%s/%s' 2>&- | tr '\\n' ' '", dir, name);
    FILE *pipe = popen(command, "r");
    names[pipe ? fread(names, 1, sizeof names - 1, pipe) : 0] = '\0';
    if (pipe) pclose(pipe);
    return names;
}

/* The score network is written when the predictor or the labels turn out to be wrong. */
static void nothing_half_made_stays(void)
{
    static const char *const lines[] = {
        "--score score.st --predictor nan-predictor.st " KEYS "--out half",
        FILES KEYS "--labels score.st --out half", FILES KEYS "--name \xff --out half"};
    char path[128];
    dscm_error err = {0};
    for (size_t i = 0; i < TEST_COUNT(lines); i++) {
        CHECK(import(lines[i]) > 0);
        CHECK(!strstr(output, ".tmp"));
        snprintf(path, sizeof path, "%s/half", dir);
        CHECK(access(path, F_OK) != 0);
    }
    CHECK_INT(mkdir(path, 0777), 0);
    const dscm_piece old = {"old", 3};
    snprintf(path, sizeof path, "%s/half/score.safetensors", dir);
    CHECK_INT(dscm_file_replace(path, &old, 1, &err), DSCM_OK);
    for (size_t i = 0; i < TEST_COUNT(lines); i++) {
        CHECK(import(lines[i]) > 0);
        CHECK_STR(names_in("half"), "score.safetensors ");
        unsigned char *bytes = NULL;
        size_t size = 0;
        CHECK_INT(dscm_file_read(path, 1 << 24, &bytes, &size, &err), DSCM_OK);
        CHECK_INT(size, 3);
        dscm_free(bytes);
    }
    CHECK_INT(import(FILES KEYS "--out half"), 0);
    CHECK_STR(names_in("half"), "manifest.json predictor.safetensors score.safetensors ");
}

static void a_licence_is_needed(void)
{
    char path[128];
    CHECK_INT(import_under("--licence ' '", FILES KEYS "--out unnamed"), 0);
    CHECK_HAS(output, "--licence \"CC BY 4.0\"");
    CHECK_HAS(output, "says \"not stated\"");
    snprintf(path, sizeof path, "%s/free", dir);
    CHECK_INT(import_under("--license='CC BY 4.0'", FILES KEYS "--out free"), 0);
    dscm_bundle *bundle = NULL;
    dscm_error err = {0};
    CHECK_INT(dscm_bundle_open(&bundle, path, &err), DSCM_OK);
    REQUIRE(bundle != NULL);
    CHECK_STR(dscm_bundle_describe(bundle)->licence, "CC BY 4.0");
    dscm_bundle_free(bundle);
}

static void wrong_use(void)
{
    static const struct {
        const char *line, *part, *other;
    } cases[] = {
        {"", "--score", "--out"},
        {FILES "--out x", "--schedule", "cosine"},
        {FILES KEYS "--out x extra", "unexpected", "extra"},
        {FILES KEYS "--out x --dtype f8", "f8", "bf16"},
        {FILES KEYS "--out x --set model_channels=64", "given as 64", "show 32"},
        {FILES KEYS "--out x --set score.channel_mult=1,2", "\"1,2\"", "[1,2,2]"},
        {FILES KEYS "--out x --set nonsense=1", "nonsense", "score.st"},
        {FILES KEYS "--out x --set oracle.a=1", "oracle.a", "score or predictor"},
        {FILES KEYS "--out x --set x", "--set x", "KEY=VALUE"},
        {FILES "--schedule cosine --set image_size=16 --set num_heads=1 --out x", "attention_order",
         "legacy or new"},
        {FILES "--preset 64 --out x", "model_channels", "192"},
        {FILES "--preset 64 --schedule linear --out x", "contradicts", "cosine"},
        {FILES "--preset 65 --out x", "\"65\"", "256-uncond"},
        {FILES "--preset 64 --set score.image_size=128 --out x", "contradicts", "64"},
        {"--score predictor.st --predictor predictor.st " KEYS "--out x", "\"unet\"",
         "\"encoder\""},
        {"--score score.st --predictor grey.st " KEYS "--out x", "16x16x3", "16x16x1"},
        {"--score nan.st --predictor predictor.st " KEYS "--out x", "nan.st", "NaN"},
        {"--score large.st --predictor predictor.st --dtype f16 " KEYS "--out x", "f16", "bf16"},
        {"--score none.st --predictor predictor.st " KEYS "--out x", "none.st", "cannot open"},
        {FILES KEYS "--out no/such/folder", "no/such/folder", "cannot make"},
    };
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        int code = import(cases[i].line);
        CHECK(code == 1 || code == 2);
        CHECK_HAS(output, cases[i].part);
        CHECK_HAS(output, cases[i].other);
        CHECK_HAS(output, "diffscm import: ");
        const char *line = strchr(output, '\n');
        CHECK(line && line[1] == '\0');
    }
    char path[128];
    snprintf(path, sizeof path, "%s/x/manifest.json", dir);
    CHECK(access(path, F_OK) != 0);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"bundles_load", bundles_load},
                                      {"labels", labels},
                                      {"nothing_half_made_stays", nothing_half_made_stays},
                                      {"a_licence_is_needed", a_licence_is_needed},
                                      {"wrong_use", wrong_use}};
    /* build/BUILD/tests/cli/test_import -> build/BUILD/diffscm */
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 16);
    for (int up = 0; up < 3 && length > 0; up++)
        while (length > 0 && program[--length] != '/') continue;
    snprintf(program + (length > 0 ? length : 0), 16, "/diffscm");
    strcpy(dir, "/tmp/dscm-import-XXXXXX");
    if (!mkdtemp(dir)) return 1;
    write_networks();
    int code = test_main(argc, argv, cases, TEST_COUNT(cases));
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) != 0 ? 1 : code;
}
