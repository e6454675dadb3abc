#include "api/query.h"

#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Decodes in place up to `end` characters; false for a bad escape or a control character. */
static bool decode(char *text, size_t size)
{
    char *out = text;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            if (i + 2 >= size) return false;
            int high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
            if (high < 0 || low < 0) return false;
            c = (unsigned char)(high << 4 | low);
            i += 2;
        }
        if (c < 0x20 || c == 0x7f) return false;
        *out++ = (char)c;
    }
    *out = '\0';
    return true;
}

/* Adds the pair in text[0..size), which a NUL follows; false with `problem` set. */
static bool add_pair(dscm_query_string *out, char *text, size_t size, dscm_problem *problem)
{
    char *equals = memchr(text, '=', size);
    size_t name_size = equals ? (size_t)(equals - text) : size;
    char *value = equals ? equals + 1 : text + size;
    size_t value_size = equals ? size - name_size - 1 : 0;
    text[name_size] = '\0';
    if (name_size == 0 || !decode(text, name_size) || !decode(value, value_size)) {
        dscm_problem_set(problem, DSCM_PROBLEM_MALFORMED_QUERY,
                         "Parameter %zu of the query has no name, a bad percent escape or a "
                         "control character.",
                         out->count + 1);
        return false;
    }
    if (out->count == DSCM_QUERY_PAIRS_MAX) {
        dscm_problem_set(problem, DSCM_PROBLEM_MALFORMED_QUERY,
                         "The query has more than %d parameters.", DSCM_QUERY_PAIRS_MAX);
        return false;
    }
    if (dscm_query_get(out, text)) {
        dscm_problem_set(problem, DSCM_PROBLEM_MALFORMED_QUERY,
                         "The query parameter '%.64s' is given twice.", text);
        return false;
    }
    out->names[out->count] = text;
    out->values[out->count++] = value;
    return true;
}

bool dscm_query_parse(dscm_query_string *out, const char *text, dscm_problem *problem)
{
    out->count = 0;
    size_t size = text ? strlen(text) : 0;
    if (size > DSCM_QUERY_SIZE_MAX) {
        dscm_problem_set(problem, DSCM_PROBLEM_MALFORMED_QUERY,
                         "The query has %zu bytes; at most %d are accepted.", size,
                         DSCM_QUERY_SIZE_MAX);
        return false;
    }
    memcpy(out->text, text ? text : "", size + 1);
    char *start = out->text;
    for (;;) {
        size_t length = strcspn(start, "&");
        bool last = start[length] == '\0';
        start[length] = '\0';
        if (length && !add_pair(out, start, length, problem)) return false;
        if (last) return true;
        start += length + 1;
    }
}

const char *dscm_query_get(const dscm_query_string *query, const char *name)
{
    for (size_t i = 0; i < query->count; i++)
        if (strcmp(query->names[i], name) == 0) return query->values[i];
    return NULL;
}
