#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "core/io/json.h"

int cli_usage(const char *name, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "diffscm %s: ", name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return EXIT_USAGE;
}

int cli_fail(const char *name, const dscm_error *err)
{
    const char *text = err->message[0] ? err->message : "failed";
    if (err->code == DSCM_E_CANCELED) {
        fprintf(stderr, "diffscm %s: stopped by a signal: %s\n", name, text);
        return EXIT_STOPPED;
    }
    if (dscm_json_failures() &&
        err->code != DSCM_E_MEMORY) { /* it was judged without what is lacking */
        fprintf(stderr, "diffscm %s: out of memory: %s\n", name, text);
        return EXIT_FAILED;
    }
    fprintf(stderr, "diffscm %s: %s\n", name, text);
    return err->code == DSCM_E_INVALID || err->code == DSCM_E_UNKNOWN ? EXIT_USAGE : EXIT_FAILED;
}

/* By its name; "license" is taken for "licence". */
static const cli_option *find_option(const cli_option *options, const char *name, size_t length)
{
    if (length == 7 && strncmp(name, "license", length) == 0) name = "licence";
    for (const cli_option *o = options; o->name; o++)
        if (strlen(o->name) == length && strncmp(o->name, name, length) == 0) return o;
    return NULL;
}

/* A whole decimal number in low..high. */
static bool parse_integer(const char *text, double low, double high, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno) return false;
    *out = v;
    return (double)v >= low && (double)v <= high;
}

static bool is_path(const cli_option *o)
{
    static const char *const paths[] = {"FILE", "FILE.png", "DIR", "NAME|DIR"};
    for (size_t i = 0; o->argument && i < sizeof paths / sizeof paths[0]; i++)
        if (strcmp(o->argument, paths[i]) == 0) return true;
    return false;
}

static int store(const char *command, const cli_option *o, const char *text)
{
    uint64_t integer = 0;
    char *end;
    option_list *list = o->value;
    if (is_path(o) && !*text) return cli_usage(command, "--%s: the name is empty", o->name);
    switch (o->kind) {
    case OPT_FLAG:
        *(bool *)o->value = true;
        return -1;
    case OPT_TEXT:
        *(const char **)o->value = text;
        return -1;
    case OPT_SIZE:
        if (!parse_integer(text, o->low, o->high, &integer))
            return cli_usage(command, "--%s %s: must be an integer in %.0f..%.0f", o->name, text,
                             o->low, o->high);
        *(size_t *)o->value = (size_t)integer;
        return -1;
    case OPT_SEED:
        if (!parse_integer(text, 0, 1.8446744073709552e19, &integer))
            return cli_usage(command, "--%s %s: must be an integer in 0..2^64-1", o->name, text);
        *(uint64_t *)o->value = integer;
        return -1;
    case OPT_REAL:
        *(double *)o->value = strtod(text, &end);
        if (end == text || *end ||
            !(*(double *)o->value >= o->low && *(double *)o->value <= o->high))
            return cli_usage(command, "--%s %s: must be a number in %g..%g", o->name, text, o->low,
                             o->high);
        return -1;
    case OPT_LIST:
        if (list->count == CLI_LIST_MAX)
            return cli_usage(command, "--%s: given more than %zu times", o->name, list->count);
        list->items[list->count++] = text;
        return -1;
    }
    return -1;
}

int cli_parse(int argc, char **argv, const char *usage, const cli_option *options,
              option_list *rest)
{
    bool only_names = false; /* after "--" */
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *text = NULL;
        if (!*arg) return cli_usage(argv[0], "an argument is empty");
        if (!only_names && strcmp(arg, "--") == 0) {
            only_names = true;
            continue;
        }
        if (only_names || arg[0] != '-' || !arg[1]) {
            if (rest->count == CLI_LIST_MAX)
                return cli_usage(argv[0], "\"%s\": more than %d arguments", arg, CLI_LIST_MAX);
            rest->items[rest->count++] = arg;
            continue;
        }
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            cli_help_options(argv[0], usage, options);
            return EXIT_DONE;
        }
        if (strcmp(arg, "-o") == 0) arg = "--out";
        const char *name = arg + (arg[1] == '-' ? 2 : 1), *equal = strchr(name, '=');
        const cli_option *o =
            arg[1] == '-'
                ? find_option(options, name, equal ? (size_t)(equal - name) : strlen(name))
                : NULL;
        if (!o) return cli_usage(argv[0], "unknown option %s; --help lists them", arg);
        if (o->kind == OPT_FLAG && equal) return cli_usage(argv[0], "--%s takes no value", o->name);
        if (o->kind != OPT_FLAG) {
            if (!equal && i + 1 >= argc) return cli_usage(argv[0], "--%s needs a value", o->name);
            text = equal ? equal + 1 : argv[++i];
        }
        int code = store(argv[0], o, text);
        if (code >= 0) return code;
    }
    return -1;
}
