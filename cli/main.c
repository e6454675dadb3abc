#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "core/kernels/gemm.h"

static const struct {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"demo", "a sheet of the example digits under every intervention", cmd_demo},
    {"counterfactual", "what would this image have looked like, had its cause been different?",
     cmd_counterfactual},
    {"sample", "draw images from a model", cmd_sample},
    {"serve", "serve counterfactuals over HTTP, with a page", cmd_serve},
    {"info", "describe a model", cmd_info},
    {"evaluate", "measure counterfactuals, beside other methods, with a report", cmd_evaluate},
    {"train", "train a network of a bundle", cmd_train},
    {"bundle", "assemble a model directory from trained networks", cmd_bundle},
    {"import", "make a bundle from published PyTorch checkpoints", cmd_import},
    {"bench", "time every kernel and network against this machine's peak", cmd_bench},
    {"verify", "compare networks and samplers with reference tensors", cmd_verify},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static int help(FILE *out)
{
    fprintf(out, "diffscm " DSCM_VERSION ": counterfactual images from diffusion causal models\n\n"
                 "usage: diffscm COMMAND [options]     (diffscm COMMAND --help lists them)\n\n");
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-15s %s\n", commands[i].name, commands[i].help);
    fputs("\nFor a first try, in the folder of the sources:\n"
          "diffscm counterfactual examples/mnist/7.png --do digit=8 -o eight.png\n"
          "diffscm serve        then open http://localhost:8080/\n\n"
          "Exit status: 0 done, 1 failed, 2 wrong usage, 130 stopped by a signal.\n",
          out);
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
    dscm_error err = {0};
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        if (dscm_gemm_check(&err) != DSCM_OK) return cli_fail("start", &err);
        return commands[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "diffscm: unknown command \"%s\"; diffscm --help lists the commands\n",
            argv[1]);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    signal(SIGXFSZ, SIG_IGN); /* a file over `ulimit -f` is an error like a full disk */
    int status = run(argc, argv);
    /* A result that a full disk swallowed was not delivered. The service has other listeners. */
    if (argc > 1 && strcmp(argv[1], "serve") == 0) return status;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "diffscm: standard output: %s\n", strerror(errno));
        if (status == EXIT_DONE) status = EXIT_FAILED;
    }
    return status;
}
