#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/cli.h"
#include "core/base/version.h"
#include "core/io/json.h"
#include "core/kernels/gemm.h"

const cli_command cli_commands[] = {
    {"demo", "a sheet of the example digits under every intervention", cmd_demo,
     "Writes one picture: the example digits as rows, and as columns what each would have looked "
     "like as every other digit."},
    {"counterfactual", "what would this image have looked like, had its cause been different?",
     cmd_counterfactual,
     "Infers the noise of a picture, sets a cause to another value, and runs the model again with "
     "the same noise. Scores of the result are printed as JSON. With --images, a file of many."},
    {"sample", "draw images from a model", cmd_sample,
     "Draws images from the model, with --do guided to a value."},
    {"serve", "serve counterfactuals over HTTP, with a page", cmd_serve,
     "Serves counterfactuals over HTTP, with a page, until SIGTERM. Every option can also be given "
     "as an environment variable (DIFFSCM_QUEUE_CAPACITY=64) or in a file (queue-capacity = 64)."},
    {"work", "run jobs that services accept into a shared store", cmd_work,
     "Runs jobs of its models from a Redis store (--store redis://HOST) that services accept into, "
     "until SIGTERM. Takes the options of serve; only the admin listener is opened."},
    {"info", "describe a model", cmd_info,
     "Prints a model's variables, defaults, calibrated scales and scores; without MODEL, those of "
     "mnist, and which models there are."},
    {"evaluate", "measure counterfactuals, beside other methods, with a report", cmd_evaluate,
     "Measures counterfactuals of a labelled data set, beside other methods, and writes "
     "report.html "
     "with tables, curves and pictures into the report's folder."},
    {"calibrate", "measure what verdicts are decided by, on images kept apart", cmd_calibrate,
     "Fits a temperature per acceptance net and measures the noise-only error and the denoising "
     "loss "
     "of real images that trained no network; `bundle --measured` puts all into the bundle."},
    {"new", "make a model of your own pictures", cmd_new,
     "Reads a folder of pictures, plans by the data and this machine's speed, trains the networks "
     "of a model and the judges that take no part in it, finds the scale it needs, measures it and "
     "writes the model's folder. Ended in any way, the same command goes on. Stages, in order: "
     "acceptance nets, judges (panel, selection), predictors, score network, mechanisms (of a "
     "table), bundle, calibration, measurement."},
    {"train", "train a network of a bundle", cmd_train,
     "Trains one network: the score network that draws, the predictor that guides, the oracle that "
     "judges, the VAE of the CLD, or an autoencoder of IM1 and IM2."},
    {"bundle", "assemble a model directory from trained networks", cmd_bundle,
     "Puts trained networks and a manifest into a folder, which other commands take as --model."},
    {"import", "make a bundle from published PyTorch checkpoints", cmd_import,
     "Makes a bundle from the published checkpoints of ImageNet's diffusion models and "
     "classifiers, without Python."},
    {"fit", "fit the mechanisms of a causal graph to a table of variables", cmd_fit,
     "Fits a mechanism per variable of a causal graph by maximum likelihood: flows for continuous "
     "variables, tables and networks for categorical ones. Prints held-out likelihood, calibration "
     "and convergence."},
    {"morpho", "render or measure digits of given thickness and intensity", cmd_morpho,
     "Renders MorphoMNIST with thickness and intensity from any MNIST-like set, with the variables "
     "as a CSV, or measures thickness, intensity and slant of images."},
    {"bench", "time every kernel and network against this machine's peak", cmd_bench,
     "Times kernels, networks, training and whole counterfactuals, each beside the most that this "
     "machine could do."},
    {"verify", "compare networks and samplers with reference tensors", cmd_verify,
     "A CASE_DIR holds config.json, weights and expected.safetensors, written by another "
     "implementation. Prints a line per tensor; the exit status is 1 when one differs."},
    {.name = NULL},
};

static int help(FILE *out)
{
    cli_help_all(out);
    return out == stdout ? EXIT_DONE : EXIT_USAGE;
}

static int run(int argc, char **argv)
{
    if (argc < 2) return help(stderr);
    if (strcmp(argv[1], "help") == 0 && argc == 3) { /* help COMMAND: COMMAND --help */
        argv[1] = argv[2];
        argv[2] = "--help";
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0)
        return help(stdout);
    if (strcmp(argv[1], "--version") == 0) {
        puts("diffscm " DSCM_VERSION);
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--man") == 0) return cli_help_man();
    if (strcmp(argv[1], "--completion") == 0)
        return cli_help_completion(argc == 3 ? argv[2] : NULL);
    dscm_error err = {0};
    for (const cli_command *c = cli_commands; c->name; c++) {
        if (strcmp(argv[1], c->name) != 0) continue;
        if (dscm_gemm_check(&err) != DSCM_OK) return cli_fail("start", &err);
        return c->run(argc - 1, argv + 1);
    }
    fprintf(stderr, "diffscm: unknown command \"%s\"; diffscm --help lists the commands\n",
            argv[1]);
    return EXIT_USAGE;
}

/* Whoever closed one of the three standard files must not get our next file in its place: log lines
 * would go to a client, scores into a picture. Opened the wrong way round, so that using one still
 * fails. */
static void fill_standard_files(void)
{
    static const int modes[] = {O_WRONLY, O_RDONLY, O_RDONLY};
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) != fd) return;
}

/* Threads take their stack from the same limit; with less, the program ends in the middle of its
 * work with a segmentation fault. */
static bool stack_suffices(void)
{
    enum { LEAST_KIB = 256 };
    struct rlimit stack;
    if (getrlimit(RLIMIT_STACK, &stack) != 0 || stack.rlim_cur >= LEAST_KIB * 1024) return true;
    fprintf(stderr, "diffscm: the stack is limited to %llu KiB (ulimit -s), needed are %d\n",
            (unsigned long long)stack.rlim_cur / 1024, LEAST_KIB);
    return false;
}

int main(int argc, char **argv)
{
    fill_standard_files();
    if (!stack_suffices()) return EXIT_FAILED;
    /* Before OpenBLAS is loaded: threads of its own are never used, and it ends the program where the
     * system does not grant them. */
    if (setenv("OPENBLAS_NUM_THREADS", "1", 1) != 0) {
        fprintf(stderr, "diffscm: no memory for the environment\n");
        return EXIT_FAILED;
    }
    dscm_json_failures();     /* counted from here on: cli/json_file.h */
    signal(SIGXFSZ, SIG_IGN); /* a file over `ulimit -f` is an error like a full disk */
    int status = run(argc, argv);
    /* A result that a full disk swallowed was not delivered. The service has other listeners. */
    if (argc > 1 && (strcmp(argv[1], "serve") == 0 || strcmp(argv[1], "work") == 0)) return status;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "diffscm: standard output: %s\n", strerror(errno));
        if (status == EXIT_DONE) status = EXIT_FAILED;
    }
    return status;
}
