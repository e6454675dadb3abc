/* Data sets on the command line: sizes, the cache's folder, what was understood. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define SIDE_MAX 1024

dscm_code cli_parse_size(const char *text, size_t *w, size_t *h, dscm_error *err)
{
    char *end, *more;
    unsigned long first = strtoul(text, &end, 10), second = first;
    bool good = end != text && text[0] != '-';
    if (good && *end == 'x') {
        second = strtoul(end + 1, &more, 10);
        good = more != end + 1 && end[1] != '-';
        end = more;
    }
    if (!good || *end || first < 4 || first > SIDE_MAX || second < 4 || second > SIDE_MAX)
        return dscm_fail(err, DSCM_E_INVALID, "--size %s: must be N or WIDTHxHEIGHT, sides 4..%d",
                         text, SIDE_MAX);
    *w = first;
    *h = second;
    return DSCM_OK;
}

const char *cli_data_cache(char *path, size_t size)
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = base && *base   ? snprintf(path, size, "%s/diffscm", base)
                 : home && *home ? snprintf(path, size, "%s/.cache/diffscm", home)
                                 : -1;
    return length > 0 && (size_t)length < size ? path : NULL;
}

void cli_data_describe(const dscm_dataset *set, const char *split)
{
    static char text[16384];
    dscm_dataset_describe(set, text, sizeof text);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
        fprintf(stderr, "%s: %.*s\n", split, (int)(end - line), line);
}
