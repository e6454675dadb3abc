/* The help of the commands, from the same tables that parse their options: for a terminal, or all
 * of it as the manual page diffscm(1), which therefore cannot be out of date. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/completion.h"
#include "core/base/version.h"

static bool roff;       /* the manual page is being written */
static bool completion; /* a shell's completion is being written */

/* ---- for a terminal ---- */

/* Text from column `left` on, broken into lines of a terminal; the cursor stands there already. */
static void print_lines(const char *text, int left, int width)
{
    while (*text) {
        int columns = 0, fits = 0;
        for (int i = 0; text[i] && columns <= width; i++) {
            columns += ((unsigned char)text[i] & 0xC0) != 0x80; /* UTF-8 */
            if (columns <= width && (text[i + 1] == ' ' || !text[i + 1])) fits = i + 1;
        }
        if (!fits) fits = (int)strcspn(text, " ");
        printf("%.*s\n", fits, text);
        text += fits;
        while (*text == ' ') text++;
        if (*text) printf("%*s", left, "");
    }
}

static void print_option(const char *name, const char *argument, const char *help)
{
    enum { LEFT = 27, WIDTH = 52 };
    int used = printf("  --%s%s%s ", name, argument ? " " : "", argument ? argument : "");
    printf("%*s", used > LEFT ? LEFT + 1 : LEFT - used, used > LEFT ? "\n" : "");
    if (used > LEFT) printf("%*s", LEFT, "");
    print_lines(help, LEFT, WIDTH);
}

/* ---- as a manual page ---- */

/* One line of running text: signs that roff would take for its own are escaped. */
static void roff_text(const char *text)
{
    if (*text == '.' || *text == '\'') fputs("\\&", stdout);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '-')
            fputs("\\-", stdout);
        else if (*c == '\\')
            fputs("\\e", stdout);
        else if (*c >= 0xE0 && *c < 0xF0 && c[1] && c[2]) { /* UTF-8 of three bytes: "…", "–" */
            printf("\\[u%04X]", (*c & 15u) << 12 | (c[1] & 63u) << 6 | (c[2] & 63u));
            c += 2;
        } else
            putchar(*c);
    }
    putchar('\n');
}

static void roff_paragraph(const char *macro, const char *text)
{
    puts(macro);
    roff_text(text);
}

/* Lines kept as they are, but for what stands below "usage: ". */
static void roff_verbatim(const char *text)
{
    puts(".nf");
    while (*text) {
        char line[256];
        text += strncmp(text, "       ", 7) == 0 ? 7 : 0;
        int length = (int)strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s", length, text);
        roff_text(line);
        text += length + (text[length] == '\n');
    }
    puts(".fi");
}

/* ---- either ---- */

static const char *about(const char *command)
{
    for (const cli_command *c = cli_commands; c->name; c++)
        if (strcmp(c->name, command) == 0) return c->about;
    return "";
}

void cli_help_begin(const char *command, const char *usage)
{
    char line[1024];
    if (completion) {
        completion_begin(command);
        return;
    }
    snprintf(line, sizeof line, roff ? "diffscm %s" : "usage: diffscm %s", usage);
    if (roff) {
        printf(".SS %s\n", command);
        roff_verbatim(line);
        roff_paragraph(".PP", about(command));
        return;
    }
    printf("%s\n\n", line);
    print_lines(about(command), 0, 80);
    putchar('\n');
}

void cli_help_option(const char *name, const char *argument, const char *help)
{
    char left[128];
    if (completion) {
        completion_option(name, argument, help);
        return;
    }
    if (!roff) {
        print_option(name, argument, help);
        return;
    }
    snprintf(left, sizeof left, "--%s%s%s", name, argument ? " " : "", argument ? argument : "");
    roff_paragraph(".TP", left);
    roff_text(help);
}

void cli_help_options(const char *command, const char *usage, const cli_option *options)
{
    cli_help_begin(command, usage);
    for (const cli_option *o = options; o->name; o++)
        cli_help_option(o->name, o->argument, o->help);
    cli_help_option("help", NULL, "show this");
}

#define TITLE "counterfactual images from diffusion causal models"
#define FIRST_TRY                                                                                  \
    "diffscm counterfactual examples/mnist/7.png --do digit=8 -o eight.png\n"                      \
    "diffscm serve        then open http://localhost:8080/\n"
#define EXIT_STATUS "0 done, 1 failed, 2 wrong usage, 130 stopped by a signal."

void cli_help_all(FILE *out)
{
    fprintf(out, "diffscm " DSCM_VERSION ": " TITLE "\n\n"
                 "usage: diffscm COMMAND [options]     (diffscm COMMAND --help lists them)\n\n");
    for (const cli_command *c = cli_commands; c->name; c++)
        fprintf(out, "  %-15s %s\n", c->name, c->help);
    fputs("\nFor a first try, in the folder of the sources:\n" FIRST_TRY "\n"
          "Exit status: " EXIT_STATUS "\n"
          "diffscm --man prints all of this as a manual page, diffscm --version the version,\n"
          "diffscm --completion bash|zsh completion for a shell.\n",
          out);
}

static int help_of(const cli_command *c)
{
    char name[32], option[] = "--help";
    snprintf(name, sizeof name, "%s", c->name);
    return c->run(2, (char *[]){name, option, NULL});
}

int cli_help_completion(const char *shell)
{
    completion = true;
    if (!shell || !completion_start(shell)) {
        fprintf(stderr, "diffscm: --completion %s: allowed are bash and zsh\n", shell ? shell : "");
        return EXIT_USAGE;
    }
    int code = EXIT_DONE;
    for (const cli_command *c = cli_commands; c->name && code == EXIT_DONE; c++) {
        completion_command(c->name, true);
        code = help_of(c);
        completion_command(c->name, false);
    }
    completion_end();
    return code;
}

int cli_help_man(void)
{
    roff = true;
    puts(".\\\" Written by diffscm --man from the tables of its options.\n"
         ".TH DIFFSCM 1 \"\" \"diffscm " DSCM_VERSION "\" \"User Commands\"\n"
         ".SH NAME\ndiffscm \\- " TITLE "\n"
         ".SH SYNOPSIS\n.B diffscm\n.I COMMAND\n.RI [ options ]\n"
         ".SH DESCRIPTION\n"
         "A structural causal model whose image mechanism is a diffusion model: diffscm\n"
         "infers the noise of an image, sets one of its causes to another value, and shows\n"
         "what the image would have looked like.\n"
         ".SH COMMANDS");
    int code = EXIT_DONE;
    for (const cli_command *c = cli_commands; c->name && code == EXIT_DONE; c++) code = help_of(c);
    puts(".SH EXIT STATUS");
    roff_text(EXIT_STATUS);
    puts(".SH FILES\n"
         "Models, the page and the examples are looked for beside the program, in the working\n"
         "directory, and in share/diffscm beside the folder of the program.\n"
         ".SH EXAMPLES\nIn the folder of the sources:");
    roff_verbatim(FIRST_TRY);
    return code;
}
