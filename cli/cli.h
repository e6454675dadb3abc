/* The one program: subcommands and what they share.
 *
 * A subcommand is a file cmd_<name>.c with one function; main.c holds the table. Exit codes: 0
 * done, 1 failed, 2 wrong usage, 130 stopped by a signal, as shells have it. Results go to standard
 * output, messages to standard error.
 */
#ifndef DSCM_CLI_CLI_H
#define DSCM_CLI_CLI_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/base/error.h"
#include "core/data/dataset.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_STOPPED = 130 };

/* A subcommand: `help` is its line in the list of all, `about` what its own help begins with. The
 * list in main.c ends with a NULL name. */
typedef struct cli_command {
    const char *name, *help;
    int (*run)(int argc, char **argv);
    const char *about;
} cli_command;
extern const cli_command cli_commands[];

/* argv[0] is the subcommand's name. */
int cmd_bench(int argc, char **argv);
int cmd_bundle(int argc, char **argv);
int cmd_counterfactual(int argc, char **argv);
int cmd_demo(int argc, char **argv);
int cmd_evaluate(int argc, char **argv);
int cmd_calibrate(int argc, char **argv);
int cmd_fit(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_morpho(int argc, char **argv);
int cmd_new(int argc, char **argv);
int cmd_sample(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_work(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_verify(int argc, char **argv);

/* ---- options ---- */
typedef enum option_kind {
    OPT_FLAG, /* bool *: no value */
    OPT_TEXT, /* const char ** */
    OPT_SIZE, /* size_t *, low..high */
    OPT_SEED, /* uint64_t * */
    OPT_REAL, /* double *, low..high */
    OPT_LIST  /* option_list *: may be given several times */
} option_kind;

#define CLI_LIST_MAX 1024 /* values of an option that repeats, and positional arguments */

typedef struct option_list {
    const char *items[CLI_LIST_MAX];
    size_t count;
} option_list;

typedef struct cli_option {
    const char *name; /* without the dashes */
    option_kind kind;
    void *value;
    double low, high;
    const char *argument; /* for the help; FILE, DIR: the value may not be empty */
    const char *help;
} cli_option;

/* Parses "--name value" and "--name=value" into the table; arguments without dashes, and all after
 * "--", go to *rest.
 * Returns -1 when the command shall run, else the exit code (after --help, or after a one-line
 * message about wrong usage). `usage` is the first help line; `options` ends with a NULL name. */
int cli_parse(int argc, char **argv, const char *usage, const cli_option *options,
              option_list *rest);
/* ---- help: on standard output, or as roff within cli_help_man ---- */
void cli_help_all(FILE *out); /* the list of commands */
/* A command's usage line and what it is for; then its options, one by one. */
void cli_help_begin(const char *command, const char *usage);
void cli_help_option(const char *name, const char *argument, const char *help);
/* Both from a table. */
void cli_help_options(const char *command, const char *usage, const cli_option *options);
/* The manual page, by asking every command for its help; returns an exit code. */
int cli_help_man(void);
/* Completion for "bash" or "zsh" in the same way; NULL and other shells are wrong usage. */
int cli_help_completion(const char *shell);

/* ---- messages ---- */
/* Prints "diffscm NAME: message" and returns EXIT_FAILED, EXIT_USAGE for errors in what the user
 * gave, or EXIT_STOPPED for a run that a signal ended. */
int cli_fail(const char *name, const dscm_error *err);
/* Prints a usage error in one line and returns EXIT_USAGE. */
int cli_usage(const char *name, const char *format, ...) DSCM_PRINTF(2, 3);

/* ---- files that come with the program ---- */
/* Finds the folder `kind`/`name` ("models", "mnist") or "static": as a path of its own when it
 * exists, in `data_dir` when given, next to the program or one and two folders above it, in the
 * working directory, in share/diffscm beside the program's folder. The message lists where it
 * looked, and what is there instead. */
dscm_code cli_find(char *out, size_t size, const char *kind, const char *name, const char *data_dir,
                   dscm_error *err) DSCM_MUST_CHECK;

/* Names in the folder `kind` of the first of those places that has any: "fashion, mnist"; "" when none
 * has. Fails when a folder that is there cannot be listed. */
dscm_code cli_find_names(char *out, size_t size, const char *kind, const char *data_dir,
                         dscm_error *err) DSCM_MUST_CHECK;

/* A model's name is a part of paths, of files and of the service. */
bool cli_is_name(const char *name);

/* Letters, digits, ".", "-", "_" and whatever is not ASCII; not "." or "..". */
bool cli_is_word(const char *text);

/* Warns of a bundle of which nobody says under which licence it may be used (NULL or blank text), and
 * makes it "not stated". */
void cli_take_licence(const char *command, const char **licence);

/* Refuses the name of a picture that says another format than PNG. */
dscm_code cli_check_picture(const char *option, const char *path, dscm_error *err) DSCM_MUST_CHECK;

/* Refuses, before the work, a result file that could not be written after it: its folder must be
 * there and writable. `option` is named in the message; path NULL: nothing is asked for; stream: "-"
 * may stand for standard output. */
dscm_code cli_check_output(const char *option, const char *path, bool stream,
                           dscm_error *err) DSCM_MUST_CHECK;
/* Refuses two results that would be written one over the other. */
dscm_code cli_check_apart(const char *option, const char *path, const char *other_option,
                          const char *other, dscm_error *err) DSCM_MUST_CHECK;

/* ---- progress ---- */
/* A bar with rate and time left on a terminal; a plain line every ten seconds elsewhere. The first
 * comes a second after the start. */
typedef struct cli_progress {
    const char *label, *unit;     /* unit "%": without rate and total */
    double total, started, shown; /* total 0: unknown */
    double limit;                 /* seconds after which it ends in any case; 0: none */
    double left;                  /* seconds left as the run estimates; 0: by the rate */
    double done;                  /* most that was shown: never less after it */
    size_t lines;                 /* shown so far */
    bool quick;                   /* a run that ends before the first line shows nothing */
    bool terminal, ended;         /* ended: the last line, of all that is to be done, is there */
    atomic_flag busy;
} cli_progress;
void cli_progress_start(cli_progress *p, const char *label, const char *unit, double total);
/* done: in units; less than before shows what was before. May be called by several threads, and as
 * often as they like. note: or NULL. */
void cli_progress_show(cli_progress *p, double done, const char *note);
void cli_progress_end(cli_progress *p);
double cli_seconds(void); /* monotonic */

/* ---- data sets ---- */
/* "32" or "32x48" (width first). */
dscm_code cli_parse_size(const char *text, size_t *w, size_t *h, dscm_error *err) DSCM_MUST_CHECK;
/* Where decoded pictures are kept: $XDG_CACHE_HOME/diffscm or ~/.cache/diffscm; NULL: nowhere. */
const char *cli_data_cache(char *path, size_t size);
/* Says on standard error what was understood of a split. */
void cli_data_describe(const dscm_dataset *set, const char *split);

#endif
