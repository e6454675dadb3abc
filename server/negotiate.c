#include "server/negotiate.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *range; /* media range */
    dscm_media form;
} forms[] = {{"application/json", DSCM_MEDIA_JSON},
             {"application/*", DSCM_MEDIA_JSON},
             {"*/*", DSCM_MEDIA_JSON},
             {"image/png", DSCM_MEDIA_PNG},
             {"image/*", DSCM_MEDIA_PNG},
             {"text/event-stream", DSCM_MEDIA_EVENTS},
             {"application/problem+json", DSCM_MEDIA_JSON}};

/* The piece up to the next `end` (or the end of the text), trimmed; *text moves behind it. */
static const char *piece(const char **text, char end, size_t *length)
{
    const char *start = *text;
    size_t size = strcspn(start, (const char[]){end, 0});
    *text = start[size] ? start + size + 1 : start + size;
    while (size && isspace((unsigned char)*start)) start++, size--;
    while (size && isspace((unsigned char)start[size - 1])) size--;
    *length = size;
    return start;
}

static bool same(const char *text, size_t length, const char *word)
{
    return strlen(word) == length && strncasecmp(text, word, length) == 0;
}

/* Value of "q=…" among parameters; 1 without. */
static double quality_of(const char *text, size_t length)
{
    for (size_t i = 0; i + 2 < length; i++)
        if (text[i] == ';') {
            size_t j = i + 1;
            while (j < length && text[j] == ' ') j++;
            if (j + 2 < length && (text[j] == 'q' || text[j] == 'Q') && text[j + 1] == '=')
                return strtod(text + j + 2, NULL);
        }
    return 1;
}

dscm_media dscm_media_negotiate(const char *header)
{
    double best[4] = {0}; /* by form */
    if (!header) return DSCM_MEDIA_JSON;
    while (*header) {
        size_t length;
        const char *entry = piece(&header, ',', &length);
        size_t type = 0;
        while (type < length && entry[type] != ';' && entry[type] != ' ') type++;
        for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++)
            if (same(entry, type, forms[f].range)) {
                double q = quality_of(entry, length);
                if (q > best[forms[f].form]) best[forms[f].form] = q;
            }
    }
    dscm_media form = DSCM_MEDIA_NONE;
    for (int f = DSCM_MEDIA_JSON; f <= DSCM_MEDIA_EVENTS; f++)
        if (best[f] > best[form]) form = (dscm_media)f;
    return form;
}

dscm_prefer dscm_prefer_parse(const char *header)
{
    dscm_prefer prefer = {false, -1};
    while (header && *header) {
        size_t length;
        const char *entry = piece(&header, ',', &length);
        if (same(entry, length, "respond-async")) prefer.async = true;
        if (length > 5 && strncasecmp(entry, "wait=", 5) == 0 && isdigit((unsigned char)entry[5])) {
            char *end;
            long wait = strtol(entry + 5, &end, 10);
            if ((size_t)(end - entry) == length && wait <= 86400) prefer.wait_s = wait;
        }
    }
    return prefer;
}

bool dscm_media_is(const char *header, const char *type)
{
    if (!header) return false;
    size_t length = strcspn(header, "; \t"), wanted = strlen(type);
    if (wanted && type[wanted - 1] == '/')
        return length > wanted && strncasecmp(header, type, wanted) == 0;
    return length == wanted && strncasecmp(header, type, length) == 0;
}
