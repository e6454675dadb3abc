/* Completion of commands, options and file names for bash and zsh, written from the help of every
 * command, so that it cannot be out of date. */
#include "cli/completion.h"

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* What a value is: a file or folder to complete, or anything else. */
static bool names_file(const char *argument)
{
    return strstr(argument, "FILE") || strstr(argument, "DIR");
}

/* ---- bash: a table of "command --option ARGUMENT", and a function that reads it ---- */

static const char *const bash_begin =
    "# bash completion of diffscm, written by: diffscm --completion bash\n"
    "_diffscm_options='\n";

static const char *const bash_end =
    "'\n"
    "_diffscm() {\n"
    "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
    "    local command option argument names=\n"
    "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
    "        COMPREPLY=($(compgen -W \"$_diffscm_commands --help --version\" -- \"$word\"))\n"
    "        return\n"
    "    fi\n"
    "    while read -r command option argument; do\n"
    "        [ \"$command\" = \"${COMP_WORDS[1]}\" ] || continue\n"
    "        names+=\" $option\"\n"
    "        [ \"$option\" = \"$before\" ] && [ -n \"$argument\" ] || continue\n"
    "        case $argument in\n"
    "        *FILE*|*DIR*) compopt -o filenames; COMPREPLY=($(compgen -f -- \"$word\")) ;;\n"
    "        *) COMPREPLY=() ;;\n"
    "        esac\n"
    "        return\n"
    "    done <<<\"$_diffscm_options\"\n"
    "    case $word in\n"
    "    -*) COMPREPLY=($(compgen -W \"$names\" -- \"$word\")) ;;\n"
    "    *) compopt -o filenames; COMPREPLY=($(compgen -f -- \"$word\")) ;;\n"
    "    esac\n"
    "}\n"
    "complete -F _diffscm diffscm\n";

/* ---- zsh: a list for _arguments per command ---- */

static const char *const zsh_begin =
    "#compdef diffscm\n"
    "# zsh completion of diffscm, written by: diffscm --completion zsh\n"
    "_diffscm() {\n"
    "    local -a options\n"
    "    if (( CURRENT == 2 )); then\n"
    "        local -a commands\n"
    "        commands=(\n";

static const char *const zsh_middle = "        )\n"
                                      "        _describe command commands\n"
                                      "        return\n"
                                      "    fi\n"
                                      "    case $words[2] in\n";

static const char *const zsh_end =
    "    esac\n"
    "    shift words\n"
    "    (( CURRENT-- ))\n"
    "    _arguments $options '*:file:_files'\n"
    "}\n"
    "if [[ $funcstack[1] == _diffscm ]]; then _diffscm \"$@\"; else compdef _diffscm diffscm; fi\n";

/* Text inside single quotes of zsh, where _arguments gives meaning to [ ] and colons. */
static void zsh_text(const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr("[]:\\", *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

/* ---- either ---- */

static bool zsh;
static const char *current; /* command */

void completion_begin(const char *command)
{
    current = command;
}

void completion_option(const char *name, const char *argument, const char *text)
{
    if (!zsh) {
        printf("%s --%s%s%s\n", current, name, argument ? " " : "", argument ? argument : "");
        return;
    }
    printf("        '*--%s[", name);
    zsh_text(text);
    putchar(']');
    if (argument) {
        putchar(':');
        zsh_text(argument);
        fputs(names_file(argument) ? ":_files" : ": ", stdout);
    }
    puts("'");
}

bool completion_start(const char *shell)
{
    zsh = strcmp(shell, "zsh") == 0;
    if (!zsh && strcmp(shell, "bash") != 0) return false;
    fputs(zsh ? zsh_begin : bash_begin, stdout);
    for (const cli_command *c = cli_commands; zsh && c->name; c++) {
        printf("            '%s:", c->name);
        zsh_text(c->help);
        puts("'");
    }
    if (zsh) fputs(zsh_middle, stdout);
    return true;
}

void completion_command(const char *name, bool begin)
{
    if (zsh && begin) printf("    %s) options=(\n", name);
    if (zsh && !begin) puts("        ) ;;");
}

void completion_end(void)
{
    if (zsh) {
        fputs(zsh_end, stdout);
        return;
    }
    const char *text = bash_end;
    printf("'\n_diffscm_commands='");
    for (const cli_command *c = cli_commands; c->name; c++)
        printf("%s%s", c == cli_commands ? "" : " ", c->name);
    fputs(text, stdout);
}
